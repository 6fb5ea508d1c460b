"""Reading from a log what is to be copied next, while its command writes into it."""

from __future__ import annotations

import zlib

from queuectl.job_logs import files
from queuectl.job_logs.blocks import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.job_logs.blocks import Shape, Step
    from queuectl.job_logs.open_log import OpenLog

_LEVEL = 1
"""Of zlib: three times as fast as its usual one, and a sixth larger."""

_HEAD_BYTES = 64


class OutputCopy:
    """The copy of one attempt's output, as far as it was made: `next` says what to copy, and `took`
    that this was done. What was not is said again.

    That a command emptied its log and filled it again is seen by the header line, by its length, and
    by the first and the last bytes that were copied.
    """

    __slots__ = ("_head", "_last", "_log", "_progress", "_read", "_start")

    def __init__(self, log: OpenLog) -> None:
        self._log = log
        self._progress = Progress()
        self._start = -1
        self._head = b""
        self._last = 0
        """A checksum of the last block that was copied."""
        self._read = (-1, b"", 0)

    def next(
        self, fd: int, keep: int | None, most: int
    ) -> tuple[Step, list[tuple[int, int, bytes]]] | None:
        """What to do next, see `blocks.Progress.next`, and the blocks: their numbers, their lengths,
        and their bytes, compressed. `fd` is any descriptor of the log. Raises OSError.
        """
        shape = self._log.where_output_is(fd)
        if self._was_emptied(fd, shape):
            self._progress.begin_anew()
        step = self._progress.next(shape, keep, most)
        if step is None:
            return None
        blocks, last = [], self._last
        for block in step.blocks:
            data = b"".join(files.read_at(fd, end - start, start) for start, end in block.ranges)
            blocks.append((block.number, len(data), zlib.compress(data, _LEVEL)))
            last = zlib.crc32(data)
        self._read = (shape.start, files.read_at(fd, _HEAD_BYTES, shape.start), last)
        return step, blocks

    def took(self, step: Step) -> None:
        """What `next` said last was done."""
        self._progress.took(step)
        self._start, self._head, self._last = self._read

    def _was_emptied(self, fd: int, shape: Shape) -> bool:
        if not self._progress.sent_to:
            return False
        if self._progress.has_shrunk(shape) or shape.start != self._start:
            return True
        if files.read_at(fd, len(self._head), shape.start) != self._head:
            return True
        where = self._progress.last_range(shape)
        if where is None:
            return False
        return zlib.crc32(files.read_at(fd, where[1] - where[0], where[0])) != self._last


class NoCopy:
    """In place of the copy of an output that cannot be copied, or is not to be any more."""

    __slots__ = ()

    def next(self, _fd: int, _keep: int | None, _most: int) -> None:
        """There is nothing to do."""

    def took(self, _step: Step) -> None:
        """Nothing was done."""
