from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.jobs.when import ago, iso, parse, parse_iso
from queuectl.text import visible

needs_tzset = pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set here")
ONE_HOUR_EAST = timezone(timedelta(hours=1))
MIDDAY = (
    int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 1_000_000
)  # a Tuesday, 13:00 there


@pytest.fixture
def central_europe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine moved to Central Europe, by a rule that needs no zone database."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-11-09T12:00:00Z", "2025-11-09T12:00:00Z"),
        ("2025-11-09t12:00:00z", "2025-11-09T12:00:00Z"),
        ("2025-11-09 12:00", "2025-11-09T12:00:00Z"),
        (" 2025-11-09 ", "2025-11-09T00:00:00Z"),
        ("2025-11-09T12:00:00+01:30", "2025-11-09T10:30:00Z"),
        ("2025-11-09 12:00 -0800", "2025-11-09T20:00:00Z"),
        ("2025-11-09T12:00+14", "2025-11-08T22:00:00Z"),
        ("2025-11-09T12:00:00.5Z", "2025-11-09T12:00:00.500000Z"),
        ("2025-11-09T12:00:00,000001", "2025-11-09T12:00:00.000001Z"),
        ("2025-11-09T12:00:00.123456789Z", "2025-11-09T12:00:00.123456Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
        ("2000-02-29", "2000-02-29T00:00:00Z"),
        ("1970-01-01", "1970-01-01T00:00:00Z"),
        ("20270131T090000Z", "2027-01-31T09:00:00Z"),
        ("20270131t0900+0100", "2027-01-31T08:00:00Z"),
        ("20270131", "2027-01-31T00:00:00Z"),
        ("2027-01-31T09", "2027-01-31T09:00:00Z"),
        ("2027-W01-1", "2027-01-04T00:00:00Z"),
        ("2027W011T120000.5", "2027-01-04T12:00:00.500000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_iso_8601(text: str, utc: str) -> None:
    """ISO 8601 is read with Z, an offset or none, which is UTC, and is not taken for speech."""
    moment = parse(text, now=MIDDAY, zone=ONE_HOUR_EAST)
    assert (iso(moment.at), moment.spoken) == (utc, False)
    assert parse_iso(text) == moment.at


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("now", "2026-11-24T12:00:00Z"),
        ("in 2 hours", "2026-11-24T14:00:00Z"),
        ("In 90S", "2026-11-24T12:01:30Z"),
        ("in an hour", "2026-11-24T13:00:00Z"),
        ("a day from now", "2026-11-25T12:00:00Z"),
        ("in 1h30m", "2026-11-24T13:30:00Z"),
        ("2 days from now", "2026-11-26T12:00:00Z"),
        ("today 17:30", "2026-11-24T16:30:00Z"),
        ("today 9:00", "2026-11-24T08:00:00Z"),
        ("tomorrow", "2026-11-24T23:00:00Z"),
        ("tomorrow 9:00", "2026-11-25T08:00:00Z"),
        ("Tomorrow  at 9:00:30 pm", "2026-11-25T20:00:30Z"),
        ("9am tomorrow", "2026-11-25T08:00:00Z"),
        ("tomorrow noon", "2026-11-25T11:00:00Z"),
        ("monday 9am", "2026-11-30T08:00:00Z"),
        ("on mon at 9 am", "2026-11-30T08:00:00Z"),
        ("9:00 on friday", "2026-11-27T08:00:00Z"),
        ("tuesday 13:01", "2026-11-24T12:01:00Z"),
        ("tuesday 13:00", "2026-12-01T12:00:00Z"),
        ("tuesday", "2026-11-30T23:00:00Z"),
        ("next tuesday 18:00", "2026-12-01T17:00:00Z"),
        ("next friday 14:00", "2026-11-27T13:00:00Z"),
        ("14:00", "2026-11-24T13:00:00Z"),
        ("9:00", "2026-11-25T08:00:00Z"),
        ("noon", "2026-11-25T11:00:00Z"),
        ("midnight", "2026-11-24T23:00:00Z"),
        ("12am", "2026-11-24T23:00:00Z"),
        ("12:30 am", "2026-11-24T23:30:00Z"),
        ("12pm", "2026-11-25T11:00:00Z"),
        ("5 dec 9:00", "2026-12-05T08:00:00Z"),
        ("dec 5", "2026-12-04T23:00:00Z"),
        ("24 november 9:00", "2027-11-24T08:00:00Z"),
        ("may 1", "2027-04-30T23:00:00Z"),
        ("29 feb", "2028-02-28T23:00:00Z"),
        ("5 dec 2020 9:00", "2020-12-05T08:00:00Z"),
        ("december 5 2027 at 9 pm", "2027-12-05T20:00:00Z"),
    ],
)
def test_spoken(text: str, utc: str) -> None:
    """What people say is read in the zone, as the next such moment, and marked as spoken."""
    moment = parse(text, now=MIDDAY, zone=ONE_HOUR_EAST)
    assert (iso(moment.at), moment.spoken) == (utc, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a time"),
        ("soon", "is not a time"),
        ("tonight", "is not a time"),
        ("yesterday", "is not a time"),
        ("tomorrow 9", "is not a time"),
        ("tomorrow tomorrow", "is not a time"),
        ("tomorrow 9:00 10:00", "is not a time"),
        ("tomorrow 9:00 please", "is not a time"),
        ("next week", "is not a time"),
        ("next tomorrow", "is not a time"),
        ("mond 9:00", "is not a time"),
        ("9:0", "is not a time"),
        ("\u0669:\u0660\u0660", "is not a time"),
        ("2h", "is not a time"),
        ("in", "is not a time"),
        ("2026-1-5", "is not a time"),
        ("2026-11-24T04:00:00Zulu", "is not a time"),
        ("2026112", "is not a time"),
        ("20261324", "is not a time"),
        ("2026-W54-1", "is not a time"),
        ("20261124T25", "is not a time"),
        ("20261124012", "is not a time"),
        ("in 2 months", "'2 months' is not a length of time"),
        ("in -2 hours", "is negative"),
        ("tomorrow midnight", "its beginning or its end"),
        ("25:00", "no time of day '25:00'"),
        ("24:00", "no time of day '24:00'"),
        ("9:60", "no time of day '9:60'"),
        ("13pm", "no time of day '13pm'"),
        ("0:30 am", "no time of day '0:30 am'"),
        ("30 feb", "no date '30 feb'"),
        ("feb 29 2026", "no date 'feb 29 2026'"),
        ("5 dec 0000", "no date"),
        ("5 dec 1960", "outside the years 1970 to 9999"),
        ("2026-02-30", "no date 2026-02-30"),
        ("2100-02-29", "no date 2100-02-29"),
        ("2026-13-01T00:00Z", "no date 2026-13-01"),
        ("2026-01-00", "no date 2026-01-00"),
        ("2026-11-24T24:00Z", "no time of day 24:00"),
        ("2026-11-24T23:59:60Z", "no time of day 23:59:60"),
        ("2026-11-24T00:00+24:00", r"no offset \+24:00"),
        ("1969-12-31", "outside the years 1970 to 9999"),
        ("0000-01-01", "outside the years 1970 to 9999"),
        ("1970-01-01T00:00+00:01", "outside the years 1970 to 9999"),
        ("9999-12-31T23:59-00:01", "outside the years 1970 to 9999"),
    ],
)
def test_nonsense_is_refused(text: str, why: str) -> None:
    """What is not clearly a time that exists is refused with the reason, never guessed."""
    with pytest.raises(InvalidInput, match=why):
        parse(text, now=MIDDAY, zone=ONE_HOUR_EAST)


def test_a_number_is_refused_with_the_time_it_may_mean() -> None:
    """Seconds since 1970 are not taken, but the hint shows what to write for them."""
    with pytest.raises(InvalidInput) as caught:
        parse("1795478400", now=MIDDAY)
    assert "2026-11-24T00:00:00Z" in caught.value.hint


def test_the_example_lies_ahead() -> None:
    """The time in the hint can be copied for years to come without being in the past."""
    with pytest.raises(InvalidInput) as caught:
        parse("whenever", now=MIDDAY)
    example = re.search(r"\d{4}-\S+Z", caught.value.hint)
    assert example
    assert parse_iso(example[0]) > MIDDAY + 10 * 365 * 86_400_000_000


def test_parse_iso_takes_no_words() -> None:
    """Where a program wrote the time, words are refused."""
    with pytest.raises(InvalidInput, match="not an ISO 8601 time"):
        parse_iso("tomorrow")


@needs_tzset
@pytest.mark.usefixtures("central_europe")
@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("29 mar 2026 1:59", "2026-03-29T00:59:00Z"),
        ("29 mar 2026 2:30", "2026-03-29T01:30:00Z"),
        ("29 mar 2026 3:00", "2026-03-29T01:00:00Z"),
        ("25 oct 2026 2:30", "2026-10-25T00:30:00Z"),
        ("25 oct 2026 3:00", "2026-10-25T02:00:00Z"),
        ("1 jul 2026 12:00", "2026-07-01T10:00:00Z"),
    ],
)
def test_clock_changes(text: str, utc: str) -> None:
    """On this machine's own zone, a skipped time moves forward and a doubled one is the first."""
    assert iso(parse(text, now=MIDDAY).at) == utc


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("29 mar 2026 2:30", "2026-03-29T01:30:00Z"),
        ("25 oct 2026 2:30", "2026-10-25T00:30:00Z"),
    ],
)
def test_clock_changes_in_a_given_zone(text: str, utc: str) -> None:
    """A zone from the zone database follows the same rules as the machine's own."""
    try:
        berlin = ZoneInfo("Europe/Berlin")
    except ZoneInfoNotFoundError:
        pytest.skip("there is no zone database here")
    assert iso(parse(text, now=MIDDAY, zone=berlin).at) == utc


@needs_tzset
@pytest.mark.usefixtures("central_europe")
def test_the_end_of_the_calendar() -> None:
    """At the last day the system can reckon with, the answer is an error, not a crash."""
    with pytest.raises(InvalidInput):
        parse("31 dec 9999 23:59", now=MIDDAY)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_795_492_800_123_456, "2026-11-24T04:00:00.123456Z"),
        (253_402_300_799_000_000, "9999-12-31T23:59:59Z"),
    ],
)
def test_iso(us: int, text: str) -> None:
    """Six decimals are written where there are any, and none otherwise."""
    assert iso(us) == text


@pytest.mark.parametrize(
    ("seconds", "past", "future"),
    [
        (0.4, "now", "now"),
        (1, "1s ago", "in 1s"),
        (59.4, "59s ago", "in 59s"),
        (59.6, "1m ago", "in 1m"),
        (180, "3m ago", "in 3m"),
        (3599, "1h ago", "in 1h"),
        (7199, "2h ago", "in 2h"),
        (86_399, "1d ago", "in 1d"),
        (400 * 86_400, "400d ago", "in 400d"),
    ],
)
def test_ago(seconds: float, past: str, future: str) -> None:
    """A distance is rounded to one unit, and never to sixty of the smaller one."""
    away = round(seconds * 1_000_000)
    assert ago(MIDDAY - away, MIDDAY) == past
    assert ago(MIDDAY + away, MIDDAY) == future


@settings(deadline=None)
@given(st.integers(0, 253_402_300_799_999_999))
def test_what_iso_writes_parse_reads(us: int) -> None:
    """Every moment survives being shown and read again, and is what the standard library reads."""
    assert parse(iso(us), now=0).at == us
    assert (datetime.fromisoformat(iso(us)) - datetime(1970, 1, 1, tzinfo=UTC)) == timedelta(
        microseconds=us
    )


@settings(deadline=None)
@given(
    st.tuples(
        st.integers(1969, 2101),
        st.integers(0, 13),
        st.integers(0, 32),
        st.integers(0, 24),
        st.integers(0, 60),
    ),
    st.sampled_from(["", "Z", "+01:00", "-11:30"]),
)
def test_iso_8601_is_read_as_the_standard_library_does(
    parts: tuple[int, int, int, int, int], offset: str
) -> None:
    """A date and time is accepted exactly when it exists, from 1970 on, and means the same."""
    text = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}".format(*parts) + offset
    try:
        aware = f"{text}+00:00" if not offset else text
        # Python 3.13 reads 24:00 as the next day's 0:00; it is not accepted here.
        expected = None if parts[3] > 23 else datetime.fromisoformat(aware).timestamp()
    except ValueError:
        expected = None
    if expected is None or expected < 0:
        with pytest.raises(InvalidInput):
            parse(text, now=MIDDAY)
    else:
        assert parse(text, now=MIDDAY).at == expected * 1_000_000


WORDS = st.sampled_from(
    "now in from at on next today tomorrow mon friday may dec february noon midnight 5 29 31 2027"
    " 0000 9999 2 hours 10y 9:00 25:61 9am 13pm am 2026-11-24 T04:00 Z 12:00".split()
)


@settings(deadline=None, max_examples=300)
@given(st.lists(WORDS, max_size=5).map(" ".join) | st.text())
def test_parse_answers_or_refuses(text: str) -> None:
    """No text, near to the grammar or far from it, gives anything but a moment or InvalidInput."""
    refused = None
    try:
        moment = parse(text, now=MIDDAY, zone=ONE_HOUR_EAST)
    except InvalidInput as error:
        refused = error
    if refused:
        assert refused.message == visible(refused.message)
    else:
        assert 0 <= moment.at < 253_402_300_800_000_000


def test_iso_loads_no_datetime() -> None:
    """Reading and showing ISO 8601 does not load datetime, which would slow every start."""
    code = (
        "import sys; from queuectl.jobs.when import iso, parse;"
        "iso(parse('2026-11-24T04:00:00.5+01:00', now=0).at);"
        "print('datetime' in sys.modules or 'queuectl.jobs.spoken' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert answer.stdout == "False\n"


def test_a_length_that_is_none_is_answered_with_times() -> None:
    """Who said when, and got the length wrong, is shown how to say when."""
    with pytest.raises(InvalidInput) as caught:
        parse("in some hours", now=MIDDAY)
    assert "'in 2 hours'" in caught.value.hint
