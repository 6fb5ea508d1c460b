"""Putting a worker together, and running it in this process."""

from __future__ import annotations

import os
import sys
import time

from queuectl import processes
from queuectl.config import Config
from queuectl.engine import signals, systemd, threads
from queuectl.engine.closing import Closing
from queuectl.engine.execute import Executor
from queuectl.engine.launcher import Launcher
from queuectl.engine.lease import Lease
from queuectl.engine.ledger import Ledger
from queuectl.engine.maintenance import EVERY_SECONDS, Maintenance
from queuectl.engine.rescue import Patience, rescue_lost
from queuectl.engine.worker import Worker
from queuectl.errors import (
    DatabaseError,
    EnvironmentFault,
    QueuectlError,
    QueueNotFound,
    WorkerFenced,
)
from queuectl.job_logs import JobLogs
from queuectl.jobs.tags import unpacked
from queuectl.storage import open_worker_storage
from queuectl.storage.records import NewWorker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.clock import Clock
    from queuectl.engine.attempt import Attempt
    from queuectl.engine.copying import Copier
    from queuectl.engine.slots import OnEnded
    from queuectl.jobs.outcome import Policy
    from queuectl.processes import Identity
    from queuectl.storage.job_storage import WorkerStorage
    from queuectl.workspace import Workspace


class Orders:
    """What a worker is told when it is started."""

    __slots__ = ("drain", "mode", "poll_seconds", "slots", "tags")

    def __init__(
        self,
        *,
        slots: int,
        drain: bool = False,
        mode: str = "foreground",
        poll_seconds: float | None = None,
        tags: tuple[str, ...] | None = None,
    ) -> None:
        self.slots = slots
        self.drain = drain
        self.mode = mode
        self.poll_seconds = poll_seconds
        """How often to look for changes where the system does not report them; None: as configured."""
        self.tags = tags
        """What jobs may require of it; None: as configured."""


class Tally:
    """What a worker did in its life."""

    __slots__ = ("completed", "failed", "left")

    def __init__(self, completed: int, failed: int, left: dict[tuple[str, ...], int]) -> None:
        self.completed = completed
        self.failed = failed
        self.left = left
        """How many jobs a drain left because they require other tags, for each set of these."""


def run_worker(
    workspace: Workspace,
    orders: Orders,
    *,
    say: Callable[[str], None],
    make_queue: Callable[[], None] = lambda: None,
    on_ready: Callable[[str], None] = lambda name: None,
    on_ended: OnEnded | None = None,
) -> Tally:
    """Runs a worker in this thread, which must be the main one, until it is told to stop or, as a
    drain, until all is done.

    `say` gets remarks for people, `make_queue` is called where there is none, and `on_ready` with the
    worker's name once it is registered. Raises the QueuectlError that kept it from going on.
    """
    _require_utf8()
    workspace.make_folder()
    config = workspace.load_config()
    JobLogs(workspace.logs).ensure_folder()
    me = processes.this_process()
    try:
        storage = open_worker_storage(workspace.location)
    except QueueNotFound:
        make_queue()
        storage = open_worker_storage(workspace.location)
    clock = storage.clock
    _rescue_first(workspace, storage, config, clock, me, say)
    worker = _assemble(workspace, orders, storage, config, clock, me, say, on_ended)
    signals.install(worker, _reloading(workspace, worker, say))
    maintenance = Maintenance(
        lambda: open_worker_storage(workspace.location, clock),
        workspace.database,
        clock,
        worker_id=lambda: worker.id,
        policy=lambda: worker.policy,
        grace_seconds=lambda: worker.grace_seconds,
        say=say,
        on_clock_step=worker.ledger.look_again,
        database_gone=lambda: worker.fail(_unusable(workspace.database)),
        is_told=lambda: worker.ledger.trouble.is_known,
    )
    left: dict[tuple[str, ...], int] = {}
    try:
        threads.start(maintenance)
        on_ready(_name(me))
        systemd.notify("READY=1")
        worker.run()
        if orders.drain:
            left = _left_to_others(storage, worker.id)
    finally:
        _leave(storage, worker.id)
        maintenance.ask_to_close()
        # Whoever dies during a rescue leaves it to the next one.
        while maintenance.is_alive() and not worker.in_a_hurry:
            worker.wait_for(maintenance)
    return Tally(worker.ledger.completed, worker.ledger.failed, left)


def _name(me: Identity) -> str:
    return f"{me.host}:{me.pid}"


def _rescue_first(
    workspace: Workspace,
    storage: WorkerStorage,
    config: Config,
    clock: Clock,
    me: Identity,
    say: Callable[[str], None],
) -> None:
    """What a lost worker held is due again before this one claims anything."""
    patience = Patience()
    try:
        while True:
            for rescue in rescue_lost(
                storage,
                workspace.database,
                policy=config.policy(),
                clock=clock,
                grace_seconds=config.kill_grace_seconds,
                patience=patience,
                myself=me,
            ):
                say(rescue.describe())
            others = {worker.pid for worker in storage.workers()}
            if not others or storage.suspended_writer() not in others:
                break
            # It keeps this one from registering, too, until its lease is over and it is ended.
            time.sleep(EVERY_SECONDS)
    except OSError as error:
        say(f"cannot look after other workers: {error.strerror}")


def _assemble(
    workspace: Workspace,
    orders: Orders,
    storage: WorkerStorage,
    config: Config,
    clock: Clock,
    me: Identity,
    say: Callable[[str], None],
    on_ended: OnEnded | None,
) -> Worker:
    """A worker, registered and ready to run."""
    name = _name(me)
    tags = unpacked(config.host_tags) if orders.tags is None else orders.tags

    def new_worker() -> NewWorker:
        return NewWorker(
            id=os.urandom(8).hex(),
            name=name,
            host=me.host,
            boot_id=me.boot_id,
            process_space=me.process_space,
            pid=me.pid,
            process_started=me.process_started,
            slots=orders.slots,
            mode=orders.mode,
            lease_seconds=config.lease_seconds,
            tags=tags,
        )

    def make_ledger(wake_worker: Callable[[], None], policy: Callable[[], Policy]) -> Ledger:
        seconds = orders.poll_seconds
        watch = storage.watch(config.poll_interval_seconds if seconds is None else seconds)
        return Ledger(
            storage,
            watch,
            clock,
            Lease(storage, clock, new_worker),
            closing=Closing(name, policy),
            wake_worker=wake_worker,
            say=say,
            inside=workspace.surrounding_job(),
        )

    def make_copier(
        running: Callable[[], set[Attempt]],
        settle: Callable[[Attempt], None],
        worker_id: Callable[[], str],
    ) -> Copier:
        from queuectl.engine.copying import Copier

        return Copier(
            lambda: open_worker_storage(workspace.location, clock),
            running=running,
            settle=settle,
            worker_id=worker_id,
            host=me.host,
            folder=workspace.logs,
            say=say,
        )

    return Worker(
        slots=orders.slots,
        drain=orders.drain,
        database=workspace.database,
        config=config,
        clock=clock,
        executor=Executor(
            name=name,
            logs=JobLogs(workspace.logs),
            launcher=Launcher(workspace.variables()),
            clock=clock,
            config=config,
        ),
        make_ledger=make_ledger,
        make_copier=make_copier if storage.keeps_output else None,
        say=say,
        on_ended=on_ended,
    )


def _reloading(
    workspace: Workspace, worker: Worker, say: Callable[[str], None]
) -> Callable[[], None]:
    """What SIGHUP does: reads the configuration again, or stops where it means the terminal's end."""
    on_terminal = sys.stdin is not None and os.isatty(0)

    def reload() -> None:
        if on_terminal and not os.isatty(0):
            worker.stop()  # What hung up is the terminal that it ran in.
            return
        try:
            worker.configure(workspace.load_config())
            say("read the configuration again")
        except QueuectlError as error:
            say(f"kept the old configuration: {error.message}")

    return reload


def _require_utf8() -> None:
    """Commands, folders and names of logs are handed to the system as UTF-8."""
    encoding = sys.getfilesystemencoding()
    if encoding.lower() != "utf-8":
        raise EnvironmentFault(
            f"this system's encoding is {encoding}; a worker needs UTF-8",
            hint="Start it with PYTHONUTF8=1, or in a locale such as C.UTF-8.",
        )


def _left_to_others(storage: WorkerStorage, worker_id: str) -> dict[tuple[str, ...], int]:
    try:
        return storage.left_to_others(worker_id)
    except DatabaseError:
        return {}  # It is only told.


def _leave(storage: WorkerStorage, worker_id: str) -> None:
    try:
        storage.unregister(worker_id)
        storage.close()
    except (DatabaseError, WorkerFenced):
        pass  # All that matters is written. The next worker sees that this process is gone.


def _unusable(path: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} was removed or replaced; what this worker writes can no longer be seen",
        hint="Start the worker again, so that it opens the file that is there now.",
    )
