"""Lines of prose that are wider than the terminal, broken between words."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

_NARROWEST = 20


def terminal_width(stream: TextIO) -> int | None:
    """How many places the stream's terminal has in a line; None for a pipe or a file."""
    return _width(stream.fileno) if stream.isatty() else None


def fitted(lines: Iterable[str]) -> str:
    """The lines of a help text, broken to fit the terminal, or 80 places where there is none."""
    width = _width(lambda: 1)
    return "\n".join(part for line in lines for part in broken(line, width))


def _width(descriptor: Callable[[], int]) -> int:
    # As `shutil` tells it, which is slow to load.
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return max(int(columns), _NARROWEST)
    try:
        return max(os.get_terminal_size(descriptor()).columns or 80, _NARROWEST)
    except OSError:
        return 80


def broken(line: str, width: int) -> list[str]:
    """The line, broken between words where it is wider than `width`. What stands in a second column
    stays in it, or goes below where there is no room beside the first.
    """
    if len(line) <= width:
        return [line]
    import re
    from textwrap import wrap

    first, gap, second = re.fullmatch(r"( *.*?\S)(?:(  +)(\S.*))?", line).groups("")  # type: ignore[union-attr]
    indent = " " * min(len(line) - len(line.lstrip()), width // 4)
    column = " " * len(first + gap)
    if gap and len(column) <= width // 2:
        parts = [(second, first + gap, column)]
    else:
        deeper = indent + "    " if indent or line.startswith("Usage: ") else ""
        parts = [(first.strip(), indent, deeper), (second, deeper, deeper)]
    return [
        part.replace("\xa0", " ")
        for text, initial, others in parts
        for part in wrap(
            re.sub(r"\[[^]]*\]", lambda option: option[0].replace(" ", "\xa0"), text),
            width,
            initial_indent=initial,
            subsequent_indent=others,
            break_on_hyphens=False,
            break_long_words=False,
        )
    ]
