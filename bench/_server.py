"""A PostgreSQL of the bench's own, which waits for its disk as a server does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench._side_by_side import BenchError, Plan
from tests.postgres import NoServer, Server, programs

_SETTINGS = {
    "fsync": "on",
    "shared_buffers": "256MB",
    "autovacuum_naptime": "10",
    # Checkpoints by the clock, not by volume: see docs/scaling.md.
    "max_wal_size": "4GB",
}


@contextmanager
def server(plan: Plan, **settings: object) -> Iterator[Server]:
    """A server in the scratch folder, with settings of its own besides. Raises BenchError where none
    can be started.
    """
    os.chmod(plan.scratch.path, 0o711)  # Root lets another user run the server.
    try:
        started = Server(programs(), settings={**_SETTINGS, **settings}, parent=plan.scratch.path)
        started.begin()
    except NoServer as error:
        raise BenchError(str(error)) from None
    try:
        yield started
    finally:
        started.close()


def processes(running: Server) -> Sequence[int]:
    """The processes of a server, the first one first."""
    main = (running.data / "postmaster.pid").read_text().split("\n", maxsplit=1)[0]
    with open(f"/proc/{main}/task/{main}/children", encoding="ascii") as file:
        return [int(main), *map(int, file.read().split())]


def processor_seconds(running: Server) -> float:
    """What it has used of the processors since its start, those of its processes that ended included.

    It is what a busy machine distorts least.
    """
    pids = processes(running)
    with open(f"/proc/{pids[0]}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", maxsplit=1)[1].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return ended + sum(map(_nanoseconds, pids)) / 1e9


def _nanoseconds(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0])
    except OSError:
        return 0  # It has ended since, and is counted with those that did.
