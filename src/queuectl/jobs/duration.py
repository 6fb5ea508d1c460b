"""Lengths of time as people write them: 90s, 5m, 1h30m, 2d 4h."""

from __future__ import annotations

import re

from queuectl.errors import InvalidInput
from queuectl.jobs.limits import LONGEST_SECONDS
from queuectl.text import visible

_HINT = "Write seconds, or numbers with units, for example 90s, 5m, 1h30m or 2d."

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_WORDS = {
    "second": "s",
    "sec": "s",
    "minute": "m",
    "min": "m",
    "hour": "h",
    "day": "d",
    "week": "w",
}
_UNITS = {
    "": "s",
    **{unit: unit for unit in _SECONDS},
    **_WORDS,
    **{f"{word}s": unit for word, unit in _WORDS.items()},
}

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)[ \t]*([a-z]*)[ \t]*")


def parse(text: str, *, longest: float = LONGEST_SECONDS) -> float:
    """The length `text` stands for, in seconds: from 0 to `longest`.

    A bare number is seconds. Otherwise each number has a unit (ms, s, m, h, d, w, or the word in
    full), from the largest unit to the smallest; only the last number may have decimals.
    Raises InvalidInput for anything else.
    """
    plain = text.strip()
    if plain.startswith("-"):
        raise _refused(text, "is negative: a length of time is 0 or more")
    if not plain:
        raise _refused(text, "is not a length of time")
    total = 0.0
    larger: float = LONGEST_SECONDS
    position = 0
    while position < len(plain):
        part = _PART.match(plain, position)
        unit = _UNITS.get(part[2]) if part else None
        if part is None or unit is None or (not part[2] and part.span() != (0, len(plain))):
            raise _refused(text, "is not a length of time")
        if _SECONDS[unit] >= larger:
            raise _refused(text, "does not go from the larger unit to the smaller, each used once")
        if "." in part[1] and part.end() < len(plain):
            raise _refused(text, "has decimals before its last number")
        number = float(part[1])
        # 9 / 1000 is the float nearest to 0.009; 9 * 0.001 is not.
        total += number / 1000 if unit == "ms" else number * _SECONDS[unit]
        larger = _SECONDS[unit]
        position = part.end()
    if total > longest:
        raise _refused(text, f"is longer than {show(longest)}")
    return total


def show(seconds: float) -> str:
    """A length such as '1h 30m', '2.5s' or '250ms', exact to the millisecond; `parse` reads it."""
    sign = "-" if seconds < 0 else ""
    milliseconds = round(abs(seconds) * 1000)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{sign}{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if n]
    if rest:
        parts.append(f"{rest / 1000:g}s")
    return sign + " ".join(parts)


def _refused(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"'{visible(text, 40)}' {why}", hint=_HINT)
