"""`dlq ...`: the jobs that used up their attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result, add_yes_option
from queuectl.cli.decide import add_ids_argument, remove_finished, requeued_result
from queuectl.cli.look import add_list_options, add_show_env_option, list_result, show_result
from queuectl.errors import InvalidInput
from queuectl.jobs.lifecycle import State
from queuectl.text import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator

    from queuectl.jobs.job_view import Job


def _list(context: Context) -> Result:
    from queuectl.cli.views import write_dead_jobs

    queue = context.queue()
    dead = queue.dead_letters

    def read(limit: int | None) -> Iterator[Job]:
        return dead.list(limit=limit)

    nothing = "The dead letter queue is empty."
    return list_result(context, read, dead.count, write_dead_jobs, queue.now(), nothing)


def _configure_show(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the job; a beginning of its id, or @last")
    add_show_env_option(parser)


def _show(context: Context) -> Result:
    queue = context.queue()
    return show_result(context, queue, queue.dead_letters.get(context.args.id))


def _configure_retry(parser: ArgumentParser) -> None:
    add_ids_argument(parser, optional=True)
    parser.add_argument("--all", action="store_true", help="every dead job")


def _retry(context: Context) -> Result:
    args = context.args
    if bool(args.ids) == args.all:
        raise InvalidInput(
            "both jobs and --all were given" if args.all else "no job was given",
            hint="Name the jobs to retry, or give --all for every dead one.",
        )
    dead = context.queue().dead_letters
    if not args.all:
        return requeued_result(dead.retry(args.ids))
    count = dead.retry_all()
    return Result(data={"requeued": count}, text=f"Requeued {counted(count, 'job')}", ids=[])


def _configure_purge(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--older-than", metavar="TIME", help="only jobs that died at least so long ago, such as 7d"
    )
    add_yes_option(parser)


def _purge(context: Context) -> Result:
    older_than = context.args.older_than
    seconds = None if older_than is None else values.length("--older-than", older_than)
    return remove_finished(context, [State.DEAD], seconds)


COMMANDS = {
    "dlq list": Command(
        "List the jobs that used up their attempts, the newest first.",
        _list,
        examples="""
queuectl dlq list
queuectl dlq list --json
""",
        configure=add_list_options,
    ),
    "dlq show": Command(
        "Show a dead job: its fields, its attempts, the end of its output.",
        _show,
        examples="""
queuectl dlq show 5f2c1a
""",
        configure=_configure_show,
    ),
    "dlq retry": Command(
        "Give dead jobs all their attempts back; they are pending again.",
        _retry,
        examples="""
queuectl dlq retry 5f2c1a
queuectl dlq retry --all
""",
        configure=_configure_retry,
    ),
    "dlq purge": Command(
        "Remove dead jobs, and their output, for good.",
        _purge,
        examples="""
queuectl dlq purge --older-than 30d
queuectl dlq purge --yes
""",
        configure=_configure_purge,
    ),
}
