"""Many workers in one process, each as on a machine of its own:
`python -m bench._fleet LOCATION WORKERS SLOTS`.

Each is a whole worker: its main thread, its ledger, its slots, its look after the others, with the two
connections that it has on a machine. Only its commands are none, and its machine is a name.

It prints a line when all have registered, and answers each line on its standard input with one JSON
list: how many outcomes were written, how many statements were sent, and the nanoseconds of processor
time, all since the start. A line with a number sets how many seconds each command takes. The end of its
standard input stops it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg2
import psycopg2.extensions

from bench._noop_worker import NoopExecutor
from queuectl import processes
from queuectl.clock import Clock
from queuectl.config import Config
from queuectl.engine import run
from queuectl.engine.attempt import Attempt
from queuectl.engine.maintenance import Maintenance
from queuectl.engine.worker import Worker
from queuectl.jobs.claim import Claim
from queuectl.processes import Identity
from queuectl.storage.postgres.work import PostgresWorkerStorage
from queuectl.storage.records import Exchange, Settlement
from queuectl.workspace import Workspace

_PATIENCE_SECONDS = 60.0

_command_seconds = 0.0


class _Count:
    """A number that many threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self, number: int) -> None:
        with self._lock:
            self.value += number


_settled = _Count()
_sent = _Count()


class _Cursor(psycopg2.extensions.cursor):
    """Counts what is sent to the server: each is one round trip."""

    def execute(self, *words: Any) -> None:
        _sent.add(1)
        super().execute(*words)


class _Executor(NoopExecutor):
    """Commands that take their time, and nothing else."""

    def start(self, claim: Claim, may_start: Callable[[], bool]) -> Attempt:
        started_at, started_ticks = self._clock.now(), self._clock.ticks()
        if _command_seconds:
            time.sleep(_command_seconds)
        attempt = super().start(claim, may_start)
        attempt.started_at, attempt.started_ticks = started_at, started_ticks
        return attempt


class _Storage(PostgresWorkerStorage):
    """Counts what was settled."""

    def exchange(self, worker_id: str, settlements: Sequence[Settlement], wanted: int) -> Exchange:
        done = super().exchange(worker_id, settlements, wanted)
        _settled.add(len(settlements) - len(done.refused))
        return done


class _Machine(threading.Thread):
    """One worker, as `queuectl.engine.run.run_worker` puts it together."""

    def __init__(self, location: str, number: int, slots: int, config: Config) -> None:
        super().__init__(daemon=True)
        workspace = Workspace(location)
        self._storage = _Storage(location, None)
        clock: Clock = self._storage.clock
        orders = run.Orders(slots=slots)
        me = _elsewhere(processes.this_process(), number)
        self.worker: Worker = run._assemble(
            workspace, orders, self._storage, config, clock, me, _say, None
        )
        self._maintenance = Maintenance(
            lambda: PostgresWorkerStorage(location, clock),
            workspace.database,
            clock,
            worker_id=lambda: self.worker.id,
            policy=lambda: self.worker.policy,
            grace_seconds=lambda: self.worker.grace_seconds,
            say=_say,
            on_clock_step=self.worker.ledger.look_again,
            database_gone=lambda: None,
        )

    def run(self) -> None:
        self._maintenance.start()
        self.worker.run()
        self._storage.unregister(self.worker.id)
        self._maintenance.ask_to_close()
        self._maintenance.join()


def _elsewhere(me: Identity, number: int) -> Identity:
    name = f"machine{number}"
    return Identity(name, name, name, me.pid, me.process_started)


def _say(line: str) -> None:
    if line != "stopping":
        print(line, file=sys.stderr, flush=True)


def _connect(*words: Any, **named: Any) -> Any:
    return _psycopg2_connect(*words, cursor_factory=_Cursor, **named)


_psycopg2_connect = psycopg2.connect


def main() -> None:
    """Runs the workers."""
    global _command_seconds  # noqa: PLW0603 - there is one in each process
    location, count, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    setattr(run, "Executor", _Executor)  # noqa: B010 - it is no attribute to assign to
    setattr(psycopg2, "connect", _connect)  # noqa: B010 - nor is this
    config = Config.load(Workspace(location).config, os.environ)
    machines = [
        _Machine(location, os.getpid() * 1000 + number, slots, config) for number in range(count)
    ]
    for machine in machines:
        machine.start()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip():
            _command_seconds = float(line)
        print(json.dumps([_settled.value, _sent.value, time.process_time_ns()]), flush=True)
    for machine in machines:
        machine.worker.soon(machine.worker.stop)
    for machine in machines:
        machine.join(_PATIENCE_SECONDS)


if __name__ == "__main__":
    main()
