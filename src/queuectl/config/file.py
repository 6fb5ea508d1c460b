"""The configuration file: a small JSON object, read with the position of every key, replaced whole.

What the settings mean is not known here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator

from queuectl.disk import sync_folder
from queuectl.errors import EnvironmentFault, InvalidInput
from queuectl.text import visible

_LARGEST = 1024 * 1024
_TOKENS = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|[{}\[\]]')


class Contents:
    """What a file says: its values, and where each stands."""

    def __init__(self, path: str, text: str, values: dict[str, object]) -> None:
        self.values = values
        self._path = path
        self._text = text
        self._offsets: dict[str, int] = {}
        for name, offset in _keys(text):
            if name in self._offsets:
                raise InvalidInput(
                    f"{_place(path, text, offset)}: '{visible(name, 60)}' is there twice",
                    hint="Keep the one that is meant.",
                )
            self._offsets[name] = offset

    def where(self, name: str) -> str:
        """The file, line and column of a key, for messages."""
        return _place(self._path, self._text, self._offsets[name])

    def as_written(self, name: str) -> str:
        """A value as JSON spells it."""
        return json.dumps(self.values[name], ensure_ascii=False)


def read(path: str) -> Contents:
    """The file at `path`; empty when there is none.

    Raises InvalidInput when it is not one JSON object in UTF-8 with distinct keys, and
    EnvironmentFault when it cannot be read.
    """
    data = _bytes(path)
    if data is None:
        return Contents(path, "", {})
    text = _decoded(path, data)
    if not text.strip():
        raise InvalidInput(
            f"{visible(path)} is empty", hint="Write {} in it, or delete it to use the defaults."
        )
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        from queuectl.jobs.strict_json import reason

        place = _place(path, text, error.pos)
        raise InvalidInput(f"{place}: not valid JSON: {reason(error)}", hint=_REPAIR) from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{visible(path)} cannot be read: {error}", hint=_REPAIR) from None
    if not isinstance(values, dict):
        raise InvalidInput(
            f"{_place(path, text, len(text) - len(text.lstrip()))}: not a JSON object",
            hint='The file holds one object, such as {"max_retries": 3}.',
        )
    return Contents(path, text, values)


def write(path: str, values: dict[str, object]) -> None:
    """Replace the file by these values: durable, whole or not at all, private to the user.

    Raises EnvironmentFault when that cannot be done; the old file then stays as it was.
    """
    path = os.path.realpath(path)  # a symbolic link stays one
    temporary = f"{path}.{os.getpid()}.tmp"
    data = json.dumps(values, indent=2, ensure_ascii=False).encode() + b"\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
        sync_folder(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise _fault("written", path, error) from error


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Keep other writers of this file out, so that none overwrites what another just wrote.

    The lock is on the folder: the file itself is replaced at every write.
    """
    if sys.platform == "win32":
        # A folder cannot be locked there: of two changes in the same instant one may be lost.
        yield
    else:
        import fcntl

        folder = os.path.dirname(os.path.realpath(path))
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _fault("written", path, error) from error
        try:
            # Some network file systems cannot lock a folder; a change there goes unguarded.
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


_REPAIR = "Correct it, or delete the file to use the defaults."


def _bytes(path: str) -> bytes | None:
    # Not blocking: a named pipe would wait for a writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise EnvironmentFault(
                    f"{visible(path)} is not a file", hint="QUEUECTL_CONFIG_PATH can name another."
                )
            with open(fd, "rb", closefd=False) as source:
                data = source.read(_LARGEST + 1)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _fault("read", path, error) from error
    if len(data) > _LARGEST:
        raise InvalidInput(f"{visible(path)} is over 1 MiB: it is not a configuration file")
    return data


def _decoded(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        place = _place(path, data[: error.start].decode("utf-8-sig"), error.start)
        raise InvalidInput(
            f"{place}: not UTF-8{' but UTF-16' if utf16 else ''}",
            hint="Save the file as UTF-8.",
        ) from None


def _keys(text: str) -> Iterator[tuple[str, int]]:
    """The keys of the outermost object and their offsets; the text is known to be valid JSON."""
    depth = 0
    for token in _TOKENS.finditer(text):
        if token[1] is None:
            depth += 1 if token[0] in "{[" else -1
        elif depth == 1 and token[2] is not None:
            yield json.loads(token[1]), token.start()


def _place(path: str, text: str, offset: int) -> str:
    before = text[:offset]
    line = before.count("\n") + 1
    column = len(before) - before.rfind("\n")
    return f"{visible(path)}, line {line}, column {column}"


def _fault(what: str, path: str, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{visible(path)} cannot be {what}: {error.strerror}",
        hint="Check the path and its permissions. QUEUECTL_CONFIG_PATH can name another file.",
    )
