"""Which queue is meant, and where its files are: everything lies beside the database."""

from __future__ import annotations

import os

from queuectl.disk import holds_something
from queuectl.errors import EnvironmentFault, InvalidInput, QueueNotFound
from queuectl.text import typed, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE = "queuectl.db"


class Workspace:
    """The files of one queue. `exists` is whether its database does, and is more than an empty
    file; `option` is the path that `--db` gave for it.
    """

    __slots__ = (
        "config",
        "database",
        "exists",
        "folder",
        "logs",
        "option",
        "pidfile",
        "worker_log",
    )

    def __init__(
        self, database: str, config: str | None = None, *, option: str | None = None
    ) -> None:
        self.option = option
        # The real path: two names of one queue must not have two pidfiles, and the commands of one
        # worker must carry the mark that the other looks for.
        self.database = os.path.realpath(database)
        self.folder = os.path.dirname(self.database)
        self.config = os.path.abspath(config or os.path.join(self.folder, "queuectl_config.json"))
        self.logs = os.path.join(self.folder, "job_logs")
        self.pidfile = os.path.join(self.folder, "queuectl.pid")
        self.worker_log = os.path.join(self.folder, "queuectl.log")
        self.exists = holds_something(self.database)

    def require(self) -> Workspace:
        """This workspace, when there is a queue in it; raises QueueNotFound when there is none."""
        if not self.exists:
            what = "there is no queue at {}"
            if os.path.lexists(self.database):
                what = "{} is empty: there is no queue in it"
            call = "queuectl" if self.option is None else typed("queuectl", "--db", self.option)
            raise QueueNotFound(
                what.format(visible(self.database)),
                hint=f"Make one with `{call} init`, or queue a first job with `{call} enqueue`.",
            )
        return self

    def surrounding_job(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """The id of the job of this queue in whose command this process runs, if it does in one."""
        if environ.get("QUEUECTL_DB_PATH") != self.database:
            return None
        return environ.get("QUEUECTL_JOB_ID") or None


def find(
    path: str | None, *, environ: Mapping[str, str] = os.environ, start: str | None = None
) -> Workspace:
    """The queue that is meant: `path`, else QUEUECTL_DB_PATH, else the nearest one upwards.

    Where no path is given, the search begins in `start` (the current folder) and goes up through
    its parents, as git finds its repository. If there is none at all, it is the one that would be
    made in `start`.
    """
    if path == "":
        # Rather an unset variable of a script than the wish for another queue.
        raise InvalidInput("the path of the database is empty", hint="Name a file after --db.")
    config = environ.get("QUEUECTL_CONFIG_PATH")
    named = path or environ.get("QUEUECTL_DB_PATH")
    if named:
        return Workspace(named, config, option=path)
    start = start or current_folder()
    folder = start
    while True:
        candidate = os.path.join(folder, DATABASE)
        if os.path.lexists(candidate):
            return Workspace(candidate, config)
        parent = os.path.dirname(folder)
        if parent == folder:
            return Workspace(os.path.join(start, DATABASE), config)
        folder = parent


def current_folder() -> str:
    """Where this process is. Raises EnvironmentFault when that folder was removed."""
    try:
        return os.getcwd()
    except OSError:
        raise EnvironmentFault(
            "the current folder no longer exists", hint="Change to another folder."
        ) from None
