"""What is said on stderr: remarks and errors, fit to be read, and their hints to be pasted."""

from __future__ import annotations

from queuectl.cli.wrapping import broken, terminal_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def pasteable(text: str, db: str | None, schema: str | None) -> str:
    """The text with the `--db` and the `--schema` of this command line in each `queuectl COMMAND` that
    it proposes: without, that would be about another queue. A password is not repeated.
    """
    if not (db or schema) or "queuectl " not in text:
        return text
    import re

    from queuectl.cli import COMMANDS
    from queuectl.text import is_url, typed

    words = ["queuectl"]
    if db:
        if is_url(db):
            from queuectl.errors import InvalidInput
            from queuectl.location import Url, shareable

            try:
                db = shareable(db) if Url(db).secrets else db.strip()
            except InvalidInput:
                return text  # It may hold a password somewhere.
        words += ["--db", db]
    if schema:
        words += ["--schema", schema]
    called = typed(*words)
    names = "|".join(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))
    return re.sub(rf"\bqueuectl (?=(?:{names})\b)", lambda found: f"{called} ", text)


def without_passwords(text: str) -> str:
    """The text without the password of a URL that was given where none belongs, and is repeated."""
    if ":/" not in text and "=" not in text:
        return text
    import re

    # What stands behind the user's name, or in the place of a port, and is none.
    text = re.sub(r"(:/+[^\s/@:[]*):(?:[^\s@]*(?=@)|(?!\d*(?:\W|$))[^\s/?'\"]+)", r"\1:***", text)
    return re.sub(r"(?i)(passw(?:or)?d\s*=\s*)[^\s&'\"]+", r"\1***", text)


def fitted(text: str, stream: TextIO) -> str:
    """The text, with lines that are too wide for the stream's terminal broken between words."""
    width = terminal_width(stream)
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in broken(line, width))
