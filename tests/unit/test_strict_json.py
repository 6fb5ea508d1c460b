from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.jobs.strict_json import parse_object


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1, column 1"),
        ('{"command": }', "line 1, column 13"),
        ('{\n"command": "x"\n"id": 1}', "line 3, column 1"),
        ('{"a": 1} {"b": 2}', "line 1, column 9: more text after the end"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": 01}', "line 1, column 8"),
        ('{"a": "\n"}', "line 1, column 8: a line break, a tab or another control character in"),
        ('{"a": "b', "line 1, column 7: a string begins here and does not end$"),
        ("\xa0{}", "line 1, column 1"),
        ('{"a": 1, "a": 1}', "'a' is given twice"),
        ('{"a": 1, "\\u0061": 1}', "'a' is given twice"),
        ('{"a": {"b": 1, "b": 2}}', "'b' is given twice"),
        ('{"a": [{"b": 1, "b": 2}]}', "'b' is given twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": ' + "9" * 5000 + "}", "thousands of digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[]", "is a list, not an object"),
        ('"x"', "is a string, not an object"),
        ("3", "is 3, not an object"),
        ("null", "is null, not an object"),
    ],
)
def test_refused(text: str, why: str) -> None:
    """What is not one strict JSON object is refused, with the place or the reason."""
    with pytest.raises(InvalidInput, match=why):
        parse_object(text)


def test_one_line_gives_the_column_alone() -> None:
    """Where the caller knows the line, an error does not name another."""
    with pytest.raises(InvalidInput, match=r"^not valid JSON at column 2: "):
        parse_object("{]", one_line=True)


@pytest.mark.parametrize(
    "text", ['{"a": "x:y", "b": {}}', ' {"a": 1}\r\n', '{"a": {"a": {"a": [1, {"a": 2}]}}}', "{}"]
)
def test_accepted(text: str) -> None:
    """Colons in strings, space around, and one name at several depths are nothing unusual."""
    assert parse_object(text) == json.loads(text)


NAMES = st.sampled_from(["a", "b", ":", "c:d", '"', ""])


def _source(value: object) -> str:
    """JSON in which an object may repeat a name: objects are given as lists of pairs."""
    if isinstance(value, tuple):
        members = (f"{json.dumps(name)}: {_source(member)}" for name, member in value)
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_source, value)) + "]"
    return json.dumps(value)


def _repeats(value: object) -> bool:
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(_repeats(member) for _, member in value)
    return isinstance(value, list) and any(map(_repeats, value))


def _objects(members: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.tuples(NAMES, members), max_size=4).map(tuple)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | _objects(inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(_objects(VALUES))
def test_a_repeated_name_is_found_wherever_it_is(members: tuple[object, ...]) -> None:
    """An object is refused exactly when a name comes twice in it, or in something it holds."""
    text = _source(members)
    if _repeats(members):
        with pytest.raises(InvalidInput, match="given twice"):
            parse_object(text)
    else:
        assert parse_object(text) == json.loads(text)


@settings(deadline=None)
@given(st.text() | st.text('{}[]",:0123456789.-eNaInfity \n\\'))
def test_answers_or_refuses(text: str) -> None:
    """No text gives anything but an object that the standard library reads too, or InvalidInput."""
    try:
        assert parse_object(text) == json.loads(text)
    except InvalidInput:
        pass
