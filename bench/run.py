"""Runs the measurements that are asked for, or all of them, and prints their tables."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import cast

from bench import _machine
from bench._side_by_side import BenchError, Plan, Scratch, note

NAMES = (
    "enqueue_latency",
    "bulk_enqueue",
    "million",
    "drain_true",
    "slots",
    "wakeup",
    "many_workers",
    "noop_drain",
    "postgres",
)

LONG = ("churn", "churn_held", "many_hosts")
"""Take so long that they run only when they are asked for by name."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parse(arguments)
    if options.list:
        for name in (*NAMES, *LONG):
            print(f"{name:<16} {_describe(name)}")
        return 0
    unknown = [name for name in options.names if name not in (*NAMES, *LONG)]
    if unknown:
        print(
            f"error: there is no measurement {unknown[0]!r}; there are {', '.join((*NAMES, *LONG))}",
            file=sys.stderr,
        )
        return 2
    # What is measured is to run as it would for a user, whatever the shell of the developer says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    scratch = Scratch(options.folder, keep=options.keep)
    try:
        note(f"Machine: {_machine.describe(scratch)}.")
        _machine.warn(scratch)
        plan = Plan(
            quick=options.quick,
            scratch=scratch,
            asked_rounds=options.rounds,
            asked_minutes=options.minutes,
        )
        for name in options.names or NAMES:
            importlib.import_module(f"bench.{name}").measure(plan)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        scratch.close()
    return 0


def _describe(name: str) -> str:
    text = cast(str, importlib.import_module(f"bench.{name}").__doc__)
    return text.splitlines()[0]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure queuectl, side by side with others."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="what to measure (default: all but the long ones)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller queues")
    parser.add_argument("--rounds", type=int, metavar="N", help="go exactly so many rounds")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="how long the long ones go on (default: 10)"
    )
    parser.add_argument("--folder", metavar="DIR", help="where to work (default: the system's tmp)")
    parser.add_argument("--keep", action="store_true", help="leave the queues for a look at them")
    parser.add_argument("--list", action="store_true", help="list what can be measured")
    return parser.parse_args(arguments)
