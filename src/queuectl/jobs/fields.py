"""The fields of a job, one check each: what a value must be, and how the job keeps it.

A check takes whatever JSON or a program can hold, and raises InvalidInput for what the field
does not allow. No check shows the value of an environment variable.
"""

from __future__ import annotations

import os

from queuectl.errors import InvalidInput
from queuectl.jobs import limits
from queuectl.text import nearest, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

COMMAND_BYTES = 131_071
"""Linux gives a program no argument, and no environment variable, longer than this."""

ID_BYTES = 200
"""Leaves room for an ending within the 255 bytes that file systems allow a name."""

_REPORTED = 10  # in one message; more would bury the first

_NOT_IN_FILE_NAMES = frozenset('<>:"|?*/\\')

# Windows takes these for devices in every folder, whatever follows the first dot.
_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [name + digit for name in ("COM", "LPT") for digit in "0123456789¹²³"]
)

_WRITTEN_BY_QUEUE = frozenset(
    "queue losses exit_code signal error started_at finished_at worker cancel_requested_at"
    " attempt_log".split()
)
_LEAVE_OUT = "Leave out what the queue itself writes."


def all_of(problems: Sequence[InvalidInput]) -> InvalidInput:
    """Several problems as one error: their messages joined by semicolons, and their hints."""
    messages = [problem.message for problem in problems[:_REPORTED]]
    if len(problems) > _REPORTED:
        messages.append(f"and {len(problems) - _REPORTED} problems more")
    hints = dict.fromkeys(problem.hint for problem in problems[:_REPORTED] if problem.hint)
    return InvalidInput("; ".join(messages), hint=" ".join(hints))


def unknown(names: list[object]) -> list[InvalidInput]:
    """What to say about fields that have no check."""
    problems = []
    strangers: list[object] = []
    written: list[object] = []
    for given in names:
        (written if given in _WRITTEN_BY_QUEUE else strangers).append(given)
    if written:
        # Most likely a whole job that was read: ten problems would bury what else is wrong with it.
        listed = " and ".join(", ".join(map(str, written)).rsplit(", ", 1))
        verb = "are" if len(written) > 1 else "is"
        problems.append(InvalidInput(f"{listed} {verb} written by the queue", hint=_LEAVE_OUT))
    for given in strangers[:_REPORTED]:
        name = given if isinstance(given, str) else _kind(given)
        near = nearest(name, tuple(CHECKS))
        hint = f"Did you mean '{near}'?" if near else f"The fields are {', '.join(CHECKS)}."
        problems.append(InvalidInput(f"unknown field '{visible(name, 40)}'", hint=hint))
    return problems + [InvalidInput("unknown field")] * (len(strangers) - _REPORTED)


def string(name: str, value: object) -> str:
    """`value`, if it is a string that a file name, a variable and the database can hold."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string, not {_kind(value)}")
    if "\0" in value:
        raise InvalidInput(f"{name} contains a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"{name} cannot be written in UTF-8", hint=_utf8_hint()) from None
    return value


def _utf8_hint() -> str:
    import sys

    encoding = sys.getfilesystemencoding()
    if encoding.lower() == "utf-8":
        return "Write it in UTF-8."
    return (
        f"Python takes this system's encoding for {encoding}. Start it with PYTHONUTF8=1, or in a"
        " locale such as C.UTF-8."
    )


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value)) or f"a {type(value).__name__}"


def _said(value: object) -> str:
    """The value itself where it is short enough to help."""
    if isinstance(value, str):
        return f"'{visible(value, 40)}'"
    if type(value) is float or (type(value) is int and abs(value) < 10**15):
        return str(value)
    return "a number of over 15 digits" if type(value) is int else _kind(value)


def words(command: Sequence[object]) -> Sequence[str]:
    """The words of a command that was given as a list. Raises InvalidInput."""
    checked = []
    for number, word in enumerate(command, 1):
        if not isinstance(word, str):
            raise InvalidInput(f"word {number} of the command must be a string, not {_kind(word)}")
        checked.append(word)
    # Quoted for a shell, an empty word would be a line, but not a command.
    if not checked or not checked[0].strip():
        raise _empty_command()
    return checked


def _empty_command() -> InvalidInput:
    return InvalidInput("the command is empty", hint="Every job needs a command.")


def _command(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"command must be a string, or a list of strings, not {_kind(value)}")
    command = string("command", value)
    if not command.strip():
        raise _empty_command()
    size = _size(command)
    if size > COMMAND_BYTES:
        raise InvalidInput(
            f"the command is {size:,} bytes long, more than the {COMMAND_BYTES:,} a system can start",
            hint="Put it in a script file, and enqueue the script.",
        )
    return command


def _id(value: object) -> str:
    id = string("id", value)
    if not id:
        why = "is empty"
    elif _size(id) > ID_BYTES:
        why = f"is {_size(id)} bytes long, more than {ID_BYTES}"
    elif not id.isprintable():
        # Two ids that look the same, or one that nobody can type again.
        unseen = next(c for c in id if not c.isprintable())
        why = f"contains U+{ord(unseen):04X}, a character that cannot be seen"
    elif id != id.strip():
        why = "begins or ends with a space"
    elif id[0] in ".-@":
        why = f"begins with '{id[0]}'"
    elif ".." in id or not _NOT_IN_FILE_NAMES.isdisjoint(id):
        why = 'contains one of .. / \\ < > : " | ? *'
    elif id.partition(".")[0].rstrip().upper() in _DEVICES:
        why = "is the name of a device on Windows"
    else:
        return id
    raise InvalidInput(
        f"id '{visible(id, 40)}' {why}", hint="An id names the job's log file, on any system."
    )


def _env(value: object) -> dict[str, str] | None:
    if not isinstance(value, dict):
        from collections.abc import Mapping  # os.environ is one

        if not isinstance(value, Mapping):
            raise InvalidInput(f"env must be an object, not {_kind(value)}")
    env = {}
    problems = []
    for key, text in value.items():
        try:
            name = _name(key)
            env[name] = _value(name, text)
        except InvalidInput as problem:
            problems.append(problem)
    if problems:
        raise all_of(problems)
    return env or None


_NAME_HINT = (
    "A name has letters (A to Z), digits and _, and begins with no digit: a shell drops others."
)


def _can_name_a_variable(name: str) -> bool:
    if os.name == "nt":
        return "=" not in name  # There are names such as `ProgramFiles(x86)`.
    # A POSIX shell hands on no others to what it starts, and says nothing.
    return name.isascii() and name.isidentifier()


def _wrong_name(name: str) -> InvalidInput:
    # Each sign is tried behind a first one, so where all of them pass, the first is a digit.
    wrong = next((n for n, sign in enumerate(name) if not _can_name_a_variable("_" + sign)), 0)
    sign = visible(name[wrong])
    # What follows the sign was perhaps meant as the value.
    start = visible(name[:wrong], 40)
    return InvalidInput(
        f"env {start} has '{sign}' in its name" if start else f"a name in env begins with '{sign}'",
        hint='Write {"NAME": "value"}.' if sign == "=" else _NAME_HINT,
    )


def _name(value: object) -> str:
    name = string("a name in env", value)
    if not name:
        raise InvalidInput("a name in env is empty")
    if not _can_name_a_variable(name):
        raise _wrong_name(name)
    if name.upper().startswith("QUEUECTL_"):
        raise InvalidInput(f"env {visible(name, 40)} is set by queuectl itself")
    return name


def _value(name: str, value: object) -> str:
    shown = f"env {visible(name, 40)}"
    text = string(shown, value)
    if _size(name) + 1 + _size(text) > COMMAND_BYTES:
        raise InvalidInput(f"{shown} is longer than {COMMAND_BYTES:,} bytes")
    return text


def _folder(value: object) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    folder = string("cwd", value)
    if not folder:
        raise InvalidInput("cwd is empty")
    return folder


def _whole(name: str, low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is float and value.is_integer():  # Some programs write every number so.
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise InvalidInput(
                f"{name} must be a whole number from {low} to {high}, not {_said(value)}"
            )
        return value

    return check


def _number(name: str, high: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        number = _within(value, high)
        if number is None:
            raise InvalidInput(f"{name} must be a number from 0 to {high}, not {_said(value)}")
        return number

    return check


def _within(value: object, high: float) -> float | None:
    """The number that `value` is, or None when it is none from 0 to `high`."""
    # Not a number compares false, and so is refused with what is out of range.
    if isinstance(value, bool) or not (isinstance(value, (int, float)) and 0 <= value <= high):
        return None
    return abs(float(value))  # -0.0 is 0


def length(name: str, high: float) -> Callable[[object], float]:
    """The check of a length of time: seconds, or text such as '5m'; up to `high` seconds.

    Text is never more than ten years; a number may be where `high` is infinite.
    """

    def check(value: object) -> float:
        if isinstance(value, str):
            from queuectl.jobs.duration import parse

            longest = min(high, limits.LONGEST_SECONDS)
            said: float = named(name, lambda text: parse(text, longest=longest), value)
            return said
        number = _within(value, high)
        if number is None:
            raise InvalidInput(f"{name} must be {_seconds_to(high)}, not {_said(value)}")
        return number

    return check


def _seconds_to(high: float) -> str:
    if high == float("inf"):
        return "a number of seconds, 0 or more"
    from queuectl.jobs.duration import show

    return f"a number of seconds from 0 to {high} ({show(high)})"


def named(name: str, parse: Callable[[str], Any], text: str) -> Any:
    """`parse(text)`, with the field's name before what it complains of."""
    try:
        return parse(text)
    except InvalidInput as problem:
        raise InvalidInput(f"{name}: {problem.message}", problem.hint) from None


def _time(name: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            # A program's own time, or a mistake; text alone is on the path of every enqueue.
            from datetime import datetime

            from queuectl.jobs.when import number_hint

            if isinstance(value, datetime):
                return value.isoformat()  # Without an offset it is UTC, as in text.
            raise InvalidInput(
                f"{name} must be a string, not {_kind(value)}", hint=number_hint(_said(value))
            )
        return string(name, value)

    return check


def _past_time(name: str) -> Callable[[object], int]:
    time = _time(name)

    def check(value: object) -> int:
        from queuectl.jobs.when import parse_iso

        at: int = named(name, parse_iso, time(value))
        return at

    return check


def _only(name: str, constant: object) -> Callable[[object], object]:
    def check(value: object) -> object:
        if isinstance(value, bool) or value != constant:
            raise InvalidInput(
                f"{name} must be {_said(constant)} in a new job, not {_said(value)}",
                hint=_LEAVE_OUT,
            )
        return value

    return check


def _choice(name: str, *choices: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise InvalidInput(
                f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {_said(value)}"
            )
        return value

    return check


def _requires(value: object) -> tuple[str, ...]:
    from queuectl.jobs import tags  # Few jobs require anything.

    return () if value == [] else tags.checked("requires", value)


CHECKS: dict[str, Callable[[object], Any]] = {
    "id": _id,
    "command": _command,
    "cwd": _folder,
    "env": _env,
    "priority": _whole("priority", -1_000_000, 1_000_000),
    "max_retries": _whole("max_retries", 0, limits.MOST_RETRIES),
    "backoff_base": _number("backoff_base", limits.LARGEST_BACKOFF_BASE),
    "timeout": length("timeout", limits.LONGEST_TIMEOUT_SECONDS),
    "delay": length("delay", limits.LONGEST_SECONDS),
    "run_at": _time("run_at"),
    "next_run_at": _time("next_run_at"),
    "on_lost": _choice("on_lost", *limits.ON_LOST),
    "max_losses": _whole("max_losses", 1, limits.MOST_LOSSES),
    "requires": _requires,
    "state": _only("state", "pending"),
    "attempts": _only("attempts", 0),
    "created_at": _past_time("created_at"),
    "updated_at": _past_time("updated_at"),
}
"""Every field that may be given, and its check."""
