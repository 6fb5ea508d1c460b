"""Rows as COPY reads them."""

from __future__ import annotations

import io
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType


def line(row: Sequence[object]) -> str:
    """A row, from which `Lines` makes what is sent."""
    return "\t".join([_copied(value) for value in row]) + "\n"


def _copied(value: object) -> str:
    if value is None:
        return "\\N"
    if not isinstance(value, str):
        return str(value)
    if value.isprintable() and "\\" not in value:
        return value
    return value.translate(_ESCAPES)


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Lines(io.IOBase):
    """A file to be copied from, whose lines are made while the server takes in those before them.

    Its reader, psycopg2, makes a text for the server of whatever is raised here; `error` keeps it.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines: Iterator[str] = iter(lines)
        self.error: BaseException | None = None

    def read(self, size: int = 8192, /) -> bytes:
        """About `size` bytes, or all that are left."""
        parts = []
        try:
            for text in self._lines:
                parts.append(text)
                size -= len(text)
                if size <= 0:
                    break
            return "".join(parts).encode()
        except BaseException as error:  # noqa: BLE001 - raised again behind the COPY
            self.error = error
            # Without a word of the row that it is about: this goes into the server's log.
            raise RuntimeError("stopped") from None


class no_system_errors:  # noqa: N801 - reads as a statement
    """For as long as rows are copied, sys.excepthook shows no SystemError.

    When the server ends the session in the middle of a COPY, psycopg2 raises an error while it has
    one already, and has Python print that with all that led to it: a traceback, and a row. What it
    raises afterwards is the error that counts.
    """

    _lock = threading.Lock()
    _inside = 0
    """How many threads are."""
    _usual = staticmethod(sys.excepthook)

    def __enter__(self) -> None:
        cls = no_system_errors
        with cls._lock:
            if cls._inside == 0:
                cls._usual = staticmethod(sys.excepthook)
                sys.excepthook = cls._show
            cls._inside += 1

    def __exit__(self, *_: object) -> None:
        cls = no_system_errors
        with cls._lock:
            cls._inside -= 1
            if cls._inside == 0:
                sys.excepthook = cls._usual

    @classmethod
    def _show(
        cls, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, SystemError):
            cls._usual(kind, error, trace)
