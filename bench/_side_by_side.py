"""Measuring things against each other: in turns, in one run, and told as medians and ratios.

A machine is never the same twice, and seldom the same for a minute. So nothing is measured alone:
every contestant has its turn in every round, the order moves on by one from round to round, and a
ratio is the median of the ratios within the rounds.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class BenchError(Exception):
    """Something that was to be measured did not do what it should."""


class Contestant(NamedTuple):
    """Something to measure."""

    name: str
    turn: Callable[[str], float]
    """Does the work once, in a new and empty folder, and returns the seconds that count."""
    pieces: int = 1
    """How many pieces of work one turn is."""


class Result:
    """What the turns of one contestant took."""

    def __init__(self, contestant: Contestant) -> None:
        self.name = contestant.name
        self.pieces = contestant.pieces
        self.seconds: list[float] = []

    @property
    def median(self) -> float:
        """Seconds a turn."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The fewest seconds of any turn."""
        return min(self.seconds)

    @property
    def rate(self) -> float:
        """Pieces of work a second, in the median turn."""
        return self.pieces / self.median

    def times_the_rate_of(self, other: Result) -> float:
        """How many times as fast as `other`, piece by piece: over 1 is faster."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(
            (theirs / other.pieces) / (ours / self.pieces) for ours, theirs in pairs
        )


class Scratch:
    """A folder for one run. Nothing in it is removed before the end: making files right after
    thousands were deleted costs several times as much on ext4.
    """

    def __init__(self, parent: str | None, *, keep: bool) -> None:
        self.path = tempfile.mkdtemp(prefix="queuectl-bench-", dir=parent)
        self._keep = keep
        self._folders = 0

    def new_folder(self) -> str:
        """An empty folder."""
        self._folders += 1
        path = os.path.join(self.path, f"{self._folders:04d}")
        os.mkdir(path)
        return path

    def close(self) -> None:
        """Removes it all, or says where it is."""
        if self._keep:
            print(f"kept {self.path}", file=sys.stderr)
        else:
            shutil.rmtree(self.path, ignore_errors=True)


class Plan(NamedTuple):
    """How much to measure, and where."""

    quick: bool
    scratch: Scratch
    asked_rounds: int | None = None
    asked_minutes: float | None = None

    def rounds(self, usual: int) -> int:
        """How many rounds to go: as asked for, or `usual`, or a few when it is to be quick."""
        if self.asked_rounds is not None:
            return self.asked_rounds
        return min(usual, 3) if self.quick else usual

    def size(self, usual: int, quick: int) -> int:
        """How much work to do."""
        return quick if self.quick else usual

    def minutes(self, usual: float, quick: float) -> float:
        """How long to watch: as asked for, or `usual`, or a while when it is to be quick."""
        if self.asked_minutes is not None:
            return self.asked_minutes
        return quick if self.quick else usual


def race(plan: Plan, contestants: Sequence[Contestant], rounds: int) -> list[Result]:
    """Lets everybody take a turn in each of `rounds` rounds; the results are in the order given."""
    results = {each.name: Result(each) for each in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for each in [*contestants[first:], *contestants[:first]]:
            _show_progress(f"round {number + 1} of {rounds}: {each.name}")
            results[each.name].seconds.append(each.turn(plan.scratch.new_folder()))
    _show_progress("")
    return list(results.values())


def run(
    words: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> float:
    """Runs a program; returns the seconds from before its start until its end was seen.

    Its standard input is the file `stdin`, or nothing; its output is dropped. Raises BenchError
    when it fails, with what it said.
    """
    with tempfile.TemporaryFile() as errors, open(stdin or os.devnull, "rb") as source:
        start = time.perf_counter()
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=environment() if env is None else env,
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        status = process.wait()
        seconds = time.perf_counter() - start
        if status != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise BenchError(f"{' '.join(words)}: exit status {status}: {said[-500:]}")
    return seconds


def environment() -> dict[str, str]:
    """The environment of what is measured: byte code is kept, and no queue is named in it."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted and not name.startswith("QUEUECTL_")
    }


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table, aligned for reading as it is; the first column is text."""
    grid = [list(headings), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in grid) for column in range(len(headings))]
    print(f"\n### {title}\n")
    for number, row in enumerate(grid):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("| " + " | ".join(cells) + " |")
        if number == 0:
            rules = ["-" * widths[0], *["-" * (width - 1) + ":" for width in widths[1:]]]
            print("| " + " | ".join(rules) + " |")
    sys.stdout.flush()


def note(text: str) -> None:
    """Prints a remark under a table."""
    print(f"\n{text}", flush=True)


def milliseconds(seconds: float) -> str:
    """For a table: '21.4'."""
    return f"{seconds * 1e3:,.1f}"


def per_second(rate: float) -> str:
    """For a table: '1,830'."""
    return f"{rate:,.0f}"


def times(ratio: float) -> str:
    """For a table: '1.15 x'."""
    return f"{ratio:.2f} x"


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
