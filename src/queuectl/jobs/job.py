"""A job before it enters the queue: checked values, no defaults left open that belong to the job."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def new_id() -> str:
    """A random (version 4) UUID. Written out here because importing `uuid` would slow every enqueue."""
    return _as_uuid(os.urandom(16).hex())


def new_ids(count: int) -> list[str]:
    """`count` random UUIDs in ascending order, which keeps a bulk insert near one place of the index."""
    digits = os.urandom(16 * count).hex()
    return sorted(_as_uuid(digits[i : i + 32]) for i in range(0, len(digits), 32))


def fresh_ids() -> Iterator[str]:
    """Random UUIDs without end, made in bulk: more at a time as it goes on, for few do not pay for many."""
    count = 16
    while True:
        yield from new_ids(count)
        count = min(2 * count, 8192)


def _as_uuid(h: str) -> str:
    variant = "89ab"[int(h[16], 16) & 3]
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{variant}{h[17:20]}-{h[20:]}"


class NewJob:
    """A checked job, ready to be stored. Made by `queuectl.jobs.spec`, which holds the rules.

    `run_at` is in microseconds since the epoch, or None to run as soon as a worker is free.
    `timeout` (seconds, 0 for none) and `backoff_base` may be None: the configuration in force
    when the job runs, or fails, then decides. So may `max_losses`. `requires` are the tags that
    its worker must have, in ascending order.
    """

    __slots__ = (
        "backoff_base",
        "command",
        "cwd",
        "env",
        "id",
        "max_losses",
        "max_retries",
        "on_lost",
        "priority",
        "requires",
        "run_at",
        "timeout",
    )

    def __init__(
        self,
        *,
        id: str,
        command: str,
        cwd: str,
        max_retries: int,
        on_lost: str,
        env: dict[str, str] | None = None,
        priority: int = 0,
        backoff_base: float | None = None,
        timeout: float | None = None,
        run_at: int | None = None,
        max_losses: int | None = None,
        requires: tuple[str, ...] = (),
    ) -> None:
        self.id = id
        self.command = command
        self.cwd = cwd
        self.max_retries = max_retries
        self.on_lost = on_lost
        self.env = env
        self.priority = priority
        self.backoff_base = backoff_base
        self.timeout = timeout
        self.run_at = run_at
        self.max_losses = max_losses
        self.requires = requires

    def __repr__(self) -> str:
        # The environment is left out: its values may be secret, and reprs end up in logs.
        return f"NewJob(id={self.id!r}, command={self.command!r})"
