"""Aligned text for people: whole in a pipe, cut to the width of a terminal, coloured on one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import NamedTuple, TextIO

from queuectl.text import visible

_GAP = "  "
_MEASURED = 500
"""Rows that the widths are taken from; what follows is written as it is read."""

_COLOURS = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}


class Column(NamedTuple):
    """A column: its title, and what may be done to fit it."""

    title: str
    right: bool = False
    """Whether it is aligned to the right, as numbers are."""
    least: int | None = None
    """How narrow it may be cut on a terminal; None for not at all."""
    dots: bool = True
    """Whether a cut is marked by dots. The beginning of an id is as good as the whole."""


class Styled(NamedTuple):
    """A cell with a colour."""

    text: str
    colour: str


Cell = str | Styled
Row = Sequence[Cell]


class Screen:
    """What a stream can show: its width (None: no limit), colours, and which characters."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = stream.encoding or "utf-8"
        is_terminal = stream.isatty()
        self.width = _terminal_width() if is_terminal else None
        self._colours = is_terminal and _may_colour()

    def shown(self, text: str) -> str:
        """The text as this stream can show it, on one line."""
        text = visible(text)
        if text.isascii():
            return text
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def cut(self, text: str) -> str:
        """The text, cut to the width of the stream."""
        return text if self.width is None else cut(text, self.width)

    def paint(self, text: str, colour: str) -> str:
        """The text in that colour, if the stream has colours."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colours and colour else text

    def write(self, line: str) -> None:
        """Writes a line."""
        self._stream.write(line + "\n")


def write_table(screen: Screen, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Writes a heading and the rows; only the first few hundred are held in memory."""
    titles = tuple(column.title for column in columns)
    shown = (_shown(screen, row) for row in rows)
    first = list(islice(shown, _MEASURED))
    widths = _widths(columns, [titles, *([cell.text for cell in row] for row in first)])
    if screen.width is not None:
        widths = _fitted(columns, widths, screen.width)
    heading = [Styled(title, "bold") for title in titles]
    for row in chain([heading], first, shown):
        screen.write(_line(screen, columns, widths, row))


def cut(text: str, width: int, *, dots: bool = True) -> str:
    """The beginning of the text that fits into so many places of a terminal."""
    if text_width(text) <= width:
        return text
    end = "..." if dots and width > 3 else ""
    kept, places = [], width - len(end)
    for character in text:
        places -= text_width(character)
        if places < 0:
            break
        kept.append(character)
    return "".join(kept) + end


def text_width(text: str) -> int:
    """How many places of a terminal the text takes: some characters take two, some none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _shown(screen: Screen, row: Row) -> list[Styled]:
    return [
        Styled(screen.shown(cell), "")
        if isinstance(cell, str)
        else Styled(screen.shown(cell.text), cell.colour)
        for cell in row
    ]


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(text_width(row[at]) for row in rows) for at in range(len(columns))]


def _fitted(columns: Sequence[Column], widths: Sequence[int], available: int) -> list[int]:
    """The widths, made smaller from the last column on until the line fits, as far as they may be."""
    fitted = list(widths)
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - available
    for at in reversed(range(len(columns))):
        least = columns[at].least
        if excess > 0 and least is not None and fitted[at] > least:
            taken = min(excess, fitted[at] - least)
            fitted[at] -= taken
            excess -= taken
    return fitted


def _line(
    screen: Screen, columns: Sequence[Column], widths: Sequence[int], row: Sequence[Styled]
) -> str:
    line, used = "", 0
    for column, width, cell in zip(columns, widths, row, strict=True):
        gap = _GAP if line else ""
        room, text = width, cell.text
        if screen.width is not None:
            room = min(width, screen.width - used - len(gap))
            if room <= 0:
                break
            text = cut(text, room, dots=column.dots)
        padding = " " * (room - text_width(text))
        painted = screen.paint(text, cell.colour)
        line += gap + (padding + painted if column.right else painted + padding)
        used += len(gap) + room
    return line.rstrip()


def _terminal_width() -> int:
    import shutil

    return max(shutil.get_terminal_size().columns, 20)


def _may_colour() -> bool:
    # https://no-color.org: any value but an empty one. Older consoles of Windows show the codes.
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return os.name == "posix" or "WT_SESSION" in os.environ
