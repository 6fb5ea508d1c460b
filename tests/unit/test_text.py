from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuectl.text import nearest, visible

ANYTHING = st.text(st.characters(categories=None))  # also lone surrogates


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain text, 100% of it", "plain text, 100% of it"),
        ("Größe 日本 🎉", "Größe 日本 🎉"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[31mred\x07\0", r"\x1b[31mred\x07\x00"),
        ("\x7f\x9b\x85", r"\x7f\x9b\x85"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("\u200e\u2028\u2066\ufeff", r"\u200e\u2028\u2066\ufeff"),
        ("r\u200bm \u2060a\u00adb", r"r\u200bm \u2060a\u00adb"),
        ("می\u200cرود 👩\u200d🚀", "می\u200cرود 👩\u200d🚀"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\udce9"),
    ],
)
def test_visible_spells_out_what_a_terminal_would_obey(text: str, shown: str) -> None:
    """Control characters, line ends, reordering marks, what has no width and stray bytes are shown,
    the rest is untouched, also what joins letters and emoji.
    """
    assert visible(text) == shown


@given(ANYTHING)
def test_visible_gives_one_harmless_line(text: str) -> None:
    """Whatever goes in, what comes out has no control character, one line, and can be written anywhere."""
    shown = visible(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert visible(shown) == shown


@given(st.text(), st.integers(3, 50))
def test_visible_cuts_what_is_too_long(text: str, limit: int) -> None:
    """Up to the limit nothing is cut; beyond it the beginning is kept, and dots say that more was there."""
    shown = visible(text, limit)
    if len(text) <= limit:
        assert shown == visible(text)
    else:
        assert shown == visible(text[: limit - 3]) + "..."


KNOWN = ["command", "max_retries", "run_at", "priority", "timeout"]


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("comand", "command"),
        ("max-retries", "max_retries"),
        ("maxretries", "max_retries"),
        ("prio", "priority"),
        ("runat", "run_at"),
        ("command", "command"),
        ("zebra", None),
        ("", None),
    ],
)
def test_nearest_finds_what_was_meant(word: str, known: str | None) -> None:
    """A slip of the fingers is recognised; something else altogether is not guessed at."""
    assert nearest(word, KNOWN) == known


@given(st.text(max_size=20))
def test_nearest_knows_only_what_is_known(word: str) -> None:
    """The answer is one of the known words, or none."""
    assert nearest(word, KNOWN) in (*KNOWN, None)
    assert nearest(word, ()) is None
