"""A worker: the slots that run commands, the ledger that keeps them supplied, and this, its main
thread, which sees to timeouts, signals, and what people ask for: a stop, a cancel.
"""

from __future__ import annotations

import threading
from collections import deque

from queuectl.bell import Bell
from queuectl.engine import systemd, threads
from queuectl.engine.running import LOOK_SECONDS, Running
from queuectl.engine.slots import Slots
from queuectl.errors import CouldNotDo
from queuectl.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.config import Config
    from queuectl.engine.attempt import Attempt
    from queuectl.engine.copying import Copier
    from queuectl.engine.execute import Executor
    from queuectl.engine.ledger import Ledger
    from queuectl.engine.slots import OnEnded
    from queuectl.errors import QueuectlError
    from queuectl.jobs.outcome import Policy

    MakeCopier = Callable[
        [Callable[[], set[Attempt]], Callable[[Attempt], None], Callable[[], str]], Copier
    ]
    """Given what runs, who settles what has ended, and the worker's id."""

_JOIN_SECONDS = 0.05
"""How soon a signal is heeded while a thread is waited for."""

_LEASE_MARGIN = 0.2
"""How much of a lease, at most, the commands have for their end before it is over."""

_RENEWAL_TICKS = 1_000_000
"""How long the renewal of a lease may take that is found to be ending (1 s)."""

_LISTEN_SECONDS = 2.0
"""How soon it is looked whether a server still answers."""

_PAUSE_TICKS = 1_000_000
"""How long nothing is started after the machine had no room for a process or a file (1 s)."""


class Worker:
    """Runs jobs until it is told to stop, or, as a drain, until there is nothing left to do.

    `make_ledger` registers a worker and returns its ledger, not started yet; `make_copier`, given who
    settles, makes what copies output into the database, where that keeps any. `say` prints a line
    for people, and `on_ended` is told of each attempt.
    """

    def __init__(
        self,
        *,
        slots: int,
        drain: bool,
        database: str,
        config: Config,
        clock: Clock,
        executor: Executor,
        make_ledger: Callable[[Callable[[], None], Callable[[], Policy]], Ledger],
        say: Callable[[str], None],
        make_copier: MakeCopier | None = None,
        on_ended: OnEnded | None = None,
    ) -> None:
        self._drain = drain
        self._clock = clock
        self._executor = executor
        self._say = say
        self._paused_until_ticks = 0
        self._complained = False
        self._started_before_complaint: Attempt | None = None
        self._pausing = threading.Lock()
        self._stop_deadline_ticks: int | None = None
        self._lease_ends_seen_ticks: int | None = None
        self._lease_end_told = False
        self.in_a_hurry = False
        """Somebody does not want to wait for anything."""
        self._asked: deque[Callable[[], object]] = deque()
        self._stop_heeded = False
        self._stop_timeout_heeded: float | None = None
        self._failure: QueuectlError | None = None
        self._bell = Bell()
        self._watchdog = systemd.Watchdog(clock)
        self.ledger = make_ledger(self.wake, lambda: self.policy)
        self._running = Running(database, clock, self.ledger.lease.holds)
        self._copier = None
        if make_copier is not None:
            self._copier = make_copier(self._running.all, self.ledger.settle, lambda: self.id)
            self.ledger.on_dropped_output = self._copier.complain
        self.configure(config)
        self._slots = Slots(
            slots,
            clock=clock,
            executor=executor,
            running=self._running,
            ledger=self.ledger,
            copier=self._copier,
            may_start=self._may_start,
            on_no_room=self._pause,
            on_defect=lambda what: self.fail(CouldNotDo(what)),
            on_ended=on_ended,
            policy=lambda: self.policy,
        )

    def configure(self, config: Config) -> None:
        """Takes over the settings, for what begins from now on."""
        self._executor.configure(config)
        if self._copier is not None:
            self._copier.configure(config)
        self._running.grace_seconds = config.kill_grace_seconds
        self._stop_timeout = config.stop_timeout_seconds
        if self.ledger.lease.configure(config.lease_seconds):
            self.ledger.look_again()
        self.policy = config.policy()

    @property
    def grace_seconds(self) -> float:
        """Between SIGTERM and SIGKILL, as configured."""
        return self._running.grace_seconds

    # ---- for signals and other threads

    @property
    def id(self) -> str:
        """The id it is registered under, another one after each loss of its lease."""
        return self.ledger.lease.worker.id

    @property
    def wake_descriptor(self) -> int:
        """A byte written here makes the loop look around: what `signal.set_wakeup_fd` wants."""
        return self._bell.descriptor

    def wake(self) -> None:
        """Makes the loop look around. Never blocks; may be called from any thread."""
        self._bell.ring()

    def soon(self, action: Callable[[], object]) -> None:
        """Has the loop do this next. May be called from a signal handler."""
        self._asked.append(action)
        self.wake()

    def stop(self, timeout: float | None = None) -> None:
        """Starts no more commands; those that run may take `timeout` more seconds (None: as
        configured), then they are ended and given back. A later call can only shorten that.
        """
        seconds = self._stop_timeout if timeout is None else timeout
        deadline = self._clock.ticks() + int(seconds * 1e6)
        if self._stop_deadline_ticks is None:
            self._stop_deadline_ticks = deadline
            self._say(self._farewell(seconds))
            systemd.notify("STOPPING=1")
        else:
            self._stop_deadline_ticks = min(self._stop_deadline_ticks, deadline)

    def stop_now(self) -> None:
        """Stops without waiting for anything: SIGKILL to every command."""
        self.in_a_hurry = True
        self.stop(0)
        self._running.hurry()
        self.ledger.give_up()
        if self._copier is not None:
            self._copier.give_up()

    def fail(self, error: QueuectlError) -> None:
        """Stops because the worker cannot go on; `run` raises `error` in the end."""
        self._failure = error
        self.wake()

    def _farewell(self, seconds: float) -> str:
        count = len(self._running)
        if not count:
            return "stopping"
        return f"stopping; {counted(count, 'running job')} may take {seconds:g} s to finish"

    def _may_start(self, ticks: int) -> bool:
        """Nothing is started while stopping, nor when the lease may have passed to somebody else."""
        return self._stop_deadline_ticks is None and self.ledger.lease.holds(ticks)

    def _pause(self, reason: str) -> None:
        """Starts nothing for a while, for want of room."""
        with self._pausing:
            # Said once, until a command could be started again.
            latest = self._running.latest
            news = not self._complained or self._started_before_complaint is not latest
            self._complained, self._started_before_complaint = True, latest
            self._paused_until_ticks = self._clock.ticks() + _PAUSE_TICKS
        if news:
            self._say(f"{reason}; starting nothing for now")
        self.ledger.accept(False)
        self.wake()

    # ---- the loop

    def run(self) -> None:
        """Works until the queue is drained, as a drain, or until it is told to stop.

        Raises the QueuectlError that made it impossible to go on.
        """
        try:
            threads.start(self.ledger)
            if self._copier is not None:
                threads.start(self._copier)
            self._slots.start()
            self._work()
        except BaseException:
            self.stop_now()
            self._work()
            raise
        finally:
            self._slots.close()
            if self._copier is not None:
                self._copier.ask_to_close()
            self._close_ledger()
        self._failure = self._failure or self.ledger.failure
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while not self._is_done():
            self._do_what_was_asked()
            pause = self._running.look_after()
            self._heed_stop()
            self._heed_ledger()
            self._heed_lease()
            self.ledger.mind_silence()
            self._mind_pause()
            self._pat_watchdog()
            if not self._is_done():
                self._wait(pause)

    def _do_what_was_asked(self) -> None:
        while self._asked:
            self._asked.popleft()()

    def _close_ledger(self) -> None:
        """Waits until all is written, unless somebody loses patience (`stop_now`)."""
        self.ledger.ask_to_close()
        while self.ledger.is_alive():
            self.wait_for(self.ledger)
        self.ledger.free()

    def wait_for(self, thread: threading.Thread) -> None:
        """Waits a little for a thread to end, then does what signals ask for."""
        thread.join(_JOIN_SECONDS)
        self.ledger.mind_silence()
        self._do_what_was_asked()
        self._pat_watchdog()

    def _is_done(self) -> bool:
        if self._stop_deadline_ticks is not None:
            return self.ledger.held == 0
        return self._drain and self.ledger.is_drained

    def _heed_stop(self) -> None:
        """Once told to stop: claims no more, and ends what has had its time."""
        if self._failure is None:
            self._failure = self.ledger.failure
        if self.ledger.outdated is not None and self._failure is None:
            self._failure = self.ledger.outdated
            self._say(self._failure.message)
            self.stop()  # What runs has time to end.
        if self._failure is not None and self._stop_deadline_ticks is None:
            self.stop(0)
        if self._stop_deadline_ticks is None:
            return
        self.ledger.accept(False)
        self.ledger.give_back_ready()
        if self._clock.ticks() >= self._stop_deadline_ticks:
            self._running.end(self._running.all(), "stop")

    def _heed_ledger(self) -> None:
        """Does what the ledger has learned: a stop, a cancel, the loss of its jobs."""
        # Looked up before it is asked for, so that none of a new life of this worker is among them.
        running = self._running.all()
        if self.ledger.lease.lost:
            self.ledger.give_back_ready()
            self._running.end(running, "fenced")
            return
        self.ledger.give_back_waiting()
        outlook = self.ledger.outlook
        if outlook is None:
            return
        if outlook.stop_requested and (
            not self._stop_heeded or self._stop_timeout_heeded != outlook.stop_timeout
        ):
            self._stop_heeded, self._stop_timeout_heeded = True, outlook.stop_timeout
            self.stop(outlook.stop_timeout)
        if outlook.cancelling:
            self._running.end_claims(outlook.cancelling, "cancel")
            # Giving back a job that was called off cancels it; the others come again.
            self.ledger.give_back_ready()

    def _heed_lease(self) -> None:
        """Ends what runs when the lease could not be renewed and is about to end, where another
        machine may begin to run it then: nobody there can end what runs here.
        """
        ledger, ticks = self.ledger, self._clock.ticks()
        if not ledger.held or not ledger.may_be_cut_off or ledger.lease.lost:
            return
        seconds = self.grace_seconds + _RENEWAL_TICKS / 1e6
        margin = min(seconds, ledger.lease.worker.lease_seconds * _LEASE_MARGIN)
        if ledger.lease.holds(ticks + int(margin * 1e6)):
            self._lease_ends_seen_ticks = None
            self._lease_end_told = False
            return
        # After a machine stood still it is over before it can have been renewed.
        if self._lease_ends_seen_ticks is None:
            self._lease_ends_seen_ticks = ticks
        elif ticks - self._lease_ends_seen_ticks > _RENEWAL_TICKS:
            running = self._running.all()
            if running and not self._lease_end_told:
                self._lease_end_told = True
                self._say(
                    f"ending {counted(len(running), 'running job')}: this worker's lease could not be"
                    " renewed and is about to end, and other workers may run its jobs then"
                )
            self._running.end(running, "lease")

    def _mind_pause(self) -> None:
        if self._paused_until_ticks and self._clock.ticks() >= self._paused_until_ticks:
            self._paused_until_ticks = 0
            self.ledger.accept(self._stop_deadline_ticks is None)

    def _pat_watchdog(self) -> None:
        """All is well as long as the ledger's thread goes round as this one does. A full disk, or the
        rescue of another worker that takes long, is nothing that a new start would mend.
        """
        if self.ledger.is_lively():
            self._watchdog.pat()

    def _wait(self, pause: float) -> None:
        """Sleeps until the ledger has news, a signal comes, or it is time to look."""
        seconds = self._watchdog.seconds
        if self.ledger.may_be_cut_off:
            seconds = _LISTEN_SECONDS if seconds is None else min(seconds, _LISTEN_SECONDS)
        if self.ledger.held or self._paused_until_ticks:
            seconds = pause if seconds is None else min(seconds, pause)
        if self._stop_deadline_ticks is not None:
            seconds = min(pause, LOOK_SECONDS / 10)
        self._bell.wait(seconds)
