"""Moments: read from ISO 8601 or from what people say, and shown.

Everything here is plain arithmetic, so that showing a time, or reading one of the many in a jobs
file, loads nothing. What people say ("tomorrow 9:00") is left to `spoken`, loaded when needed.
"""

from __future__ import annotations

import functools
import re
import time

from queuectl.errors import InvalidInput
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import tzinfo

_SECOND = 1_000_000
_DAY_SECONDS = 86_400
_END = 253_402_300_800 * _SECOND  # 10000-01-01T00:00:00Z
_HINT = "For example: 2040-11-24T04:00:00Z, 'tomorrow 9:00', 'monday 9am' or 'in 2 hours'."

_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_BEFORE = tuple(sum(_LENGTHS[:month]) for month in range(12))

_ISO = r"""(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)
    (?:
        [Tt\ ](?P<hour>\d\d):(?P<minute>\d\d)
        (?: :(?P<second>\d\d) (?: [.,](?P<fraction>\d{1,9}) )? )?
        \ ?(?: [Zz] | (?P<sign>[+-])(?P<off_hour>\d\d)(?: :?(?P<off_minute>\d\d) )? )?
    )?"""

# Without dashes, by the number of the week, or by the hour: for the library to read.
_RARE_ISO = r"\d{4}(?:-?\d\d-?\d\d|-?[Ww]\d\d(?:-?[1-7])?)(?:[Tt ][\d:.,]+(?: ?[Zz]|[+-][\d:]+)?)?"


class Moment:
    """A point in time: `at` in microseconds since the epoch (UTC).

    `spoken` is True when it was said in words rather than in ISO 8601, and so depends on the
    local zone and on now: whoever said it should be shown what it was taken for.
    """

    __slots__ = ("at", "spoken")

    def __init__(self, at: int, spoken: bool) -> None:
        self.at = at
        self.spoken = spoken


def parse(text: str, *, now: int, zone: tzinfo | None = None) -> Moment:
    """The moment `text` stands for, from 1970 to the end of 9999; it may be in the past.

    ISO 8601 without an offset is UTC, and a date alone is its midnight. Words are understood in
    `zone` (None: this machine's) at the time `now`, in microseconds since the epoch; see
    `queuectl.jobs.spoken` for what can be said. Raises InvalidInput for anything else.
    """
    plain = text.strip()
    at = _iso_moment(plain)
    is_spoken = at is None
    if at is None:
        from queuectl.jobs import spoken

        at = spoken.resolve(plain, now=now, zone=zone)
    if at is None:
        raise InvalidInput(f"'{visible(text, 40)}' is not a time", hint=number_hint(plain))
    if not 0 <= at < _END:
        raise InvalidInput(f"'{visible(text, 40)}' is outside the years 1970 to 9999")
    return Moment(at, spoken=is_spoken)


def parse_iso(text: str) -> int:
    """Like `parse`, for text written by a program: ISO 8601 only, in microseconds."""
    if _iso_moment(text.strip()) is None:
        raise InvalidInput(f"'{visible(text, 40)}' is not an ISO 8601 time")
    return parse(text, now=0).at


def number_hint(text: str) -> str:
    """What to write instead of a bare number, which may be meant as seconds since the epoch."""
    if text.isascii() and text.isdigit() and 9 <= len(text) <= 11:
        return f"For the second {text} after 1970 write {iso(int(text) * _SECOND)}."
    return _HINT


def iso(us: int) -> str:
    """Microseconds since the epoch as '2026-11-24T04:00:00Z', with six decimals if there are any."""
    seconds, fraction = divmod(us, _SECOND)
    whole = _calendar(seconds)
    return f"{whole}.{fraction:06d}Z" if fraction else f"{whole}Z"


@functools.lru_cache(maxsize=64)  # A worker writes the same second many times.
def _calendar(seconds: int) -> str:
    # The calendar repeats after 400 years. Windows' gmtime knows only 1970 to 3000.
    cycles, seconds = divmod(seconds, 146_097 * _DAY_SECONDS)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return f"{year + 400 * cycles:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}"


def ago(us: int, now: int) -> str:
    """How far `us` is from `now`, in one rounded unit: '3m ago', 'in 2h', or 'now'."""
    seconds = abs(us - now) / _SECOND
    size, unit = _DAY_SECONDS, "d"
    for smaller, name, most in ((1, "s", 60), (60, "m", 60), (3600, "h", 24)):
        if round(seconds / smaller) < most:
            size, unit = smaller, name
            break
    count = round(seconds / size)
    if count == 0:
        return "now"
    return f"in {count}{unit}" if us > now else f"{count}{unit} ago"


def _iso_moment(text: str) -> int | None:
    """The moment in microseconds, which may be before 1970; None for what is not ISO 8601."""
    # Compiled when it is first used: most programs that show a time read none.
    match = re.fullmatch(_ISO, text, re.ASCII | re.VERBOSE)
    if match:
        return _from_iso(match)
    if not re.fullmatch(_RARE_ISO, text, re.ASCII):
        return None
    from datetime import UTC, datetime, timedelta

    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    since = found.replace(tzinfo=found.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


def _from_iso(match: re.Match[str]) -> int:
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups("0")
    seconds = _days_before(int(year), int(month), int(day)) * _DAY_SECONDS
    # Numbers of two digits compare as text as they do as numbers.
    if hour > "23" or minute > "59" or second > "59":
        raise InvalidInput(f"there is no time of day {match[0][11:19]}")
    seconds += int(hour) * 3600 + int(minute) * 60 + int(second)
    if sign != "0":
        if off_hour > "23" or off_minute > "59":
            raise InvalidInput(f"there is no offset {sign}{off_hour}:{off_minute}")
        offset = int(off_hour) * 3600 + int(off_minute) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * _SECOND + int(fraction.ljust(6, "0")[:6])


def _days_before(year: int, month: int, day: int) -> int:
    """Days from the epoch to a date of the Gregorian calendar."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _LENGTHS[month - 1] + (leap and month == 2):
        raise InvalidInput(f"there is no date {year:04d}-{month:02d}-{day:02d}")
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400
    return days + _BEFORE[month - 1] + (leap and month > 2) + day - 1 - 719_162
