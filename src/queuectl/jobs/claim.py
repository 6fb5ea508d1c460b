"""A claim: one job handed to one worker for one attempt, and the token that proves it."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Claim(NamedTuple):
        """What the worker needs to run the job, and to say how that went."""

        seq: int
        id: str
        command: str
        cwd: str
        env: str | None
        """The job's own environment variables, a JSON object."""
        attempt: int
        max_retries: int
        backoff_base: float | None
        timeout: float | None
        on_lost: str
        max_losses: int | None
        losses: int
        token: int
        """Drawn for this claim alone: a write that carries another is from a run given up for lost."""

else:
    # The worker starts quicker without `typing`.
    Claim = namedtuple(
        "Claim",
        "seq id command cwd env attempt max_retries backoff_base timeout on_lost max_losses"
        " losses token",
    )
