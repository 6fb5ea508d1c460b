"""Transactions, as statements: `with transaction(db):` and `with snapshot(db):`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import apsw


class transaction:  # noqa: N801 - reads as a statement
    """BEGIN IMMEDIATE ... COMMIT, or ROLLBACK on any error.

    IMMEDIATE: a transaction that begins by reading could not wait for another writer later.
    """

    __slots__ = ("_db",)

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:  # SQLite may have rolled back by itself, on a full disk.
            self._db.execute("ROLLBACK")


class snapshot:  # noqa: N801 - reads as a statement
    """Several queries that all see the same moment of the database."""

    __slots__ = ("_db",)

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
