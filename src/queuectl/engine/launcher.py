"""What a job's command is started as: directly or by the shell, with which environment."""

from __future__ import annotations

import errno
import os
import sys

from queuectl.engine.direct import environment_allows, program_and_words
from queuectl.jobs.fields import COMMAND_BYTES
from queuectl.marks import JOB_MARKS, claim_mark
from queuectl.text import visible

if sys.platform == "win32":
    from queuectl import windows
else:
    from queuectl.engine.spawn import make_spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from queuectl.jobs.claim import Claim

_SHELL = b"/bin/sh"

_OUT_OF_RESOURCES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class NotStarted(Exception):
    """The command cannot be started, and the job is to blame: this fails the attempt."""


class OutOfResources(Exception):
    """The machine has no room for another process or file now: this is not the job's fault."""


if sys.platform == "win32":

    class Launcher:
        """Starts the commands of one worker, from any of its threads.

        `variables` make its queue known to them, so that a job can enqueue jobs; what is None is left out.
        """

        def __init__(self, variables: Mapping[str, str | None]) -> None:
            self._environ = windows.environment(variables)

        def start(self, claim: Claim, output: int) -> int:
            """Starts the claimed job's command in cmd.exe with its output to the file descriptor
            `output`; returns its process id.

            Raises NotStarted or OutOfResources.
            """
            command = claim.command.strip()
            if "\n" in command:
                raise NotStarted("cmd.exe runs one line: put more than one into a batch file")
            environ = {
                **self._environ,
                "QUEUECTL_JOB_ID": claim.id,
                "QUEUECTL_ATTEMPT": str(claim.attempt),
                "QUEUECTL_MAX_RETRIES": str(claim.max_retries),
                "QUEUECTL_CLAIM": claim_mark(claim.token, claim.seq),
            }
            if claim.env is not None:
                given = _variables_given(claim.env)
                environ |= {os.fsdecode(name).upper(): os.fsdecode(given[name]) for name in given}
            try:
                return windows.start_command(command, environ, claim.cwd, output)
            except OSError as error:
                if error.winerror in windows.OUT_OF_RESOURCES:
                    raise OutOfResources(_no_room(error)) from None
                _check_folder(claim.cwd)
                raise NotStarted(f"cannot start cmd.exe: {error.strerror}") from None

else:

    class Launcher:
        """Starts the commands of one worker, from any of its threads.

        `variables` make its queue known to them, so that a job can enqueue jobs; what is None is left out.
        """

        def __init__(self, variables: Mapping[str, str | None]) -> None:
            own = {name: value for name, value in os.environb.items() if name not in _NOT_HANDED_ON}
            for name, value in variables.items():
                own.pop(os.fsencode(name), None)
                if value is not None:
                    own[os.fsencode(name)] = os.fsencode(value)
            self._environ = [key + b"=" + given for key, given in own.items()]
            # Without a PATH each shell has one of its own.
            self._direct = b"PATH" in own and environment_allows(own)
            self._stdin = os.open(os.devnull, os.O_RDONLY)
            self._spawn = make_spawn(self._environ)
            self._spawn_alone = make_spawn([])

        def start(self, claim: Claim, output: int) -> int:
            """Starts the claimed job's command with its output to the file descriptor `output`;
            returns its process id, which is also that of its process group.

            Raises NotStarted or OutOfResources.
            """
            command, spawn, environ = claim.command, self._spawn, _variables_of(claim)
            given: dict[bytes, bytes] = {}
            if claim.env is not None:
                given = _variables_given(claim.env)
                spawn, environ = self._spawn_alone, _overridden(self._environ + environ, given)
            folder, stdin = os.fsencode(claim.cwd), self._stdin
            plain = program_and_words(command)
            if plain is not None:
                if self._direct and (not given or _leaves_search_alone(given)):
                    words = [word.encode() for word in plain[1]]
                    try:
                        return spawn(plain[0].encode(), words, environ, folder, stdin, output)
                    except OSError:
                        pass  # The shell is asked to do it, and says what is wrong in its own words.
                elif (
                    "/"
                    in plain[1][
                        0
                    ]  # As it was typed: a name without one may be built into the shell.
                    and os.access(plain[0], os.X_OK)
                    and len(command) + len("exec ") <= COMMAND_BYTES
                ):
                    # The shell becomes the program, as in a direct start, so that a signal that ends
                    # it is seen as one.
                    command = "exec " + command
            try:
                words = [b"sh", b"-c", b"--", command.encode()]
                return spawn(_SHELL, words, environ, folder, stdin, output)
            except OSError as error:
                # First: without a free descriptor no folder can be looked at either.
                if error.errno in _OUT_OF_RESOURCES:
                    raise OutOfResources(_no_room(error)) from None
                _check_folder(claim.cwd)
                raise NotStarted(f"cannot start {_SHELL.decode()}: {error.strerror}") from None


_SET_FOR_EACH_JOB = (b"PWD", *(name.encode() for name in JOB_MARKS))
_SAID_TO_THE_WORKER_ALONE = (b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID")
_NOT_HANDED_ON = _SET_FOR_EACH_JOB + _SAID_TO_THE_WORKER_ALONE


def _variables_of(claim: Claim) -> list[bytes]:
    return [
        b"PWD=" + os.fsencode(claim.cwd),
        b"QUEUECTL_JOB_ID=" + claim.id.encode(),
        b"QUEUECTL_ATTEMPT=%d" % claim.attempt,
        b"QUEUECTL_MAX_RETRIES=%d" % claim.max_retries,
        b"QUEUECTL_CLAIM=" + claim_mark(claim.token, claim.seq).encode(),
    ]


def _variables_given(env: str) -> dict[bytes, bytes]:
    import json

    return {os.fsencode(name): os.fsencode(value) for name, value in json.loads(env).items()}


def _overridden(environ: Sequence[bytes], given: dict[bytes, bytes]) -> list[bytes]:
    kept = [variable for variable in environ if variable.split(b"=", 1)[0] not in given]
    return kept + [name + b"=" + value for name, value in given.items()]


def _leaves_search_alone(given: dict[bytes, bytes]) -> bool:
    """Whether the job's own variables leave it to this process's PATH what a name stands for."""
    return b"PATH" not in given and environment_allows(given)


def _no_room(error: OSError) -> str:
    return f"the machine has no room for another process ({error.strerror})"


def _check_folder(folder: str) -> None:
    """Raises NotStarted when the command could not be started because of its folder, and
    OutOfResources when that cannot be told now.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        if error.errno in _OUT_OF_RESOURCES:
            raise OutOfResources(_no_room(error)) from None
        raise NotStarted(f"cannot enter folder {visible(folder)}: {error.strerror}") from None
