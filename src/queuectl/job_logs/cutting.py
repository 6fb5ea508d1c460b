"""The limit on an attempt's part of the log: the middle of what is too long is cut out.

The command writes straight into the file, so the cut is made beside it, without ever holding it
up. While it runs, a hole is punched into the middle: the bytes there are given back to the file
system, the offsets stay as they are, and the writer goes on at the end. When it has ended, the rest
is moved up to close the hole. The first half and the last half of the limit stay, each up to one
block of the file system more. The line that says what was cut is written over the end of the first
half, so it stands in the file itself from the first cut on, also when the worker dies.

Where holes cannot be punched (not on Linux, or some file systems), the rest is moved up while the
command runs. That costs a copy of half the limit at each cut, and bytes the command writes in the
microseconds between the end of the copy and the shortening of the file are lost uncounted.

A part may be cut only while its job is surely this worker's: what a later run in another worker
writes into the same file is not the middle of this part. So leave is asked for after each look at
the file's length, and again before the file is shortened.

An endless writer's file grows on paper. After 16 TiB (on ext4) its writes fail with EFBIG.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading

from queuectl.job_logs import files, own_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL_SECONDS = 0.1
_CHUNK = 1024 * 1024


class Cutter:
    """Cuts one attempt's part. `start` begins a thread that keeps cutting; `finish` ends it all.

    `fd` is the command's descriptor; it and `start_offset` stay the caller's. `may_cut` is asked,
    also by the thread, whether the file is still this attempt's to cut.
    """

    def __init__(
        self, fd: int, path: str, start_offset: int, max_bytes: int, may_cut: Callable[[], bool]
    ) -> None:
        self._fd = files.open_again(fd, path)
        status = os.fstat(self._fd)
        if not os.path.samestat(status, os.fstat(fd)):
            os.close(self._fd)
            raise FileNotFoundError(path)  # the log was removed, and another has taken its name
        self._block = max(getattr(status, "st_blksize", 0), 4096)
        self._max_bytes = max_bytes
        self._may_cut = may_cut
        self._half = max_bytes // 2
        self._kept_to = -(-(start_offset + self._half) // self._block) * self._block
        self._resumes_at = self._kept_to
        self._moved = 0
        self._can_punch = sys.platform == "linux"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-cutter", daemon=True)

    @property
    def cut(self) -> tuple[int, int, int]:
        """Where the first part ends, where the second begins, by how much that was moved up."""
        return self._kept_to, self._resumes_at, self._moved

    def start(self) -> None:
        """Cut what is too long from now on, in a thread, every tenth of a second."""
        self._thread.start()

    def finish(self) -> None:
        """Bring the part to its final length, with no hole left. Raises OSError on a full disk, and
        when it may not be cut any more: then it stays as it is.
        """
        self._end_thread()
        try:
            self._close_up(self._next_cut())
        finally:
            os.close(self._fd)

    def abandon(self) -> None:
        """Leave the part as it is, with its hole."""
        self._end_thread()
        os.close(self._fd)

    def _end_thread(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            # What cannot be cut now may be the next time; the command goes on either way.
            with contextlib.suppress(OSError):
                self._shorten()
            self._ended.wait(_INTERVAL_SECONDS)

    def _shorten(self) -> None:
        resume = self._next_cut()
        if resume == self._resumes_at:
            return
        self._require_leave()
        if self._can_punch:
            self._write_line(resume)
            try:
                punch_hole(self._fd, self._resumes_at, resume)
            except OSError:
                self._can_punch = False
            else:
                self._resumes_at = resume
                return
        self._close_up(resume)

    def _next_cut(self) -> int:
        """Where the last half begins now, at a whole block as a hole has to end at one."""
        size = os.fstat(self._fd).st_size
        if size < self._resumes_at:  # the command emptied the file, and the cut with it
            self._resumes_at = self._kept_to
            self._moved = 0
        last_half = size - self._half
        return max(last_half // self._block * self._block, self._resumes_at)

    def _write_line(self, resume: int) -> None:
        """Say what is cut when the log goes on at `resume`, in a line that ends where the cut begins."""
        cut = resume - self._kept_to + self._moved
        line = b""
        for _ in range(3):  # its own length counts too, and may add a digit
            line = own_lines.cut(cut + len(line), self._max_bytes)
        files.write_at(self._fd, line, self._kept_to - len(line))

    def _close_up(self, resume: int) -> None:
        """Move what begins at `resume` up to the cut, and end the file there."""
        if resume == self._kept_to:
            return
        self._require_leave()
        self._write_line(resume)
        source, target = resume, self._kept_to
        try:
            while chunk := files.read_at(self._fd, _CHUNK, source):
                files.write_at(self._fd, chunk, target)
                source += len(chunk)
                target += len(chunk)
                self._require_leave()
        except OSError:
            # The disk is full, or the job was taken away: the hole is opened again, and stays.
            if self._can_punch and target < resume:
                punch_hole(self._fd, self._kept_to, resume)
                self._resumes_at = resume
            raise
        os.ftruncate(self._fd, target)
        self._moved += resume - self._kept_to
        self._resumes_at = self._kept_to

    def _require_leave(self) -> None:
        if not self._may_cut():
            raise OSError(errno.ECANCELED, "the file may be another run's by now")


def punch_hole(fd: int, start: int, end: int) -> None:
    """Give the bytes from `start` to before `end` back to the file system (Linux only).

    Raises OSError where the file system cannot do that.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(library, "fallocate64", None) or library.fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
    keep_size, punch = 1, 2
    if fallocate(fd, keep_size | punch, start, end - start):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
