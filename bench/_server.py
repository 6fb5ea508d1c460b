"""A PostgreSQL of the bench's own, with the durability that a server has unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench._side_by_side import BenchError, Plan
from tests.postgres import NoServer, Server, programs


@contextmanager
def server(plan: Plan) -> Iterator[Server]:
    """One that runs in the scratch folder. Raises BenchError where none can be started."""
    try:
        started = Server(programs(), Path(plan.scratch.new_folder()), durable=True)
        started.begin()
    except NoServer as error:
        raise BenchError(str(error)) from None
    try:
        yield started
    finally:
        started.close()
