"""JSON objects read strictly: no name twice, no NaN, nothing after the end, one clear error."""

from __future__ import annotations

import json
from typing import NoReturn

from queuectl.errors import InvalidInput
from queuectl.text import visible

_SPACE = " \t\r\n"
_EXAMPLE = 'A job is an object such as {"command": "echo hello"}.'


def parse_object(text: str, *, one_line: bool = False, nested: bool = False) -> dict[str, object]:
    """The object that `text` holds. Raises InvalidInput, with the place unless none is known.

    `one_line`: the caller will say which line of a larger file this is, so only the column is.
    `nested`: there are objects in it, as a rule; this is about speed alone.
    """
    try:
        value = _decode(text.rstrip(_SPACE), nested)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}"
        if not one_line:
            place = f"line {error.lineno}, {place}"
        raise InvalidInput(f"not valid JSON at {place}: {reason(error)}", hint=_EXAMPLE) from None
    except RecursionError:
        raise InvalidInput("the JSON is nested too deeply", hint=_EXAMPLE) from None
    except ValueError:
        raise InvalidInput("the JSON holds a number with thousands of digits") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"the JSON is {_kind(value)}, not an object", hint=_EXAMPLE)
    return value


def reason(error: json.JSONDecodeError) -> str:
    """What is wrong, without the place, which some of the library's words lead up to."""
    if error.msg.startswith("Invalid control character"):
        return "a line break, a tab or another control character in a string (write \\n, \\t)"
    if error.msg.startswith("Unterminated string"):
        return "a string begins here and does not end"
    return error.msg


def _decode(text: str, nested: bool) -> object:
    start = len(text) - len(text.lstrip(_SPACE))
    value, end = (_STRICT if nested else _LOOSE).raw_decode(text, start)
    # Every name is followed by a colon, so as many different names as colons leave none to be
    # repeated, here or deeper. Asking a hook at each object would double the time this takes.
    if not nested and (type(value) is not dict or len(value) != text.count(":")):
        value, end = _STRICT.raw_decode(text, start)
    if end != len(text):
        raise json.JSONDecodeError("more text after the end", text, end)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidInput(f"'{visible(name, 40)}' is given twice", hint="Give it once.")
            seen.add(name)
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidInput(f"{name} is not a JSON number")


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "a string" if isinstance(value, str) else json.dumps(value)


_LOOSE = json.JSONDecoder(parse_constant=_constant)
_STRICT = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_object)
