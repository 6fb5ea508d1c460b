"""Makes a database that stays checked in: `python -m tests.contract.make_database tests/contract/data/v1.db`,
a file of SQLite, or `tests/contract/data/v1.sql`, a dump of PostgreSQL.

A later version must open it with all that is in it. To be run once for each schema that is released,
by the version that brought it; what has been released is never made anew.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from queuectl.jobs import outcome as outcomes
from queuectl.jobs.lifecycle import State
from tests import postgres
from tests.contract.support import FAILED, HOUR, START, Database, Pair, new_job
from tests.postgres import Server


def fill(pair: Pair) -> None:
    """Jobs in every state and with every kind of past; a worker that lives, and one that is gone."""
    pair.register("gone", "here")

    pair.enqueue(new_job("done", command="echo 'été' | wc -c", cwd="/srv/data", env={"LANG": "C"}))
    pair.run("here", FAILED)
    pair.clock.go_on(2)
    pair.run("here")

    pair.enqueue(new_job("dead", max_retries=1, backoff_base=0.5))
    pair.run("here", outcomes.killed(11, "SIGSEGV"))
    pair.clock.go_on(2)
    pair.run("here", outcomes.timed_out(1.5, None, 15))

    pair.enqueue("requeued")
    pair.run("here")
    pair.jobs.requeue(["requeued"], pair.clock.now(), [State.COMPLETED])
    pair.run("here", FAILED)

    pair.enqueue("stopped")
    pair.settle("here", pair.claim_one("here"), outcomes.cancelled(None, 15))

    pair.enqueue(new_job("hold", on_lost="hold"), new_job("retry", max_losses=2), "called-off")
    pair.claim("gone", 3)
    pair.jobs.cancel(["called-off"], pair.clock.now())

    pair.enqueue("off", new_job("later", run_at=START + 1000 * HOUR))
    pair.jobs.cancel(["off"], pair.clock.now())
    pair.enqueue(new_job("waiting", priority=-5, max_retries=0, on_lost="fail", timeout=2.5))
    pair.jobs.request_stop(["here"], 30, pair.clock.now())


def main(target: str) -> None:
    """Makes the database and leaves nothing beside it."""
    if target.endswith(".sql"):
        Path(target).write_text(_dump(), encoding="utf-8")
        return
    database = Database(target)
    pair = Pair(database)
    fill(pair)
    database.close()
    assert not os.path.exists(target + "-wal")


def _dump() -> str:
    """What pg_dump says of such a queue, as statements that any version understands."""
    server = postgres.server()
    assert isinstance(server, Server), server
    database = Database(server.new_database())
    fill(Pair(database))
    database.close()
    lines = server.dump(database.location).splitlines()
    # Its settings of the session are not all known to older servers, and its own commands to none.
    kept = [line for line in lines if line and not line.startswith(("--", "SET ", "\\"))]
    return "\n".join(kept) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
