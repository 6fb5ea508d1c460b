"""Queues of other people on the same PostgreSQL: `python _postgres_peers.py NAME URL COUNT SLOTS`.

Puts COUNT jobs in, in bulk, then has one worker run them, which do nothing. Prints the seconds of both.
The worker's start is left out, as are those before the first claim of the others.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

_BULK = 10_000


async def pgqueuer(url: str, count: int, slots: int) -> tuple[float, float]:
    """Claims and settles `slots` at a time."""
    import asyncpg  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from pgqueuer import (  # type: ignore[import-not-found,unused-ignore]
        AsyncpgDriver,
        Job,
        Queries,
        QueueManager,
    )
    from pgqueuer.types import (  # type: ignore[import-not-found,unused-ignore]
        QueueExecutionMode,
    )

    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    manager = QueueManager(queries)

    @manager.entrypoint("noop")  # type: ignore[untyped-decorator,unused-ignore]
    async def noop(job: Job) -> None:
        """The job."""

    begun = time.perf_counter()
    for _ in range(0, count, _BULK):
        size = min(_BULK, count)
        await queries.enqueue(["noop"] * size, [b"true"] * size, [0] * size)
    filled = time.perf_counter()
    await manager.run(batch_size=slots, mode=QueueExecutionMode.drain)
    ended = time.perf_counter()
    await connection.close()
    return filled - begun, ended - filled


async def procrastinate(url: str, count: int, slots: int) -> tuple[float, float]:
    """Claims one at a time, in `slots` tasks at once."""
    from procrastinate import (  # type: ignore[import-not-found,unused-ignore]
        App,
        PsycopgConnector,
    )

    app = App(connector=PsycopgConnector(conninfo=url))

    @app.task(name="noop")  # type: ignore[untyped-decorator,unused-ignore]
    async def noop(command: str) -> None:
        """The job."""

    jobs: list[Any] = [{"command": "true"}] * min(_BULK, count)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        begun = time.perf_counter()
        for _ in range(0, count, _BULK):
            await noop.batch_defer_async(*jobs)
        filled = time.perf_counter()
        await app.run_worker_async(wait=False, concurrency=slots, install_signal_handlers=False)
        ended = time.perf_counter()
    return filled - begun, ended - filled


if __name__ == "__main__":
    _contestant = {"pgqueuer": pgqueuer, "procrastinate": procrastinate}[sys.argv[1]]
    print(*asyncio.run(_contestant(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
