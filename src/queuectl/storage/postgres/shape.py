"""What the tables have to be, and what a role may do with them: for whoever checks a queue's health."""

from __future__ import annotations

from queuectl.storage.postgres import sql
from queuectl.storage.records import Rights
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.storage.postgres.connection import Connection

COLUMNS = {
    "queuectl_schema": "version",
    "jobs": sql.ALL_COLUMNS,
    "ended_jobs": sql.ALL_COLUMNS,
    "attempts": "ended, seq, attempt, started_at, finished_at, outcome, exit_code, signal, error, worker,"
    " log_start, log_end, run",
    "workers": "id, name, host, boot_id, process_space, pid, process_started, slots, mode, started_at,"
    " heartbeat_at, lease_seconds, lease_ends_at, stop_requested_at, stop_timeout, fenced_at, waiting,"
    " tags, epoch",
    "output": "seq, run, number, begins, length, host, folder, bytes, data",
    "changes": "last_value",
    "front": "last_value",
    "front_until": "last_value",
}
"""The columns of each table, and one of each sequence."""

WRITES = {
    "jobs": ("INSERT", "UPDATE", "DELETE"),
    "ended_jobs": ("INSERT", "UPDATE", "DELETE"),
    "output": ("INSERT", "UPDATE", "DELETE"),
    "workers": ("INSERT", "UPDATE", "DELETE"),
    "attempts": ("INSERT", "DELETE"),
    "front": ("UPDATE",),
    "front_until": ("UPDATE",),
}
"""What a worker does with the tables, besides reading all of them."""

_FOUND = """
SELECT relname, array_agg(attname::text) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)
  AND relkind IN ('r', 'p', 'S') AND NOT attisdropped
GROUP BY relname
"""

_RIGHTS = """
SELECT name, one, has_table_privilege(format('%%I.%%I', %s::text, name), one)
FROM unnest(%s::text[], %s::text[]) AS wanted (name, one)
"""


def missing(db: Connection) -> list[str]:
    """The tables and columns that are not there, a line each."""
    found = dict(db.fetch(_FOUND, (db.schema,)))
    faults = []
    for table, columns in COLUMNS.items():
        if table not in found:
            what = "sequence" if columns == "last_value" else "table"
            faults.append(f"the {what} {table} is missing")
            continue
        faults += [
            f"the column {column} of the table {table} is missing"
            for column in columns.split(", ")
            if column not in found[table]
        ]
    return faults


def rights(db: Connection) -> Rights:
    """What this role may do; all of the tables have to be there."""
    reads = [(table, "SELECT") for table in COLUMNS]
    writes = [(table, one) for table, ones in WRITES.items() for one in ones]
    names, ones = zip(*reads, *writes, strict=True)
    rows = db.fetch(_RIGHTS, (db.schema, list(names), list(ones)))
    may = {(table, one) for table, one, allowed in rows if allowed}
    return Rights(
        role=visible(db.role),
        missing=[f"{one} on {table}" for table, one in reads + writes if (table, one) not in may],
        enqueues=("jobs", "INSERT") in may,
        only_looks=may - {("jobs", "INSERT")} == set(reads),
    )
