"""The command line: finds the command by its name, runs it, prints its result, maps errors to exits."""

from __future__ import annotations

import gc
import os
import sys

from queuectl.errors import InvalidInput, QueuectlError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, TextIO

    from queuectl.cli.command import Command

COMMANDS = {
    "init": ("setup", "make a queue in the current folder, or on a server"),
    "demo": ("demo", "see it all work in a few seconds, in a scratch folder"),
    "enqueue": ("enqueue", "queue a command, or a file of jobs"),
    "run": ("run", "queue a command, wait for it, and show its output"),
    "list": ("look", "list jobs"),
    "show": ("look", "show one job and its attempts"),
    "status": ("status", "count jobs by state, and see the workers"),
    "logs": ("logs", "print the output of a job"),
    "wait": ("run", "wait until jobs have ended"),
    "cancel": ("decide", "call jobs off; running ones are stopped"),
    "retry": ("decide", "run jobs that ended once more"),
    "delete": ("decide", "remove jobs and their output"),
    "prune": ("decide", "remove jobs that ended some time ago"),
    "worker-start": ("worker", "run jobs"),
    "worker-stop": ("worker", "stop the workers that run in the background"),
    "worker-list": ("worker", "list the workers"),
    "dlq list": ("dlq", "list the jobs that used up their attempts"),
    "dlq show": ("dlq", "show a dead job and its attempts"),
    "dlq retry": ("dlq", "give dead jobs all their attempts back"),
    "dlq purge": ("dlq", "remove dead jobs for good"),
    "config set": ("settings", "change a setting"),
    "config get": ("settings", "print a setting"),
    "config list": ("settings", "print all settings and where each comes from"),
    "config unset": ("settings", "go back to a setting's default"),
    "doctor": ("doctor", "check the queue's health, and mend it with --fix"),
    "backup": ("doctor", "copy the database while workers run"),
    "export": ("transfer", "write the whole queue as JSON Lines"),
    "import": ("transfer", "take in what export wrote"),
}
"""Each command: the module in this package that has it, and what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit status. Never raises."""
    # Starting up makes many objects and no garbage; looking for some takes a tenth of the time.
    gc.set_threshold(50_000)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _prepare_streams()
        status = _run(arguments)
        _flush_stdout()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough.
        _discard_stdout()
        return 141
    except Exception as error:  # noqa: BLE001 - whatever it is, the user gets one clear line
        _discard_stdout()
        known = error if isinstance(error, QueuectlError) else _explain(error)
        _report(known, arguments)
        return known.exit_status
    return status


def program() -> NoReturn:
    """The life of a process that is `queuectl`: runs its command line, and ends."""
    _hide_password()
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    # All is written and closed. Python would take itself apart first, a tenth of a short command.
    os._exit(status)


def _hide_password() -> None:
    """Has this process begin anew without the password in its command line, which everybody can see
    for as long as it runs: the whole URL is in the environment then.
    """
    position = next((n for n, word in enumerate(sys.argv) if _names_secret(n)), 0)
    if not position or os.name != "posix":  # Elsewhere no process can take the place of another.
        return
    from queuectl.location import shareable

    given = sys.argv[position].partition("=")[2]
    url = given or sys.argv[position + 1]
    rest = sys.argv[position + 1 :] if given else sys.argv[position + 2 :]
    kept = len(sys.orig_argv) - (len(sys.argv) - 1)
    words = [*sys.orig_argv[1:kept], *sys.argv[1:position], "--db", shareable(url), *rest]
    environ = {**os.environ, "QUEUECTL_DATABASE_URL": url}
    os.execve(sys.executable, [sys.executable, *words], environ)


def _names_secret(position: int) -> bool:
    """Whether a URL with a password begins at this word of the command line."""
    before = sys.argv[1:position]
    option, equals, url = sys.argv[position].partition("=")
    if option != "--db" or "--" in before:
        return False
    if not equals:
        url = "".join(sys.argv[position + 1 : position + 2])
    from queuectl.text import is_url

    if not is_url(url):
        return False
    from queuectl.location import Url

    try:
        return bool(Url(url).secrets)
    except InvalidInput:
        return False  # It is refused soon, without being repeated.


def _flush_stdout() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> QueuectlError:
    from queuectl.cli.command import unwritable

    return unwritable(error)


def _run(arguments: list[str]) -> int:
    options, rest = _leading_options(arguments)
    if not rest or options[-1:] in (["--help"], ["-h"], ["--version"]):
        return _general(options)
    if rest[0] == "help":
        return _run([*rest[1:], "--help"])
    if rest[0] not in COMMANDS and _group(rest[0]):
        between, behind = _leading_options(rest[1:])
        if not behind or between[-1:] in (["--help"], ["-h"]):
            from queuectl.cli.help import group

            _check_general(between)
            asked = "-h" in between or "--help" in between
            _require_help(_wants_json(arguments), f"queuectl {rest[0]}", asked=asked)
            return _show_help(group(rest[0], COMMANDS), asked=asked)
        options, rest = options + between, [rest[0], *behind]
    from queuectl.cli.command import execute

    name, rest = _command_name(rest)
    return execute(name, _load(name), options + rest)


def _load(name: str) -> Command:
    # `importlib` would be one more module to load.
    module = __import__(f"queuectl.cli.{COMMANDS[name][0]}", fromlist=["COMMANDS"])
    found: Command = module.COMMANDS[name]
    return found


def _leading_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Splits off the options before the command's name; they mean the same behind it."""
    position = 0
    while position < len(arguments) and arguments[position].startswith("-"):
        if arguments[position] == "--":
            break
        position += 2 if arguments[position] in ("--db", "--schema") else 1
    return arguments[:position], arguments[position:]


def _command_name(rest: list[str]) -> tuple[str, list[str]]:
    """The command meant, and what follows it."""
    first = rest[0]
    if first in COMMANDS:
        return first, rest[1:]
    group = _group(first)
    if not group:
        if "-".join(rest[:2]) in COMMANDS:  # `worker start`
            raise _unknown(" ".join(rest[:2]), ["-".join(rest[:2])])
        # `start` for `worker-start`, `purge` for `dlq purge`.
        ends = [name for name in COMMANDS if name.replace("-", " ").endswith(" " + first)]
        raise _unknown(first, ends if len(ends) == 1 else None)
    name = f"{first} {rest[1]}"
    if name not in group:
        raise _unknown(name, None, group)
    return name, rest[2:]


def _group(name: str) -> list[str]:
    """The commands of a group such as `dlq`; none when there is no such group."""
    return [command for command in COMMANDS if command.startswith(name + " ")]


def _unknown(
    word: str, meant: list[str] | None, known: Sequence[str] | None = None
) -> InvalidInput:
    from queuectl.cli.guess import asked, guesses
    from queuectl.text import visible

    groups = dict.fromkeys(name.partition(" ")[0] for name in COMMANDS if " " in name)
    meant = meant or guesses(word, known or [*COMMANDS, *groups])
    return InvalidInput(
        f"there is no command '{visible(word, 60)}'",
        hint=asked([f"`queuectl {name}`" for name in meant])
        if meant
        else "See all commands: queuectl --help",
    )


def _general(options: list[str]) -> int:
    """What a command line without a command gets."""
    _check_general(options)
    if "--version" in options:
        from queuectl import __version__

        as_json = f'{{"version": "{__version__}"}}'
        _write(as_json if "--json" in options else f"queuectl {__version__}", sys.stdout)
        return 0
    from queuectl.cli.help import overview

    _require_help("--json" in options, "queuectl", asked="-h" in options or "--help" in options)
    return _show_help(overview(COMMANDS), asked="-h" in options or "--help" in options)


def _check_general(options: list[str]) -> None:
    """Raises InvalidInput for an option that no command line without a command has."""
    known = ["--help", "-h", "--version", "--db", "--json", "--quiet", "-q"]
    for option in options:
        if option.startswith("-") and option.partition("=")[0] not in known:
            from queuectl.cli.guess import asked, guesses
            from queuectl.text import visible

            meant = guesses(option, known)
            raise InvalidInput(
                f"there is no option '{visible(option, 60)}' here",
                hint=asked(meant) if meant else "See: queuectl --help",
            )


def _require_help(as_json: bool, prog: str, *, asked: bool) -> None:
    """Raises InvalidInput where JSON was asked for, and there is no command that could print any."""
    if as_json and not asked:
        raise InvalidInput("no command was given", hint=f"See: {prog} --help")


def _show_help(text: str, *, asked: bool) -> int:
    _write(text, sys.stdout if asked else sys.stderr)
    return 0 if asked else InvalidInput.exit_status


def _write(text: str, stream: TextIO) -> None:
    try:
        print(text, file=stream)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(error) from None


def _prepare_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # Closed by whoever started us (`>&-`).
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    # Windows would write to files and pipes in the code page of one country.
    encoding = "utf-8" if os.name == "nt" and "PYTHONIOENCODING" not in os.environ else None
    # A terminal that cannot show a character gets its escape, never an error.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _wants_json(arguments: list[str]) -> bool:
    return "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _given(option: str, arguments: list[str]) -> str | None:
    """What an option gave, `--db` for example, if it is there."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == "--":
            break
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None


def _explain(error: Exception) -> QueuectlError:
    """The error for one that nothing else has put into words."""
    if os.environ.get("QUEUECTL_DEBUG"):
        import traceback

        traceback.print_exc()
    if isinstance(error, OSError) and error.strerror:
        from queuectl.errors import EnvironmentFault

        name = f": {error.filename}" if error.filename else ""
        return EnvironmentFault(f"{error.strerror}{name}")
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput(
            f"'{error.object}' cannot be written in {error.encoding}",
            hint="Set a UTF-8 locale, and write arguments in UTF-8.",
        )
    from queuectl.errors import CouldNotDo

    return CouldNotDo(
        f"unexpected {type(error).__name__}: {error}",
        hint="This is a defect in queuectl. Run it again with QUEUECTL_DEBUG=1 to see where.",
    )


def _report(error: QueuectlError, arguments: list[str]) -> None:
    from queuectl.cli.talk import fitted, pasteable, without_passwords
    from queuectl.text import visible

    message = without_passwords(error.message)
    hint = without_passwords(error.hint)
    hint = pasteable(hint, _given("--db", arguments), _given("--schema", arguments))
    if _wants_json(arguments):
        import json

        told = {**error.as_dict(), "message": message, "hint": hint or None}
        text = json.dumps({"error": told})
    else:
        text = f"queuectl: {visible(message)}"
        if hint:
            text += f"\n  {visible(hint)}"
        text = fitted(text, sys.stderr)
    try:
        print(text, file=sys.stderr)
    except OSError:
        pass  # Nobody listens; the exit status still tells.


def _discard_stdout() -> None:
    """Nothing more is written. Else what is still buffered would fail again when Python exits."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (OSError, ValueError):
            pass
