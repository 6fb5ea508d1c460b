"""`worker-start`, `worker-stop`, `worker-list`."""

from __future__ import annotations

import os
import sys

from queuectl import processes
from queuectl.cli import values
from queuectl.cli.command import Command, Context, Result
from queuectl.config import find_setting
from queuectl.errors import InvalidInput
from queuectl.jobs.lifecycle import State
from queuectl.jobs.tags import checked
from queuectl.marks import JOB_MARKS
from queuectl.text import counted, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

    from queuectl.engine.remarks import Remarks
    from queuectl.engine.run import Tally
    from queuectl.engine.slots import OnEnded
    from queuectl.job_queue import WorkerRecord
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome, Verdict
    from queuectl.workspace import Workspace

MOST_SLOTS = 1_024


def _configure_start(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("How to work")
    group.add_argument(
        "--count",
        metavar="N",
        default="1",
        help=f"jobs to run at the same time, 1 to {MOST_SLOTS} (default 1)",
    )
    group.add_argument(
        "--drain",
        action="store_true",
        help="exit when all is done: waits for running jobs and for retries, not for jobs scheduled for later",
    )
    group.add_argument(
        "--background",
        action="store_true",
        help="detach from the terminal; remarks go to queuectl.log beside the database,"
        " or in this machine's folder for a queue on a server",
    )
    group.add_argument(
        "--use-processes",
        action="store_true",
        help="a process for each of the N, started again if it crashes (default: one process with N slots)",
    )
    group.add_argument(
        "--host-tag",
        metavar="TAG",
        action="append",
        help="run also jobs that require this tag (several: with commas, or repeated;"
        " default: the setting host_tags)",
    )
    group.add_argument(
        "--poll-interval",
        metavar="TIME",
        help="how often to look for new jobs where the system does not report them, 0.01 to 60 s",
    )


def _start(context: Context) -> Result:
    from queuectl.engine.run import Orders, run_worker

    args = context.args
    count = _count(args.count)
    tags = None if args.host_tag is None else checked("--host-tag", ",".join(args.host_tag))
    if args.background and sys.platform != "win32":
        _leave_job()
    workspace = context.workspace()
    # To ask a server would cost a connection: a worker that finds none there says so by itself.
    if not workspace.is_remote or args.background:
        _ensure_queue(context, workspace)
    workspace.make_folder()
    orders = Orders(
        slots=1 if args.use_processes else count,
        drain=args.drain,
        mode="background" if args.background else "foreground",
        poll_seconds=_poll_seconds(args.poll_interval),
        tags=tags,
    )
    tally: Tally | None = None

    def work(say: Callable[[str], None], on_ready: Callable[[], None]) -> None:
        nonlocal tally

        def one(on_ready: Callable[[], None]) -> None:
            nonlocal tally
            # In the process that speaks: a thread does not survive a fork.
            remarks = None if args.background or args.quiet else _remarks()
            tell = say if remarks is None else remarks.say

            def ready(name: str) -> None:
                slots = counted(orders.slots, "slot")
                tell(f"worker {name} started: {slots}, queue {visible(workspace.database)}")
                on_ready()

            try:
                tally = run_worker(
                    workspace,
                    orders,
                    say=tell,
                    make_queue=lambda: _ensure_queue(context, workspace),
                    on_ready=ready,
                    on_ended=_ended_line(tell, context),
                )
                done = counted(tally.completed, "run")
                tell(f"worker stopped: {done} succeeded, {tally.failed:,} failed")
                if tally.left:
                    tell(_left_line(tally.left))
            finally:
                if remarks is not None:
                    remarks.flush()

        if args.use_processes:
            from queuectl.engine.supervisor import Supervisor

            Supervisor(one, say).run(count, on_ready)
        else:
            one(on_ready)

    detach = args.background
    if sys.platform == "win32":
        from queuectl import windows

        # There, each of several processes has the same command line.
        detach = detach and windows.started_as() != windows.SUPERVISED
    if detach:
        from queuectl.engine import background

        pid = background.start(workspace, work)
        return Result(
            data={"pid": pid, "slots": count, "log": workspace.worker_log},
            text=context.pasteable(
                f"Started a worker in the background (pid {pid}). Stop it with: queuectl worker-stop"
            ),
        )
    work(context.say, lambda: None)
    if tally is None:
        return Result()
    left = sum(tally.left.values())
    return Result(data={"completed": tally.completed, "failed": tally.failed, "left": left})


def _left_line(left: dict[tuple[str, ...], int]) -> str:
    """What a drain did not do, and who could."""
    count = sum(left.values())
    sets = sorted(left, key=lambda tags: (-left[tags], tags))
    others = f" (and {counted(len(sets) - 1, 'other set')} of tags)" if sets[1:] else ""
    return (
        f"left {counted(count, 'job')} that {'require' if count > 1 else 'requires'} tags this worker"
        f" does not have{others}; for a worker with: --host-tag {','.join(sets[0])}"
    )


def _remarks() -> Remarks | None:
    """What speaks on stderr and waits for nobody; None where stderr is no file of the system."""
    from queuectl.cli.talk import fitted
    from queuectl.engine.remarks import Remarks

    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError):
        return None
    return Remarks(descriptor, lambda line: fitted(line, sys.stderr))


def _leave_job() -> None:
    """A job may start a worker in the background. That is not a part of the job then: it begins
    anew, without the marks by which what belongs to the job is found and ended.
    """
    marks = [name for name in os.environ if name in JOB_MARKS]
    if sys.platform == "win32":
        for name in marks:
            del os.environ[name]  # The worker is another process there, and gets what is left.
    elif marks:
        environ = {name: os.environ[name] for name in os.environ if name not in JOB_MARKS}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MOST_SLOTS:
        raise InvalidInput(
            f"--count must be a whole number from 1 to {MOST_SLOTS}, not {visible(text, 40)!r}"
        )
    return int(text)


def _poll_seconds(text: str | None) -> float | None:
    if text is None:
        return None
    setting = find_setting("poll_interval_seconds")
    seconds = values.length("--poll-interval", text)
    if setting.check(seconds) is None:
        raise InvalidInput(f"--poll-interval must be {setting.accepts}, not {visible(text, 40)}")
    return seconds


def _ensure_queue(context: Context, workspace: Workspace) -> None:
    """Makes the queue if there is none."""
    if not workspace.exists:
        from queuectl.job_queue import JobQueue

        with JobQueue(workspace, create=True) as queue:
            if queue.created:
                context.note(f"Made a new queue: {visible(workspace.database)}")


def _ended_line(say: Callable[[str], None], context: Context) -> OnEnded | None:
    """A line for each attempt, for whoever watches; a worker at full speed has no time for them."""
    if context.args.background or context.args.quiet or not sys.stderr.isatty():
        return None

    def line(claim: Claim, outcome: Outcome, verdict: Verdict, seconds: float) -> None:
        text = f"{outcome.kind:<10} {claim.id}  {seconds:.2f}s  {visible(claim.command, 60)}"
        say(text + _what_follows(outcome, verdict))

    return line


def _what_follows(outcome: Outcome, verdict: Verdict) -> str:
    """Why the attempt failed and what becomes of the job; empty where nothing failed."""
    if verdict.state not in (State.FAILED, State.DEAD):
        return ""
    why = visible(outcome.error or outcome.kind, 80)
    if verdict.state == State.DEAD:
        return f"\n           {why}; dead"
    from queuectl.jobs.duration import show

    return f"\n           {why}; runs again " + (
        f"in {show(verdict.delay)}" if verdict.delay else "at once"
    )


def _configure_stop(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        help="how long running jobs may take to finish; then they are ended and given back"
        " (default: the setting stop_timeout_seconds)",
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        action="append",
        default=[],
        help="stop the workers of this machine instead, also those in terminals (may be repeated)",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="stop every worker of the queue: also those in terminals, and on other machines",
    )


def _stop(context: Context) -> Result:
    from queuectl.engine import pidfile, stopping

    args = context.args
    timeout = None if args.timeout is None else values.length("--timeout", args.timeout)
    if args.all and args.host:
        raise InvalidInput("--all and --host are given together", hint="Give one of them.")
    with context.queue() as queue:
        # A job that stops the worker it runs in would wait for itself.
        inside = queue.workspace.surrounding_job() is not None
        if not args.host or processes.host_name() in args.host:
            obstacle = pidfile.in_the_way(queue.workspace.pidfile)
            if obstacle is not None:
                context.note(f"{obstacle.message}\n  {obstacle.hint}")
            if not inside and not any(map(_is_usual, _alive(queue.workers()))):
                stopping.wait_for_unregistered(queue)
        registered = queue.workers()
        _require_known(args.host, registered)
        alive = _alive(registered)
        if args.host:
            chosen = [worker for worker in alive if worker.host in args.host]
        else:
            chosen = [worker for worker in alive if args.all or _is_usual(worker)]
            _note_others(context, [worker for worker in alive if worker not in chosen])
        if not chosen:
            where = f" on {visible(', '.join(args.host))}" if args.host else ""
            where = where or ("" if args.all else " in the background")
            return Result(data={"stopped": []}, text=f"No workers are running{where}.")
        stopping.stop(queue, chosen, timeout=timeout, wait=not inside, say=context.note)
    if inside:
        context.note("Called from a job of this queue: not waiting until they are gone.")
    # One that was given up for lost, and is there again, is listed twice.
    names = list(dict.fromkeys(worker.name for worker in chosen))
    return Result(
        data={"stopped": names},
        text=f"{'Stopping' if inside else 'Stopped'} {counted(len(names), 'worker')}: {', '.join(names)}",
        ids=names,
    )


def _is_usual(worker: WorkerRecord) -> bool:
    """Whether it is stopped when nothing is said about whom to stop."""
    return worker.mode == "background" and not _is_elsewhere(worker)


def _is_elsewhere(worker: WorkerRecord) -> bool:
    return processes.is_elsewhere(worker, processes.this_process())


def _require_known(hosts: list[str], workers: list[WorkerRecord]) -> None:
    known = sorted({worker.host for worker in workers})
    for host in hosts:
        if host not in (*known, processes.host_name()):
            there = (
                f"Workers are on {visible(', '.join(known))}."
                if known
                else "There are none at all."
            )
            raise InvalidInput(
                f"there is no worker on a host '{visible(host, 60)}'",
                hint=f"{there} See: queuectl worker-list",
            )


def _note_others(context: Context, others: list[WorkerRecord]) -> None:
    """Says who goes on, and how they are stopped."""
    elsewhere = [worker for worker in others if _is_elsewhere(worker)]
    if elsewhere:
        hosts = sorted({worker.host for worker in elsewhere})
        context.note(
            f"{counted(len(elsewhere), 'worker')} on other machines ({visible(', '.join(hosts))}) will"
            " go on; --host HOST stops those of one, --all every worker."
        )
    here = len(others) - len(elsewhere)
    if here:
        option = f"--host {visible(processes.host_name())}" if elsewhere else "--all"
        context.note(
            f"{counted(here, 'worker')} in a terminal will go on; {option} stops them too."
        )


def _alive(workers: list[WorkerRecord]) -> list[WorkerRecord]:
    """Those that live, and those that are silent while their process is there."""
    from queuectl.engine import stopping

    living = {worker.id for worker in processes.living(workers) + stopping.still_there(workers)}
    return [worker for worker in workers if worker.id in living]


def _list(context: Context) -> Result:
    from queuectl.cli.json_output import worker_object
    from queuectl.cli.views import workers_table

    with context.queue() as queue:
        registered = queue.workers()
        now = queue.now()
    alive = processes.living(registered)
    workers = [(worker, worker in alive) for worker in registered]
    if not workers:
        context.note("No workers.")
        return Result(data=[])
    return Result(
        data=[worker_object(worker, alive) for worker, alive in workers],
        text=workers_table(workers, now),
        ids=[worker.name for worker, _ in workers],
    )


COMMANDS = {
    "worker-start": Command(
        "Run the queued jobs. Ctrl-C stops it: running jobs may finish; twice ends them at once.",
        _start,
        examples="""
queuectl worker-start                          one job at a time, in this terminal
queuectl worker-start --count 4                four at a time
queuectl worker-start --count 4 --background   detached; stop with: queuectl worker-stop
queuectl worker-start --drain --count 8        exit when all is done, for cron and CI
queuectl worker-start --host-tag gpu,linux     run also jobs that require these
""",
        configure=_configure_start,
    ),
    "worker-stop": Command(
        "Stop the workers that run in the background, and wait until they are gone.",
        _stop,
        examples="""
queuectl worker-stop
queuectl worker-stop --timeout 5m     give running jobs five minutes
queuectl worker-stop --timeout 0      end them now; they will run again
queuectl worker-stop --all            also those in terminals and on other machines
queuectl worker-stop --host web3      those of one machine
""",
        configure=_configure_stop,
    ),
    "worker-list": Command(
        "List the workers of this queue.",
        _list,
        examples="queuectl worker-list\nqueuectl worker-list --json",
    ),
}
