"""A worker: some slots, and the loop that keeps them full.

This thread alone starts commands, waits for them and ends them. Everything that can make it wait
for a disk is done beside it: the ledger settles and claims, maintenance looks after other workers.
"""

from __future__ import annotations

import os
import select
import signal
from collections import deque

from queuectl.engine import tree
from queuectl.engine.attempt import Attempt
from queuectl.engine.launcher import NotStarted, OutOfResources
from queuectl.engine.pace import Pace
from queuectl.errors import EnvironmentFault, QueuectlError
from queuectl.jobs.outcome import Outcome, Policy, judge, not_started
from queuectl.storage.job_storage import Settlement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.config import Config
    from queuectl.engine.launcher import Launcher
    from queuectl.engine.ledger import Ledger
    from queuectl.job_logs import JobLogs
    from queuectl.jobs.claim import Claim

_PATIENCE_TICKS = 100_000
"""A claimed job that has found no slot for this long (0.1 s) goes back, for another worker to run."""

_LOOK_TICKS = 100_000
"""How often running attempts are looked at: timeouts, sizes of logs, trees that are being ended."""

_PAUSE_TICKS = 1_000_000
"""How long nothing is started after the machine had no room for a process or a file (1 s)."""


class Worker:
    """Runs jobs until it is told to stop, or, as a drain, until there is nothing left to do.

    `make_ledger` registers a worker and returns its running ledger: called once, and again should
    this worker be given up for lost and come back. `say` prints a line for people.
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
        logs: JobLogs,
        launcher: Launcher,
        make_ledger: Callable[[Callable[[], None]], Ledger],
        say: Callable[[str], None],
        on_ended: Callable[[Claim, Outcome, float], None] | None = None,
    ) -> None:
        self._slots = slots
        self._drain = drain
        self._database = database
        self._name = name
        self._clock = clock
        self._logs = logs
        self._launcher = launcher
        self._make_ledger = make_ledger
        self._say = say
        self._on_ended = on_ended
        self.configure(config)

        self._ready: deque[Claim] = deque()
        self._ready_since = 0
        self._running: dict[int, Attempt] = {}
        self._ended: list[tuple[Attempt, int]] = []
        self._settlements: list[Settlement] = []
        self._pace = Pace(slots)
        self._looked_ticks = 0
        self._paused_until_ticks = 0
        self._stop_deadline_ticks: int | None = None
        self._failure: QueuectlError | None = None
        self.completed = 0
        self.failed = 0

        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_out, False)
        os.set_blocking(self._wake_in, False)
        self._poll = select.poll()
        self._poll.register(self._wake_out, select.POLLIN)
        self._ledger = make_ledger(self.wake)

    def configure(self, config: Config) -> None:
        """Takes over the settings, for what begins from now on."""
        self._job_timeout = config.job_timeout
        self._grace_ticks = int(config.kill_grace_seconds * 1e6)
        self._stop_timeout = config.stop_timeout_seconds
        self._log_max_bytes = config.log_max_bytes
        self.policy = Policy(backoff_base=config.backoff_base, max_losses=config.max_losses)
        self.grace_seconds = config.kill_grace_seconds

    # ---- for signals and other threads

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
        configured), then they are ended and given back. A later call may only shorten that.
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
        self._grace_ticks = 0

    def fail(self, error: QueuectlError) -> None:
        """Stops because the worker cannot go on; `run` raises `error` in the end."""
        self._failure = error
        self.wake()

    def _farewell(self, seconds: float) -> str:
        if not self._running:
            return "stopping"
        count = len(self._running)
        return f"stopping; {count} running job{'s' * (count != 1)} may take {seconds:g} s to finish"

    # ---- the loop

    @property
    def worker_id(self) -> str:
        """The id it is registered under now."""
        return self._ledger.worker_id

    @property
    def left_nothing_behind(self) -> bool:
        """Whether every job it held was settled or given back."""
        return not self._ledger.fenced and self._ledger.failure is None

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Works until there is nothing left to do, or no leave to do it.

        Raises the QueuectlError that made it impossible to go on.
        """
        on_ready()
        try:
            while True:
                self._reap()
                self._start()
                self._heed()
                self._look_after_running()
                self._finish()
                self._trade()
                if self._is_done():
                    break
                self._wait()
        finally:
            self._end_everything()
            self._ledger.close()
        if self._failure is not None:
            raise self._failure

    def _reap(self) -> None:
        """Collects the commands that have ended."""
        while self._running:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            attempt = self._running.get(pid)
            if attempt is None:
                continue
            attempt.status = status
            if attempt.ending is None:
                del self._running[pid]
                self._ended.append((attempt, self._clock.ticks()))
            # Else its tree has to be gone first: see _look_after_running.

    def _start(self) -> None:
        """Fills the free slots from what was claimed."""
        if not self._ready:
            return
        ticks = self._clock.ticks()
        if ticks < self._paused_until_ticks:
            return
        while self._ready and len(self._running) < self._slots and self._may_start(ticks):
            claim = self._ready.popleft()
            if not self._start_one(claim, ticks):
                self._ready.appendleft(claim)
                self._paused_until_ticks = ticks + _PAUSE_TICKS
                self._return_ready()
                return
            ticks = self._clock.ticks()
            self._ready_since = ticks

    def _may_start(self, ticks: int) -> bool:
        """Nothing is started while stopping, nor when the lease may have passed to somebody else."""
        return self._stop_deadline_ticks is None and ticks < self._ledger.lease_ends_ticks

    def _start_one(self, claim: Claim, ticks: int) -> bool:
        """Starts one command; false when the machine has no room for it now."""
        now = self._clock.now()
        try:
            log = self._logs.open_attempt(
                claim.id,
                claim.attempt,
                max_retries=claim.max_retries,
                started_at=now,
                worker=self._name,
                command=claim.command,
                cwd=claim.cwd,
                max_bytes=self._log_max_bytes,
            )
        except FileNotFoundError:
            self._logs.ensure_folder()  # Somebody removed it while we ran.
            return False
        except OSError as error:
            self._say(
                f"cannot write the log of job {claim.id}: {error.strerror}; starting nothing for now"
            )
            return False
        timeout = self._job_timeout if claim.timeout is None else claim.timeout
        attempt = Attempt(claim, 0, log, started_at=now, started_ticks=ticks, timeout=timeout)
        try:
            attempt.pid = self._launcher.start(claim, log.fd)
        except NotStarted as error:
            self._settle(attempt, not_started(str(error)), ticks)
            return True
        except OutOfResources as error:
            self._say(
                f"the machine has no room for another process ({error}); starting nothing for now"
            )
            log.discard()
            return False
        self._running[attempt.pid] = attempt
        return True

    def _finish(self) -> None:
        """Writes the closing lines of what ended, now that its slots are in use again."""
        for attempt, ticks in self._ended:
            self._settle(attempt, attempt.outcome(), ticks)
        self._ended.clear()

    def _settle(self, attempt: Attempt, outcome: Outcome, ticks: int) -> None:
        claim = attempt.claim
        seconds = max(0, ticks - attempt.started_ticks) / 1e6
        # By the elapsed time, so that a clock that was set meanwhile makes no run end before it began.
        finished_at = attempt.started_at + int(seconds * 1e6)
        log_end = attempt.log.close(_closing_words(outcome), finished_at, seconds)
        if attempt.ending == "fenced":
            return  # The job is somebody else's by now.
        verdict = judge(claim, outcome, self.policy)
        self._settlements.append(
            Settlement(
                claim,
                outcome,
                verdict,
                self._name,
                attempt.started_at,
                finished_at,
                attempt.log.start,
                log_end,
            )
        )
        self._pace.ended(seconds)
        if outcome.kind == "succeeded":
            self.completed += 1
        elif outcome.kind != "interrupted":
            self.failed += 1
        if self._on_ended is not None:
            self._on_ended(claim, outcome, seconds)

    def _heed(self) -> None:
        """Does what the ledger has learned: a stop, a cancel, the loss of its jobs, its own end."""
        ledger = self._ledger
        if self._failure is None and ledger.failure is not None:
            self._failure = ledger.failure
        if self._failure is not None:
            if self._stop_deadline_ticks is None:
                self.stop(0)
            return
        if ledger.fenced:
            self._begin_anew()
            return
        outlook = ledger.outlook()
        if outlook is None:
            return
        if outlook.stop_requested and self._stop_deadline_ticks is None:
            self.stop(outlook.stop_timeout)
        if outlook.cancelling:
            wanted = set(outlook.cancelling)
            for attempt in self._running.values():
                if attempt.ending is None and (attempt.claim.token, attempt.claim.seq) in wanted:
                    self._end(attempt, "cancel")
            # Settling a claim that was called off before it started makes it cancelled.
            called_off = [c for c in self._ready if (c.token, c.seq) in wanted]
            if called_off:
                self._ready = deque(c for c in self._ready if (c.token, c.seq) not in wanted)
                self._ledger.give_back(called_off)

    def _begin_anew(self) -> None:
        """After being given up for lost: ends what still runs, forgets it, registers again."""
        self._say("this worker was given up for lost and its jobs were taken back; starting anew")
        self._ready.clear()
        self._settlements.clear()
        for attempt in list(self._running.values()):
            self._end(attempt, "fenced", grace_ticks=0)
        self._wait_for_running()
        self._ledger.close()
        self._ledger = self._make_ledger(self.wake)

    def _look_after_running(self) -> None:
        """Timeouts, stops, sizes of logs, and the trees that are being ended."""
        ticks = self._clock.ticks()
        if ticks - self._looked_ticks < self._look_every():
            return
        self._looked_ticks = ticks
        if self._ready and ticks - self._ready_since > _PATIENCE_TICKS:
            self._return_ready()
            self._pace.slow()
        for attempt in list(self._running.values()):
            if attempt.ending is not None:
                self._press_on(attempt, ticks)
            elif attempt.deadline_ticks is not None and ticks >= attempt.deadline_ticks:
                self._end(attempt, "timeout")
            elif self._stop_deadline_ticks is not None and ticks >= self._stop_deadline_ticks:
                self._end(attempt, "stop")
            else:
                attempt.log.limit()

    def _look_every(self) -> int:
        """Ticks between two looks; often while a tree is being ended, for that is soon over."""
        if self._stop_deadline_ticks is not None or any(
            attempt.ending is not None for attempt in self._running.values()
        ):
            return _LOOK_TICKS // 10
        return _LOOK_TICKS

    def _end(self, attempt: Attempt, why: str, *, grace_ticks: int | None = None) -> None:
        """Begins to end a command with everything it started: SIGTERM now, SIGKILL later."""
        grace = self._grace_ticks if grace_ticks is None else grace_ticks
        attempt.ending = why
        attempt.kill_ticks = self._clock.ticks() + grace
        if grace:
            tree.send(attempt.pid, self._database, attempt.claim, signal.SIGTERM)
        self._press_on(attempt, self._clock.ticks())

    def _press_on(self, attempt: Attempt, ticks: int) -> None:
        """One step towards the end of a tree; it counts as ended when nothing of it is left."""
        if attempt.status is not None and tree.is_gone(attempt.pid, self._database, attempt.claim):
            del self._running[attempt.pid]
            self._ended.append((attempt, ticks))
        elif ticks >= attempt.kill_ticks or self._grace_ticks == 0:
            tree.send(attempt.pid, self._database, attempt.claim, signal.SIGKILL)

    def _trade(self) -> None:
        """Hands what ended to the ledger, and takes what it has claimed."""
        if self._stop_deadline_ticks is not None and self._ready:
            self._return_ready()
        settlements, self._settlements = self._settlements, []
        claims = self._ledger.trade(settlements, self._capacity())
        if not claims:
            return
        if not self._ready:
            self._ready_since = self._clock.ticks()
        self._ready.extend(claims)
        self._start()

    def _capacity(self) -> int:
        """How many more claims this worker wants to hold: the free slots, and some ahead."""
        if self._stop_deadline_ticks is not None or self._clock.ticks() < self._paused_until_ticks:
            return 0
        wanted = self._slots + self._pace.ahead() - len(self._running) - len(self._ready)
        # Asked for in bulk, or not at all: each request is a commit.
        return wanted if wanted > self._pace.ahead() // 2 else 0

    def _return_ready(self) -> None:
        if self._ready:
            self._ledger.give_back(list(self._ready))
            self._ready.clear()

    def _is_done(self) -> bool:
        if self._running or self._ready:
            return False
        if self._stop_deadline_ticks is not None:
            return True
        outlook = self._ledger.outlook()
        return self._drain and outlook is not None and not outlook.unfinished

    def _wait(self) -> None:
        """Sleeps until a command ends, the ledger has news, a signal comes, or it is time to look."""
        if self._running or self._ready:
            pause: float | None = self._look_every() / 1000
        elif self._paused_until_ticks > self._clock.ticks():
            pause = _PAUSE_TICKS / 1000
        else:
            pause = None
        if self._poll.poll(pause):
            try:
                os.read(self._wake_out, 65536)
            except BlockingIOError:
                pass

    def _wait_for_running(self) -> None:
        while self._running:
            self._reap()
            self._look_after_running()
            self._finish()
            if self._running:
                self._wait()

    def _end_everything(self) -> None:
        """On the way out, whatever the reason: nothing is left running, nothing is left claimed."""
        for attempt in list(self._running.values()):
            if attempt.ending is None:
                self._end(attempt, "stop")
        self._wait_for_running()
        self._return_ready()
        if not self._ledger.fenced:
            self._ledger.trade(self._settlements, 0)
            self._settlements = []


def _closing_words(outcome: Outcome) -> str:
    return outcome.error or "succeeded (exit status 0)"


def unusable_database(path: str) -> EnvironmentFault:
    """The database file was removed or replaced while a worker had it open."""
    return EnvironmentFault(
        f"{path} was removed or replaced; what this worker writes can no longer be seen",
        hint="Start the worker again, so that it opens the file that is there now.",
    )
