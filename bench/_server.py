"""A PostgreSQL of the bench's own, which waits for its disk as a server does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bench._side_by_side import BenchError, Plan
from tests.postgres import NoServer, Server, programs

_SETTINGS = {"fsync": "on", "shared_buffers": "256MB", "autovacuum_naptime": "10"}


@contextmanager
def server(plan: Plan) -> Iterator[Server]:
    """A server in the scratch folder. Raises BenchError where none can be started."""
    os.chmod(plan.scratch.path, 0o711)  # Root lets another user run the server.
    try:
        started = Server(programs(), settings=_SETTINGS, parent=plan.scratch.path)
        started.begin()
    except NoServer as error:
        raise BenchError(str(error)) from None
    try:
        yield started
    finally:
        started.close()
