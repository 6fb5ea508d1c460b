"""What the logs need of the operating system, also where it has less to offer."""

from __future__ import annotations

import errno
import os
import sys

# Windows has no close-on-exec flag (it is its default) and no such links; it alone has O_BINARY.
_COMMON: int = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | _COMMON
READ = os.O_RDONLY | _COMMON
# On Linux pwrite ignores its offset on a descriptor that appends, hence one that does not.
REWRITE = os.O_RDWR | _COMMON


def open_again(fd: int, path: str) -> int:
    """Another descriptor of the file, to write at any place. `path` is where it was found."""
    if sys.platform == "linux":
        try:
            # Also when a command has removed its log, or put another file in its place. What stands
            # here is a link to the very file.
            return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            pass  # No /proc.
    return os.open(path, REWRITE)


def read_at(fd: int, count: int, offset: int) -> bytes:
    """Up to `count` bytes from `offset`; fewer only at the end of the file."""
    if sys.platform == "win32":
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, count)
    else:
        data = os.pread(fd, count, offset)
    return data


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, over what is there. Raises OSError on a full disk."""
    left = memoryview(data)
    while left:
        if sys.platform == "win32":
            os.lseek(fd, offset, os.SEEK_SET)
            count = os.write(fd, left)
        else:
            count = os.pwrite(fd, left, offset)
        left = left[count:]
        offset += count


def data_from(fd: int, offset: int) -> int:
    """Where the next byte that takes room on the disk is, from `offset` on; else the end."""
    return _seek(fd, offset, getattr(os, "SEEK_DATA", None), offset)


def hole_from(fd: int, offset: int) -> int:
    """Where the next hole begins, from `offset` on; every file ends with one."""
    return _seek(fd, offset, getattr(os, "SEEK_HOLE", None), os.fstat(fd).st_size)


def _seek(fd: int, offset: int, whence: int | None, without: int) -> int:
    if whence is None:
        return without
    try:
        return os.lseek(fd, offset, whence)
    except OSError as error:
        if error.errno != errno.ENXIO:
            return without  # a file system that does not tell
        # There is nothing but a hole from here on, or this is the end.
        return max(offset, os.fstat(fd).st_size)
