"""Reading logs: bytes in, bytes out, a block at a time, and past the holes of a cut."""

from __future__ import annotations

import os

from queuectl.job_logs import files, own_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_BLOCK = 1024 * 1024
_BACKWARD_BLOCK = 64 * 1024


def copy(fd: int, out: BinaryIO, start: int, end: int | None) -> None:
    """Write the bytes from `start` to before `end` (None: the end of the file) to `out`."""
    position = start
    while (after := copy_block(fd, out, position, end)) != position:
        position = after


def copy_block(fd: int, out: BinaryIO, position: int, end: int | None = None) -> int:
    """Write the next block to `out` and return the offset behind it; the same when there is none."""
    wanted = _BLOCK if end is None else max(min(_BLOCK, end - position), 0)
    block = files.read_at(fd, wanted, position)
    # Holes read as zeros. They are looked for after the block was read, so that one punched in
    # between is noticed.
    if b"\0" in block:
        data = files.data_from(fd, position)
        if data > position:
            if not _follows_cut_line(fd, position):
                out.write(own_lines.missed(data - position))
            return data if end is None else min(data, end)
        block = block[: files.hole_from(fd, position) - position]
    if block:
        out.write(block)
    return position + len(block)


def tail_start(fd: int, lines: int, start: int, end: int) -> int:
    """The offset at which the last `lines` lines of the bytes from `start` to `end` begin."""
    if lines <= 0:
        return end
    wanted = lines
    for offset, block in blocks_backward(fd, start, end):
        # A line's end at the very end begins no other line.
        at = len(block) - (offset + len(block) == end and block.endswith(b"\n"))
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            wanted -= 1
            if wanted == 0:
                return offset + at + 1
    return start


def last_cut(fd: int) -> tuple[int, int, int] | None:
    """The last line that tells of a cut: where it begins and ends, and how many bytes it says."""
    after = b""
    for offset, block in blocks_backward(fd, 0, os.fstat(fd).st_size):
        text = block + after
        cuts = list(own_lines.cuts(text))
        if cuts:
            line_start, line_end, count = cuts[-1]
            return offset + line_start, offset + line_end, count
        after = text[: own_lines.LONGEST_CUT]
    return None


def blocks_backward(fd: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The blocks from `end` back to `start` with their offsets, without the holes between them."""
    parts = []
    at = files.data_from(fd, start)
    while at < end:
        hole = min(files.hole_from(fd, at), end)
        parts.append((at, hole))
        at = files.data_from(fd, hole)
    for first, last in reversed(parts):
        at = last
        while at > first:
            offset = max(at - _BACKWARD_BLOCK, first)
            yield offset, files.read_at(fd, at - offset, offset)
            at = offset


def _follows_cut_line(fd: int, position: int) -> bool:
    offset = max(position - own_lines.LONGEST_CUT, 0)
    text = files.read_at(fd, position - offset, offset)
    return any(line_end == len(text) for _, line_end, _ in own_lines.cuts(text))
