"""Copying what commands write into the database, where others read it who do not have the logs.

A thread and a connection of their own, which neither a claim, nor a settlement, nor the lease waits
for. What an attempt wrote since the last step is short as a rule, and goes with its outcome, in one
transaction; where it is not, the outcome goes to the ledger when the copy is complete.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from queuectl.errors import PASSING
from queuectl.job_logs.copying import NoCopy, OutputCopy
from queuectl.job_logs.open_log import OpenLog
from queuectl.storage.records import OutputPart
from queuectl.text import storable, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from queuectl.config import Config
    from queuectl.engine.attempt import Attempt
    from queuectl.job_logs.blocks import Step
    from queuectl.storage.job_storage import WorkerStorage

STEP_SECONDS = 2.0
"""How far the copy of what runs may be behind."""

_MOST_BLOCKS = 16
"""Of one attempt in one transaction: 1 MiB, before it is compressed."""

_RETRY_SECONDS = 1.0
"""Between tries to copy while the database cannot be written, and up to as long again."""


class Copier(threading.Thread):
    """`running` gives the attempts that run, `settle` takes those that have ended. `host` and `folder`
    say where the logs are; `say` prints a line for people.
    """

    def __init__(
        self,
        open_storage: Callable[[], WorkerStorage],
        *,
        running: Callable[[], Iterable[Attempt]],
        settle: Callable[[Attempt], None],
        worker_id: Callable[[], str],
        host: str,
        folder: str,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name="copier", daemon=True)
        self._open_storage = open_storage
        self._running = running
        self._settle = settle
        self._worker_id = worker_id
        self._host = host
        self._folder = storable(folder)
        self._say = say
        self._keep: int | None = 0
        self._storage: WorkerStorage | None = None
        self._complaint = ""
        self._wake = threading.Event()
        self._asked_to_close = threading.Event()
        self._giving_up = False
        self._lock = threading.Lock()
        # Guarded by the lock:
        self._under_way: set[Attempt] = set()
        """Those that this thread makes a step of."""
        self._ended: list[Attempt] = []
        """Those that are settled when their copy is complete."""

    def configure(self, config: Config) -> None:
        """Takes over the settings, for what is copied from now on."""
        self._keep = None if config.log_store == "database" else config.log_tail_bytes

    def settle(self, attempt: Attempt) -> None:
        """Settles an attempt that has ended, with the rest of its output, or when that is copied."""
        with self._lock:
            waits = attempt in self._under_way and not self._giving_up
            if waits:
                self._ended.append(attempt)
        if not waits and not self._giving_up:
            try:
                found = self._next(attempt, attempt.log.fd, 1)
            except Exception as error:  # noqa: BLE001 - its outcome matters more
                self.complain(error)
                found = None
            waits = found is not None and not found[0].is_last
            if found is not None and not waits:
                attempt.output = found[1]
            if waits:
                with self._lock:
                    self._ended.append(attempt)
        if waits:
            self._wake.set()
        else:
            self._settle(attempt)

    def complain(self, error: Exception) -> None:
        """Says why some output is not copied, unless that was said last."""
        what = visible(str(error), 300) or type(error).__name__
        if what != self._complaint:
            self._complaint = what
            self._say(
                f"cannot copy output into the database: {what}; the log on this machine has it all"
            )

    def give_up(self) -> None:
        """Somebody does not want to wait: what has ended is settled as it is."""
        self._giving_up = True
        with self._lock:
            ended, self._ended = self._ended, []
        for attempt in ended:
            self._settle(attempt)

    def ask_to_close(self) -> None:
        """Has the thread end. Nothing may run any more, nor wait to be settled."""
        self._asked_to_close.set()
        self._wake.set()

    # ---- the thread

    def run(self) -> None:
        """The thread's life: a step every STEP_SECONDS, or as soon as somebody waits for one."""
        if sys.platform != "win32":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._asked_to_close.is_set():
            self._wake.wait(STEP_SECONDS)
            self._wake.clear()
            try:
                self._copy()
            except PASSING:  # The ledger, which meets them too, says so.
                self._wake.set()
                import random  # Rarely needed, and slow to load.

                # Not all at once: a server that comes back has hundreds of workers waiting for it.
                self._asked_to_close.wait(_RETRY_SECONDS * random.uniform(1, 2))
            except Exception as error:  # noqa: BLE001 - no outcome may wait for a thread that is gone
                self._say(f"copies no more output: unexpected {type(error).__name__}: {error}")
                self.give_up()
                break
        if self._storage is not None:
            self._storage.close()

    def _copy(self) -> None:
        """Makes a step of the copy of all that runs, and of all that waits to be settled."""
        with self._lock:
            ended = self._ended.copy()
            self._under_way = {*ended, *self._running()}
        try:
            unfinished = self._copy_some(self._under_way)
        finally:
            with self._lock:
                self._under_way = set()
        for attempt in ended:
            if attempt not in unfinished:
                with self._lock:
                    waits = attempt in self._ended
                    if waits:
                        self._ended.remove(attempt)
                if waits:
                    self._settle(attempt)
        if unfinished:
            self._wake.set()

    def _copy_some(self, attempts: set[Attempt]) -> set[Attempt]:
        """Copies what there is to copy, up to some length; returns those of which there is more."""
        steps = {}
        for attempt in attempts:
            found = self._read(attempt)
            if found is not None:
                steps[attempt] = found
        if not steps:
            return set()
        try:
            self._storage = self._storage or self._open_storage()
            parts = [part for _, part in steps.values()]
            refused = self._storage.keep_output(self._worker_id(), parts)
        except PASSING:
            raise
        except Exception as error:  # noqa: BLE001 - no outcome may wait for that for ever
            self.complain(error)
            refused = [attempt.claim for attempt in steps]
        unfinished = set()
        for attempt, (step, _) in steps.items():
            if attempt.claim in refused:
                attempt.copy = NoCopy()
                continue
            if attempt.copy is not None:
                attempt.copy.took(step)
            if not step.is_last:
                unfinished.add(attempt)
        return unfinished

    def _read(self, attempt: Attempt) -> tuple[Step, OutputPart] | None:
        try:
            with self._lock:
                if self._giving_up:
                    return None  # Its log may be closed, and the descriptor another file's.
                fd = os.dup(attempt.log.fd)
        except OSError:
            return None
        try:
            return self._next(attempt, fd, _MOST_BLOCKS)
        finally:
            os.close(fd)

    def _next(self, attempt: Attempt, fd: int, most: int) -> tuple[Step, OutputPart] | None:
        """What to copy next of its output; None when there is nothing. `fd` is one of its log's."""
        try:
            if attempt.copy is None:
                log = attempt.log
                if not isinstance(log, OpenLog) or not log.has_output(fd):
                    return None
                attempt.copy = OutputCopy(log)
            found = attempt.copy.next(fd, self._keep, most)
        except OSError:
            attempt.copy = NoCopy()
            return None
        if found is None:
            return None
        step, blocks = found
        part = OutputPart(
            attempt.claim, self._host, self._folder, step.begins, step.length, step.dropped, blocks
        )
        return step, part
