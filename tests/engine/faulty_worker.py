"""A worker that does what it is told at one point of its life: dies or stops there, is slow, or fails.

    FAULT='after claim commit: die' python tests/engine/faulty_worker.py worker-start ...

The n-th time that it comes by (`FAULT_AT`, else the first) the process kills itself, so that not
a line of Python runs after it, as in a power cut or under the out-of-memory killer.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from queuectl.cli import main
from queuectl.engine import maintenance
from queuectl.engine.launcher import Launcher
from queuectl.engine.ledger import Ledger
from queuectl.storage.sqlite.work import SqliteWorkerStorage

Storage: Any = SqliteWorkerStorage
if "QUEUECTL_DATABASE_URL" in os.environ:
    from queuectl.storage.postgres.work import PostgresWorkerStorage as Storage


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)  # Whichever of the threads takes the signal, this one does not go on before.


def _dawdle() -> None:
    time.sleep(float(os.environ["FAULT_SECONDS"]))


def _raise() -> None:
    raise RuntimeError("a defect")


ACTS = {"die": _die, "stop": _stop, "dawdle": _dawdle, "raise": _raise}

Condition = Callable[[tuple[Any, ...], Any], bool]
"""Whether a call is meant, by its arguments and, after it, its result."""


def _always(arguments: tuple[Any, ...], result: Any) -> bool:
    return True


def _claims(arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(result.claims)


def _wants(arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(arguments[3])


def _settles(arguments: tuple[Any, ...], result: Any) -> bool:
    return bool(arguments[2])


POINTS: dict[str, tuple[Any, str, str, Condition]] = {
    "before claim commit": (Storage, "_claim", "after", lambda a, result: bool(result)),
    "after claim commit": (Storage, "exchange", "after", _claims),
    "before spawn": (Launcher, "start", "before", _always),
    "after spawn": (Launcher, "start", "after", _always),
    "before settlement is handed over": (Ledger, "settle", "before", _always),
    "before settle commit": (Storage, "_settle", "after", _always),
    "after settle commit": (Storage, "exchange", "after", _settles),
    "after any exchange": (Storage, "exchange", "after", _always),
    "before give back": (Storage, "give_back", "before", _always),
    "after give back": (Storage, "give_back", "after", _always),
    "before fence": (Storage, "fence", "before", _always),
    "after fence": (Storage, "fence", "after", _always),
    "before rescue": (Storage, "rescue", "before", _always),
    "after rescue": (Storage, "rescue", "after", _always),
}
"""Each point: the call it is at, before or after that call, and which of its calls are meant."""

if not hasattr(Storage, "_claim"):
    # One statement settles, claims and commits: what comes before its commit comes before it.
    POINTS["before claim commit"] = (Storage, "exchange", "before", _wants)
    POINTS["before settle commit"] = (Storage, "exchange", "before", _settles)


def install(point: str, act: Callable[[], None], at: int | None) -> None:
    """Lets `act` happen when the worker comes by `point` (None: each time)."""
    owner, name, when, meant = POINTS[point]
    original = getattr(owner, name)
    passed = 0

    def faulty(*arguments: Any, **options: Any) -> Any:
        nonlocal passed
        if when == "before":
            if meant(arguments, None):
                passed += 1
                if at in (None, passed):
                    act()
            return original(*arguments, **options)
        result = original(*arguments, **options)
        if meant(arguments, result):
            passed += 1
            if at in (None, passed):
                act()
        return result

    setattr(owner, name, faulty)


def watch_threads() -> None:
    """Says so when two threads are in the same storage at once."""
    verbs = "register unregister heartbeat exchange give_back outlook workers fence rescue rebase_retries"
    inside: dict[int, tuple[int, str]] = {}

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(Storage, name)

        def verb(self: Any, *arguments: Any, **options: Any) -> Any:
            me = threading.get_ident()
            thread, other = inside.get(id(self), (me, ""))
            if thread != me:
                print(f"{name} and {other} at once", file=sys.stderr, flush=True)
            inside[id(self)] = (me, name)
            try:
                return original(self, *arguments, **options)
            finally:
                inside.pop(id(self), None)

        return verb

    for name in verbs.split():
        setattr(Storage, name, watched(name))


if __name__ == "__main__":
    assert maintenance.EVERY_SECONDS <= 2, "a lost worker is to be noticed within 2 seconds"
    where, _, what = os.environ["FAULT"].partition(": ")
    if where == "two threads":
        watch_threads()
    else:
        at = None if what == "dawdle" else int(os.environ.get("FAULT_AT", "1"))
        install(where, ACTS[what], at)
    sys.exit(main())
