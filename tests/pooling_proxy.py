"""Hands each transaction of its clients to a session of its own with a server, as pgbouncer does with
pool_mode = transaction, for simple queries and COPY. It takes the sessions in turn: two transactions of a
client that is alone never come to the same one.

    python tests/pooling_proxy.py PORT SESSIONS FOLDER    serves FOLDER/.s.PGSQL.PORT from .s.PGSQL.5432 there
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
from queue import Queue
from typing import BinaryIO

_NO_ENCRYPTION = (80877103, 80877104)
"""What a client asks for with these, it asks for again without, when it was told no."""

_CANCEL = 80877102


class Lost(Exception):
    """Whoever is at the other end has gone."""


class Line:
    """A connection on which messages come one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming: BinaryIO = connection.makefile("rb")
        self.send = connection.sendall

    def message(self) -> bytes:
        """The next one, with the letter of its kind in front. Raises Lost."""
        return self._exactly(1) + self.untyped()

    def untyped(self) -> bytes:
        """One of those with which a connection begins. Raises Lost."""
        length = self._exactly(4)
        return length + self._exactly(struct.unpack("!i", length)[0] - 4)

    @property
    def is_quiet(self) -> bool:
        """Nothing has come that was not asked for: an end, above all."""
        return not select.select([self._connection], [], [], 0)[0]

    def close(self) -> None:
        self._incoming.close()
        self._connection.close()

    def _exactly(self, count: int) -> bytes:
        data = self._incoming.read(count)
        if len(data) < count:
            raise Lost
        return data


class Pool:
    """The sessions of all clients that introduce themselves with the same words."""

    def __init__(self, path: str, startup: bytes, sessions: int) -> None:
        self._path = path
        self._startup = startup
        self._told = b""
        self._sessions: Queue[Line | None] = Queue()
        for _ in range(sessions):
            self._sessions.put(None)

    def told(self) -> bytes:
        """What the server tells whoever begins a session, but for the session's key."""
        if not self._told:
            self.give_back(self.take())
        return self._told

    def take(self) -> Line:
        """The one that has waited the longest, once there is one. Raises Lost, with the reason."""
        session = self._sessions.get()
        try:
            if session is not None and not session.is_quiet:
                session.close()
                session = None
            return session or self._begin()
        except BaseException:
            self._sessions.put(None)
            raise

    def give_back(self, session: Line | None) -> None:
        """None in place of one that has ended."""
        self._sessions.put(session)

    def _begin(self) -> Line:
        try:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self._path)
            session = Line(connection)
            session.send(self._startup)
            told = b""
            while (message := session.message())[:1] != b"Z":
                if message[:1] == b"E":
                    raise Lost(message)
                if message[:1] != b"K":
                    told += message
        except OSError as error:
            raise Lost(_fatal(f"the server cannot be reached: {error}")) from None
        self._told = told
        return session


class _Clients:
    def __init__(self, path: str, sessions: int) -> None:
        self._path = path
        self._sessions = sessions
        self._pools: dict[bytes, Pool] = {}
        self._lock = threading.Lock()

    def serve(self, connection: socket.socket) -> None:
        """One client, from its first word to its last."""
        client = Line(connection)
        try:
            pool = self._greet(client)
            while (message := client.message())[:1] != b"X":
                self._transaction(client, pool, message)
        except Lost as lost:
            _say(client, *lost.args)
        except OSError:
            pass
        finally:
            client.close()

    def _greet(self, client: Line) -> Pool:
        while (
            code := struct.unpack("!i", (startup := client.untyped())[4:8])[0]
        ) in _NO_ENCRYPTION:
            client.send(b"N")
        if code == _CANCEL:
            raise Lost  # Nobody here asks for that.
        with self._lock:
            pool = self._pools.setdefault(startup, Pool(self._path, startup, self._sessions))
        told = pool.told()
        # A key that is its own: that of a session would be another one's with the next transaction.
        key = struct.pack("!ii", 1 << 30 | threading.get_native_id(), 0)
        client.send(told + _message(b"K", key) + _message(b"Z", b"I"))
        return pool

    def _transaction(self, client: Line, pool: Pool, message: bytes) -> None:
        """From a first message to the moment at which nothing is under way."""
        session = pool.take()
        status = b""
        try:
            while True:
                session.send(message)
                if message[:1] != b"d":  # One of the rows that are copied: nobody answers it.
                    status = self._answer(client, session)
                if status == b"I":
                    return
                message = client.message()
        finally:
            if status == b"I":
                pool.give_back(session)
            else:  # The server rolls back what was under way.
                session.close()
                pool.give_back(None)

    def _answer(self, client: Line, session: Line) -> bytes:
        """Hands on what the server says, until it is the client's turn; why it is."""
        answer = b""
        while True:
            try:
                answer += (said := session.message())
            except Lost:
                raise Lost(answer) from None
            if said[:1] == b"G" or said[:1] == b"Z":
                client.send(answer)
                return b"G" if said[:1] == b"G" else said[-1:]
            if len(answer) > 65536:
                client.send(answer)
                answer = b""


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


def _fatal(text: str) -> bytes:
    return _message(b"E", b"SFATAL\0VFATAL\0C08P01\0M" + text.encode() + b"\0\0")


def _say(client: Line, *last_words: bytes) -> None:
    try:
        for words in last_words:
            client.send(words)
    except OSError:
        pass


def _main(port: str, sessions: str, folder: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/.s.PGSQL.{port}")
    listener.listen(100)
    clients = _Clients(f"{folder}/.s.PGSQL.5432", int(sessions))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=clients.serve, args=[connection], daemon=True).start()


if __name__ == "__main__":
    _main(*sys.argv[1:])
