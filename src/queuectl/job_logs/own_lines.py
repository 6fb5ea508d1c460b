"""The lines that queuectl itself writes into the logs: how each is written, and known again.

A log outlives the version that wrote it: where the text of a line changes, the old one must still
be known. And a command can write lines that look the same: what is found here only looks like
queuectl's own, and its place in the log decides, see `command_output`.
"""

from __future__ import annotations

import functools
import re

from queuectl.jobs.when import iso
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 4096
"""No line has as many bytes as this."""
LONGEST_CUT = 128
"""No line that tells of a cut has as many bytes as this."""

SUCCEEDED = "succeeded (exit status 0)"
"""How an attempt ended that did well, in its closing line."""

_MARK = b"[queuectl] attempt "
_STARTED = (b" of ", b" started ")
_ENDED = (b" ended ",)


# The patterns are compiled when they are first used: every worker writes such lines as it starts,
# and few ever look for one.


@functools.cache
def _whole_line() -> re.Pattern[bytes]:
    return re.compile(
        rb"^\[queuectl\] attempt \d{1,9} (?:of \d{1,9} )?(started|ended) [^\n]{0,4000}\n",
        re.MULTILINE,
    )


@functools.cache
def _open_line() -> re.Pattern[bytes]:
    return re.compile(rb"\[queuectl\] attempt (\d{0,9})([^\n]{0,4000})")


@functools.cache
def _cut_line() -> re.Pattern[bytes]:
    return re.compile(rb"\n\[queuectl\] ([0-9]+) bytes were cut here \(log_max_bytes is [0-9]+\)\n")


# ---- where an attempt's part begins -------------------------------------------------------


def started(
    attempt: int, *, max_retries: int, started_at: int, worker: str, command: str, cwd: str
) -> bytes:
    """The header line, the first of an attempt's part. Times are microseconds since the epoch."""
    # A run made up for a lost worker can go past the number that max_retries allows.
    of = f" of {max_retries + 1}" if attempt <= max_retries + 1 else ""
    return (
        f"[queuectl] attempt {attempt}{of} started {iso(started_at)} by worker {visible(worker)}"
        f" in {visible(cwd, 200)}: {visible(command, 200)}\n"
    ).encode()


def may_begin_started(text: bytes, at: int) -> bool:
    """Whether a header line is what `text` goes on with, or may be once more of it has come."""
    if text.find(b"\n", at, at + LONGEST) < 0:
        return may_become_started(text[at : at + LONGEST])
    line = _whole_line().match(text, at)
    return line is not None and line[1] == b"started"


def may_become_started(line: bytes) -> bool:
    """Whether a line that begins like this, and has no end yet, can be a header line."""
    return _may_become(line, _STARTED)


# ---- where it ends ------------------------------------------------------------------------


def ended(attempt: int, *, finished_at: int, seconds: float, outcome_text: str) -> bytes:
    """The closing line, the last of an attempt's part."""
    return (
        f"[queuectl] attempt {attempt} ended {iso(finished_at)}"
        f" after {seconds:.3f}s: {visible(outcome_text, 400)}\n"
    ).encode()


def lost(attempt: int, ended_at: int) -> bytes:
    """The closing line of an attempt whose worker is no longer there to write one."""
    return f"[queuectl] attempt {attempt} ended {iso(ended_at)}: worker lost\n".encode()


def not_started(attempt: int) -> bytes:
    """What closes the part of an attempt that was not begun, where its header line cannot be taken
    back.
    """
    return f"[queuectl] attempt {attempt} was not started\n".encode()


def over(line: bytes) -> tuple[int, bool] | None:
    """The attempt that a whole line says is over, and whether it had begun: whether the line is
    like `ended` or `lost`, and not like `not_started`. None for any other line.
    """
    if not line.startswith(_MARK):
        return None
    number, _, words = line[len(_MARK) :].partition(b" ")
    has_begun = words.startswith(b"ended ")
    if number.isdigit() and (has_begun or words == b"was not started\n"):
        return int(number), has_begun
    return None


def is_end_of(line: bytes, attempt: int, finished_at: int | None) -> bool:
    """Whether a line like `ended` or `lost` is about this attempt and moment (None: any moment)."""
    moment = "" if finished_at is None else iso(finished_at)
    return line.startswith(b"%s%d ended %s" % (_MARK, attempt, moment.encode()))


def may_become_ended(line: bytes) -> bool:
    """Whether a line that begins like this, and has no end yet, can be a closing line."""
    return _may_become(line, _ENDED)


# ---- either of them -----------------------------------------------------------------------


def whole_lines(text: bytes) -> Iterator[tuple[int, int, bool]]:
    """Where each line like `started`, `ended` or `lost` begins and ends in `text`, and whether it is
    like `started`. The text is taken to begin with a line.
    """
    for line in _whole_line().finditer(text):
        yield line.start(), line.end(), line[1] == b"started"


def told(line: bytes) -> str:
    """What a line about an attempt says, for people who do not look at the log."""
    return "Attempt " + line[len(_MARK) : -1].decode(errors="replace")


def _may_become(line: bytes, words: tuple[bytes, ...]) -> bool:
    if _MARK.startswith(line):
        return True
    found = _open_line().fullmatch(line)
    return found is not None and any(
        found[2].startswith(word) or (word.startswith(found[2]) and found[1]) for word in words
    )


# ---- where the middle was cut out ---------------------------------------------------------


def cut(count: int, max_bytes: int) -> bytes:
    """Stands in the log where `count` bytes are missing as the limit was `max_bytes`.

    It is written over the middle of other lines, and so brings its own line's beginning.
    """
    return b"\n[queuectl] %d bytes were cut here (log_max_bytes is %d)\n" % (count, max_bytes)


def cuts(text: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each `cut` in `text` begins and ends, and how many bytes it says."""
    for line in _cut_line().finditer(text):
        yield line.start(), line.end(), int(line[1])


def elsewhere(count: int, host: str) -> bytes:
    """What a reader is told in place of `count` bytes that are in the log on that machine alone."""
    return b"[queuectl] %d bytes are only on %s\n" % (count, visible(host, 200).encode())


def not_here(count: int, worker: str) -> bytes:
    """The same of bytes that a worker wrote, where it is not known what became of them."""
    return b"[queuectl] %d bytes are not here: worker %s wrote them\n" % (
        count,
        visible(worker, 200).encode(),
    )


def missed(count: int) -> bytes:
    """What a reader is told in place of `count` bytes that were cut before it came to them.

    It stands in no log, and is not one of the `cuts`: where a command copies what it read of
    another job's log into its own, nothing is missing from that.
    """
    return b"\n[queuectl] %d bytes were cut here\n" % count
