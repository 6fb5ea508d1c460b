"""Bringing a schema to the version this program was written for; refusing one from a later program."""

from __future__ import annotations

import os

from queuectl.errors import DatabaseForeign, DatabaseTooNew, EnvironmentFault, QueueNotFound
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.storage.postgres.connection import Connection

SCHEMA_VERSION = 4
"""The number of the last file in schema/."""

_LOCK = 0x51435431
"""The advisory lock ("QCT1") that only one migrating process holds. There may be no table yet to lock
in its place, and CREATE SCHEMA and its like fail when two do it at the same moment.
"""


def bring_up_to_date(db: Connection, *, create: bool) -> bool:
    """Applies the migrations that the schema lacks, all in one transaction; whether it made the queue.

    Raises QueueNotFound when there is nothing and `create` is false, DatabaseTooNew for a schema of
    a later version, DatabaseForeign for one that holds something else, EnvironmentFault where this
    role lacks the rights.
    """
    version = _version(db)
    if version == SCHEMA_VERSION:
        return False
    if version is None and not create:
        raise QueueNotFound(f"there is no queue at {db.shown}", hint="Make one with: queuectl init")
    try:
        with db.transaction():
            # However long the migration of a large queue takes.
            db.execute("SET LOCAL lock_timeout = 0")
            db.fetch("SELECT pg_advisory_xact_lock(%s)::text", (_LOCK,))
            # Another process may have done it while we waited for the lock.
            version = _version(db)
            done = _begin(db) if version is None else version
            for number in range(done + 1, SCHEMA_VERSION + 1):
                db.execute(_migration(number))
            db.execute("UPDATE queuectl_schema SET version = %s", (SCHEMA_VERSION,))
    except EnvironmentFault:
        raise _not_the_owner(db, version) from None
    return version is None


def _not_the_owner(db: Connection, version: int | None) -> EnvironmentFault:
    """This role may not make the tables, or not bring them up to date."""
    if version is None:
        return EnvironmentFault(
            f"there is no queue at {db.shown}, and the role {visible(db.role)} may not make one",
            hint="The role that is to own its tables has to call `init` first.",
        )
    return EnvironmentFault(
        f"{db.shown} has schema version {version}, and the role {visible(db.role)} may not bring it up to"
        f" {SCHEMA_VERSION}, which this queuectl needs",
        hint="The owner of its tables has to call `init`, and then run postgresql-grants.sql again.",
    )


def _begin(db: Connection) -> int:
    """Makes the schema, unless whoever may has made it for us."""
    from queuectl.storage.postgres.connection import quote

    found = db.fetch_one(
        """SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_namespace.oid),
                  has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE')
           FROM pg_namespace WHERE nspname = %s""",
        (db.schema,),
    )
    if found is None:
        db.execute(f"CREATE SCHEMA {quote(db.schema)}")
    elif found[0]:
        raise DatabaseForeign(
            f"{db.shown}: the schema {visible(db.schema)!r} holds something else",
            hint="Name another one with --schema or QUEUECTL_SCHEMA.",
        )
    elif not found[1]:
        # What is made would be a temporary table then, where this role may make those.
        raise _not_the_owner(db, None)
    db.execute("CREATE TABLE queuectl_schema (version integer NOT NULL)")
    db.execute("INSERT INTO queuectl_schema VALUES (0)")
    return 0


def _version(db: Connection) -> int | None:
    # Not `to_regclass`: it may remember that there was none before another process made it.
    query = """SELECT has_schema_privilege(relnamespace, 'USAGE')
                      AND has_table_privilege(pg_class.oid, 'SELECT')
               FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
               WHERE relname = 'queuectl_schema' AND nspname = %s"""
    found = db.fetch_one(query, (db.schema,))
    if found is None:
        return None
    if not found[0]:
        raise EnvironmentFault(
            f"{db.shown}: the role {visible(db.role)} may not read the schema {visible(db.schema)!r}",
            hint="Its owner gives the roles of the guide their rights with postgresql-grants.sql, after"
            " `init` and after each upgrade that brings new tables.",
        )
    return require_known(db)


def require_known(db: Connection) -> int:
    """The schema's version. Raises DatabaseTooNew for a later one than this program knows."""
    [(version,)] = db.look("SELECT version FROM {schema}.queuectl_schema")
    if version > SCHEMA_VERSION:
        raise DatabaseTooNew(
            f"{db.shown} has schema version {version}; this queuectl knows up to {SCHEMA_VERSION}",
            hint="Upgrade queuectl, or name another database.",
        )
    return int(version)


def _migration(number: int) -> str:
    folder = os.path.join(os.path.dirname(__file__), "schema")
    name = next(n for n in sorted(os.listdir(folder)) if n.startswith(f"{number:04d}_"))
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()
