"""One attempt's part of a log, while its command writes into it. Few system calls: every job pays."""

from __future__ import annotations

import errno
import os
import sys

from queuectl.job_logs import files, own_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.job_logs.blocks import Shape
    from queuectl.job_logs.cutting import Cutter


def _always() -> bool:
    return True


class OpenLog:
    """An attempt's part of the log, open. The command gets `fd` as its stdout and stderr.

    `start` is the offset of the header line. Read it again after `close`: a command can empty
    the file (`> /dev/stdout` does), and then its part begins at 0.
    """

    __slots__ = (
        "_attempt",
        "_cut",
        "_cutter",
        "_header_end",
        "_line",
        "_path",
        "fd",
        "max_bytes",
        "start",
    )

    def __init__(
        self, fd: int, path: str, attempt: int, line: bytes, max_bytes: int, *, is_new: bool
    ) -> None:
        self.fd = fd
        self.max_bytes = max_bytes
        self._path = path
        self._attempt = attempt
        self._line = line
        self._cutter: Cutter | None = None
        self._cut = (0, 0, 0)
        # Nobody else has a new file open, so that no question need be asked about where it ends.
        if is_new:
            _write_whole(fd, line)
            self._header_end = len(line)
        else:
            self._header_end = _append(fd, line)
        self.start = self._header_end - len(line)

    def discard(self) -> None:
        """Take the header line back and close the file: the attempt was not begun after all.

        Unless somebody has written behind it meanwhile, a later attempt for instance, if this
        process was stopped for long: then a line says so.
        """
        try:
            if os.fstat(self.fd).st_size != self._header_end:
                _append(self.fd, own_lines.not_started(self._attempt))
            elif sys.platform == "win32":
                os.truncate(self._path, self.start)  # The descriptor may only append.
            else:
                os.ftruncate(self.fd, self.start)
        except OSError:
            pass
        self._close_file()

    def limit(self, may_cut: Callable[[], bool] = _always) -> None:
        """Keep this part of the log from outgrowing `max_bytes`; call it about once a second.

        Costs one fstat while the part is small enough. From when it is not, a thread keeps
        cutting it until `close`, because giving back what a fast writer wrote in a second can
        take 100 ms. Nothing is cut while `may_cut`, which the thread asks too, says no: then the
        job may have been taken from this worker, and what comes next be a later run's.
        """
        if self._cutter is None and self._is_too_long(os.fstat(self.fd).st_size):
            # Tried again the next time: the command must not suffer.
            try:
                cutter = self._new_cutter(may_cut)
                try:
                    cutter.start()
                except RuntimeError:  # The machine has no room for another thread.
                    cutter.abandon()
                else:
                    self._cutter = cutter
            except OSError:
                pass

    def shorten(self, may_cut: Callable[[], bool] = _always) -> None:
        """Cut a part that is too long to its final length, now that the command has ended.

        That can take some 25 ms for 64 MiB, and seconds for many gigabytes: it is for the one who
        waited for the command, and nothing else should wait for it. `may_cut`: see `limit`.
        """
        try:
            # Every job asks this: it costs half of what fstat does.
            size = os.lseek(self.fd, 0, os.SEEK_END)
            if self._cutter is None and self._is_too_long(size):
                self._cutter = self._new_cutter(may_cut)
            cutter, self._cutter = self._cutter, None
            if cutter is not None:
                try:
                    cutter.finish()
                finally:
                    self._cut = cutter.cut
        except OSError:
            pass  # It stays as long as it is.

    def close(self, outcome_text: str, finished_at: int, seconds: float) -> int:
        """Write the closing line, close the file, and return the offset at which this part ends.

        A full disk costs the line, and is no error: the outcome matters more.
        """
        line = own_lines.ended(
            self._attempt, finished_at=finished_at, seconds=seconds, outcome_text=outcome_text
        )
        end = os.lseek(self.fd, 0, os.SEEK_END)
        if end < self.start:
            self.start = 0
        try:
            # What wrote nothing, as most do, has left the header line behind it.
            end = (_write if end == self._header_end else _append)(self.fd, line)
        except OSError:
            pass  # A full disk.
        self._close_file()
        return end

    def abandon(self) -> int:
        """Close the file as it is: the job was taken from this worker, and a later run of it may be
        writing into the same file by now. Returns its length.

        No line either: whoever took the job away has written, or writes before the job runs again,
        that this attempt ended with its worker (see `append_lost`). A second one would stand in the
        middle of the later run's part, and say another thing than the recorded outcome.
        """
        if self._cutter is not None:
            self._cutter.abandon()
        end = os.lseek(self.fd, 0, os.SEEK_END)
        self._close_file()
        return end

    def has_output(self, fd: int) -> bool:
        """Whether anything is behind the header line, as seen by some descriptor of the log."""
        return os.lseek(fd, 0, os.SEEK_END) != self._header_end

    def where_output_is(self, fd: int) -> Shape:
        """Where the command's output is in the file, as seen by some descriptor of it."""
        from queuectl.job_logs.blocks import Shape

        begins = self._header_end - len(self._line)
        # Where a command emptied the file, the header line went, too.
        is_whole = files.read_at(fd, len(self._line), begins) == self._line
        cut = self._cut if self._cutter is None else self._cutter.cut
        return Shape(self._header_end if is_whole else 0, os.fstat(fd).st_size, *cut)

    def _close_file(self) -> None:
        try:
            os.close(self.fd)
        except OSError:
            pass
        self.fd = -1

    def _is_too_long(self, size: int) -> bool:
        return 0 < self.max_bytes < size - self.start

    def _new_cutter(self, may_cut: Callable[[], bool]) -> Cutter:
        from queuectl.job_logs.cutting import Cutter

        return Cutter(self.fd, self._path, self.start, self.max_bytes, may_cut)


class NoLog:
    """In place of the log of an attempt that could not have one."""

    __slots__ = ()
    fd = -1
    start = None

    def limit(self, _may_cut: Callable[[], bool]) -> None:
        """There is nothing to limit."""

    def discard(self) -> None:
        """There is nothing to take back."""

    def shorten(self, _may_cut: Callable[[], bool]) -> None:
        """There is nothing to cut."""

    def close(self, _outcome_text: str, _finished_at: int, _seconds: float) -> None:
        """There is nowhere to say how it ended."""

    def abandon(self) -> None:
        """There is nothing to close."""


def append_lost(fd: int, attempt: int, ended_at: int) -> bool:
    """The closing line of an attempt whose worker was lost, where one is missing; closes the file.
    Returns whether the attempt had begun.
    """
    begun = True
    try:
        over = own_lines.over(_last_line(fd))
        # Its own closing line may be that of a run before a `retry`, which begins to count anew.
        # That cannot be told, and what may have run is taken to have run.
        begun = over is None or over == (attempt, True)
        if over is None:
            _append(fd, own_lines.lost(attempt, ended_at))
    except OSError:
        pass
    try:
        os.close(fd)
    except OSError:
        pass
    return begun


def _last_line(fd: int) -> bytes:
    """The log's last line; nothing when it has no end. Of a line that is longer than any of
    queuectl's, the beginning is missing.
    """
    size = os.lseek(fd, 0, os.SEEK_END)
    start = max(size - own_lines.LONGEST, 0)
    text = files.read_at(fd, size - start, start)
    return text[text.rfind(b"\n", 0, -1) + 1 :] if text.endswith(b"\n") else b""


def _append(fd: int, line: bytes) -> int:
    """Add a line, on a line of its own, and return the offset of its end."""
    size = os.lseek(fd, 0, os.SEEK_END)
    return _write(fd, b"\n" + line if size and files.read_at(fd, 1, size - 1) != b"\n" else line)


def _write(fd: int, data: bytes) -> int:
    _write_whole(fd, data)
    # Not counted: a process that an earlier attempt left behind may be writing as well.
    return os.lseek(fd, 0, os.SEEK_CUR)


def _write_whole(fd: int, data: bytes) -> None:
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
