"""A worker: some slots, and the loop that keeps them full.

This thread alone starts commands, waits for them and ends them. Everything that can make it wait
for a disk is done beside it: the ledger settles and claims, maintenance looks after other workers.
"""

from __future__ import annotations

import os
import select
from collections import deque

from queuectl.engine.launcher import OutOfResources
from queuectl.engine.pace import Pace
from queuectl.engine.running import Running
from queuectl.errors import EnvironmentFault, QueuectlError
from queuectl.jobs.outcome import Policy, judge
from queuectl.storage.job_storage import Settlement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.config import Config
    from queuectl.engine.attempt import Attempt
    from queuectl.engine.execute import Executor
    from queuectl.engine.ledger import Ledger
    from queuectl.jobs.claim import Claim
    from queuectl.jobs.outcome import Outcome

_PATIENCE_TICKS = 100_000
"""A claimed job that has found no slot for this long (0.1 s) goes back, for another worker to run."""

_PAUSE_TICKS = 1_000_000
"""How long nothing is started after the machine had no room for a process or a file (1 s)."""


class Worker:
    """Runs jobs until it is told to stop, or, as a drain, until there is nothing left to do.

    `make_ledger` registers a worker and returns its running ledger: called once, and again should
    this worker be given up for lost and come back. `say` prints a line for people, and `on_ended`
    is told of each attempt.
    """

    def __init__(
        self,
        *,
        slots: int,
        drain: bool,
        database: str,
        name: str,
        config: Config,
        clock: Clock,
        executor: Executor,
        make_ledger: Callable[[Callable[[], None]], Ledger],
        say: Callable[[str], None],
        on_ended: Callable[[Claim, Outcome, float], None] | None = None,
    ) -> None:
        self._slots = slots
        self._drain = drain
        self._name = name
        self._clock = clock
        self._executor = executor
        self._make_ledger = make_ledger
        self._say = say
        self._on_ended = on_ended

        self._ready: deque[Claim] = deque()
        self._ready_since_ticks = 0
        self._running = Running(database, clock)
        self._pace = Pace(slots)
        self._paused_until_ticks = 0
        self._stop_deadline_ticks: int | None = None
        self._failure: QueuectlError | None = None
        self.completed = 0
        self.failed = 0
        self.configure(config)

        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_out, False)
        os.set_blocking(self._wake_in, False)
        self._poll = select.poll()
        self._poll.register(self._wake_out, select.POLLIN)
        self._ledger = make_ledger(self.wake)

    def configure(self, config: Config) -> None:
        """Takes over the settings, for what begins from now on."""
        self._executor.configure(config)
        self._running.grace_ticks = int(config.kill_grace_seconds * 1e6)
        self._stop_timeout = config.stop_timeout_seconds
        self.policy = Policy(backoff_base=config.backoff_base, max_losses=config.max_losses)
        self.grace_seconds = config.kill_grace_seconds

    # ---- for signals and other threads

    @property
    def worker_id(self) -> str:
        """The id it is registered under now."""
        return self._ledger.worker_id

    @property
    def left_nothing_behind(self) -> bool:
        """Whether every job it held was settled or given back."""
        return not self._ledger.fenced and self._ledger.failure is None

    @property
    def wake_descriptor(self) -> int:
        """A byte written here makes the loop look around: what `signal.set_wakeup_fd` wants."""
        return self._wake_in

    def wake(self) -> None:
        """Makes the loop look around. Never blocks; may be called from any thread."""
        try:
            os.write(self._wake_in, b".")
        except BlockingIOError:
            pass  # It has not yet come to what woke it before.

    def stop(self, timeout: float | None = None) -> None:
        """Starts no more commands; those that run may take `timeout` more seconds (None: as
        configured), then they are ended and given back. A later call can only shorten that.
        """
        seconds = self._stop_timeout if timeout is None else timeout
        deadline = self._clock.ticks() + int(seconds * 1e6)
        if self._stop_deadline_ticks is None:
            self._say(self._farewell(seconds))
            self._stop_deadline_ticks = deadline
        else:
            self._stop_deadline_ticks = min(self._stop_deadline_ticks, deadline)

    def stop_now(self) -> None:
        """Stops without waiting for anything: SIGKILL to every command."""
        self.stop(0)
        self._running.kill_all()

    def fail(self, error: QueuectlError) -> None:
        """Stops because the worker cannot go on; `run` raises `error` in the end."""
        self._failure = error
        self.wake()

    def _farewell(self, seconds: float) -> str:
        count = len(self._running)
        if not count:
            return "stopping"
        return f"stopping; {count} running job{'s' * (count != 1)} may take {seconds:g} s to finish"

    # ---- the loop

    def run(self) -> None:
        """Works until there is nothing left to do, or no leave to do it.

        Raises the QueuectlError that made it impossible to go on.
        """
        try:
            while not self._is_done():
                self._running.reap()
                self._start_ready()
                self._running.look_after()
                self._mind_the_time()
                self._heed_ledger()
                self._trade()
                self._wait()
        finally:
            self._end_everything()
        if self._failure is not None:
            raise self._failure

    def _is_done(self) -> bool:
        if self._running or self._ready:
            return False
        if self._stop_deadline_ticks is not None:
            return True
        if not self._drain:
            return False
        outlook = self._ledger.outlook()
        return outlook is not None and not outlook.unfinished

    def _start_ready(self) -> None:
        """Fills the free slots from what was claimed."""
        while self._ready and len(self._running) < self._slots and self._may_start():
            claim = self._ready.popleft()
            try:
                self._running.add(self._executor.start(claim))
            except OutOfResources as error:
                self._say(f"{error}; starting nothing for now")
                self._ready.appendleft(claim)
                self._give_back_ready()
                self._paused_until_ticks = self._clock.ticks() + _PAUSE_TICKS
                return
            self._ready_since_ticks = self._clock.ticks()

    def _may_start(self) -> bool:
        """Nothing is started while stopping, nor when the lease may have passed to somebody else."""
        ticks = self._clock.ticks()
        return self._stop_deadline_ticks is None and ticks < self._ledger.lease_ends_ticks

    def _mind_the_time(self) -> None:
        """Ends what runs when a stop has waited long enough; returns what cannot start soon."""
        ticks = self._clock.ticks()
        if self._stop_deadline_ticks is not None:
            self._give_back_ready()
            if ticks >= self._stop_deadline_ticks:
                self._running.end_all("stop")
        elif self._ready and ticks - self._ready_since_ticks > _PATIENCE_TICKS:
            self._give_back_ready()
            self._pace.slow()

    def _heed_ledger(self) -> None:
        """Does what the ledger has learned: a stop, a cancel, the loss of its jobs, its own end."""
        if self._failure is None and self._ledger.failure is not None:
            self._failure = self._ledger.failure
        if self._failure is not None:
            if self._stop_deadline_ticks is None:
                self.stop(0)
            return
        if self._ledger.fenced:
            self._begin_anew()
            return
        outlook = self._ledger.outlook()
        if outlook is None:
            return
        if outlook.stop_requested and self._stop_deadline_ticks is None:
            self.stop(outlook.stop_timeout)
        if outlook.cancelling:
            self._call_off(set(outlook.cancelling))

    def _call_off(self, cancelled: set[tuple[int, int]]) -> None:
        for attempt in self._running:
            if (attempt.claim.token, attempt.claim.seq) in cancelled:
                self._running.end(attempt, "cancel")
        waiting = [claim for claim in self._ready if (claim.token, claim.seq) in cancelled]
        if waiting:
            self._ready = deque(claim for claim in self._ready if claim not in waiting)
            # Giving back a job that was called off cancels it.
            self._ledger.give_back(waiting)

    def _begin_anew(self) -> None:
        """After being given up for lost: ends what still runs, forgets it, registers again."""
        self._say("this worker was given up for lost and its jobs were taken back; starting anew")
        self._ready.clear()
        self._running.end_all("fenced")
        self._running.wait_until_empty(self._wait)
        self._settlements_of(self._running.take_ended())
        self._ledger.close()
        self._ledger = self._make_ledger(self.wake)

    def _trade(self) -> None:
        """Hands what ended to the ledger, and starts what it has claimed."""
        settlements = self._settlements_of(self._running.take_ended())
        claims = self._ledger.trade(settlements, self._capacity())
        if claims:
            if not self._ready:
                self._ready_since_ticks = self._clock.ticks()
            self._ready.extend(claims)
            self._start_ready()

    def _capacity(self) -> int:
        """How many more claims this worker wants to hold: the free slots, and some ahead."""
        if self._stop_deadline_ticks is not None or self._clock.ticks() < self._paused_until_ticks:
            return 0
        self._paused_until_ticks = 0
        ahead = self._pace.ahead()
        wanted = self._slots + ahead - len(self._running) - len(self._ready)
        # Asked for in bulk, or not at all: each request is a commit.
        return wanted if wanted > ahead // 2 else 0

    def _settlements_of(self, ended: list[Attempt]) -> list[Settlement]:
        """Closes the logs of attempts that ended, now that their slots are in use again."""
        settlements = []
        for attempt in ended:
            settlement = self._settlement(attempt)
            if attempt.ending != "fenced":  # Such a job is somebody else's by now.
                settlements.append(settlement)
                self._count(settlement, attempt.seconds)
        return settlements

    def _settlement(self, attempt: Attempt) -> Settlement:
        outcome = attempt.outcome()
        # By the elapsed time: a clock that is set meanwhile makes no run end before it began.
        finished_at = attempt.started_at + int(attempt.seconds * 1e6)
        words = outcome.error or "succeeded (exit status 0)"
        log_end = attempt.log.close(words, finished_at, attempt.seconds)
        verdict = judge(attempt.claim, outcome, self.policy)
        return Settlement(
            attempt.claim,
            outcome,
            verdict,
            self._name,
            attempt.started_at,
            finished_at,
            attempt.log.start,
            log_end,
        )

    def _count(self, settlement: Settlement, seconds: float) -> None:
        kind = settlement.outcome.kind
        self._pace.ended(seconds)
        self.completed += kind == "succeeded"
        self.failed += kind not in ("succeeded", "interrupted", "cancelled")
        if self._on_ended is not None:
            self._on_ended(settlement.claim, settlement.outcome, seconds)

    def _give_back_ready(self) -> None:
        if self._ready:
            self._ledger.give_back(list(self._ready))
            self._ready.clear()

    def _wait(self) -> None:
        """Sleeps until a command ends, the ledger has news, a signal comes, or it is time to look."""
        pause: float | None = None
        if self._running or self._ready:
            pause = self._running.look_every_ticks() / 1000
        elif self._paused_until_ticks:
            pause = _PAUSE_TICKS / 1000
        if self._poll.poll(pause):
            try:
                os.read(self._wake_out, 65536)
            except BlockingIOError:
                pass

    def _end_everything(self) -> None:
        """On the way out, whatever the reason: nothing is left running, nothing is left claimed."""
        self._running.end_all("stop")
        self._running.wait_until_empty(self._wait)
        self._give_back_ready()
        settlements = self._settlements_of(self._running.take_ended())
        self._ledger.give_back(self._ledger.trade(settlements, 0))
        self._ledger.close()


def unusable_database(path: str) -> EnvironmentFault:
    """The database file was removed or replaced while a worker had it open."""
    return EnvironmentFault(
        f"{path} was removed or replaced; what this worker writes can no longer be seen",
        hint="Start the worker again, so that it opens the file that is there now.",
    )
