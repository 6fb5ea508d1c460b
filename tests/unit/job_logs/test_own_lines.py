from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.job_logs import own_lines

ANYTHING = st.text(st.characters(categories=None))  # also lone surrogates
LONG = st.builds(lambda text, times: text * times, ANYTHING, st.integers(1, 500))
NUMBER = st.integers(1, 10_000)
MOMENT = st.integers(0, 253_402_300_799_999_999)
NAME = st.text(st.characters(categories=None), max_size=100)

HEADER = st.builds(
    own_lines.started,
    NUMBER,
    max_retries=st.integers(0, 1000),
    started_at=MOMENT,
    worker=NAME,
    command=LONG,
    cwd=LONG,
)
ENDED = st.builds(
    own_lines.ended,
    NUMBER,
    finished_at=MOMENT,
    seconds=st.floats(0, 1e9),
    outcome_text=LONG,
)
LOST = st.builds(own_lines.lost, NUMBER, MOMENT)
AROUND = st.sampled_from([b"", b"\n", b"output\n", b"said [queuectl] attempt 1 ended \n"])


def test_the_text_of_the_lines() -> None:
    """Logs of other versions stay readable, so the text stands still."""
    started = functools.partial(
        own_lines.started,
        max_retries=3,
        started_at=1_795_492_800_123_456,
        worker="w1",
        command="a\nb",
        cwd="/srv",
    )
    assert [
        started(1),
        started(5),
        own_lines.ended(2, finished_at=0, seconds=1.5, outcome_text="exit status 1"),
        own_lines.lost(3, 1_000_000),
        own_lines.not_started(4),
        own_lines.cut(12, 100),
        own_lines.missed(12),
    ] == [
        b"[queuectl] attempt 1 of 4 started 2026-11-24T04:00:00.123456Z by worker w1 in /srv: a\\nb\n",
        b"[queuectl] attempt 5 started 2026-11-24T04:00:00.123456Z by worker w1 in /srv: a\\nb\n",
        b"[queuectl] attempt 2 ended 1970-01-01T00:00:00Z after 1.500s: exit status 1\n",
        b"[queuectl] attempt 3 ended 1970-01-01T00:00:01Z: worker lost\n",
        b"[queuectl] attempt 4 was not started\n",
        b"\n[queuectl] 12 bytes were cut here (log_max_bytes is 100)\n",
        b"\n[queuectl] 12 bytes were cut here\n",
    ]


@given(AROUND, HEADER, AROUND)
def test_a_header_line_is_known_again(before: bytes, line: bytes, after: bytes) -> None:
    """Among other lines, and as it comes byte by byte; it ends nothing."""
    text = before + line + after
    start = len(before)
    assert [*own_lines.whole_lines(text)] == [(start, start + len(line), True)]
    assert own_lines.may_begin_started(text, start)
    assert all(own_lines.may_begin_started(line[:n], 0) for n in range(len(line)))
    assert all(own_lines.may_become_started(line[:n]) for n in range(len(line)))
    assert not own_lines.may_become_ended(line[:-1])
    assert own_lines.over(line) is None
    assert len(line) < own_lines.LONGEST


@given(AROUND, st.one_of(ENDED, LOST), AROUND)
def test_a_closing_line_is_known_again(before: bytes, line: bytes, after: bytes) -> None:
    """Among other lines, and as it comes byte by byte; it begins nothing."""
    text = before + line + after
    start = len(before)
    assert [*own_lines.whole_lines(text)] == [(start, start + len(line), False)]
    assert not own_lines.may_begin_started(text, start)
    assert all(own_lines.may_become_ended(line[:n]) for n in range(len(line)))
    assert not own_lines.may_become_started(line[:-1])
    assert own_lines.told(line) == line.decode().strip("\n").replace("[queuectl] a", "A", 1)
    assert len(line) < own_lines.LONGEST


@given(NUMBER, NUMBER, MOMENT, MOMENT, ANYTHING)
def test_a_closing_line_is_that_of_its_attempt(
    attempt: int, another: int, moment: int, later: int, outcome: str
) -> None:
    """By its number, and by its moment where that is known."""
    for line in (
        own_lines.ended(attempt, finished_at=moment, seconds=0.0, outcome_text=outcome),
        own_lines.lost(attempt, moment),
    ):
        assert own_lines.over(line) == (attempt, True)
        assert own_lines.is_end_of(line, attempt, moment)
        assert own_lines.is_end_of(line, attempt, None)
        assert own_lines.is_end_of(line, another, None) == (another == attempt)
        assert own_lines.is_end_of(line, attempt, later) == (later == moment)


@given(NUMBER)
def test_a_line_that_takes_a_beginning_back_is_known_again(attempt: int) -> None:
    """The attempt is over, and had not begun; its part has no end for it."""
    line = own_lines.not_started(attempt)
    assert own_lines.over(line) == (attempt, False)
    assert not own_lines.is_end_of(line, attempt, None)
    assert [*own_lines.whole_lines(line)] == []
    assert not own_lines.may_become_ended(line[:-1])


@given(st.integers(0, 2**63), st.integers(1, 2**63), AROUND, AROUND)
def test_a_cut_is_known_again(count: int, max_bytes: int, before: bytes, after: bytes) -> None:
    """Where it is and what it says is found among other lines, and in the middle of one."""
    line = own_lines.cut(count, max_bytes)
    start = len(before + b"mid")
    assert [*own_lines.cuts(before + b"mid" + line + after)] == [(start, start + len(line), count)]
    assert len(line) < own_lines.LONGEST_CUT


def test_what_a_reader_missed_is_no_cut() -> None:
    """A job that writes what it read of another's log has nothing cut out of its own."""
    assert [*own_lines.cuts(own_lines.missed(12))] == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"output\n",
        b"[queuectl] attempt ",
        b"[queuectl] attempt x ended 1970-01-01T00:00:00Z\n",
        b"[queuectl] attempt 1 endedness\n",
        b"[queuectl] attempt 1 was not started, was it\n",
        b" [queuectl] attempt 1 ended 1970-01-01T00:00:00Z: worker lost\n",
        b"[queuectl] attempts 1 ended 1970-01-01T00:00:00Z: worker lost\n",
        own_lines.cut(1, 1),
        own_lines.missed(1),
    ],
)
def test_other_lines_say_nothing_of_an_attempt(line: bytes) -> None:
    """What only begins like a line of queuectl's is none."""
    assert own_lines.over(line) is None
    assert not own_lines.is_end_of(line, 1, None)
    assert [*own_lines.whole_lines(line)] == []
