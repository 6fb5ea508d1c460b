"""`worker-start`, `worker-stop`, `worker-list`."""

from __future__ import annotations

import sys
import time

from queuectl.cli.command import Command, Context, Result
from queuectl.errors import InvalidInput
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser


def _configure_start(parser: ArgumentParser) -> None:
    parser.add_argument("--count", metavar="N", default="1")
    parser.add_argument("--drain", action="store_true")
    parser.add_argument("--poll-interval")
    parser.add_argument("--use-processes", action="store_true")
    parser.add_argument("--background", action="store_true")


def _start(context: Context) -> Result:
    from queuectl.engine.run import Orders, run_worker
    tally = run_worker(context.workspace(), Orders(slots=int(context.args.count), drain=context.args.drain), say=lambda l: print(l, file=sys.stderr, flush=True))
    return Result(text=f"{tally.completed} completed, {tally.failed} failed")


COMMANDS = {"worker-start": Command("Run jobs.", _start, examples="queuectl worker-start --count 4", configure=_configure_start)}
