"""Rows as COPY reads them."""

from __future__ import annotations

import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


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
    """A file to be copied from, whose lines are made while the server takes in those before them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines: Iterator[str] = iter(lines)

    def read(self, size: int = 8192, /) -> bytes:
        """About `size` bytes, or all that are left."""
        parts = []
        for text in self._lines:
            parts.append(text)
            size -= len(text)
            if size <= 0:
                break
        return "".join(parts).encode()
