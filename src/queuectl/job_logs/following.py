"""Following a log while it grows, is cut, and is removed and begun again."""

from __future__ import annotations

import os
import time

from queuectl.job_logs import files
from queuectl.job_logs.reading import copy_block, last_cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_SHORTEST_PAUSE = 0.01
_LONGEST_PAUSE = 0.2


class Follower:
    """Where one reader is in a log that somebody else writes.

    That the log was shortened is seen by its size. Where it grows by as much again before the next
    look, a fifth of a second later, what is written then may repeat or leave out a piece.
    """

    def __init__(self, path: str, position: int) -> None:
        self._path = path
        self.position = position
        """The offset that is read next; while a block is being written, where that begins."""
        self._fd = -1
        self._size = 0
        self._cut = (0, 0)  # where the last cut ends, and how far what follows it has moved up

    def run(self, out: BinaryIO, is_finished: Callable[[], bool]) -> bool:
        """Write what there is, and what comes, until the job has finished; whether there was a log."""
        pause = _SHORTEST_PAUSE
        finished = False
        seen = False
        while True:
            if self._is_open():
                seen = True
                if self._copy_block(out):
                    pause = _SHORTEST_PAUSE
                    continue
                out.flush()
            # Asked before the last look, not after it: what is written up to the end is seen.
            if finished:
                return seen
            finished = is_finished()
            if not finished:
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def close(self) -> None:
        """Close the log; needed after an error, too."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_open(self) -> bool:
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, files.READ)
            except FileNotFoundError:
                return False
        return True

    def _copy_block(self, out: BinaryIO) -> bool:
        """Write a block; whether there was one."""
        status = os.fstat(self._fd)
        if status.st_size < self._size:
            self._find_position(status.st_size)
        self._size = status.st_size
        before = self.position
        self.position = copy_block(self._fd, out, before)
        if self.position != before:
            return True
        if status.st_nlink == 0:
            # Removed, and all of it was written. Another attempt begins a new log.
            self.close()
            self.position = self._size = 0
        return False

    def _find_position(self, size: int) -> None:
        """The log is shorter than it was: see where what comes next is now."""
        cut = last_cut(self._fd)
        if cut is None:
            if self.position > size:
                self.position = 0  # the command emptied the file
            return
        line_start, line_end, count = cut
        moved = count - (line_end - line_start)
        if self.position > line_start:
            moved_before = self._cut[1] if self._cut[0] == line_end else 0
            position = self.position - (moved - moved_before)
            # What was to come next may be cut itself; then comes the line that says so.
            self.position = position if position >= line_end else line_start
        self._cut = (line_end, moved)
