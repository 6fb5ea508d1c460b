"""Starting a command on POSIX: its own process group, its log as stdout and stderr, no copying."""

from __future__ import annotations

import errno
import os
import signal

from queuectl.engine.direct import environment_allows, program_and_words
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.jobs.claim import Claim

_SHELL = "/bin/sh"

# Python ignores these two, and what is ignored stays so in a started program: `yes | head` would
# then end with an error message instead of quietly.
_RESTORED_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ] if os.name == "posix" else []

_OUT_OF_RESOURCES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class NotStarted(Exception):
    """The command cannot be started, and the job is to blame: this fails the attempt."""


class OutOfResources(Exception):
    """The machine has no room for another process now: this is not the job's fault."""


class Launcher:
    """Starts the commands of one worker.

    `database` is made known to them, so that a job can enqueue jobs.
    """

    def __init__(self, database: str) -> None:
        self._environ = dict(os.environb)
        self._environ[b"QUEUECTL_DB_PATH"] = os.fsencode(database)
        self._direct = environment_allows(self._environ) and not os.environ.get("NODIRECT")
        self._stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._folder = ""

    def start(self, claim: Claim, output: int) -> int:
        """Starts the claimed job's command with its output to the file descriptor `output`;
        returns its process id, which is also that of its process group.

        Raises NotStarted or OutOfResources.
        """
        self._enter(claim.cwd)
        environ = self._environment(claim)
        actions = [
            (os.POSIX_SPAWN_DUP2, self._stdin, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        if self._direct and claim.env is None:
            split = program_and_words(claim.command)
            if split is not None:
                try:
                    return os.posix_spawnp(
                        split[0],
                        split[1],
                        environ,
                        file_actions=actions,
                        setpgroup=0,
                        setsigdef=_RESTORED_SIGNALS,
                    )
                except OSError:
                    pass  # The shell is asked to do it, and says what is wrong in its own words.
        try:
            return os.posix_spawn(
                _SHELL,
                ["sh", "-c", "--", claim.command],
                environ,
                file_actions=actions,
                setpgroup=0,
                setsigdef=_RESTORED_SIGNALS,
            )
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                raise OutOfResources(str(error.strerror)) from None
            raise NotStarted(f"cannot start {_SHELL}: {error.strerror}") from None

    def _enter(self, folder: str) -> None:
        """Goes to the job's folder. One system call here is far cheaper than a fork that does it."""
        try:
            # Also when it is where we are: it may have been removed, or replaced, since.
            os.chdir(folder)
        except OSError as error:
            raise NotStarted(f"cannot enter folder {visible(folder)}: {error.strerror}") from None

    def _environment(self, claim: Claim) -> dict[bytes, bytes]:
        environ = self._environ.copy()
        environ[b"PWD"] = os.fsencode(claim.cwd)
        if claim.env is not None:
            import json

            for name, value in json.loads(claim.env).items():
                environ[os.fsencode(name)] = os.fsencode(value)
        environ[b"QUEUECTL_JOB_ID"] = claim.id.encode()
        environ[b"QUEUECTL_ATTEMPT"] = b"%d" % claim.attempt
        environ[b"QUEUECTL_MAX_RETRIES"] = b"%d" % claim.max_retries
        return environ
