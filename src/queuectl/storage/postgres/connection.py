"""Talking to PostgreSQL: connecting, again when that was lost, and its errors in our own words.

Nothing is kept in the session but plans: each transaction says itself where its tables are and that its
commit has to be on the disk. So a pooler may hand every transaction to another session; there are no
plans then.
"""

from __future__ import annotations

import re

from queuectl.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseForeign,
    DatabaseReadOnly,
    DatabaseUnreachable,
    DiskFull,
    EnvironmentFault,
    InvalidInput,
    QueuectlError,
)
from queuectl.location import SCHEMA, Url, identity
from queuectl.storage.postgres import migrate
from queuectl.storage.postgres.clock import DatabaseClock
from queuectl.storage.postgres.driver import psycopg2
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from queuectl.storage.postgres.copying import Lines
    from queuectl.storage.postgres.planned import Planned

    Values = Sequence[Any] | Mapping[str, Any] | None

_OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "queuectl",
    # A cut network is noticed within half of the usual lease, not after the kernel's two hours.
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Used where the URL does not say otherwise."""

_COPIED_AT_ONCE = 64 * 1024
"""Bytes: the server begins with them while the next ones are made."""

_PINNED = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    # What is planned once may not be planned anew for some of its parameters.
    "plan_cache_mode": "force_generic_plan",
}
"""For who takes a few jobs out of many, again and again: the indexes are used whatever the statistics
say, which are wrong as often as a table that fills and empties is looked at. Where there is no
other way the server takes one of these all the same, and would think it so dear that it compiles it.
"""

_NOT_CONNECTED = {
    "permission denied for database|not permitted to log in": "The role lacks the right to connect."
    " An administrator gives it: GRANT CONNECT ON DATABASE ... TO ...",
    r"pg_hba\.conf": "The server lets this user in from elsewhere alone, or with another sslmode: ask"
    " whoever runs it about its pg_hba.conf.",
    'database ".*" does not exist': "Check the name of the database in the URL. An administrator of the"
    " server can make it.",
    "certificate|does not support SSL|sslmode": "Check sslmode, sslrootcert and the certificates.",
    'authentication|password|role ".*" does not exist': "Check the user in the URL, and the password: in"
    " ~/.pgpass, for example.",
    "too many (clients|connections)|connection slots": "The server has as many connections as it takes."
    " Try again, or raise its max_connections.",
    "max_client_conn": "The pooler has as many clients as it takes. Try again, or raise its"
    " max_client_conn.",
    "unsupported startup parameter": "A pooler does not pass on this parameter of the URL. Leave it out:"
    " what the role's transactions need can be set with ALTER ROLE ... SET ...",
    "refused|timed? ?out|timeout expired|No such file|translate host name|No route|unreachable": "Check"
    " that the server runs, and the host and port in the URL.",
}
"""Patterns of what the library says when no connection is made, which has no code, and what to do."""

_NOT_CONNECTED_HINT = "Check that the server runs, and the host, port, user, password and database."

_PATIENT = {"lock_timeout": "60s"}
"""For people and their programs: whoever waits for a lock is told so in the end. The library waits
without hearing Ctrl-C.
"""

_TOLD_BESIDES = 7
"""Some may stand still, or find other work by the time that they look."""

_MOST_TOLD = 400
"""Their names fit into a notification, which has 8,000 bytes."""

_HEARD_TICKS = 15_000_000
"""Whoever lives renews its lease every 10 s."""

IDLE_SECONDS = 10.0
"""How long a transaction may wait for its next statement: a machine that was cut off, or frozen, in the
middle of one would else keep its rows locked until the server's kernel misses it, two hours later. Not for
one whose rows nobody waits for: an import or an export pauses as whoever is at the other end does.
"""


class Connection:
    """The connection of one storage to the queue at `location`. One thread at a time may use it.

    Raises QueueNotFound when there is no queue there and `create` is false, and a DatabaseError when
    the database cannot be used. A connection that was lost is made again when it is next needed.
    `pinned` is for workers: see `_PINNED`.
    """

    def __init__(self, location: str, *, create: bool = False, pinned: bool = False) -> None:
        url = Url(location)
        self.schema = url.schema or SCHEMA
        self.shown = identity(location)
        self._dsn = url.written()
        self._options = {name: v for name, v in _OPTIONS.items() if name not in url.parameters}
        self._secrets = url.secrets
        quoted = quote(self.schema)
        # Nobody else's table or temporary table is taken for ours. A commit is on the disk before
        # it is reported, whatever the server's own setting.
        settings = {"search_path": f"{quoted}, pg_temp", **(_PINNED if pinned else _PATIENT)}
        pairs = [
            f"set_config({literal(name)}, {literal(value)}, true)"
            for name, value in settings.items()
        ]
        self._setting = f"SELECT {', '.join(pairs)}, set_config('synchronous_commit', "
        self._quoted_schema = quoted
        self._before_next = ""
        self._in_transaction = False
        self.clock = DatabaseClock()
        """The database's clock, as of the last time that it was looked at."""
        self.is_pooled = False
        """Something between us and the server hands our transactions to different sessions."""
        self.role = ""
        """As whom the server knows us."""
        self.created = False
        """The queue was made by this connection."""
        self._planned: set[str] = set()
        """The statements that the session knows."""
        self.made = 0
        """How many times it was made: what belongs to a session has to be set up anew each time."""
        self.fresh_counter: int | None = None
        """The counter of changes that the last exchange brought along, until it is looked at."""
        self._db = self._connect(create=create)

    def _connect(self, *, create: bool) -> psycopg2.extensions.connection:
        with self._translated():
            db: psycopg2.extensions.connection = psycopg2.connect(
                self._dsn, client_encoding="UTF8", **self._options
            )
        try:
            db.autocommit = True  # psycopg2 would begin transactions by itself.
            self._db = db
            self._planned.clear()
            self.role = db.info.user
            self.created = migrate.bring_up_to_date(self, create=create)
            self._get_to_know()
        except BaseException:
            db.close()
            raise
        self.made += 1
        return db

    def _get_to_know(self) -> None:
        asked_ticks = self.clock.ticks()
        query = f"SELECT {NOW}, pg_backend_pid()"
        [(now, pid)] = self.fetch(query)
        self.clock.learn(now, asked_ticks)
        # A pooler answers our connection request in its own name, whatever it does with sessions.
        self.is_pooled = self.is_pooled or pid != self._db.info.backend_pid

    def close(self) -> None:
        """Ends the connection."""
        self._db.close()

    # ---- statements

    def fetch(self, query: str, values: Values = None) -> list[tuple[Any, ...]]:
        """All rows of a query. Of several statements, in one round trip, those of the last."""
        with self._translated(), self._run(query, values) as cursor:
            return cursor.fetchall()

    def fetch_one(self, query: str, values: Values = None) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self._translated(), self._run(query, values) as cursor:
            return cursor.fetchone()

    def fetch_planned(self, statements: Sequence[Planned], values: Values) -> list[tuple[Any, ...]]:
        """All rows of the last of these statements, in one round trip once the session knows them."""
        self._ready()
        if self.is_pooled:
            return self.fetch("; ".join(each.query for each in statements), values)
        for each in statements:
            if each.name not in self._planned:
                # For itself: it stays known, even if what comes with it fails.
                self.execute(each.definition)
                self._planned.add(each.name)
        return self.fetch("; ".join(each.call for each in statements), values)

    def look(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query that is asked all the time: it names its tables with their `{schema}`, and
        needs no statement before it.
        """
        with self._translated(), self._ready().cursor() as cursor:
            cursor.execute(query.format(schema=self._quoted_schema))
            return cursor.fetchall()

    def execute(self, query: str, values: Values = None) -> int:
        """Runs a statement; returns how many rows it changed."""
        with self._translated(), self._run(query, values) as cursor:
            return int(cursor.rowcount)

    def copy_in(self, table: str, lines: Lines) -> None:
        """Puts rows in, within a transaction. Raises UniqueViolation of psycopg2, and what `lines` do."""
        from queuectl.storage.postgres.copying import no_system_errors

        with self._translated(), self._run("SELECT 1", None) as cursor, no_system_errors():
            try:
                cursor.copy_expert(f"COPY {table} FROM STDIN", lines, _COPIED_AT_ONCE)
            except psycopg2.Error:
                if lines.error is not None:
                    raise lines.error from None
                raise

    def note(self, query: str, values: Values = None) -> list[tuple[Any, ...]]:
        """As `fetch`, for what may be lost again when the server crashes, and waits for no disk."""
        with self._translated():
            cursor = self._ready().cursor()
            _execute(cursor, f"{self._setting}'off', true); ", query, values)
            return cursor.fetchall() if cursor.description else []

    def _run(self, query: str, values: Values) -> psycopg2.extensions.cursor:
        if self._in_transaction:
            before, self._before_next = self._before_next, ""
            cursor = self._db.cursor()
        else:
            before = f"{self._setting}'on', true); "
            cursor = self._ready().cursor()
        _execute(cursor, before, query, values)
        return cursor

    def _ready(self) -> psycopg2.extensions.connection:
        if self._db.closed:
            self._db = self._connect(create=False)
        return self._db

    # ---- transactions

    def transaction(self, *, pauses: bool = False) -> _Transaction:
        """BEGIN ... COMMIT, or ROLLBACK on any error. Each statement sees what was committed before it.

        `pauses`: it may wait for its next statement for as long as it likes.
        """
        return _Transaction(self, "BEGIN ISOLATION LEVEL READ COMMITTED", pauses)

    def snapshot(self, *, pauses: bool = False) -> _Transaction:
        """Several queries that all see the same moment of the database."""
        return _Transaction(self, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", pauses)

    def begin(self, how: str, *, pauses: bool = False) -> None:
        """Has the next statement begin a transaction, in the same round trip."""
        self._ready()
        limit = 0 if pauses else int(IDLE_SECONDS * 1000)
        self._before_next = (
            f"{how}; {self._setting}'on', true); "
            f"SET LOCAL idle_in_transaction_session_timeout = {limit}; "
        )
        self._in_transaction = True

    def commit(self) -> None:
        """Ends the transaction."""
        self._in_transaction = False
        if self._before_next:
            self._before_next = ""
            return
        with self._translated():
            self._db.cursor().execute("COMMIT")

    def roll_back(self) -> None:
        """Ends the transaction as if it had never been; never fails."""
        self._in_transaction = False
        self._before_next = ""
        if not self._db.closed:
            try:
                self._db.cursor().execute("ROLLBACK")
            except psycopg2.Error:
                self._db.close()  # It is lost, and the transaction with it.

    # ---- telling others, and being told

    def counter(self) -> int:
        """A number that grows with each change that waiting workers were told of."""
        [(counter,)] = self.look("SELECT last_value FROM {schema}.changes")
        return int(counter)

    def ring(self, jobs: int | None = None) -> int | None:
        """Tells those who wait that there is something new; returns the counter then. If that is no more
        than some `jobs` that anybody can run now, only as many are told as may be of use.

        After the commit, not with it: whoever begins to wait while it is on its way sees the change
        itself, or is seen here. It never fails: what was done stays done, and is found in time.
        """
        self.fresh_counter = None
        try:
            told = None if jobs is None else jobs + _TOLD_BESIDES
            if told is None or told > _MOST_TOLD:
                [(counter, _)] = self.note(RING)
            else:
                values = {"told": told, "heard": self.clock.now() - _HEARD_TICKS}
                [(counter, _)] = self.note(RING_SOME, values)
            return int(counter)
        except DatabaseError:
            return None

    def listen(self) -> None:
        """Has the server tell this session when somebody rings."""
        with self._translated():
            self._ready().cursor().execute(f"LISTEN {quote(self.schema)}")

    @property
    def descriptor(self) -> int:
        """There is something to read from it when somebody rang, or the connection was lost."""
        return self._db.fileno()

    def hear(self, worker_id: str | None) -> bool:
        """Reads what the server told; whether any of it was for this worker."""
        with self._translated():
            self._db.poll()
            told = [notice.payload.split() for notice in self._db.notifies]
            self._db.notifies.clear()
        return any(not names or worker_id in names for names in told)

    # ---- errors

    def _translated(self) -> _translated:
        return _translated(self)

    def translate(self, error: psycopg2.Error) -> QueuectlError:
        """What PostgreSQL or its library says, as one of our errors, without the password."""
        code = error.pgcode or ""
        text = self._one_line(error)
        if code == "53100":
            return DiskFull(
                f"{self.shown}: the disk of the database server is full; nothing was changed",
                hint="Make room on the server's disk, then try again.",
            )
        if code in ("26000", "42P05"):
            # It knew the statement, or did not know it: this is another session.
            self.is_pooled = True
            return DatabaseBusy(
                f"{self.shown}: a pooler hands out its sessions in turn", hint="Try again."
            )
        if code == "40P01":
            return DatabaseBusy(
                f"{self.shown}: this and another command waited for each other, over the same jobs;"
                " this one gave way",
                hint="Try again.",
            )
        if code == "55P03":
            return DatabaseBusy(
                f"{self.shown}: something else has held what this needs for over a minute",
                hint="Try again when it is over: an import, perhaps, or somebody in psql.",
            )
        if code.startswith("53") or code == "40001":
            return DatabaseBusy(f"{self.shown}: {text}", hint="Try again.")
        if code == "25006":
            # The next try connects anew: a name, or a pooler, may lead to the primary by then.
            self._db.close()
            return DatabaseReadOnly(
                f"{self.shown} takes no writes: {text}",
                hint="Name the primary server, not a replica.",
            )
        if code in ("42P01", "42703", "42883", "3F000"):
            return DatabaseForeign(f"{self.shown} lacks a part of queuectl's schema: {text}")
        if code == "42501":
            return EnvironmentFault(
                f"{self.shown}: {text}",
                hint=f"The role {visible(self.role)} lacks this right. The owner of the tables can give it. After an"
                " upgrade that brings new tables, postgresql-grants.sql has to be run again.",
            )
        if not (code or self.made) and re.search("(^|failed: )(invalid |could not match )", text):
            return InvalidInput(
                f"{self.shown} cannot be used: {text}",
                hint="Check the parameters in its URL. They are those of PostgreSQL's library:"
                " sslmode=require, for example.",
            )
        if not code or code == "25P03" or code.startswith(("08", "28", "3D", "57P")):
            hints = (hint for pattern, hint in _NOT_CONNECTED.items() if re.search(pattern, text))
            return DatabaseUnreachable(
                f"cannot {'reach' if 'FATAL' not in text else 'use'} {self.shown}: {text}",
                hint=next(hints, _NOT_CONNECTED_HINT),
            )
        return DatabaseError(f"{self.shown}: {text}")

    def _one_line(self, error: psycopg2.Error) -> str:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # Of several addresses that were tried, the one where a server answered.
        lines.sort(key=lambda line: "FATAL:" not in line)
        text = lines[0].removeprefix("invalid dsn: ") if lines else type(error).__name__
        if text == "invalid socket":  # The library read on in a session that had ended.
            text = "the connection was lost"
        # The library repeats parts of what it was given, where it cannot read that.
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return visible(re.sub(r"\s+", " ", text), 300)


NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""The database's clock, in microseconds since the epoch."""

# Two statements: the second one sees whoever began to wait before the counter was raised; who began
# later has looked at the counter since.
RING = """
SELECT nextval('changes');
SELECT currval('changes'), (SELECT pg_notify(current_schema(), '')::text FROM workers WHERE waiting LIMIT 1)
"""

# By chance, so that none is told again and again for nothing. The silent ones last: they may be gone.
RING_SOME = """
SELECT nextval('changes');
SELECT currval('changes'),
       (SELECT pg_notify(current_schema(), string_agg(id, ' '))::text
        FROM (SELECT id FROM workers WHERE waiting ORDER BY heartbeat_at < %(heard)s, random()
              LIMIT %(told)s) AS chosen HAVING count(*) > 0)
"""


def _execute(cursor: psycopg2.extensions.cursor, before: str, query: str, values: Values) -> None:
    # Several statements sent together are one transaction, unless they say otherwise.
    cursor.execute((before if values is None else before.replace("%", "%%")) + query, values)


def literal(text: str) -> str:
    """A text as SQL has it, whatever a server takes a backslash for."""
    return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def quote(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


class _translated:  # noqa: N801 - reads as a statement
    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever puts jobs in says which of them is there already.
        if isinstance(error, psycopg2.Error) and not isinstance(
            error, psycopg2.errors.UniqueViolation
        ):
            raise self._connection.translate(error) from None


class _Transaction:
    __slots__ = ("_connection", "_how", "_pauses")

    def __init__(self, connection: Connection, how: str, pauses: bool) -> None:
        self._connection = connection
        self._how = how
        self._pauses = pauses

    def __enter__(self) -> None:
        self._connection.begin(self._how, pauses=self._pauses)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._connection.commit()
        else:
            self._connection.roll_back()
