"""Aligned columns for people: whole in a pipe, cut on a terminal so that no line wraps."""

from __future__ import annotations

from itertools import chain, islice

from queuectl.cli.screen import Screen, cut, text_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Cell = tuple[str, str]
    """A text and its colour ("" for none)."""
    Row = Sequence[str | Cell]

_GAP = "  "
_LEAST_ROOM = 15
_LEAST_CELL = 4
_MEASURED = 500
"""Rows that the widths are taken from; what follows is written as it is read."""


class Column:
    """A column. `right` aligns it as numbers are; `least` is how narrow a terminal may make it
    (None: not at all); `distinct` is for ids: no dots mark what was cut off, for a beginning names
    the job as well, and it is no narrower than keeps the first few hundred different; `extra` lets
    a narrow terminal leave it out; a `sparse` one is left out where it holds nothing but `-`.
    """

    __slots__ = ("distinct", "extra", "least", "right", "sparse", "title")

    def __init__(
        self,
        title: str,
        *,
        right: bool = False,
        least: int | None = None,
        distinct: bool = False,
        extra: bool = False,
        sparse: bool = False,
    ) -> None:
        self.title = title
        self.right = right
        self.least = least
        self.distinct = distinct
        self.extra = extra
        self.sparse = sparse


def write_table(screen: Screen, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Writes a heading and the rows. Only the first few hundred are held in memory."""
    heading = [(column.title, "bold") for column in columns]
    cells = (_cells(screen, row) for row in rows)
    first = [heading, *islice(cells, _MEASURED)]
    used = [
        at
        for at, column in enumerate(columns)
        if not column.sparse or any(row[at][0] != "-" for row in first[1:])
    ]
    first = [[row[at] for at in used] for row in first]
    columns = [columns[at] for at in used]
    widths = [max(text_width(row[at][0]) for row in first) for at in range(len(columns))]
    kept = list(range(len(columns)))
    if screen.width is not None:
        columns = [
            _distinguishing(column, [row[at][0] for row in first[1:]])
            for at, column in enumerate(columns)
        ]
        kept = _kept(columns, widths, screen.width)
    columns, widths = [columns[at] for at in kept], [widths[at] for at in kept]
    if screen.width is not None:
        widths = _fitted(columns, widths, screen.width)
    for row in chain(first, cells):
        screen.write(_line(screen, columns, widths, [row[at] for at in kept]))


def _distinguishing(column: Column, texts: Sequence[str]) -> Column:
    """The column, no narrower than these of its texts need to stay different."""
    if not column.distinct or column.least is None:
        return column
    least, before = column.least, ""
    for text in sorted(set(texts)):
        length = next((at for at, (a, b) in enumerate(zip(before, text)) if a != b), len(before))  # noqa: B905
        # A dash at the end would be taken off again.
        while text[length : length + 1] == "-" or before[length : length + 1] == "-":
            length += 1
        if before:
            least = max(least, *(text_width(one[: length + 1]) for one in (before, text)))
        before = text
    return Column(column.title, right=column.right, least=least, distinct=True, extra=column.extra)


def _cells(screen: Screen, row: Row) -> list[Cell]:
    coloured = (cell if isinstance(cell, tuple) else (cell, "") for cell in row)
    return [(screen.shown(text), colour) for text, colour in coloured]


def _kept(columns: Sequence[Column], widths: Sequence[int], available: int) -> list[int]:
    """Which columns are shown: extra ones go, the first one first, until the last has some room."""
    kept = list(range(len(columns)))
    for at in [at for at in kept if columns[at].extra]:
        others = sum(_narrowest(columns[other], widths[other]) for other in kept[:-1])
        room = available - others - len(_GAP) * (len(kept) - 1)
        if room >= min(widths[-1], _LEAST_ROOM):
            break
        kept.remove(at)
    return kept


def _narrowest(column: Column, width: int) -> int:
    return width if column.least is None else min(width, column.least)


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
    screen: Screen, columns: Sequence[Column], widths: Sequence[int], row: Sequence[Cell]
) -> str:
    line, used = "", 0
    for column, width, (text, colour) in zip(columns, widths, row, strict=True):
        gap = _GAP if used else ""
        room = width
        if screen.width is not None:
            room = min(width, screen.width - used - len(gap))
            if room < min(width, _LEAST_CELL):  # What no longer fits is left out.
                break
            text = cut(text, room, dots=not column.distinct)  # noqa: PLW2901
        padding = " " * (room - text_width(text))
        painted = screen.paint(text, colour)
        line += gap + (padding + painted if column.right else painted + padding)
        used += len(gap) + room
    return line.rstrip()
