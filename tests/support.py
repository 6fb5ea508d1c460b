"""A queue in a folder of its own, with real workers on it, of which nothing is left after the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from queuectl.job_queue import JobQueue
from queuectl.jobs.job_view import Attempt, Job
from queuectl.jobs.lifecycle import State
from queuectl.location import SCHEMA, Url
from queuectl.processes import this_process
from queuectl.storage.records import NewWorker
from queuectl.storage.sqlite import writer
from queuectl.text import is_url
from queuectl.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
MAIN = [sys.executable, str(ROOT / "main.py")]

PATIENCE_SECONDS = 30.0
"""How long a condition may take to come true. Far longer than it does on any machine that works."""

_MARK = "QUEUE_OF_A_TEST"

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str = "", seconds: float = PATIENCE_SECONDS) -> T:
    """Waits for `condition` to give something true, and returns that; fails when it does not."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true in {seconds:g} s: {what or condition}")
        time.sleep(0.01)
    return found


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that would change how queuectl behaves."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith("QUEUECTL_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # Each start would compile all of queuectl again.
    return kept


def bring_schema_up(location: str) -> None:
    """Does to a queue what a later program would: its schema has a version that this one does not know."""
    if is_url(location):
        from tests import postgres

        url = Url(location)
        table = f"{url.schema or SCHEMA}.queuectl_schema"
        postgres.needed().sql(f"UPDATE {table} SET version = 99", url.written())
    else:
        db = apsw.Connection(location)
        db.execute("PRAGMA user_version = 99")
        db.close()


class WorkerProcess:
    """A `worker-start` in the foreground, the leader of a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    @property
    def said(self) -> str:
        """All that it has said so far."""
        return self._log.read_text(errors="replace")

    def wait_for(self, words: str, times: int = 1) -> None:
        """Waits until it has said this so many times."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.said.count(words) < times:
            assert not self.has_ended, f"it ended, having said: {self.said}"
            assert time.monotonic() < deadline, f"it did not say {words!r}, but: {self.said}"
            time.sleep(0.01)

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """The hard way: SIGKILL. The process is gone when this returns."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Waits for its end, and returns its exit status (negative: the signal that ended it)."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s, said: {self.said}") from None

    def stop(self) -> int:
        """The gentle way: SIGTERM, and waits."""
        self.send(signal.SIGTERM)
        return self.wait()


class Sandbox:
    """A queue in `folder`. What is done to it goes through the command line or the Python API."""

    def __init__(self, folder: Path, *, files: Path | None = None, url: str = "") -> None:
        self.folder = folder
        self.files = files or folder
        """Where scripts and their marks are kept; beside the queue, unless that has no room."""
        self.database = folder / "queuectl.db"
        """Where the queue is, unless it is on a server."""
        self.location = url or str(self.database)
        self.environ = {**clean_environment(), _MARK: str(folder)}
        if url:
            self.environ |= {
                "QUEUECTL_DATABASE_URL": url,
                "QUEUECTL_HOME": os.environ["QUEUECTL_HOME"],
            }
            # Its files are in the same place as those of a queue in a file.
            of_this_queue = Path(Workspace(url).folder)
            of_this_queue.parent.mkdir(exist_ok=True)
            of_this_queue.symlink_to(folder)
        self.workers: list[WorkerProcess] = []
        self._queue: JobQueue | None = None

    # ---- the queue, through the Python API

    @property
    def queue(self) -> JobQueue:
        if self._queue is None:
            self._queue = JobQueue.open(self.location)
        return self._queue

    def close_queue(self) -> None:
        """Lets go of the database; it is opened again when it is next needed."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    def configure(self, **settings: object) -> None:
        """Writes the configuration file, all of it."""
        (self.folder / "queuectl_config.json").write_text(json.dumps(settings))

    def enqueue(self, command: str, **options: Any) -> str:
        return self.queue.enqueue(command, **{"cwd": str(self.files), **options})

    def job(self, id: str) -> Job:
        return self.queue.get(id)

    def state(self, id: str) -> str:
        return self.queue.get(id).state.value

    def count(self, state: str) -> int:
        """How many jobs are in this state."""
        return self.queue.counts()[State(state)]

    def attempts(self, id: str) -> list[Attempt]:
        return self.queue.attempts(id)

    def outcomes(self, id: str) -> list[str]:
        """How the job's attempts ended, oldest first."""
        return [attempt.outcome for attempt in self.queue.attempts(id)]

    def log(self, id: str) -> bytes:
        return (self.folder / "job_logs" / f"{id}.log").read_bytes()

    def output(self, id: str) -> bytes:
        """What the job's commands wrote: its log without queuectl's own lines."""
        lines = self.log(id).splitlines(keepends=True)
        return b"".join(line for line in lines if not line.startswith(b"[queuectl] "))

    def wait_state(self, id: str, *states: str, seconds: float = PATIENCE_SECONDS) -> Job:
        wait_until(lambda: self.state(id) in states, f"job {id} is {states}", seconds)
        return self.job(id)

    # ---- the queue, through the command line

    def command_line(self, *words: str) -> list[str]:
        return [*MAIN, *words]

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """One command line of queuectl, from its start to its end, in the queue's folder."""
        return subprocess.run(
            self.command_line(*words),
            cwd=self.folder,
            env={**self.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def start_worker(
        self,
        *options: str,
        program: list[str] | None = None,
        env: Mapping[str, str] | None = None,
        limit: Callable[[], object] | None = None,
        ready: bool = True,
    ) -> WorkerProcess:
        """Starts a worker in the foreground; with `ready`, waits until it says that it works.

        `program` runs in place of `main.py worker-start`; `limit` is called in the new process.
        """
        log = self.files / f"worker-{len(self.workers)}.err"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*(program or self.command_line("worker-start")), *options],
                cwd=self.folder,
                env={**self.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=limit,  # noqa: PLW1509 - nothing else can set a limit
            )
        worker = WorkerProcess(process, log)
        self.workers.append(worker)
        if ready:
            worker.wait_for(" started: ")
        return worker

    def drain(self, *options: str, seconds: float = PATIENCE_SECONDS) -> WorkerProcess:
        """Runs a worker until all is done, and checks that it ended well."""
        worker = self.start_worker("--drain", *options, ready=False)
        assert worker.wait(seconds) == 0, worker.said
        return worker

    # ---- scripts, and the marks they leave

    def script(self, name: str, text: str) -> str:
        """Writes a shell script, and returns the command that runs it."""
        path = self.files / name
        path.write_text(text)
        return f"sh {path}"

    def marks(self, name: str = "marks") -> list[str]:
        """The lines that commands appended to this file, in the order in which they did."""
        try:
            return (self.files / name).read_text().splitlines()
        except FileNotFoundError:
            return []

    def wait_marks(self, count: int, name: str = "marks") -> list[str]:
        """Waits until there are that many lines."""
        wait_until(lambda: len(self.marks(name)) >= count, f"{count} lines in {name}")
        return self.marks(name)

    def touch(self, name: str) -> None:
        """Makes an empty file: what a command may be waiting for."""
        (self.files / name).touch()

    # ---- what runs

    def processes(self) -> list[int]:
        """Everything that was started from here and lives: workers, commands, what they started."""
        return _processes_with(f"{_MARK}={self.folder}".encode())

    def commands(self) -> list[int]:
        """The processes among them that belong to a job."""
        return [pid for pid in self.processes() if b"QUEUECTL_JOB_ID=" in _environ(pid)]

    def close(self) -> None:
        """Ends whatever is left."""
        self.close_queue()
        wait_until(lambda: not self._kill_all(), "all processes of the test end")
        for worker in self.workers:
            worker.process.wait()

    def _kill_all(self) -> list[int]:
        left = self.processes()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return left


@contextmanager
def new_sandbox(folder: Path, *, files: Path | None = None, url: str = "") -> Iterator[Sandbox]:
    """A sandbox whose processes are gone afterwards, whatever happens."""
    sandbox = Sandbox(folder, files=files, url=url)
    try:
        yield sandbox
    finally:
        sandbox.close()


def _processes_with(mark: bytes) -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and mark in _environ(pid).split(b"\0")]


def _environ(pid: int) -> bytes:
    """The environment a process began with; nothing when it is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def this_process_as_worker(
    id: str = "w", *, name: str | None = None, slots: int = 1, tags: tuple[str, ...] = ()
) -> NewWorker:
    """A worker as it registers, that lives as long as this process."""
    me = this_process()
    return NewWorker(
        id=id,
        name=name or id,
        host=me.host,
        boot_id=me.boot_id,
        process_space=me.process_space,
        pid=me.pid,
        process_started=me.process_started,
        slots=slots,
        mode="foreground",
        lease_seconds=30,
        tags=tags,
    )


def suspend(pid: int, sandbox: Sandbox) -> None:
    """Suspends a worker, and not in the middle of a write: then it would hold up all others, until it
    is ended for that.
    """
    state = Path(f"/proc/{pid}/stat")
    while True:
        os.kill(pid, signal.SIGSTOP)
        wait_until(
            lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it stands still"
        )
        if is_url(sandbox.location) or writer.suspended_writer(sandbox.location) != pid:
            return  # On a server it holds up at most those who want the same rows.
        os.kill(pid, signal.SIGCONT)
