"""What of a command's output is to be copied next: pure arithmetic, so that it can be tried in full.

The copy is made of blocks of a fixed length, numbered by their place in all that the command has
written. The numbers only grow: what is cut out of the middle leaves a gap in them, and where the
command empties its log the copy begins anew behind the last one. So a block that was copied stays
right until it is cut or dropped, and the last one is copied again as it fills.
"""

from __future__ import annotations

from itertools import chain, islice

from queuectl.job_logs import own_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK_BYTES = 64 * 1024


class Shape:
    """Where a command's output is in the file: from `start` to `cut_at` and from `resumes_at` to
    `size`, offsets all of them. By `moved` bytes the second part was moved up when cuts were closed.
    """

    __slots__ = ("cut_at", "moved", "resumes_at", "size", "start")

    def __init__(
        self, start: int, size: int, cut_at: int = 0, resumes_at: int = 0, moved: int = 0
    ) -> None:
        self.start = start
        self.size = max(size, start)
        # A limit that it has not come to yet cuts nothing.
        self.cut_at = min(max(cut_at, start), self.size)
        self.resumes_at = min(max(resumes_at, self.cut_at), self.size)
        self.moved = moved


class Block:
    """One block to copy: its number, and the ranges of the file that it consists of."""

    __slots__ = ("number", "ranges")

    def __init__(self, number: int, ranges: list[tuple[int, int]]) -> None:
        self.number = number
        self.ranges = ranges


class Step:
    """What to do next: copy `blocks`, and drop the `dropped` ones, given as (from, before).

    `begins` is the first number of the log as it is now, `length` how many bytes of it there are;
    `is_last` says that nothing is left to copy then.
    """

    __slots__ = ("begins", "blocks", "dropped", "first", "gap", "is_last", "length", "sent_to")

    def __init__(
        self,
        blocks: list[Block],
        dropped: list[tuple[int, int]],
        *,
        first: int,
        begins: int,
        length: int,
        is_last: bool,
        sent_to: int,
        gap: tuple[int, int],
    ) -> None:
        self.blocks = blocks
        self.dropped = dropped
        self.first = first
        self.begins = begins
        self.length = length
        self.is_last = is_last
        self.sent_to = sent_to
        self.gap = gap


class Progress:
    """How far the copy of one attempt's output has come."""

    __slots__ = ("_base", "_dropped_to", "_gap", "sent_to")

    def __init__(self) -> None:
        self._base = 0
        """What is added to an offset in the file to get the place in all that was written."""
        self._gap = (0, 0)
        self._dropped_to = 0
        self.sent_to = 0
        """Up to which place it was copied."""

    def begin_anew(self) -> None:
        """The command emptied its log: what it writes from now on goes behind what was copied."""
        self._base = self.sent_to = -(-self.sent_to // BLOCK_BYTES) * BLOCK_BYTES
        self._gap = (0, 0)

    def has_shrunk(self, shape: Shape) -> bool:
        """Whether the log is shorter than what was copied of it."""
        return self._base + shape.size + shape.moved < self.sent_to

    def last_range(self, shape: Shape) -> tuple[int, int] | None:
        """Where in the file the last block that was copied stands; None where that was cut since."""
        first = max((self.sent_to - 1) // BLOCK_BYTES * BLOCK_BYTES, self._base + shape.start)
        resumes = self._base + shape.resumes_at + shape.moved
        cut = self._base + shape.cut_at
        if self.sent_to <= self._base or first >= self.sent_to:
            return None
        if first >= resumes:
            return first - self._base - shape.moved, self.sent_to - self._base - shape.moved
        if self.sent_to <= cut - own_lines.LONGEST_CUT or cut == resumes:
            return first - self._base, self.sent_to - self._base
        return None

    def next(self, shape: Shape, keep: int | None, most: int) -> Step | None:
        """The next step, of up to `most` blocks; None when there is nothing to copy. Of the output
        the last `keep` bytes are to be there (None: all), and up to a block more.
        """
        start, cut = self._base + shape.start, self._base + shape.cut_at
        resumes = self._base + shape.resumes_at + shape.moved
        end = self._base + shape.size + shape.moved
        length = (cut - start) + (end - resumes)
        oldest = start
        if keep is not None and keep < length:
            oldest = end - keep if keep <= end - resumes else cut - (keep - (end - resumes))
        first = oldest // BLOCK_BYTES
        gap = (cut, resumes) if cut < resumes else (0, 0)
        sent = max(self.sent_to, start)
        has_new_gap = gap != self._gap
        # The line that tells of a cut stands before it, and each cut writes it anew.
        before = max(min(sent, cut - own_lines.LONGEST_CUT), start) if has_new_gap else sent
        behind = max(sent, resumes)
        changed = chain(
            _numbers(before, cut),
            _numbers(resumes, min(resumes + 1, end)) if has_new_gap else (),
            _numbers(behind, end),
        )
        numbers = list(islice(_each_once(changed, first), most + 1))
        is_last = len(numbers) <= most
        del numbers[most:]
        dropped = []
        if self._dropped_to < first and self.sent_to:
            dropped.append((self._dropped_to, first))
        if has_new_gap and self.sent_to > cut:
            dropped.append((_up(cut), resumes // BLOCK_BYTES))
        if not numbers and dropped:  # A log that was emptied has a block all the same, to say so.
            numbers = [max((end - 1) // BLOCK_BYTES, first)]
        if not numbers:
            return None
        blocks = [Block(n, self._ranges(n, shape)) for n in numbers]
        return Step(
            blocks,
            [(low, high) for low, high in dropped if low < high],
            first=first,
            begins=start // BLOCK_BYTES,
            length=length,
            is_last=is_last,
            sent_to=end if is_last else (numbers[-1] + 1) * BLOCK_BYTES,
            gap=gap if is_last else self._gap,
        )

    def took(self, step: Step) -> None:
        """That step was done."""
        self.sent_to = step.sent_to
        self._gap = step.gap
        self._dropped_to = step.first

    def _ranges(self, number: int, shape: Shape) -> list[tuple[int, int]]:
        low = number * BLOCK_BYTES - self._base
        moved = low - shape.moved
        parts = (
            (max(low, shape.start), min(low + BLOCK_BYTES, shape.cut_at)),
            (max(moved, shape.resumes_at), min(moved + BLOCK_BYTES, shape.size)),
        )
        return [(begins, ends) for begins, ends in parts if begins < ends]


def _numbers(begins: int, ends: int) -> range:
    """The numbers of the blocks in which the places from `begins` to before `ends` are."""
    return range(begins // BLOCK_BYTES, _up(ends)) if begins < ends else range(0)


def _each_once(numbers: Iterable[int], first: int) -> Iterator[int]:
    for number in numbers:
        if number >= first:
            yield number
            first = number + 1


def _up(place: int) -> int:
    """The number of the first block that begins at a place or behind it."""
    return -(-place // BLOCK_BYTES)
