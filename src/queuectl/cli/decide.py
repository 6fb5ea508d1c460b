"""`cancel`, `retry`, `delete`, `prune`: what people decide about jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result, add_yes_option
from queuectl.errors import WaitTimedOut
from queuectl.jobs.lifecycle import FINISHED, State
from queuectl.text import counted

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Sequence

    from queuectl.job_queue import JobQueue

_PATIENCE_SECONDS = 5.0
"""How long, beyond the grace that its command has, the end of a cancelled job is waited for."""

# What is dead waits for a person's decision, so it goes only when it is named.
_PRUNED_BY_DEFAULT = (State.COMPLETED, State.CANCELLED)


def add_ids_argument(parser: ArgumentParser, *, optional: bool = False) -> None:
    """One or more jobs. They are named by their ids, beginnings of these, or `@last`."""
    parser.add_argument(
        "ids",
        metavar="ID",
        nargs="*" if optional else "+",
        help="a job; a beginning of its id, or @last",
    )


def requeued_result(ids: Sequence[str]) -> Result:
    """What is said about jobs that were made pending again."""
    return Result(
        data={"requeued": len(ids), "ids": list(ids)},
        text="\n".join(f"Requeued job: {job_id}" for job_id in ids),
        ids=ids,
    )


def remove_finished(
    context: Context, states: Sequence[State], older_than: float | None, *, dry_run: bool = False
) -> Result:
    """Removes jobs that ended over `older_than` seconds ago (None: all), after a question."""
    queue = context.queue()
    count = queue.count_prunable(states=states, older_than=older_than)
    what = counted(count, f"{' or '.join(states)} job")
    if dry_run:
        removed, text = 0, f"Would remove {what}"
    elif not count:
        removed, text = 0, "There is nothing to remove."
    else:
        context.confirm(f"Remove {what} with {'its' if count == 1 else 'their'} output?")
        removed = queue.prune(states=states, older_than=older_than)
        text = f"Removed {counted(removed, 'job')}"
    return Result(data={"matched": count, "removed": removed, "dry_run": dry_run}, text=text)


def _configure_cancel(parser: ArgumentParser) -> None:
    add_ids_argument(parser)
    parser.add_argument(
        "--no-wait",
        action="store_true",
        help="do not wait until running jobs have stopped (nor does it with --json or -q)",
    )


def _cancel(context: Context) -> Result:
    args = context.args
    queue = context.queue()
    ids = queue.resolve_all(args.ids)
    stopping = queue.cancel(ids)
    if stopping and not (args.no_wait or args.json or args.quiet):
        _await_end(context, queue, stopping)
        stopping = [j for j in stopping if queue.get(j).state not in FINISHED]
    who = _who_ends_it(queue) if stopping else ""
    done = {j: queue.get(j).state for j in ids if j not in stopping}
    cancelled = [job_id for job_id, state in done.items() if state == State.CANCELLED]
    return Result(
        data={"cancelled": cancelled, "stopping": stopping},
        text="\n".join(
            context.pasteable(_cancel_line(job_id, done.get(job_id), who)) for job_id in ids
        ),
        ids=ids,
        exit_status=0 if len(cancelled) == len(done) else 1,
    )


def _await_end(context: Context, queue: JobQueue, ids: Sequence[str]) -> None:
    from queuectl.processes import living

    if not living(queue.workers()):
        return
    context.note(f"Waiting for {counted(len(ids), 'running job')} to stop ...")
    try:
        queue.wait(ids, timeout=queue.config.kill_grace_seconds + _PATIENCE_SECONDS)
    except WaitTimedOut:
        pass  # The answer says which are still running.


def _who_ends_it(queue: JobQueue) -> str:
    from queuectl.processes import living

    if living(queue.workers()):
        return "its worker ends it"
    return "no worker lives to end it; the next one will, or now: queuectl doctor --fix"


def _cancel_line(job_id: str, state: State | None, who: str) -> str:
    if state is None:
        return f"Cancelling job: {job_id} (running; {who})"
    if state == State.CANCELLED:
        return f"Cancelled job: {job_id}"
    return f"Too late for job: {job_id} ({state} before it could be stopped)"


def _retry(context: Context) -> Result:
    return requeued_result(context.queue().retry(context.args.ids))


def _configure_delete(parser: ArgumentParser) -> None:
    add_ids_argument(parser)
    add_yes_option(parser)


def _delete(context: Context) -> Result:
    queue = context.queue()
    ids = queue.resolve_all(context.args.ids)
    if len(ids) > 1:
        context.confirm(f"Delete {len(ids):,} jobs and their output?")
    queue.delete(ids)
    return Result(
        data={"deleted": len(ids), "ids": ids},
        text="\n".join(f"Deleted job: {job_id}" for job_id in ids),
        ids=ids,
    )


def _configure_prune(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        required=True,
        help="only jobs that ended at least so long ago, such as 12h or 7d; 0 for all",
    )
    parser.add_argument(
        "--state",
        metavar="STATE",
        action="extend",
        nargs="+",
        help=f"{', '.join(FINISHED)}, one or several (default: {' and '.join(_PRUNED_BY_DEFAULT)})",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say how many there are")
    add_yes_option(parser)


def _prune(context: Context) -> Result:
    args = context.args
    states = values.states("--state", args.state or _PRUNED_BY_DEFAULT, FINISHED)
    older_than = values.length("--older-than", args.older_than)
    return remove_finished(context, states, older_than, dry_run=args.dry_run)


COMMANDS = {
    "cancel": Command(
        "Call jobs off: waiting ones will not run, running ones are stopped. All of them, or none.",
        _cancel,
        examples="""
queuectl cancel @last
queuectl cancel 5f2c1a 77ab02
queuectl list --state pending -q | xargs -r queuectl cancel
""",
        configure=_configure_cancel,
    ),
    "retry": Command(
        "Run dead, cancelled or completed jobs again, as soon as a worker is free, with all their attempts."
        " All of them, or none.",
        _retry,
        examples="""
queuectl retry @last
queuectl list --state cancelled -q | xargs -r queuectl retry
""",
        configure=add_ids_argument,
    ),
    "delete": Command(
        "Remove jobs that are not running, and their output. All of them, or none.",
        _delete,
        examples="""
queuectl delete @last
queuectl delete 5f2c1a 77ab02 --yes
""",
        configure=_configure_delete,
    ),
    "prune": Command(
        "Remove jobs that ended some time ago, and their output, while the queue goes on.",
        _prune,
        examples="""
queuectl prune --older-than 7d --dry-run
queuectl prune --older-than 7d --yes
queuectl prune --older-than 90d --state dead
""",
        configure=_configure_prune,
    ),
}
