"""Moments as people say them, in their own zone: "tomorrow 9:00", "next friday", "in 2 hours".

What can be said:
    now, in 90s, in an hour, 2 days from now       (a day is 24 hours here)
    today, tomorrow                                (a day without a time is its first moment)
    monday, next friday, 5 dec, dec 5 2027
    9:00, 9am, 9:30 pm, noon, midnight             (also after or before a day: "friday at 9:00")

Where more than one moment fits, it is the first one after now: "9:00" may be tomorrow's, "monday"
is today only while its time is still to come, "next monday" is never today. A time that the
clocks skip is moved forward by as much as they skip; of a time that comes twice, it is the first.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, tzinfo
from datetime import time as clock_time

from queuectl.errors import InvalidInput
from queuectl.jobs import duration

_LENGTH_HINT = "For example: 'in 90s', 'in 2 hours', 'in 1h30m' or '2 days from now'."

_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_MONTHS = (
    "january february march april may june july august september october november december".split()
)
_WEEKDAY_NUMBER = {name[:3]: number for number, name in enumerate(_DAYS)}
_MONTH_NUMBER = {name[:3]: number for number, name in enumerate(_MONTHS, 1)}
_WEEKDAY = "|".join(f"{name}|{name[:3]}" for name in _DAYS)
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
_DAY = (
    rf"today|tomorrow|(?:next )?(?:{_WEEKDAY})"
    rf"|(?:\d\d? (?:{_MONTH})|(?:{_MONTH}) \d\d?)(?: \d\d\d\d)?"
)
_CLOCK = r"noon|midnight|\d\d?:\d\d(?::\d\d)?(?: ?[ap]m)?|\d\d? ?[ap]m"
_ORDERS = (
    re.compile(rf"(?:on )?(?P<day>{_DAY})(?: (?:at )?(?P<clock>{_CLOCK}))?", re.ASCII),
    re.compile(rf"(?:at )?(?P<clock>{_CLOCK})(?: (?:on )?(?P<day>{_DAY}))?", re.ASCII),
)


def resolve(text: str, *, now: int, zone: tzinfo | None) -> int | None:
    """The moment `text` stands for, in microseconds, or None when it says nothing known.

    `now` is in microseconds since the epoch; `zone` None is this machine's. Raises InvalidInput
    for what is well said but does not exist, such as 30 february.
    """
    words = " ".join(text.lower().split())
    if words == "now":
        return now
    length = re.fullmatch(r"in (.+)|(.+) from now", words)
    if length:
        said = re.sub(r"^an? ", "1 ", length[1] or length[2])
        try:
            return now + round(duration.parse(said) * 1_000_000)
        except InvalidInput as problem:
            raise InvalidInput(problem.message, hint=_LENGTH_HINT) from None
    match = next(filter(None, (order.fullmatch(words) for order in _ORDERS)), None)
    if match is None:
        return None
    clock = _clock(match["clock"], match["day"])
    today = datetime.fromtimestamp(now // 1_000_000, zone).date()
    try:
        for day in _candidates(match["day"], today):
            at = _moment(day, clock, zone)
            if at > now or _is_fixed(match["day"]):
                return at
    except (ValueError, OverflowError, OSError):
        # At the end of the calendar, or of what the system knows of its own zone.
        pass
    raise InvalidInput(f"there is no date '{match['day']}'")


def _clock(text: str | None, day: str | None) -> clock_time:
    if text is None:
        return clock_time()
    if text == "midnight" and day:
        raise InvalidInput(
            f"'{day} midnight' can mean its beginning or its end",
            hint=f"Say '{day} 0:00' for its beginning.",
        )
    if text in ("noon", "midnight"):
        return clock_time(12 if text == "noon" else 0)
    half = text[-2:] if text.endswith("m") else None
    hour, minute, second, *_ = [int(n) for n in re.findall(r"\d+", text)] + [0, 0]
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0) if 1 <= hour <= 12 else 24
    if hour > 23 or minute > 59 or second > 59:
        raise InvalidInput(f"there is no time of day '{text}'")
    return clock_time(hour, minute, second)


def _is_fixed(day: str | None) -> bool:
    """Whether the day is one and the same even when it has passed."""
    return day is not None and (day in ("today", "tomorrow") or len(day.split()) == 3)


def _candidates(day: str | None, today: date) -> list[date]:
    """The days that `day` can mean, soonest first."""
    one_day = timedelta(days=1)
    if day is None:
        return [today, today + one_day]
    if day in ("today", "tomorrow"):
        return [today if day == "today" else today + one_day]
    words = day.split()
    weekday = _WEEKDAY_NUMBER.get(words[-1][:3])
    if weekday is not None:
        first = today + one_day * ((weekday - today.weekday()) % 7)
        if day.startswith("next ") and first == today:
            first += one_day * 7
        return [first, first + one_day * 7]
    number, month = words[:2] if words[0].isdigit() else (words[1], words[0])
    # The 29th of February can be eight years away.
    years = [int(words[2])] if len(words) == 3 else range(today.year, today.year + 9)
    dates = (_date(year, _MONTH_NUMBER[month[:3]], int(number)) for year in years)
    return [found for found in dates if found]


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _moment(day: date, clock: clock_time, zone: tzinfo | None) -> int:
    # Both a zone and the system's own rules read a skipped time by the offset before the change,
    # which moves it forward, and take the first of two equal times. (`astimezone` would move a
    # skipped time of the system's own zone back.)
    return round(datetime.combine(day, clock, tzinfo=zone).timestamp()) * 1_000_000
