"""What a stream can show: a pipe everything at any length, a terminal what fits, and colours."""

from __future__ import annotations

import os
import sys

from queuectl.cli.wrapping import broken, terminal_width
from queuectl.jobs.lifecycle import State
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

STATE_COLOURS = {
    State.PENDING: "",
    State.PROCESSING: "cyan",
    State.COMPLETED: "green",
    State.FAILED: "yellow",
    State.DEAD: "red",
    State.CANCELLED: "dim",
    State.BLOCKED: "dim",
}


class Screen:
    """A stream for people. `width` is in places of its terminal; None for a pipe or a file."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # What an encoding cannot say is measured as the escape that will be written for it.
        self._encoding = stream.encoding or "utf-8"
        is_terminal = stream.isatty()
        self.width = terminal_width(stream)
        self._has_colours = is_terminal and _may_colour()

    def write(self, line: str = "") -> None:
        """Writes a line, which must be safe to show."""
        self._stream.write(line + "\n")

    def write_prose(self, line: str) -> None:
        """Writes a line, broken between words where the terminal is too narrow for it."""
        for part in [line] if self.width is None else broken(line, self.width):
            self.write(part)

    def shown(self, text: str) -> str:
        """The text as this stream can show it, on one line."""
        text = visible(text)
        if text.isascii():
            return text
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def paint(self, text: str, colour: str) -> str:
        """The text in that colour ("" for none), if the stream has colours."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._has_colours and colour else text

    def fit(self, text: str) -> str:
        """The text, cut to the width of the stream."""
        return text if self.width is None else cut(text, self.width)


def cut(text: str, width: int, *, dots: bool = True) -> str:
    """The beginning of the text that fits into so many places of a terminal."""
    if text_width(text) <= width:
        return text
    end = "..." if dots and width > 3 else ""
    kept, left = "", width - len(end)
    for character in text:
        left -= text_width(character)
        if left < 0:
            break
        kept += character
    # An id that is cut at one of its dashes looks as if more of it had to follow.
    return kept + end if dots else kept.rstrip("-")


def text_width(text: str) -> int:
    """How many places of a terminal the text takes: some characters take two, some none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def progress_console(stream: TextIO) -> Console:
    """Where a progress bar is drawn, in ASCII where the locale promises no more than that."""
    from rich.console import Console

    if _locale_is_ascii():

        class AsciiConsole(Console):
            encoding = "ascii"

        return AsciiConsole(file=stream, highlight=False, markup=False)
    return Console(file=stream, highlight=False, markup=False)


def _locale_is_ascii() -> bool:
    if sys.platform == "win32":
        is_ascii = False
    else:
        import locale

        # Python may write UTF-8 all the same (its UTF-8 mode); the terminal need not show it.
        is_ascii = locale.nl_langinfo(locale.CODESET) in ("ANSI_X3.4-1968", "US-ASCII", "646")
    return is_ascii


def _may_colour() -> bool:
    # See https://no-color.org. Older consoles of Windows show the codes themselves.
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return os.name == "posix" or "WT_SESSION" in os.environ
