"""Text as COPY reads it."""

from __future__ import annotations


def copied(value: object) -> str:
    """A value between the tabs of a line."""
    if value is None:
        return "\\N"
    text = str(value)
    return text.translate(_ESCAPES) if isinstance(value, str) else text


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
