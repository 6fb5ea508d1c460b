"""Which queue is meant, and where its files are: beside the database, where that is a file.

Of a queue on a server each machine has a folder for what belongs to it alone: the output of the jobs
that it ran, its pidfile, its worker log.
"""

from __future__ import annotations

import os

from queuectl.disk import holds_something
from queuectl.errors import EnvironmentFault, InvalidInput, QueuectlError, QueueNotFound
from queuectl.text import is_like_url, is_url, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from queuectl.config import Config

DATABASE = "queuectl.db"
CONFIG = "queuectl_config.json"

_URL_HINT = (
    "A URL looks like postgresql://USER@HOST:5432/DATABASE."
    " What was given is not shown, for it may hold a password."
)


class Workspace:
    """The files of one queue at `location`, a path or a URL.

    `location` is what opens it, and may hold a password; `database` names it wherever it is shown or
    compared. `exists` is whether its file does, and is more than an empty one; what a server has is
    not known before it is asked.
    """

    __slots__ = (
        "config",
        "database",
        "exists",
        "folder",
        "location",
        "logs",
        "pidfile",
        "worker_log",
    )

    def __init__(self, location: str, config: str | None = None) -> None:
        # One name for one queue: else it would have two pidfiles, and the commands of one worker
        # would not carry the mark that the other looks for.
        if is_url(location):
            from queuectl.location import identity

            self.location = location
            self.database = identity(location)
            self.folder = _folder_of(self.database)
            self.exists = False
        else:
            self.location = self.database = os.path.realpath(location)
            self.folder = os.path.dirname(self.database)
            self.exists = holds_something(self.database)
        self.config = os.path.abspath(config or os.path.join(self.folder, CONFIG))
        self.logs = os.path.join(self.folder, "job_logs")
        self.pidfile = os.path.join(self.folder, "queuectl.pid")
        self.worker_log = os.path.join(self.folder, "queuectl.log")

    @property
    def is_remote(self) -> bool:
        """The queue is on a server, and this folder is not all there is of it."""
        return is_url(self.location)

    def load_config(self) -> Config:
        """The settings in force. Raises as `Config.load`."""
        from queuectl.config import Config

        return Config.load(self.config, os.environ, is_remote=self.is_remote)

    def make_folder(self) -> Workspace:
        """This workspace, with a folder for its files. Raises EnvironmentFault."""
        if self.is_remote and not os.path.isdir(self.folder):
            try:
                os.makedirs(os.path.dirname(self.folder), mode=0o700, exist_ok=True)
                os.mkdir(self.folder, 0o700)
            except FileExistsError:
                pass  # Another process was quicker.
            except OSError as error:
                raise EnvironmentFault(
                    f"cannot make the folder {visible(self.folder)}: {error.strerror}",
                    hint="Another one for the files of queues can be named with QUEUECTL_HOME.",
                ) from None
        return self

    def variables(self) -> dict[str, str | None]:
        """What a command of this queue is told, so that it can put jobs in; None: to be left out."""
        told: dict[str, str | None] = {"QUEUECTL_DB_PATH": self.database}
        told["QUEUECTL_DATABASE_URL"] = self.location if self.is_remote else None
        if self.is_remote:
            told["QUEUECTL_CONFIG_PATH"] = self.config
        return told

    def require(self) -> Workspace:
        """This workspace, when there is a queue in it; raises QueueNotFound when there is none."""
        if not self.exists and not self.is_remote:
            what = "there is no queue at {}"
            if os.path.lexists(self.database):
                what = "{} is empty: there is no queue in it"
            raise QueueNotFound(
                what.format(visible(self.database)),
                hint="Make one with `queuectl init`, or queue a first job with `queuectl enqueue`.",
            )
        return self

    def surrounding_job(self, environ: Mapping[str, str] = os.environ) -> str | None:
        """The id of the job of this queue in whose command this process runs, if it does in one."""
        if environ.get("QUEUECTL_DB_PATH") != self.database:
            return None
        return environ.get("QUEUECTL_JOB_ID") or None


def find(
    location: str | None,
    *,
    schema: str | None = None,
    environ: Mapping[str, str] = os.environ,
    start: str | None = None,
) -> Workspace:
    """The queue that is meant: `location`, else what QUEUECTL_DATABASE_URL or QUEUECTL_DB_PATH says,
    else the nearest one upwards.

    Where nothing is given, the search begins in `start` (the current folder) and goes up through its
    parents, as git finds its repository: a folder's configuration may name a `database_url`, or its
    queue is a file. If there is none at all, it is the one that would be made in `start`. `schema` is
    for a queue on a server. A URL without a password gets that of QUEUECTL_DATABASE_URL, where this is
    the same but for its secrets, and the settings of the nearest folder whose `database_url` it is.
    """
    if location == "":
        # Rather an unset variable of a script than the wish for another queue.
        raise InvalidInput("the path of the database is empty", hint="Name a file after --db.")
    url = environ.get("QUEUECTL_DATABASE_URL")
    if url and not location and not is_url(url):
        raise InvalidInput("QUEUECTL_DATABASE_URL holds no URL of PostgreSQL", hint=_URL_HINT)
    config = environ.get("QUEUECTL_CONFIG_PATH")
    path = environ.get("QUEUECTL_DB_PATH")
    named = location or url or path
    if named and is_like_url(named) and not is_url(named):
        source = "--db" if location else "QUEUECTL_DB_PATH"
        raise InvalidInput(
            f"{source} names neither a file nor a database of PostgreSQL", hint=_URL_HINT
        )
    found = named or ""
    if not named:
        found, config = _nearest(config, start or current_folder())
    if is_url(found):
        from queuectl.location import completed, with_schema

        if url:
            found = completed(found, url)
        found = with_schema(found, schema, environ)
        if named and not config:
            config = _settings_near(found, schema, environ, start)
    elif schema is not None:
        raise InvalidInput(
            f"--schema is for a queue on PostgreSQL, and this one is a file: {visible(found)}",
            hint="Name the server with --db or QUEUECTL_DATABASE_URL.",
        )
    return Workspace(found, config)


def _nearest(config: str | None, start: str) -> tuple[str, str | None]:
    """Where the queue is, and its configuration if that is not beside it."""
    url = _url_in(config) if config else None
    if url:
        return url, config
    folder = start
    while True:
        url = None if config else _url_in(os.path.join(folder, CONFIG))
        if url:
            return url, os.path.join(folder, CONFIG)
        candidate = os.path.join(folder, DATABASE)
        if os.path.lexists(candidate):
            return candidate, config
        parent = os.path.dirname(folder)
        if parent == folder:
            return os.path.join(start, DATABASE), config
        folder = parent


def _settings_near(
    url: str, schema: str | None, environ: Mapping[str, str], start: str | None
) -> str | None:
    """The nearest configuration, if its `database_url` is this very queue: whether that is named or
    found, its settings are the same.
    """
    from queuectl.location import identity, with_schema

    try:
        near, config = _nearest(None, start or current_folder())
        if is_url(near) and identity(with_schema(near, schema, environ)) == identity(url):
            return config
    except QueuectlError:
        pass  # What is wrong there has nothing to do with a queue that was named.
    return None


def _url_in(config: str) -> str | None:
    """The `database_url` of a configuration file, if it has one that can be one."""
    try:
        with open(config, "rb") as file:
            if b"database_url" not in file.read():
                return None  # Before `json` is loaded, which every enqueue would have to wait for.
    except OSError:
        return None  # Whoever needs the settings says what is wrong with it.
    from queuectl.config import Config

    return Config.load(config, {}).database_url or None


def _folder_of(database: str) -> str:
    """This machine's folder for a queue on a server."""
    from zlib import crc32  # A cryptographic one takes ten times as long to load.

    from queuectl.location import readable

    home = os.environ.get("QUEUECTL_HOME")
    if not home:
        state = os.environ.get("XDG_STATE_HOME") or os.path.join("~", ".local", "state")
        home = os.path.join(os.path.expanduser(state), "queuectl")
    name = f"{readable(database)}-{crc32(database.encode()):08x}"
    return os.path.join(os.path.abspath(home), name)


def current_folder() -> str:
    """Where this process is. Raises EnvironmentFault when that folder was removed."""
    try:
        return os.getcwd()
    except OSError:
        raise EnvironmentFault(
            "the current folder no longer exists", hint="Change to another folder."
        ) from None
