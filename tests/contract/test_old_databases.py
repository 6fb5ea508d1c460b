"""Databases of earlier versions open with all that is in them: files of SQLite, dumps of PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from queuectl.jobs.job_view import Job
from queuectl.jobs.lifecycle import State
from queuectl.jobs.outcome import LOST, judge
from queuectl.text import is_url
from tests import postgres
from tests.contract.make_database import fill
from tests.contract.support import HOUR, POLICY, SECOND, START, Database, Pair, ids_of

DATA = Path(__file__).with_name("data")
OLD = sorted([*DATA.glob("v*.db"), *DATA.glob("v*.sql")], key=lambda path: path.name)


@pytest.fixture(params=OLD, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """A queue that an earlier version left behind: see make_database.py."""
    if request.param.suffix == ".sql":
        for url in postgres.new_url():
            postgres.needed().sql(request.param.read_text(encoding="utf-8"), url)
            yield from opened(url)
        return
    path = tmp_path / "queuectl.db"
    shutil.copyfile(request.param, path)
    yield from opened(str(path))


def opened(location: str) -> Iterator[Pair]:
    """Both sides of it."""
    database = Database(location)
    yield Pair(database)
    database.close()


def test_there_are_old_databases() -> None:
    """The first released schema of each kind is among those that are tried."""
    assert [path.name for path in OLD][:2] == ["v1.db", "v1.sql"]


def test_an_old_database_keeps_its_jobs(old: Pair) -> None:
    """Every job is there, in its place and state, with its fields."""
    assert old.jobs.check() == []
    assert [(job.id, job.state.value) for job in _all(old)] == [
        ("done", "completed"),
        ("dead", "dead"),
        ("requeued", "failed"),
        ("stopped", "cancelled"),
        ("hold", "processing"),
        ("retry", "processing"),
        ("called-off", "processing"),
        ("off", "cancelled"),
        ("later", "pending"),
        ("waiting", "pending"),
    ]
    done, waiting = old.job("done"), old.job("waiting")
    assert (done.command, done.cwd, done.env) == ("echo 'été' | wc -c", "/srv/data", {"LANG": "C"})
    assert (done.attempts, done.exit_code, done.error) == (2, 0, None)
    assert (done.created_at, done.finished_at) == (START, START + 2 * SECOND)
    assert (waiting.priority, waiting.max_retries, waiting.timeout) == (-5, 0, 2.5)
    assert waiting.on_lost == "fail"
    assert old.job("dead").error == "timeout: ran for over 1.5 s"
    assert old.job("later").next_run_at == START + 1000 * HOUR
    assert old.job("retry").max_losses == 2


def test_an_old_database_keeps_its_attempts(old: Pair) -> None:
    """What was recorded of every run is there, in the order in which they ran."""
    kinds = {id: [a.outcome for a in old.jobs.attempts(id)] for id in old.ids()}
    assert kinds == {
        "done": ["failed", "succeeded"],
        "dead": ["failed", "timeout"],
        "requeued": ["succeeded", "failed"],
        "stopped": ["cancelled"],
        "hold": ["running"],
        "retry": ["running"],
        "called-off": ["running"],
        "off": [],
        "later": [],
        "waiting": [],
    }
    crash = old.jobs.attempts("dead")[0]
    assert (crash.signal, crash.exit_code, crash.log_end) == (11, None, 100)


def test_an_old_database_goes_on(old: Pair) -> None:
    """Its workers are known, what a lost one held is rescued, and its jobs run."""
    assert {worker.id: worker.running for worker in old.work.workers()} == {"gone": 3, "here": 0}
    assert (old.work.outlook("here").stop_requested, old.work.outlook("here").stop_timeout) == (
        True,
        30,
    )
    assert ids_of(old.work.fence("gone")) == ["hold", "retry", "called-off"]
    old.work.rescue("gone", lambda claim: (LOST, judge(claim, LOST, POLICY)))
    old.clock.go_on(2000 * 3600)
    old.register("new")
    old.enqueue("newest")
    claims = old.claim("new", 9)
    assert ids_of(claims) == ["requeued", "retry", "later", "newest", "waiting"]
    old.work.exchange("new", [old.settlement(claim) for claim in claims], 0)
    assert old.jobs.counts() == {State.COMPLETED: 6, State.DEAD: 2, State.CANCELLED: 3}


def test_an_old_database_ends_up_with_the_schema_of_a_new_one(old: Pair, tmp_path: Path) -> None:
    """After its migrations it is in nothing different from a database made today."""
    if is_url(old.database.location):
        for url in postgres.new_url():
            fresh = Database(url)
            fresh.open_jobs()
            assert schema(old.database) == schema(fresh)
            fresh.close()
        return
    fresh = Database(str(tmp_path / "fresh.db"))
    fill(Pair(fresh))
    assert schema(old.database) == schema(fresh)
    fresh.close()


def _all(pair: Pair) -> list[Job]:
    return list(pair.jobs.list_jobs((), sort="created", descending=False, limit=None))


def schema(database: Database) -> list[tuple[object, ...]]:
    """Its tables, columns and indexes."""
    if is_url(database.location):
        return postgres.needed().sql(_PARTS, database.location)
    db = apsw.Connection(database.location)
    rows = db.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
    ).fetchall()
    db.close()
    return rows


_PARTS = """
SELECT 'column', table_name, column_name, data_type, column_default, is_nullable, is_identity,
       collation_name
FROM information_schema.columns WHERE table_schema = 'queuectl'
UNION ALL
SELECT 'index', tablename, indexname, indexdef, NULL, NULL, NULL, NULL
FROM pg_indexes WHERE schemaname = 'queuectl'
UNION ALL
SELECT 'relation', relname, relkind::text, array_to_string(reloptions, ' '), NULL, NULL, NULL, NULL
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = 'queuectl'
ORDER BY 1, 2, 3
"""
