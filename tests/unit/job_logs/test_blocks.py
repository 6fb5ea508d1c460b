"""What is to be copied next: tried on logs that grow, are cut and are emptied at any moment."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.job_logs import blocks, own_lines
from queuectl.job_logs.blocks import BLOCK_BYTES, Progress, Shape, Step

LIMIT = 8 * BLOCK_BYTES


class ModelLog:
    """A log of which a part of the middle may be missing, and whose bytes all differ nearby."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.size = start
        self.cut_at = start + LIMIT // 2
        self.resumes_at = self.cut_at
        self.moved = 0
        self._salt = 0
        self._written: list[bytes] = []
        self._cut = b""

    def shape(self) -> Shape:
        return Shape(self.start, self.size, self.cut_at, self.resumes_at, self.moved)

    def write(self, count: int) -> None:
        self.size += count

    def cut(self) -> None:
        """Cuts the middle, as `cutting` does while a command runs."""
        resumes = max(self.size - LIMIT // 2, self.resumes_at)
        if resumes > self.resumes_at:
            self.resumes_at = resumes
            self._salt += 1

    def close_up(self) -> None:
        """Moves the end up, as `cutting` does in the end."""
        if self.resumes_at > self.cut_at:
            moved = self.resumes_at - self.cut_at
            self.moved += moved
            self.size -= moved
            self.resumes_at = self.cut_at

    def empty(self) -> None:
        self.start = self.size = self.moved = 0
        self.resumes_at = self.cut_at
        self._salt += 1

    def read(self, start: int, end: int) -> bytes:
        return bytes(self._at(offset) for offset in range(start, end))

    def _at(self, offset: int) -> int:
        behind = offset >= self.resumes_at and (self.moved or self.resumes_at > self.cut_at)
        place = offset + self.moved if behind else offset
        in_line = self._salt and self.cut_at - own_lines.LONGEST_CUT <= offset < self.cut_at
        return (place * 2_654_435_761 >> 9) + (self._salt if in_line else 0) & 255

    def output(self) -> bytes:
        first = self.read(self.start, min(self.cut_at, self.size))
        return first + self.read(min(max(self.resumes_at, self.cut_at), self.size), self.size)


class Copy:
    """What a database does with the steps."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.blocks: dict[int, bytes] = {}
        self.begins = self.length = 0

    def step(self, log: ModelLog, keep: int | None, most: int = 3) -> Step | None:
        step = self.progress.next(log.shape(), keep, most)
        if step is not None:
            for block in step.blocks:
                self.blocks[block.number] = b"".join(log.read(*r) for r in block.ranges)
            for low, high in step.dropped:
                for number in [n for n in self.blocks if low <= n < high]:
                    del self.blocks[number]
            self.begins, self.length = step.begins, step.length
            self.progress.took(step)
        return step

    def finish(self, log: ModelLog, keep: int | None) -> None:
        while self.step(log, keep) is not None:
            pass

    def content(self) -> bytes:
        return b"".join(self.blocks[number] for number in sorted(self.blocks))


_MOVES = st.lists(
    st.one_of(
        st.integers(1, 3 * BLOCK_BYTES).map(lambda n: ("write", n)),
        st.just(("cut", 0)),
        st.just(("step", 0)),
        st.just(("empty", 0)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    moves=_MOVES,
    start=st.sampled_from([0, 100, BLOCK_BYTES, 3 * BLOCK_BYTES + 7]),
    keep=st.sampled_from([None, 1000, BLOCK_BYTES, 3 * BLOCK_BYTES]),
)
def test_in_the_end_the_copy_is_the_log(
    moves: list[tuple[str, int]], start: int, keep: int | None
) -> None:
    """However it grew, was cut and emptied between the steps: all of it is there, or its end and less
    than a block more; and a last step finds nothing to do.
    """
    log, copy = ModelLog(start), Copy()
    for move, count in moves:
        if move == "write":
            log.write(count)
        elif move == "cut":
            log.cut()
        elif move == "empty":
            log.empty()
            copy.progress.begin_anew()
        else:
            copy.step(log, keep)
    log.cut()
    if len(moves) % 2:
        copy.finish(log, keep)  # While there is a hole in it.
    log.close_up()
    copy.finish(log, keep)
    output, content = log.output(), copy.content()
    if keep is None or not output:
        assert content == output
    else:
        assert output.endswith(content)
        assert min(keep, len(output)) <= len(content) <= keep + 2 * BLOCK_BYTES
    if output:
        assert copy.length == len(output)
    assert copy.step(log, keep) is None


def test_little_output_is_one_block() -> None:
    """A command that prints a line costs one block, and none that prints nothing."""
    log, copy = ModelLog(120), Copy()
    assert copy.step(log, None) is None
    log.write(30)
    step = copy.step(log, None, most=1)
    assert step is not None
    assert (step.is_last, step.dropped, step.length) == (True, [], 30)
    assert list(copy.blocks) == [0]


def test_what_fills_a_block_rewrites_that_alone() -> None:
    """Blocks that are full are copied once; the last one is copied anew as it fills."""
    log, copy = ModelLog(0), Copy()
    numbers = []
    for _ in range(4):
        log.write(BLOCK_BYTES // 2 + 1)
        step = copy.step(log, None)
        assert step is not None
        numbers.append([block.number for block in step.blocks])
    assert numbers == [[0], [0, 1], [1], [1, 2]]


def test_a_tail_skips_what_it_will_not_keep() -> None:
    """Of much output that came at once, no more is read than is kept."""
    log, copy = ModelLog(50), Copy()
    log.write(1000 * BLOCK_BYTES)
    log.cut_at = log.resumes_at = log.size
    step = copy.step(log, 2 * BLOCK_BYTES, most=9)
    assert step is not None
    assert len(step.blocks) == 3
    assert step.length == 1000 * BLOCK_BYTES
    log.write(5 * BLOCK_BYTES)
    step = copy.step(log, 2 * BLOCK_BYTES, most=9)
    assert step is not None
    assert step.dropped
    assert len(copy.blocks) == 3


def test_a_hole_of_any_size_is_passed_over() -> None:
    """The endless output of years is no longer to look at than what is left of it."""
    log = ModelLog(0)
    log.write(1 << 50)
    log.cut()
    step = Progress().next(log.shape(), None, 100)
    assert step is not None
    assert step.is_last
    assert sum(end - start for b in step.blocks for start, end in b.ranges) == LIMIT
    assert blocks.BLOCK_BYTES * len(step.blocks) < 2 * LIMIT
