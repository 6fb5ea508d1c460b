from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.contract.support import KINDS, Database, Pair, new_database


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database, of each kind in turn."""
    with new_database(request.param, tmp_path) as database:
        yield database


@pytest.fixture
def own_database() -> Iterator[Database]:
    """A PostgreSQL database that no other test has, for what a schema does not keep apart."""
    database = Database(postgres.needed().new_database())
    yield database
    database.close()


@pytest.fixture
def pair(database: Database) -> Pair:
    """A job storage and a worker storage on the same database, with a clock that the test moves."""
    return Pair(database)
