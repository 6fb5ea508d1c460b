"""`init`: a queue in this folder, whatever lies in the folders above."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from queuectl.cli.command import Command, Context, Result
from queuectl.job_queue import JobQueue
from queuectl.text import visible
from queuectl.workspace import DATABASE

if TYPE_CHECKING:
    from queuectl.workspace import Workspace


def _init(context: Context) -> Result:
    found = context.workspace()
    path = context.args.db or os.environ.get("QUEUECTL_DB_PATH") or DATABASE
    with JobQueue.open(path) as queue:
        database = queue.workspace.database
        existed = queue.workspace.exists
    if not existed:
        _tell_of_other(context, found, database)
    shown = visible(database)
    return Result(
        data={"database": database, "created": not existed},
        text=f"There is a queue already: {shown}" if existed else f"Made a new queue: {shown}",
        ids=[],
    )


def _tell_of_other(context: Context, found: Workspace, database: str) -> None:
    if found.exists and found.database != database:
        context.note(f"Here it is used in place of {visible(found.database)}.")


COMMANDS = {
    "init": Command(
        "Make a queue in the current folder, or where --db or QUEUECTL_DB_PATH says.",
        _init,
        examples="""
queuectl init
queuectl --db /srv/jobs/queuectl.db init
""",
    )
}
