"""The slots of a worker: a thread each, which takes a claim, runs it, and says how it ended.

A thread that waits for its own command costs less than any way of waiting for all of them, and
a slot need not be told by anybody that it may go on.
"""

from __future__ import annotations

import signal
import sys
import threading

from queuectl.engine import threads
from queuectl.engine.launcher import OutOfResources
from queuectl.jobs.outcome import judge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.engine.attempt import Attempt
    from queuectl.engine.copying import Copier
    from queuectl.engine.execute import Executor
    from queuectl.engine.ledger import Ledger
    from queuectl.engine.running import Running
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome, Policy, Verdict

    OnEnded = Callable[[Claim, Outcome, Verdict, float], None]
    """Told of an attempt: how it ended, what becomes of the job, and after how many seconds."""

_STACK_BYTES = 512 * 1024


class Slots:
    """`count` threads that run what the ledger claims.

    `may_start` is asked before each start. `on_no_room` is told why a command could not be started
    although the job is not to blame, `on_defect` of what should not happen; `on_ended` is told of
    each attempt, and what `policy` makes of it. A `copier`, if there is one, hands on to the ledger
    what has ended.
    """

    def __init__(
        self,
        count: int,
        *,
        clock: Clock,
        executor: Executor,
        running: Running,
        ledger: Ledger,
        copier: Copier | None = None,
        may_start: Callable[[int], bool],
        on_no_room: Callable[[str], None],
        on_defect: Callable[[str], None],
        on_ended: OnEnded | None,
        policy: Callable[[], Policy],
    ) -> None:
        self._clock = clock
        self._executor = executor
        self._running = running
        self._ledger = ledger
        self._settler = copier or ledger
        self._may_start = may_start
        self._on_no_room = on_no_room
        self._on_defect = on_defect
        self._on_ended = on_ended
        self._policy = policy
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
                threads.start(thread)
                self._started.append(thread)
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
            # Signals are for the main thread; commands begin with none blocked (see spawn). But where
            # the thread that started a command blocks SIGCHLD, each command's end wakes the main
            # thread for nothing: the kernel ignores it only for a thread that would.
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - {signal.SIGCHLD})
        while (claim := self._ledger.ready.get()) is not None:
            try:
                attempt = self._run(claim)
            except Exception as error:  # noqa: BLE001 - a slot must not die unnoticed
                self._on_defect(f"unexpected {type(error).__name__} in a slot: {error}")
                self._ledger.forfeit()
                continue
            if attempt is not None:
                self._settler.settle(attempt)
                self._tell(attempt)

    def _run(self, claim: Claim) -> Attempt | None:
        """Runs it to its end; None when it was not started and has been given back."""
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
        attempt.wait(self._running.census, self._running.end_rest)
        attempt.ended_ticks = self._clock.ticks()
        self._running.remove(attempt)
        # Here, where the next command of this slot alone waits for it, and no other's outcome.
        attempt.log.shorten(self._running.has_lease)
        return attempt

    def _tell(self, attempt: Attempt) -> None:
        if self._on_ended is None or attempt.ending == "fenced":
            return
        try:
            outcome = attempt.outcome()
            verdict = judge(attempt.claim, outcome, self._policy())
            self._on_ended(attempt.claim, outcome, verdict, attempt.seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._on_defect(f"unexpected {type(error).__name__} in a slot: {error}")
