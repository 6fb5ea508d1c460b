"""Big queues, made quickly: a few real jobs, copied a million times inside the database.

The jobs that are copied were queued, run, failed and cancelled by the program itself, so that a row
looks as it would. All this knows of the schema is that jobs have a `seq` and an `id`, and attempts
a `seq`, and a key of their own that counts.
"""

from __future__ import annotations

import apsw

from bench._queue import database, drain
from queuectl import JobQueue

MIXTURE = ("completed",) * 6 + ("dead", "cancelled", "pending", "scheduled")
"""A queue that has seen some life: what each ten jobs in a row are."""

_OPTIONS: dict[str, dict[str, object]] = {
    "completed": {"command": "true"},
    "dead": {"command": "false", "max_retries": 0},
    "cancelled": {"command": "true"},
    "pending": {"command": "true"},
    "scheduled": {"command": "true", "delay": "7d", "priority": 1_000},
}


def fill_with_clones(folder: str, count: int, mixture: tuple[str, ...] = MIXTURE) -> None:
    """Makes a queue of `count` jobs, named job-0000001 and so on, of the kinds in `mixture` in turn."""
    originals = _make_originals(folder, sorted(set(mixture)))
    db = apsw.Connection(database(folder))
    with db:
        db.execute("CREATE TEMP TABLE original (place INTEGER PRIMARY KEY, seq INTEGER)")
        for place, kind in enumerate(mixture):
            db.execute(
                "INSERT INTO original SELECT ?, seq FROM jobs WHERE id = ?",
                (place, originals[kind]),
            )
        _copy(db, "jobs", count, len(mixture), {"id": "printf('job-%07d', i)"})
        _copy(db, "attempts", count, len(mixture), {"ended": "NULL"})
        db.execute("DELETE FROM attempts WHERE seq IN (SELECT seq FROM original)")
        db.execute("DELETE FROM jobs WHERE seq IN (SELECT seq FROM original)")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.close()


def _make_originals(folder: str, kinds: list[str]) -> dict[str, str]:
    """One job of each kind; returns their ids."""
    ids = {}
    with JobQueue.open(database(folder)) as queue:
        for kind in kinds:
            if kind in ("completed", "dead", "cancelled"):
                ids[kind] = queue.enqueue(**_OPTIONS[kind], cwd=folder)  # type: ignore[arg-type]
        if "cancelled" in ids:
            queue.cancel([ids["cancelled"]])
        if ids:
            drain(folder)
        for kind in kinds:
            if kind not in ids:
                ids[kind] = queue.enqueue(**_OPTIONS[kind], cwd=folder)  # type: ignore[arg-type]
    return ids


def _copy(db: apsw.Connection, table: str, count: int, places: int, other: dict[str, str]) -> None:
    others = {"seq": "i + 1000", **other}
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    values = [others.get(name, f"{table}.{name}") for name in columns]
    db.execute(
        f"""
        WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < ?)
        INSERT INTO {table} ({", ".join(columns)})
        SELECT {", ".join(values)} FROM numbers
        CROSS JOIN original ON original.place = i % ? JOIN {table} ON {table}.seq = original.seq
        """,
        (count, places),
    )
