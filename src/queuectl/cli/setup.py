"""`init`: a queue in this folder, whatever lies in the folders above."""

from __future__ import annotations

import os

from queuectl.cli.command import Command, Context, Result
from queuectl.job_queue import JobQueue
from queuectl.text import visible
from queuectl.workspace import DATABASE, Workspace


def _init(context: Context) -> Result:
    found = context.workspace()
    with JobQueue(_here(context, found), create=True) as queue:
        database = queue.workspace.database
        existed = not queue.created
    if not existed:
        _tell_of_other(context, found, database)
    shown = visible(database)
    return Result(
        data={"database": database, "created": not existed},
        text=f"There is a queue already: {shown}" if existed else f"Made a new queue: {shown}",
        ids=[],
    )


def _here(context: Context, found: Workspace) -> Workspace:
    """The queue that was named, else the one of this folder, whatever lies in those above."""
    args = context.args
    variables = ("QUEUECTL_DATABASE_URL", "QUEUECTL_DB_PATH")
    # A schema is in the database that the other commands find, and never a file.
    named = (args.db, args.schema, *map(os.environ.get, variables))
    of_this_folder = found.is_remote and os.path.dirname(found.config) == os.getcwd()
    return found if any(named) or of_this_folder else Workspace(DATABASE)


def _tell_of_other(context: Context, found: Workspace, database: str) -> None:
    if (found.exists or found.is_remote) and found.database != database:
        context.note(f"Here it is used in place of {visible(found.database)}.")


COMMANDS = {
    "init": Command(
        "Make a queue in the current folder, or where --db, QUEUECTL_DATABASE_URL or QUEUECTL_DB_PATH says.",
        _init,
        examples="""
queuectl init
queuectl --db /srv/jobs/queuectl.db init
""",
    )
}
