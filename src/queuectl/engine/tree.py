"""Ending a command with everything it started: its process group, and what left the group.

What moved to another group or session is found by its marks (see `queuectl.marks`).
"""

from __future__ import annotations

import os
import signal
import sys
import time

from queuectl import marks

if sys.platform == "win32":
    from queuectl import windows

    ASK, KILL = signal.SIGBREAK, signal.SIGTERM
else:
    ASK, KILL = signal.SIGTERM, signal.SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from queuectl.jobs.claim import Claim
    from queuectl.marks import Census

_STUBBORN_SECONDS = 5.0
"""SIGKILL ends a process at once, unless it hangs inside the kernel."""


def send(pid: int, census: Census, claim: Claim, number: int, since: float) -> None:
    """Sends a signal, ASK or KILL, to the whole tree of a running attempt whose first process is
    `pid`, as it was at some moment not before `since`.
    """
    if sys.platform == "win32":
        windows.end_command(pid, politely=number == ASK)
    else:
        _send_group(pid, number)
        try:
            stragglers = _stragglers(census, claim, since)
        except OSError:
            return  # They cannot be looked for now; the tree is not gone before they are.
        for straggler in stragglers:
            _send_one(straggler, number)


def is_gone(pid: int, census: Census, claim: Claim, since: float) -> bool:
    """Whether nothing of the attempt's tree ran any more at some moment not before `since`, when its
    first process had ended: what no longer runs can start nothing.
    """
    if sys.platform == "win32":
        gone = windows.is_gone(pid)
    else:
        try:
            gone = not (census.group_lives(pid, since) or _stragglers(census, claim, since))
        except OSError:
            gone = False  # It cannot be told now; soon it can.
    return gone


def _stragglers(census: Census, claim: Claim, since: float) -> set[int]:
    run = {marks.claim_mark(claim.token, claim.seq): claim.id}
    return marks.of_runs(census.members(since), run)


def end_orphans(
    database: str, claims: Iterable[Claim], grace_seconds: float, *, without_marks: bool = True
) -> set[int] | None:
    """Ends what still runs of attempts whose worker is lost; returns the processes it found.

    None when something would not end: then its job must not run again yet. `without_marks` as in
    `marks.of_runs`: no more once the jobs may run again. Raises OSError when we cannot look.
    """
    runs = {marks.claim_mark(claim.token, claim.seq): claim.id for claim in claims}
    if not runs:
        return set()
    return end_processes(
        lambda: marks.of_runs(marks.members(database), runs, without_marks=without_marks),
        grace_seconds,
    )


def end_processes(find: Callable[[], set[int]], grace_seconds: float) -> set[int] | None:
    """Ends the processes that `find` finds, and those that it still finds afterwards.

    SIGTERM first, SIGKILL after `grace_seconds`; returns all that were found once none is left,
    or None if some were still there `_STUBBORN_SECONDS` after that.
    """
    seen: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    while left := find():
        late = time.monotonic() - deadline
        if late > _STUBBORN_SECONDS:
            return None
        for pid in left:
            # Those that appear after the first round are told once, too.
            if late >= 0 or pid not in seen:
                _send_with_group(pid, KILL if late >= 0 else ASK)
        seen |= left
        time.sleep(0.01)
    return seen


def _send_with_group(pid: int, number: int) -> None:
    """To the process and to its group, whose other members may have lost their marks."""
    if sys.platform != "win32":
        try:
            group = os.getpgid(pid)
        except ProcessLookupError:
            return
        if group != os.getpgrp():
            _send_group(group, number)
    _send_one(pid, number)


if sys.platform != "win32":

    def _send_group(group: int, number: int) -> None:
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            pass


def _send_one(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)  # On Windows whatever the number, this ends it at once.
    except OSError:
        pass  # It is gone, or not ours.
