"""The named statements, so that each is read beside the others and beside the schema."""

from __future__ import annotations

from queuectl.jobs.lifecycle import State, sources
from queuectl.jobs.limits import QUEUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def _states(states: Iterable[State]) -> str:
    return ", ".join(f"'{state.value}'" for state in states)


INSERT_JOB = f"""
INSERT INTO jobs (id, queue, command, cwd, env, state, priority, attempts, max_retries, backoff_base,
                  timeout, on_lost, max_losses, losses, created_at, updated_at, next_run_at, requires)
VALUES (?, '{QUEUE}', ?, ?, ?, '{State.PENDING}', ?, 0, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)
"""

JOB_COLUMNS = (
    "id, command, state, attempts, max_retries, created_at, updated_at, next_run_at, priority, queue,"
    " cwd, env, timeout, backoff_base, on_lost, max_losses, losses, exit_code, signal, error,"
    " started_at, finished_at, worker, cancel_requested_at, requires"
)

# ---- running jobs -------------------------------------------------------------------------

# The WHERE of the index jobs_ready, in the very words of the schema: SQLite compares them.
_READY = (
    f"jobs INDEXED BY jobs_ready WHERE queue = '{QUEUE}'"
    f" AND state IN ({_states(sources('claim'))}) AND next_run_at IS NULL"
)
_RETRYING = (
    f"jobs INDEXED BY jobs_retrying WHERE state = '{State.FAILED}' AND next_run_at IS NOT NULL"
)

PROMOTE_DUE = """
UPDATE jobs SET next_run_at = NULL
WHERE seq IN (SELECT seq FROM jobs WHERE next_run_at <= ? ORDER BY next_run_at LIMIT ?)
"""

CLAIM_COLUMNS = """seq, id, command, cwd, env, attempts, max_retries, backoff_base, timeout,
    on_lost, max_losses, losses, claim_token"""
"""The fields of a `Claim`, in their order."""

_CLAIM = f"""
UPDATE jobs SET state = '{State.PROCESSING}', attempts = attempts + 1, claim_token = ?1,
       worker_id = ?2, worker = ?3, started_at = ?4, finished_at = NULL,
       exit_code = NULL, signal = NULL, error = NULL, updated_at = ?4
WHERE seq IN ({{}})
RETURNING {CLAIM_COLUMNS}, priority
"""

CLAIM = _CLAIM.format(
    f"SELECT seq FROM {_READY} AND requires = ?6 ORDER BY priority DESC, seq LIMIT ?5"
)

CLAIM_THESE = _CLAIM.format("SELECT value FROM json_each(?5)")

FIRST_READY = f"""
SELECT priority, seq FROM {_READY} AND requires = ? ORDER BY priority DESC, seq LIMIT ?
"""


def _requirements(jobs: str) -> str:
    """What some of the jobs require, '' for nothing: one seek in the index for each set of tags,
    however many jobs require it.
    """
    return f"""
    WITH RECURSIVE found (requires) AS (
      SELECT min(requires) FROM {jobs}
      UNION ALL
      SELECT (SELECT min(requires) FROM {jobs} AND requires > found.requires)
      FROM found WHERE found.requires IS NOT NULL)
    SELECT requires FROM found WHERE requires IS NOT NULL
    """


READY_REQUIREMENTS = _requirements(_READY)

RETRYING_REQUIREMENTS = _requirements(_RETRYING)

RUNNING_REQUIREMENTS = f"""
SELECT DISTINCT requires FROM jobs WHERE state = '{State.PROCESSING}' AND id IS NOT ?
"""

READY_FOR_ALL = f"SELECT requires FROM {_READY} AND requires = '' LIMIT 1"

RETRYING_FOR_ALL = f"SELECT requires FROM {_RETRYING} AND requires = '' LIMIT 1"

COUNT_READY = f"SELECT requires, count(*) FROM {_READY} AND requires > '' GROUP BY requires"

COUNT_RETRYING = f"SELECT requires, count(*) FROM {_RETRYING} AND requires > '' GROUP BY requires"

COUNT_DUE = """
SELECT requires, count(*) FROM jobs WHERE next_run_at <= ? AND requires > '' GROUP BY requires
"""

NEXT_DUE = "SELECT min(next_run_at) FROM jobs WHERE next_run_at IS NOT NULL"

CANCELLING = """
SELECT claim_token, seq FROM jobs WHERE worker_id = ? AND cancel_requested_at IS NOT NULL
"""

# SETTLE and GIVE_BACK are fenced: the row must still hold the very claim of this attempt.

# A cancel that came while the job ran, or was held, wins over every ending but success.
_CALLED_OFF = f"cancel_requested_at IS NOT NULL AND ?1 <> '{State.COMPLETED}'"

SETTLE = f"""
UPDATE jobs SET state = CASE WHEN {_CALLED_OFF} THEN '{State.CANCELLED}' ELSE ?1 END,
       next_run_at = CASE WHEN {_CALLED_OFF} THEN NULL ELSE ?2 END,
       attempts = ?3, losses = ?4, exit_code = ?5, signal = ?6, error = ?7, started_at = ?8,
       finished_at = ?9, updated_at = ?10,
       claim_token = NULL, worker_id = NULL, cancel_requested_at = NULL
WHERE seq = ?11 AND claim_token = ?12 AND attempts = ?13 AND worker_id = ?14
RETURNING seq, ?12
"""

GIVE_BACK = f"""
UPDATE jobs SET state = CASE WHEN {_CALLED_OFF} THEN '{State.CANCELLED}' ELSE ?1 END,
       finished_at = CASE WHEN {_CALLED_OFF} THEN ?2 END,
       attempts = attempts - 1, started_at = NULL, worker = NULL, updated_at = ?2,
       claim_token = NULL, worker_id = NULL, cancel_requested_at = NULL
WHERE seq = ?3 AND claim_token = ?4 AND attempts = ?5 AND worker_id = ?6
"""

# A job that failed after "now" failed before the clock was set back.
REBASE_RETRIES = f"""
UPDATE jobs SET next_run_at = ?1 + (next_run_at - updated_at), updated_at = ?1
WHERE state = '{State.FAILED}' AND next_run_at IS NOT NULL AND updated_at > ?1
"""

INSERT_ATTEMPT = """
INSERT INTO attempts (seq, attempt, started_at, finished_at, outcome, exit_code, signal, error,
                      worker, log_start, log_end)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

HELD_BY = f"""
SELECT {CLAIM_COLUMNS}, worker, started_at FROM jobs WHERE state = '{State.PROCESSING}' AND worker_id = ? ORDER BY seq
"""

# ---- workers ------------------------------------------------------------------------------

INSERT_WORKER = """
INSERT INTO workers (id, name, host, boot_id, process_space, pid, process_started, slots, mode,
                     started_at, heartbeat_at, lease_seconds, lease_ends_ticks, tags)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

# Not while it holds a job: without the row, nobody would ever take that back.
DELETE_WORKER = f"""
DELETE FROM workers WHERE id = ?1
AND NOT EXISTS (SELECT 1 FROM jobs WHERE state = '{State.PROCESSING}' AND worker_id = ?1)
"""

RENEW_LEASE = """
UPDATE workers SET heartbeat_at = ?, lease_seconds = ?, lease_ends_ticks = ?
WHERE id = ? AND fenced_at IS NULL RETURNING id
"""

FENCE = "UPDATE workers SET fenced_at = ?1 WHERE id = ?2 AND fenced_at IS NULL"

WORKER_STANDING = """
SELECT name, fenced_at, stop_requested_at, stop_timeout, tags FROM workers WHERE id = ?
"""

LIST_WORKERS = f"""
SELECT id, name, host, boot_id, process_space, pid, process_started, slots, mode, started_at,
       heartbeat_at, lease_seconds, lease_ends_ticks, stop_requested_at, fenced_at,
       (SELECT count(*) FROM jobs WHERE state = '{State.PROCESSING}' AND worker_id = workers.id),
       tags
FROM workers ORDER BY started_at, id
"""
