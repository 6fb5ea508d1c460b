"""The slots of a worker: a thread each, which takes a claim, runs it, and says how it ended.

A thread that waits for its own command costs less than any way of waiting for all of them, and
a slot need not be told by anybody that it may go on.
"""

from __future__ import annotations

import signal
import sys
import threading
from queue import Empty

from queuectl.engine.launcher import OutOfResources
from queuectl.errors import EnvironmentFault
from queuectl.jobs.outcome import judge
from queuectl.storage.records import Settlement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from queuectl.clock import Clock
    from queuectl.engine.attempt import Attempt
    from queuectl.engine.execute import Executor
    from queuectl.engine.ledger import Ledger
    from queuectl.engine.running import Running
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome, Policy

_STACK_BYTES = 512 * 1024


class Slots:
    """`count` threads that run what the ledger claims.

    `may_start` is asked before each start. `on_no_room` is told why a command could not be started
    although the job is not to blame, `on_defect` of what should not happen; `on_ended` is told of
    each attempt.
    """

    def __init__(
        self,
        count: int,
        *,
        name: str,
        clock: Clock,
        executor: Executor,
        running: Running,
        ledger: Ledger,
        policy: Callable[[], Policy],
        may_start: Callable[[int], bool],
        on_no_room: Callable[[str], None],
        on_defect: Callable[[str], None],
        on_ended: Callable[[Claim, Outcome, float], None] | None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._executor = executor
        self._running = running
        self._ledger = ledger
        self._policy = policy
        self._may_start = may_start
        self._on_no_room = on_no_room
        self._on_defect = on_defect
        self._on_ended = on_ended
        self._threads = [
            threading.Thread(target=self._work, name=f"slot-{number}", daemon=True)
            for number in range(count)
        ]
        self._started: list[threading.Thread] = []

    def start(self) -> None:
        """Begins to work. Raises EnvironmentFault when the system has no room for the threads."""
        before = threading.stack_size(_STACK_BYTES)
        try:
            for thread in self._threads:
                thread.start()
                self._started.append(thread)
        except RuntimeError:
            raise EnvironmentFault(
                f"there is no room for {len(self._threads)} threads",
                hint="Give a smaller --count, or raise the limit (ulimit -u, ulimit -v).",
            ) from None
        finally:
            threading.stack_size(before)

    def close(self) -> None:
        """Ends the threads, which must have nothing left to do."""
        for _ in self._started:
            self._ledger.ready.put(None)
        for thread in self._started:
            thread.join()

    def _work(self) -> None:
        if sys.platform != "win32":
            # Signals are for the main thread; commands begin with none blocked (see spawn).
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ended: Attempt | None = None
        while True:
            try:
                claim = self._ledger.ready.get(block=ended is None)
            except Empty:
                claim, more = None, True
            else:
                more = claim is not None
            # The next command is started first: it runs while the outcome of the last is written.
            begun = None if claim is None else self._take(self._begin, claim)
            if ended is not None:
                self._take(self._settle, ended)
            if not more:
                return
            ended = None if begun is None else self._take(self._see_through, begun)

    def _take(self, step: Callable[[Any], Attempt | None], subject: object) -> Attempt | None:
        """Takes one step of an attempt's life. A slot must not die unnoticed."""
        try:
            return step(subject)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._on_defect(f"unexpected {type(error).__name__} in a slot: {error}")
            self._ledger.forfeit()
            return None

    def _begin(self, claim: Claim) -> Attempt | None:
        try:
            attempt = self._executor.start(claim, self._may_start)
        except OutOfResources as error:
            self._on_no_room(str(error))
            attempt = None
        if attempt is None:
            self._ledger.give_back([claim])
            return None
        self._ledger.took_one(attempt.started_ticks)
        self._running.add(attempt)
        return attempt

    def _see_through(self, attempt: Attempt) -> Attempt:
        attempt.wait(self._running.census)
        attempt.ended_ticks = self._clock.ticks()
        self._running.remove(attempt)
        return attempt

    def _settle(self, attempt: Attempt) -> None:
        claim, outcome = attempt.claim, attempt.outcome()
        # By the elapsed time: a clock that is set meanwhile makes no run end before it began.
        finished_at = attempt.started_at + int(attempt.seconds * 1e6)
        words = outcome.error or "succeeded (exit status 0)"
        log_end = attempt.log.close(words, finished_at, attempt.seconds)
        self._ledger.settle(
            Settlement(
                claim,
                outcome,
                judge(claim, outcome, self._policy()),
                self._name,
                attempt.started_at,
                finished_at,
                attempt.log.start,
                log_end,
            ),
            attempt.seconds,
        )
        if self._on_ended is not None and attempt.ending != "fenced":
            self._on_ended(claim, outcome, attempt.seconds)
