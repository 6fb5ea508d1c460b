"""`status`: how many jobs are in which state, and who works on them. Kept light."""

from __future__ import annotations

from queuectl.cli.command import Command, Context, Result
from queuectl.cli.screen import STATE_COLOURS, Screen
from queuectl.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from queuectl.job_queue import WorkerRecord

    Workers = list[tuple[WorkerRecord, bool]]
    """Each with whether it is alive."""


_UNMET_ROWS = 5


def _status(context: Context) -> Result:
    queue = context.queue()
    counts, scheduled, database = queue.counts(), queue.scheduled(), queue.workspace.database
    workers: Workers = []
    if registered := queue.workers():
        from queuectl.processes import living

        alive = living(registered)
        workers = [(worker, worker in alive) for worker in registered]
    unmet = queue.ready_by_requirement()
    if unmet:
        from queuectl.jobs.tags import beyond

        unmet = beyond(unmet, [worker.tags for worker, alive in workers if alive])
    data = None
    if context.args.json:
        from queuectl.cli.json_output import worker_object

        data = {
            "jobs": {state.value: count for state, count in counts.items()},
            "scheduled": scheduled,
            "workers": [worker_object(worker, alive) for worker, alive in workers],
            "unmet": [
                {"requires": list(required), "jobs": count}
                for required, count in sorted(unmet.items())
            ],
            "database": database,
        }

    def text(stream: TextIO) -> None:
        screen = Screen(stream)
        width = max(len(f"{count:,}") for count in counts.values())
        for state, count in counts.items():
            label = screen.paint(f"{state:<10}", STATE_COLOURS[state] if count else "dim")
            screen.write(f"{label}  {count:>{width},}")
        screen.write()
        screen.write(f"scheduled   {scheduled:,} of these for a later time")
        for line in _worker_lines(workers) + _unmet_lines(unmet):
            screen.write_prose(context.pasteable(line))
        screen.write(f"database    {screen.shown(database)}")

    return Result(data=data, text=text)


def _unmet_lines(unmet: dict[tuple[str, ...], int]) -> list[str]:
    """What waits for workers that there are not, the most jobs first."""
    lines = [
        f"unmet       {counted(count, 'ready job')} for a worker with: --host-tag {','.join(required)}"
        for required, count in sorted(unmet.items(), key=lambda item: (-item[1], item[0]))
    ]
    more = len(lines) - _UNMET_ROWS
    if more > 0:
        lines[_UNMET_ROWS:] = [f"unmet       {counted(more, 'more set')} of tags; see --json"]
    return lines


def _worker_lines(workers: Workers) -> list[str]:
    alive = [worker for worker, lives in workers if lives]
    lost = len(workers) - len(alive)
    if alive:
        # What a worker holds beyond its slots it has claimed ahead, and will start next.
        used = sum(min(w.running, w.slots) for w in alive)
        ahead = sum(w.running for w in alive) - used
        slots = sum(w.slots for w in alive)
        line = f"workers     {len(alive)} alive, {used} of {slots} slots in use"
        if ahead:
            line += f"; {counted(ahead, 'more job')} claimed to run next"
        lines = [line]
    else:
        lines = ["workers     none alive; start one with: queuectl worker-start"]
    if lost:
        lines.append(f"            {lost} lost; clear up with: queuectl doctor --fix")
    return lines


COMMANDS = {
    "status": Command(
        "Count the jobs in each state, and see who works on them.",
        _status,
        examples="""
queuectl status
queuectl status --json
""",
    )
}
