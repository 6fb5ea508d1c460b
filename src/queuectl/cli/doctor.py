"""`doctor` and `backup`."""

from __future__ import annotations

from queuectl.cli.command import Command, Context, Result
from queuectl.errors import QueuectlError
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser


def _configure_doctor(parser: ArgumentParser) -> None:
    parser.add_argument("--fix", action="store_true", help="mend what can be mended safely")


def _doctor(context: Context) -> Result:
    from queuectl.engine.doctor import examine
    from queuectl.job_queue import refuse_emptied_queue

    workspace = context.workspace()
    refuse_emptied_queue(workspace)
    lines, data, unsound = [], [], 0
    for finding in examine(workspace.require()):
        done, advice = "", context.pasteable(finding.advice)
        if context.args.fix and finding.fix is not None:
            try:
                done = finding.fix()
            except (QueuectlError, OSError) as error:
                done = f"could not be mended: {error}"
            else:
                finding.ok = True
        unsound += not finding.ok
        mark = "mended" if finding.ok and done else "ok" if finding.ok else "WRONG"
        lines.append(f"{mark:<7} {finding.check}: {finding.message}")
        if done:
            lines.append(f"        {done}")
        elif not finding.ok and advice:
            lines.append(f"        {advice}")
        data.append(
            {
                "check": finding.check,
                "ok": finding.ok,
                "message": finding.message,
                "advice": None if finding.ok else advice or None,
                "done": done or None,
            }
        )
    return Result(
        data={"ok": not unsound, "checks": data},
        text="\n".join(visible(line) for line in lines),
        exit_status=1 if unsound else 0,
    )


def _configure_backup(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the file to write; it must not exist yet")


def _backup(context: Context) -> Result:
    with context.queue() as queue:
        path = queue.backup(context.args.file)
    return Result(data={"backup": path}, text=f"Wrote {visible(path)}")


COMMANDS = {
    "doctor": Command(
        "Check the queue's health: database, disk, clock, workers, commands, logs. Exit 1 if anything is wrong.",
        _doctor,
        examples="queuectl doctor\nqueuectl doctor --fix",
        configure=_configure_doctor,
    ),
    "backup": Command(
        "Copy the database as of one moment, while workers run. The output of jobs is not in it.",
        _backup,
        examples="queuectl backup /backups/queue-$(date +%F).db",
        configure=_configure_backup,
    ),
}
