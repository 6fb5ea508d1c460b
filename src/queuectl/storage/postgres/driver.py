"""The driver, loaded without what it has no need of.

psycopg2 looks whether Python's `ssl` can be imported, and then has PostgreSQL's library leave the locks
of OpenSSL to that. OpenSSL has had its own since version 1.1 (CRYPTO_lock(3)), and to import `ssl` takes
a third of the time that psycopg2 does, in every command. So it is told that there is none: by a process
that is starting up, where no other thread can look for it at the same moment.
"""

from __future__ import annotations

import sys
import threading


def _load() -> None:
    spared = "ssl" not in sys.modules and threading.active_count() == 1
    if spared:
        sys.modules["ssl"] = None  # type: ignore[assignment]
    try:
        import psycopg2  # noqa: F401
    finally:
        if spared:
            del sys.modules["ssl"]


_load()

import psycopg2  # noqa: E402
import psycopg2.errors  # noqa: E402

__all__ = ["psycopg2"]
