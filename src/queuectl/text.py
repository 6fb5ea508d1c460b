"""Text made safe and helpful for people: control characters made visible, the nearest known word."""

from __future__ import annotations

HIDDEN = "***"
"""Stands for the value of an environment variable, which may be a secret."""


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x20 or 0x7F <= code <= 0x9F:
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}"


# Line and paragraph separators, the characters that reorder the text around them, and those that
# are not there to see, can misrepresent a command on screen as well as an escape sequence can.
# U+200C and U+200D, which join letters and emoji or keep them apart, belong to the text they are in.
_INVISIBLE = frozenset(
    [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))]
    + ["\u061c", "\u200e", "\u200f", "\u2028", "\u2029"]
    + [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))]
    + ["\u00ad", "\u200b", "\u2060", "\ufeff"]
)


def visible(text: str, limit: int | None = None) -> str:
    """`text` on one line, cut to `limit` characters, with every control character and what has no
    width spelled out.

    Lone surrogates (bytes that were not UTF-8) are spelled out too, so that the result can
    always be encoded.
    """
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 3, 0)] + "..."
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if c in _INVISIBLE or "\ud800" <= c <= "\udfff" else c for c in text)


def storable(text: str) -> str:
    """`text` as a database takes it: a byte that was not UTF-8 is written out."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def is_url(location: str) -> bool:
    """Whether a location names a server, and not a file.

    The rest about URLs is in `location`, which nobody loads for a queue in a file.
    """
    return location.lstrip().lower().startswith(("postgresql://", "postgres://"))


def is_like_url(text: str) -> bool:
    """Whether this names a server, or was meant to: a URL with a slip in it, one of another program,
    or the parameters of a connection. It may hold a password, and is no path: a drive of Windows is.
    """
    if not any(sign in text for sign in ":=@"):
        return False
    import re

    return is_url(text) or bool(
        re.search(r"(?i)://|^\s*[a-z][a-z0-9+.-]+:/|^\s*postgres.*@|passw(or)?d\s*=", text)
    )


def typed(*words: str) -> str:
    """The words as they can be typed: an id or a path may hold what a shell takes apart."""
    import shlex

    return visible(shlex.join(words))


def counted(number: int, noun: str) -> str:
    """How many of something: `1 job`, `2,000 jobs`, `2 processes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str | None:
    """The known word that `word` most likely stands for, or None when nothing is close."""
    import difflib

    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
