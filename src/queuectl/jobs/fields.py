"""The fields of a job, one check each: what a value must be, and how the job keeps it.

A check takes whatever JSON or a program can hold, and raises InvalidInput for what the field
does not allow. No check shows the value of an environment variable.
"""

from __future__ import annotations

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
    for given in names[:_REPORTED]:
        name = given if isinstance(given, str) else _kind(given)
        shown = visible(name, 40)
        if name in _WRITTEN_BY_QUEUE:
            problem = InvalidInput(f"'{name}' is written by the queue", hint=f"Leave {name} out.")
        else:
            near = nearest(name, tuple(CHECKS))
            hint = f"Did you mean '{near}'?" if near else f"The fields are {', '.join(CHECKS)}."
            problem = InvalidInput(f"unknown field '{shown}'", hint=hint)
        problems.append(problem)
    return problems + [InvalidInput("unknown field")] * (len(names) - len(problems))


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


def _command(value: object) -> str:
    command = string("command", value)
    if not command.strip():
        raise InvalidInput("the command is empty", hint="Every job needs a command.")
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
    elif visible(id) != id:
        why = "contains a control character"
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


def _name(value: object) -> str:
    name = string("a name in env", value)
    if not name:
        raise InvalidInput("a name in env is empty")
    if "=" in name:
        # What follows the sign was probably meant as the value.
        shown = visible(name.partition("=")[0], 40)
        raise InvalidInput(f"env {shown} has '=' in its name", hint='Write {"NAME": "value"}.')
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


def _number(name: str, high: float, what: str = "a number") -> Callable[[object], float]:
    def check(value: object) -> float:
        # Not a number compares false, and so is refused with what is out of range.
        if isinstance(value, bool) or not (isinstance(value, (int, float)) and 0 <= value <= high):
            raise InvalidInput(f"{name} must be {what} from 0 to {high}, not {_said(value)}")
        return abs(float(value))  # -0.0 is 0

    return check


def length(name: str, high: float) -> Callable[[object], float]:
    """The check of a length of time: seconds, or text such as '5m'; up to `high` seconds."""
    number = _number(name, high, "a number of seconds")

    def check(value: object) -> float:
        if isinstance(value, str):
            from queuectl.jobs import duration

            value = named(name, duration.parse, value)
        return number(value)

    return check


def named(name: str, parse: Callable[[str], Any], text: str) -> Any:
    """`parse(text)`, with the field's name before what it complains of."""
    try:
        return parse(text)
    except InvalidInput as problem:
        raise InvalidInput(f"{name}: {problem.message}", problem.hint) from None


def _time(name: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            from queuectl.jobs.when import number_hint

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
                hint=f"Leave {name} out.",
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
    "state": _only("state", "pending"),
    "attempts": _only("attempts", 0),
    "created_at": _past_time("created_at"),
    "updated_at": _past_time("updated_at"),
}
"""Every field that may be given, and its check."""
