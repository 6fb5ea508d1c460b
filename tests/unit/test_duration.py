from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.jobs.duration import parse, show
from queuectl.jobs.limits import LONGEST_SECONDS

UNITS = ["w", "d", "h", "m", "s", "ms"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5", 5),
        ("1.5", 1.5),
        (" 90s ", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d 4h", 187_200),
        ("1.5h", 5400),
        ("1m 0.5s", 60.5),
        ("250ms", 0.25),
        ("9ms", 0.009),
        ("1s1ms", 1.001),
        ("1w1d1h1m1s1ms", 694_861.001),
        ("2 hours", 7200),
        ("1 minute 30 seconds", 90),
        ("3 weeks", 1_814_400),
        ("3650d", LONGEST_SECONDS),
    ],
)
def test_parse_accepts(text: str, seconds: float) -> None:
    """Plain seconds and numbers with units mean what they say."""
    assert parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a length of time"),
        ("  ", "is not a length of time"),
        ("soon", "is not a length of time"),
        ("5 parsecs", "is not a length of time"),
        ("5M", "is not a length of time"),
        ("1h30", "is not a length of time"),
        ("30 1h", "is not a length of time"),
        ("h", "is not a length of time"),
        (".5h", "is not a length of time"),
        ("5.", "is not a length of time"),
        ("1e3", "is not a length of time"),
        ("1_000", "is not a length of time"),
        ("+5", "is not a length of time"),
        ("٣", "is not a length of time"),
        ("1h\n30m", "is not a length of time"),
        ("nan", "is not a length of time"),
        ("inf", "is not a length of time"),
        ("-5", "is negative"),
        ("30m 1h", "larger unit to the smaller"),
        ("1h 1h", "larger unit to the smaller"),
        ("1h 1 hour", "larger unit to the smaller"),
        ("1.5h 30m", "decimals before its last number"),
        ("3651d", "longer than 3650d"),
        ("9" * 5000, "longer than 3650d"),
    ],
)
def test_parse_refuses(text: str, why: str) -> None:
    """Anything else is refused, with the reason and an example of what can be written."""
    with pytest.raises(InvalidInput, match=why) as caught:
        parse(text)
    assert "1h30m" in caught.value.hint


def test_the_longest_can_be_set() -> None:
    """Where less is allowed, the limit is told in the units in which a length is written."""
    assert parse("90m", longest=5400) == 5400
    with pytest.raises(InvalidInput, match=r"^'91m' is longer than 1h 30m$"):
        parse("91m", longest=5400)


def test_refusal_is_one_short_visible_line() -> None:
    """A refused text is shown cut and without its control characters."""
    with pytest.raises(InvalidInput) as caught:
        parse("\x1b[31m\n" + "x" * 1000)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.25, "250ms"),
        (0.9996, "1s"),
        (1.5, "1.5s"),
        (59.999, "59.999s"),
        (60, "1m"),
        (90.5, "1m 30.5s"),
        (5400, "1h 30m"),
        (187_200, "2d 4h"),
        (LONGEST_SECONDS, "3650d"),
        (-5400, "-1h 30m"),
    ],
)
def test_show(seconds: float, text: str) -> None:
    """A length is shown in days, hours, minutes and seconds, without the ones that are zero."""
    assert show(seconds) == text


@settings(deadline=None)
@given(st.integers(0, int(LONGEST_SECONDS) * 1000))
def test_what_show_writes_parse_reads(milliseconds: int) -> None:
    """Every length, to the millisecond, survives being shown and read again."""
    assert round(parse(show(milliseconds / 1000)) * 1000) == milliseconds


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(UNITS), st.integers(0, 50), min_size=1))
def test_the_order_of_units_decides(amounts: dict[str, int]) -> None:
    """Any choice of units is read in falling order, and only in that order."""
    ordered = [f"{amounts[unit]}{unit}" for unit in UNITS if unit in amounts]
    assert parse("".join(ordered)) == parse(" ".join(ordered))
    if len(ordered) > 1:
        with pytest.raises(InvalidInput):
            parse(" ".join(reversed(ordered)))


@settings(deadline=None)
@given(st.text() | st.text("0123456789. smhdw-"))
def test_parse_answers_or_refuses(text: str) -> None:
    """No text gives anything but a length within the range, or InvalidInput."""
    try:
        assert 0 <= parse(text) <= LONGEST_SECONDS
    except InvalidInput:
        pass
