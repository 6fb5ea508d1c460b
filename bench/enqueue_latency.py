"""The wall time of one `enqueue`, beside the smallest script that makes one durable row.

Also the commands that a person types most, and a Python that does nothing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence

from bench._queue import QUEUECTL, ROOT, queuectl
from bench._side_by_side import (
    Contestant,
    Plan,
    environment,
    milliseconds,
    print_table,
    race,
    run,
    times,
)

_SMALLEST = """\
import sqlite3

db = sqlite3.connect("smallest.db", isolation_level=None)
db.execute("PRAGMA synchronous = FULL")
db.execute("INSERT INTO jobs (command, created_at) VALUES (?, unixepoch())", ("true",))
db.close()
"""


def measure(plan: Plan) -> None:
    """Prints the table."""
    folder = plan.scratch.new_folder()
    queuectl(folder, "init")
    smallest = _make_smallest(folder)

    def program(*words: str) -> Callable[[str], float]:
        return lambda _: run([*QUEUECTL, *words], cwd=folder)

    main = [sys.executable, os.path.join(ROOT, "main.py"), "--db", f"{folder}/queuectl.db"]
    contestants = [
        Contestant("smallest script, sqlite3, FULL", lambda _: _time([sys.executable, smallest])),
        Contestant("queuectl enqueue --command true", program("enqueue", "--command", "true")),
        Contestant(
            "python main.py enqueue --command true",
            lambda _: run([*main, "enqueue", "--command", "true"], cwd=folder),
        ),
        Contestant("queuectl status", program("status")),
        Contestant("queuectl enqueue --help", program("enqueue", "--help")),
        Contestant("queuectl --help", program("--help")),
        Contestant("python -c pass", lambda _: _time([sys.executable, "-c", "pass"])),
        *_peers(folder),
    ]
    # The first start of each writes byte code and fills caches.
    race(plan, contestants, 1)
    results = race(plan, contestants, plan.asked_rounds or plan.size(41, 11))
    _end_peers(folder)
    print_table(
        "Enqueue one command, wall time",
        ["", "median ms", "best ms", "to the smallest"],
        [
            [
                result.name,
                milliseconds(result.median),
                milliseconds(result.best),
                times(1 / result.times_the_rate_of(results[0])),
            ]
            for result in results
        ],
    )


def _make_smallest(folder: str) -> str:
    db = sqlite3.connect(os.path.join(folder, "smallest.db"))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, command TEXT, created_at INTEGER)")
    db.close()
    path = os.path.join(folder, "smallest.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(_SMALLEST.replace("smallest.db", os.path.join(folder, "smallest.db")))
    return path


def _time(words: Sequence[str]) -> float:
    return run(words, cwd="/")


def _peers(folder: str) -> list[Contestant]:
    peers = []
    if shutil.which("nq"):
        env = {**environment(), "NQDIR": folder}
        peers.append(Contestant("nq true", lambda _: run(["nq", "true"], cwd=folder, env=env)))
    if shutil.which("tsp"):
        peers.append(
            Contestant(
                "tsp true (task-spooler, not durable)",
                lambda _: run(["tsp", "true"], cwd=folder, env=_spooler(folder)),
            )
        )
    return peers


def _end_peers(folder: str) -> None:
    if shutil.which("tsp"):
        run(["tsp", "-K"], cwd=folder, env=_spooler(folder))
    if shutil.which("nq"):
        time.sleep(0.2)  # It leaves processes of its own that end by themselves.


def _spooler(folder: str) -> dict[str, str]:
    return {**environment(), "TS_SOCKET": os.path.join(folder, "tsp"), "TMPDIR": folder}
