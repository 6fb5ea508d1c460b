"""`list` and `show`: the jobs in the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result
from queuectl.jobs.job_view import SORT_KEYS
from queuectl.jobs.lifecycle import State

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from queuectl.cli.screen import Screen
    from queuectl.job_queue import JobQueue
    from queuectl.jobs.job_view import Job

ROWS = 50
"""How many rows a table has where nothing else is asked for."""

_FROM_THE_LEAST = ("next_run", "id")
"""By these the least is most likely wanted first; by the other sort keys the greatest."""


def list_result(
    context: Context,
    read: Callable[[int | None], Iterator[Job]],
    count: Callable[[], int],
    write: Callable[[Screen, Iterable[Job], int], None],
    now: int,
    nothing: str,
) -> Result:
    """A list of jobs as `--json`, `-q` and a table show it, each job printed as it is read.

    `read` takes the greatest number of jobs to read, `count` says how many there are in all.
    Without `--limit` a table has `ROWS` rows, and the user is told of the others; `nothing` is
    what is said when there are none.
    """
    args = context.args
    limit = None if args.limit is None else values.rows("--limit", args.limit)
    if args.json:
        from queuectl.cli.json_output import job_object

        return Result(data=(job_object(job, show_env=args.show_env) for job in read(limit)))
    if args.quiet:
        return Result(ids=(job.id for job in read(limit)))
    jobs = read(ROWS + 1 if args.limit is None else limit)
    first = list(islice(jobs, ROWS + 1))
    if not first:
        context.note(nothing)
        return Result()

    def text(stream: TextIO) -> None:
        from queuectl.cli.screen import Screen

        if args.limit is None and len(first) > ROWS:
            write(Screen(stream), first[:ROWS], now)
            stream.flush()
            context.note(f"Showing {ROWS} of {count():,}; see more with --limit N or --limit all.")
        else:
            write(Screen(stream), chain(first, jobs), now)

    return Result(text=text)


def add_list_options(parser: ArgumentParser) -> None:
    """The options of every list of jobs."""
    parser.add_argument(
        "--limit",
        metavar="N",
        help=f"at most so many, or all (default: {ROWS} in a table, else all)",
    )
    add_show_env_option(parser, "with --json: show the values of the jobs' --env")


def add_show_env_option(
    parser: ArgumentParser, words: str = "show the values of the job's --env"
) -> None:
    """`--show-env`: without it, values of environment variables, which may be secret, stay hidden."""
    parser.add_argument("--show-env", action="store_true", help=words)


def show_result(context: Context, queue: JobQueue, job: Job) -> Result:
    """One job with its attempts and the end of its output."""
    args = context.args
    attempts = queue.attempts(job.id)
    if args.json:
        from queuectl.cli.json_output import job_with_attempts

        return Result(data=job_with_attempts(job, attempts, show_env=args.show_env))

    def text(stream: TextIO) -> None:
        from queuectl.cli.screen import Screen
        from queuectl.cli.views import last_output, write_job, write_next_steps

        now, show_env = queue.now(), args.show_env
        output = last_output(queue, job.id)
        write_job(Screen(stream), job, attempts, output, now=now, show_env=show_env)
        write_next_steps(Screen(stream), job, output, context.pasteable)

    return Result(text=text, ids=[job.id])


def _configure_list(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        metavar="STATE",
        action="extend",
        nargs="+",
        default=[],
        help=f"only these: {', '.join(State)} (one or several)",
    )
    parser.add_argument(
        "--sort",
        metavar="KEY",
        default="created",
        help=f"{', '.join(SORT_KEYS)} (default: created)",
    )
    parser.add_argument(
        "--reverse",
        action="store_true",
        help="the other way round: otherwise newest, soonest, highest and most come first",
    )
    add_list_options(parser)


def _list(context: Context) -> Result:
    from queuectl.cli.views import write_jobs

    args = context.args
    states = values.states("--state", args.state, tuple(State))
    sort = values.choice("--sort", args.sort, tuple(SORT_KEYS))
    queue = context.queue()

    def read(limit: int | None) -> Iterator[Job]:
        descending = (sort in _FROM_THE_LEAST) is args.reverse
        return queue.list(states, sort=sort, descending=descending, limit=limit)

    def count() -> int:
        counts = queue.counts()
        return sum(counts[state] for state in states or counts)

    nothing = "There are no such jobs." if states else "The queue is empty."
    return list_result(context, read, count, write_jobs, queue.now(), nothing)


def _configure_show(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="the job; a beginning of its id, or @last")
    add_show_env_option(parser)


def _show(context: Context) -> Result:
    queue = context.queue()
    return show_result(context, queue, queue.get(context.args.id))


COMMANDS = {
    "list": Command(
        "List jobs, the newest first.",
        _list,
        examples="""
queuectl list
queuectl list --state pending,failed --sort next_run
queuectl list --state dead --limit all --json
""",
        configure=_configure_list,
    ),
    "show": Command(
        "Show one job: its fields, its attempts, the end of its output.",
        _show,
        examples="""
queuectl show @last
queuectl show 5f2c1a
queuectl show nightly-backup --json
""",
        configure=_configure_show,
    ),
}
