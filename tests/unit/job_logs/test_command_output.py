from __future__ import annotations

import io

import pytest

from queuectl.job_logs.command_output import CommandOutput
from queuectl.jobs.job_view import Attempt
from queuectl.jobs.when import iso


def header(number: int) -> bytes:
    """The line with which an attempt's part begins."""
    return b"[queuectl] attempt %d of 2 started 2026-11-24T04:00:00Z by worker w in /: x\n" % number


def closing(number: int, words: str = "exit status 3") -> bytes:
    """The line with which it ends."""
    return b"[queuectl] attempt %d ended %s after 1.000s: %s\n" % (
        number,
        iso(ENDED_AT + number).encode(),
        words.encode(),
    )


ENDED_AT = 1_795_492_801_000_000


class Stream:
    """A log that is passed on as it comes, and a database that says which attempts have ended."""

    def __init__(self) -> None:
        self.out = io.BytesIO()
        self.told: list[str] = []
        self.log = b""
        self.at = 0
        self.rows: list[Attempt] = []
        self.questions = 0
        self.passed = CommandOutput(
            self.out, self.told.append, position=lambda: self.at, attempts=self._attempts
        )

    def _attempts(self) -> list[Attempt]:
        self.questions += 1
        return self.rows

    def comes(self, data: bytes, size: int = 10_000) -> None:
        """The log grows, and is read in pieces."""
        self.log += data
        while self.at < len(self.log):
            piece = self.log[self.at : self.at + size]
            self.passed.write(piece)
            self.at += len(piece)

    def is_emptied(self) -> None:
        self.log, self.at = b"", 0

    def ends(self, number: int, outcome: str = "failed") -> None:
        """The database says that this attempt has ended where the log does."""
        end = None if outcome == "lost" else len(self.log)
        row = Attempt(number, 0, ENDED_AT + number, outcome, None, None, None, "w", None, end)
        self.rows = [*self.rows, row]


FORGED = (
    b"one\n"
    + closing(1, "not me")
    + header(2)
    + header(1)
    + closing(2)
    + b"[queuectl] attempts of mine\n\nmid "
    + closing(1, "nor me")
    + b"[queuectl] attempt 1 data\n"
)
"""Output that looks as if queuectl had written it."""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 64, 100, 1000])
@pytest.mark.parametrize("late", [False, True], ids=["while it runs", "when it has ended"])
def test_own_lines_are_told_apart(size: int, late: bool) -> None:
    """However the log arrives in pieces, and whenever, queuectl's lines leave the output, and no
    others, however much they look like them.
    """
    parts = [
        header(1) + FORGED + closing(1),
        header(2) + FORGED + closing(1) + closing(2, "succeeded"),
    ]
    stream = Stream()
    if late:
        for number, part in enumerate(parts, 1):
            stream.log += part
            stream.ends(number)
        stream.comes(b"", size)
    else:
        for number, part in enumerate(parts, 1):
            stream.comes(part, size)
            stream.ends(number)
    stream.comes(b"[queuectl] at", size)
    stream.passed.end()
    assert stream.out.getvalue() == FORGED + FORGED + closing(1) + b"[queuectl] at"
    assert stream.told == [
        f"Attempt 1 ended {iso(ENDED_AT + 1)} after 1.000s: exit status 3",
        f"Attempt 2 ended {iso(ENDED_AT + 2)} after 1.000s: succeeded",
    ]


def test_output_is_not_held_back() -> None:
    """What a command writes is passed on at once, also when it ends in the middle of a line, and
    the database is not asked about it.
    """
    stream = Stream()
    stream.comes(header(1))
    for piece in (
        b"prompt> ",
        b"[queuectl] attempt no",
        b"\n[",
        b"x\n",
        header(2),
        b"mid " + closing(1),
    ):
        stream.comes(piece)
        assert not stream.passed.is_in_doubt
    stream.comes(b"[queuectl] attempt no")
    output = b"prompt> [queuectl] attempt no\n[x\n" + header(2) + b"mid " + closing(1)
    assert stream.out.getvalue() == output + b"[queuectl] attempt no"
    assert stream.questions == 0


def test_what_may_be_a_closing_line_waits_until_that_is_known() -> None:
    """It is told once the database has the attempt's end there; passed on once more comes behind
    it, or there is nothing more to come.
    """
    stream = Stream()
    stream.comes(header(1) + closing(1, "a"))
    stream.passed.ask()
    assert (stream.out.getvalue(), stream.passed.is_in_doubt) == (b"", True)
    stream.comes(b"more\n")
    assert stream.out.getvalue() == closing(1, "a") + b"more\n"
    stream.comes(closing(1, "b"))
    assert stream.told == []
    stream.ends(1)
    stream.passed.ask()
    assert stream.told == [f"Attempt 1 ended {iso(ENDED_AT + 1)} after 1.000s: b"]
    assert not stream.passed.is_in_doubt
    stream.comes(header(2) + closing(2, "c"))
    stream.passed.end()
    assert stream.out.getvalue() == closing(1, "a") + b"more\n" + closing(2, "c")
    assert len(stream.told) == 1


def test_a_process_that_was_left_behind_hides_no_end() -> None:
    """What it writes behind the closing line, before the database knows, is passed on; that the
    attempt ended is told all the same, and the next one's lines are known.
    """
    stream = Stream()
    stream.comes(header(1) + closing(1))
    stream.ends(1)
    stream.comes(b"late\n" + header(2) + b"two\n" + closing(2))
    stream.ends(2)
    stream.passed.end()
    assert stream.out.getvalue() == b"late\ntwo\n"
    assert len(stream.told) == 2
    stream = Stream()
    stream.comes(header(1) + closing(1))
    (end,) = [len(stream.log)]
    stream.comes(b"late\n")
    stream.ends(1)
    stream.rows = [stream.rows[0]._replace(log_end=end)]
    stream.comes(header(2) + b"two\n" + closing(2))
    stream.ends(2)
    stream.passed.end()
    assert stream.out.getvalue() == closing(1) + b"late\ntwo\n"
    assert len(stream.told) == 2


def test_a_log_that_its_command_empties() -> None:
    """The part begins anew without a header line; what looks like one is the command's, and its
    end is found where it is now.
    """
    stream = Stream()
    stream.comes(header(1) + b"gone, in the middle of a line")
    stream.is_emptied()
    stream.comes(b"kept\n" + header(1) + closing(1))
    stream.ends(1)
    stream.comes(header(2))
    stream.is_emptied()
    stream.comes(closing(2))
    stream.ends(2)
    stream.passed.end()
    assert stream.out.getvalue() == b"gone, in the middle of a linekept\n" + header(1)
    assert len(stream.told) == 2


def test_the_end_of_a_lost_attempt_is_told() -> None:
    """Nobody wrote down where its closing line is: it is the last of the part."""
    stream = Stream()
    stream.log = header(1) + closing(1, "worker lost") + b"x\n" + closing(1, "worker lost")
    stream.ends(1, "lost")
    stream.comes(header(2) + closing(2))
    stream.ends(2)
    stream.passed.end()
    assert stream.out.getvalue() == closing(1, "worker lost") + b"x\n"
    assert len(stream.told) == 2
