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
    return marks.of_runs(census.members(since), _runs([claim]))


def end_orphans(
    database: str,
    claims: Iterable[Claim],
    grace_seconds: float,
    still_held: Callable[[], Iterable[Claim]] | None,
) -> set[int] | None:
    """Ends what still runs of attempts whose worker is lost; returns the processes it found.

    None when something would not end: then its job must not run again yet. `still_held` says which
    claims have not been taken from the worker meanwhile. None once the jobs may run again: then
    only what carries its mark counts. Raises OSError when we cannot look.
    """
    runs = _runs(claims)

    def find() -> set[int]:
        nonlocal runs
        if not runs:
            return set()
        seen = marks.carriers(database)
        found = marks.of_runs(seen, runs, without_marks=still_held is not None)
        if found and still_held is not None:
            # Another rescuer may have been quicker, and what writes into the log be a later run's.
            # Asked after the look, not before it: what is held now had no later run then.
            runs = _runs(still_held())
            found = marks.of_runs(seen, runs)
        return found

    return end_processes(find, grace_seconds)


def _runs(claims: Iterable[Claim]) -> dict[str, str]:
    return {marks.claim_mark(claim.token, claim.seq): claim.id for claim in claims}


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


def kill(pid: int) -> None:
    """Ends this one process at once, and nothing that it started."""
    _send_one(pid, KILL)


def _send_one(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)  # On Windows whatever the number, this ends it at once.
    except OSError:
        pass  # It is gone, or not ours.
