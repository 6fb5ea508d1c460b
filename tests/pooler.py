"""A pooler in front of the tests' server, with a session of it for each transaction.

It is the one in pooling_proxy.py; QUEUE_TEST_PGBOUNCER=/usr/sbin/pgbouncer puts that program in its place.
"""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys

import psycopg2

from queuectl.location import Url
from tests import postgres
from tests.postgres import Server, end_with_parent
from tests.support import ROOT, wait_until

PGBOUNCER = os.environ.get("QUEUE_TEST_PGBOUNCER")

_PROXY = ROOT / "tests" / "pooling_proxy.py"

_PORT = 6432
_SESSIONS = 3
"""How many it has with the server, for all clients of a database."""

_PGBOUNCER = """
[databases]
* = host={folder}
[pgbouncer]
pool_mode = transaction
default_pool_size = {sessions}
server_round_robin = 1
auth_type = trust
auth_file = {folder}/pgbouncer.users
unix_socket_dir = {folder}
listen_addr =
listen_port = {port}
"""


class Pooler:
    """One that runs, and ends with this process."""

    def __init__(self, server: Server) -> None:
        self._folder = folder = server.folder
        words = [sys.executable, str(_PROXY), str(_PORT), str(_SESSIONS), str(folder)]
        self._user: dict[str, int] = {}
        if PGBOUNCER:
            # It does not run as root. Ours may be in a folder that root alone can read.
            self._user = server.user
            settings = folder / "pgbouncer.ini"
            settings.write_text(_PGBOUNCER.format(folder=folder, port=_PORT, sessions=_SESSIONS))
            (folder / "pgbouncer.users").write_text('"postgres" ""\n')
            words = [PGBOUNCER, "--quiet", str(settings)]
        self._words = words
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it takes connections."""
        socket = self._folder / f".s.PGSQL.{_PORT}"
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - nothing else ends it with us
            **self._user,  # type: ignore[call-overload]
        )
        wait_until(socket.exists, "the pooler takes connections")

    def url(self, url: str) -> str:
        """That of the same queue, through the pooler."""
        host = f"host={self._folder}"
        return url.replace(host, f"{host}&port={_PORT}")

    def stop(self) -> None:
        """Ends it at once, and all connections through it."""
        self._process.kill()
        self._process.wait()
        (self._folder / f".s.PGSQL.{_PORT}").unlink()


@functools.cache
def pooler() -> Pooler:
    """That of this test process, in front of its server: started when first asked for."""
    started = Pooler(postgres.needed())
    atexit.register(started.stop)
    return started


def new_schema() -> str:
    """The URL, through it, of a schema that nobody uses."""
    return pooler().url(postgres.needed().new_schema())


def end_sessions() -> None:
    """Ends those that it has with the server, and waits until they are gone."""
    server = postgres.needed()
    sessions = (
        "SELECT pid FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
    )
    before = set(server.sql(sessions))
    server.end_connections(server.url)
    wait_until(lambda: before.isdisjoint(server.sql(sessions)), "the sessions have ended")


# The name of a client is brought into the session by pgbouncer itself.
_LEFT = """
SELECT pg_backend_pid(), 'the statement ' || name FROM pg_prepared_statements UNION ALL
SELECT pg_backend_pid(), 'the channel ' || name FROM pg_listening_channels() AS name UNION ALL
SELECT pg_backend_pid(), 'the setting ' || name FROM pg_settings WHERE source = 'session'
  AND name <> 'application_name' UNION ALL
SELECT pg_backend_pid(), 'the lock ' || objid FROM pg_locks
WHERE locktype = 'advisory' AND pid = pg_backend_pid() UNION ALL
SELECT pg_backend_pid(), 'the table ' || relname FROM pg_class
WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema() UNION ALL
SELECT pg_backend_pid(), NULL
"""


def left_behind(url: str) -> list[str]:
    """What the sessions hold that queuectl has used, and that no transaction has taken along."""
    # As queuectl introduces itself: a pooler may keep sessions apart by that.
    db = psycopg2.connect(Url(url).written(), client_encoding="UTF8", application_name="queuectl")
    try:
        db.autocommit = True
        cursor = db.cursor()
        found: dict[int, list[str]] = {}
        for _ in range(3 * _SESSIONS):
            cursor.execute(_LEFT)
            for pid, what in cursor.fetchall():
                found.setdefault(pid, []).extend([what] if what else [])
    finally:
        db.close()
    assert PGBOUNCER or len(found) > 1, "it hands out its sessions in turn"
    return sorted({f"{what} in {pid}" for pid, whats in found.items() for what in whats})
