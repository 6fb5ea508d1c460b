"""The named statements, so that each is read beside the others and beside the schema.

Those of a worker's loop are one round trip each: what is asked for, and the rows it concerns, go as
one JSON text.
"""

from __future__ import annotations

from queuectl.jobs.lifecycle import FINISHED, State, sources
from queuectl.jobs.limits import QUEUE
from queuectl.storage.postgres.connection import NOW
from queuectl.storage.postgres.planned import Planned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def _states(states: Iterable[State]) -> str:
    return ", ".join(f"'{state.value}'" for state in states)


JOB_COLUMNS = (
    "id, command, state, attempts, max_retries, created_at, updated_at, next_run_at, priority, queue,"
    " cwd, env, timeout, backoff_base, on_lost, max_losses, losses, exit_code, signal, error,"
    " started_at, finished_at, worker, cancel_requested_at, requires"
)

ALL_COLUMNS = "seq, claim_token, worker_id, " + JOB_COLUMNS
"""Those in which a job moves between `jobs` and `ended_jobs`."""

ENDED = _states(FINISHED)

# ---- putting jobs in, and looking at them ---------------------------------------------------

_INSERTED = (
    "id, queue, command, cwd, env, state, priority, attempts, max_retries, backoff_base, timeout,"
    " on_lost, max_losses, losses, created_at, updated_at, next_run_at, requires"
)

COPY_JOBS = f"jobs ({_INSERTED})"

INSERT_JOBS = f"INSERT INTO jobs ({_INSERTED}) VALUES "
"""To be followed by as many groups of values as there are jobs."""

# An id may not be that of a job that has ended, either. Looked up behind the insertion, which waits
# for a job of the same id that ends just now.
TAKEN = "SELECT id FROM ended_jobs WHERE id = ANY(%s) LIMIT 1"

STATES = """
SELECT id, state FROM jobs WHERE id = ANY(%(ids)s) UNION ALL
SELECT id, state FROM ended_jobs WHERE id = ANY(%(ids)s)
"""

LAST_ID = """
SELECT id FROM ((SELECT id, seq FROM jobs ORDER BY seq DESC LIMIT 1) UNION ALL
                (SELECT id, seq FROM ended_jobs ORDER BY seq DESC LIMIT 1)) AS last
ORDER BY seq DESC LIMIT 1
"""

BEGINNING_WITH = """
(SELECT id FROM jobs WHERE id >= %(from)s AND id < %(to)s LIMIT 2) UNION ALL
(SELECT id FROM ended_jobs WHERE id >= %(from)s AND id < %(to)s LIMIT 2)
"""

JOB = f"""
SELECT {JOB_COLUMNS} FROM jobs WHERE id = %(id)s UNION ALL
SELECT {JOB_COLUMNS} FROM ended_jobs WHERE id = %(id)s
"""

ENDED_ATTEMPTS = """
SELECT attempt, started_at, finished_at, outcome, exit_code, signal, error, worker, log_start, log_end,
       run
FROM attempts WHERE seq = (SELECT seq FROM jobs WHERE id = %(id)s UNION ALL
                           SELECT seq FROM ended_jobs WHERE id = %(id)s)
ORDER BY ended
"""

RUNNING_ATTEMPT = f"""
SELECT attempts, started_at, NULL, 'running', NULL, NULL, NULL, worker, NULL, NULL, claim_token
FROM jobs WHERE id = %(id)s AND state = '{State.PROCESSING}'
"""

_OF_THE_RUN = """
FROM output WHERE seq = (SELECT seq FROM jobs WHERE id = %(id)s UNION ALL
                         SELECT seq FROM ended_jobs WHERE id = %(id)s) AND run = %(run)s
"""

OUTPUT = f"SELECT number, bytes, host, folder, begins, length {_OF_THE_RUN} ORDER BY number"

OUTPUT_BLOCKS = f"""
SELECT number, data {_OF_THE_RUN} AND number >= %(first)s ORDER BY number LIMIT %(most)s
"""

# ---- deciding by hand -----------------------------------------------------------------------

CALL_OFF = f"""
WITH gone AS (DELETE FROM jobs WHERE id = %(id)s RETURNING {ALL_COLUMNS})
INSERT INTO ended_jobs ({ALL_COLUMNS}) SELECT {ALL_COLUMNS} FROM gone;
UPDATE ended_jobs SET state = '{State.CANCELLED}', next_run_at = NULL, finished_at = %(now)s,
       updated_at = %(now)s
WHERE id = %(id)s
"""

ASK_TO_CANCEL = """
UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, %(now)s), updated_at = %(now)s
WHERE id = %(id)s
"""

_KEPT = (
    "id, command, max_retries, created_at, priority, queue, cwd, env, timeout, backoff_base, on_lost,"
    " max_losses, requires"
)

_BEGIN_ANEW = f"""
WITH back AS (DELETE FROM ended_jobs WHERE {{}} RETURNING *)
INSERT INTO jobs (seq, {_KEPT}, state, attempts, losses, updated_at)
SELECT seq, {_KEPT}, '{State.PENDING}', 0, 0, %(now)s FROM back
"""

REQUEUE = _BEGIN_ANEW.format("id = %(id)s")

REQUEUE_DEAD = _BEGIN_ANEW.format(
    f"""seq IN (SELECT seq FROM ended_jobs WHERE state = '{State.DEAD}' ORDER BY seq LIMIT %(most)s
                FOR UPDATE)"""
)

DELETE = """
WITH gone AS (DELETE FROM {} WHERE id = %s RETURNING seq),
written AS (DELETE FROM output USING gone WHERE output.seq = gone.seq)
DELETE FROM attempts USING gone WHERE attempts.seq = gone.seq
"""

PRUNABLE = """
state = ANY(%(states)s) AND (%(before)s::bigint IS NULL OR finished_at < %(before)s::bigint)
"""

# Each batch begins where the one before it ended: at the beginning are the rows that are dead by now.
PRUNE = f"""
WITH chosen AS (SELECT seq FROM ended_jobs WHERE {PRUNABLE} AND seq > %(after)s ORDER BY seq
                LIMIT %(most)s FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM ended_jobs USING chosen WHERE ended_jobs.seq = chosen.seq
         RETURNING ended_jobs.seq, id),
runs AS (DELETE FROM attempts USING gone WHERE attempts.seq = gone.seq),
written AS (DELETE FROM output USING gone WHERE output.seq = gone.seq)
SELECT id, seq FROM gone
"""

# ---- running jobs -------------------------------------------------------------------------

_READY = f"queue = '{QUEUE}' AND state IN ({_states(sources('claim'))}) AND next_run_at IS NULL"

# A worker that knows where the first one is need not look before it: see front.py.
_IN_ORDER = "ORDER BY (-priority), seq"
_FROM_FRONT = "(-priority, seq) >= (%(from_rank)s, %(from_seq)s)"

_RETRYING = f"state = '{State.FAILED}' AND next_run_at IS NOT NULL"


def _requirements(name: str, condition: str) -> str:
    """A table for WITH RECURSIVE of what some of these jobs require, '' for nothing: one seek in the
    index for each set of tags, however many jobs require it.
    """
    next_one = f"SELECT requires FROM jobs WHERE {condition} {{}} ORDER BY requires LIMIT 1"
    return f"""
    {name} (requires) AS (
      ({next_one.format("")})
      UNION ALL
      SELECT ({next_one.format(f"AND requires > {name}.requires")})
      FROM {name} WHERE requires IS NOT NULL)
    """


_READY_REQUIREMENTS = _requirements("ready_requirements", _READY)

_RETRYING_REQUIREMENTS = _requirements("retrying_requirements", _RETRYING)


def _met(tags: str) -> str:
    return f"(requires = '' OR string_to_array(requires, ',') <@ string_to_array({tags}, ','))"


_TYPES = {
    "told": "json",
    "wanted": "bigint",
    "token": "bigint",
    "worker_id": "text",
    "epoch": "bigint",
    "tags": "text",
    "now": "bigint",
    "most": "bigint",
    "from_rank": "integer",
    "from_seq": "bigint",
    "inside": "text",
}
"""Those of the parameters of what is planned once."""

PROMOTE_DUE = Planned(
    "promote_due",
    """
    UPDATE jobs SET next_run_at = NULL
    WHERE seq IN (SELECT seq FROM jobs WHERE next_run_at <= %(now)s ORDER BY next_run_at
                  LIMIT %(most)s FOR UPDATE SKIP LOCKED)
    AND EXISTS (SELECT 1 FROM workers WHERE id = %(worker_id)s AND fenced_at IS NULL)
    """,
    _TYPES,
)

# A shared lock on the worker's row, so that a fence waits for what is under way, and what comes
# after the fence sees it.
DEAD_ROWS = "SELECT pg_stat_get_dead_tuples('jobs'::regclass)"

SET_FRONT = "SELECT setval('front', %s)"

SET_FRONT_UNTIL = "SELECT setval('front_until', %s)"

FENCE = """
UPDATE workers SET fenced_at = %(now)s WHERE id = %(worker_id)s AND fenced_at IS NULL
"""

_WORKER = "SELECT name, fenced_at, tags FROM workers WHERE id = %(worker_id)s"

STANDING = f"{_WORKER} FOR SHARE"

_STANDING = """
standing AS MATERIALIZED (
  SELECT name, fenced_at, clock_timestamp() AS began FROM workers
  WHERE id = %(worker_id)s AND epoch = %(epoch)s FOR SHARE)
"""

# An exchange whose answer was lost may still be on its way. If it comes behind this it does nothing;
# if it came before, what it claimed is seen from here on.
NEW_EPOCH = """
UPDATE workers SET epoch = %(epoch)s WHERE id = %(worker_id)s AND fenced_at IS NULL RETURNING id
"""

_STANDS = "EXISTS (SELECT 1 FROM standing WHERE fenced_at IS NULL)"

_FIRST = f"""
SELECT seq, priority FROM jobs WHERE {_READY} AND requires = {{}} AND {_FROM_FRONT} AND {_STANDS}
{_IN_ORDER} LIMIT %(wanted)s FOR UPDATE SKIP LOCKED
"""

_READY_WITHOUT_TAGS = "ready AS MATERIALIZED (" + _FIRST.format("''") + ")"

# The first ones of each set of tags are locked, and the first of all are taken; the others are free
# again with the commit.
_READY_WITH_TAGS = f"""
{_READY_REQUIREMENTS},
first AS MATERIALIZED (
  SELECT found.* FROM ready_requirements
  CROSS JOIN LATERAL ({_FIRST.format("ready_requirements.requires")}) AS found
  WHERE {_met("%(tags)s")}),
ready AS MATERIALIZED (SELECT seq FROM first {_IN_ORDER} LIMIT %(wanted)s)
"""

# `walked` is when all of them were found, before the first of them is written.
_CLAIMED = f"""
walked AS MATERIALIZED (SELECT clock_timestamp() AS ended, count(*) FROM ready),
claimed AS (
  UPDATE jobs SET state = '{State.PROCESSING}', attempts = attempts + 1, claim_token = %(token)s,
         worker_id = %(worker_id)s, worker = standing.name, started_at = %(now)s,
         finished_at = NULL, exit_code = NULL, signal = NULL, error = NULL, updated_at = %(now)s
  FROM ready, walked, standing WHERE jobs.seq = ready.seq
  RETURNING jobs.seq, id, command, cwd, env, attempts, max_retries, backoff_base, timeout, on_lost,
            max_losses, losses, claim_token, jobs.priority)
"""

_COUNT = "SELECT requires, count(*) FROM jobs WHERE {} AND requires > '' GROUP BY requires"

COUNT_READY = f"{_COUNT.format(_READY)} UNION ALL {_COUNT.format('next_run_at <= %(now)s')}"

COUNT_LEFT = f"{_COUNT.format(_READY)} UNION ALL {_COUNT.format(_RETRYING)}"

# A cancel that came while the job ran, or was held, wins over every ending but success.
_CALLED_OFF = f"cancel_requested_at IS NOT NULL AND told.state <> '{State.COMPLETED}'"


# Fenced: the row must still hold the very claim of this attempt. A job told of twice counts once.
# Each is looked up by its number: were the worker compared with `=`, all that it holds might be read
# for each of them.
# Here as wherever several jobs are locked it is in the order of their arrival: two that lock the
# same ones in different orders would wait for each other.
def _settling(condition: str) -> str:
    return f"""
told AS MATERIALIZED (
  SELECT DISTINCT ON (seq, token) * FROM json_to_recordset(%(told)s) AS told (
    n integer, seq bigint, token bigint, attempt integer, state text, next_run_at bigint,
    attempts integer, losses integer, exit_code bigint, signal integer, error text,
    started_at bigint, finished_at bigint, outcome text, worker text, log_start bigint,
    log_end bigint)
  ORDER BY seq, token, n),
held AS MATERIALIZED (
  SELECT told.*, CASE WHEN {_CALLED_OFF} THEN '{State.CANCELLED}' ELSE told.state END AS becomes
  FROM told JOIN jobs ON jobs.seq = told.seq AND jobs.claim_token = told.token
       AND jobs.attempts = told.attempt AND jobs.worker_id IS NOT DISTINCT FROM %(worker_id)s
  WHERE {condition}
  ORDER BY jobs.seq FOR UPDATE OF jobs),
written AS (
  UPDATE jobs SET state = held.becomes,
         next_run_at = CASE WHEN held.becomes = '{State.CANCELLED}' THEN NULL ELSE held.next_run_at END,
         attempts = held.attempts, losses = held.losses, exit_code = held.exit_code,
         signal = held.signal, error = held.error, started_at = held.started_at,
         finished_at = held.finished_at, updated_at = %(now)s,
         claim_token = NULL, worker_id = NULL, cancel_requested_at = NULL
  FROM held WHERE jobs.seq = held.seq AND held.becomes NOT IN ({ENDED})),
gone AS (
  DELETE FROM jobs USING held WHERE jobs.seq = held.seq AND held.becomes IN ({ENDED})
  RETURNING jobs.seq, id, command, held.becomes, held.attempts, max_retries, created_at, priority,
            queue, cwd, env, timeout, backoff_base, on_lost, max_losses, held.losses,
            held.exit_code, held.signal, held.error, held.started_at, held.finished_at, jobs.worker,
            requires),
archived AS (
  INSERT INTO ended_jobs (seq, id, command, state, attempts, max_retries, created_at, priority,
            queue, cwd, env, timeout, backoff_base, on_lost, max_losses, losses, exit_code, signal,
            error, started_at, finished_at, worker, requires, updated_at)
  SELECT gone.*, %(now)s FROM gone),
recorded AS (
  INSERT INTO attempts (seq, attempt, started_at, finished_at, outcome, exit_code, signal, error,
                        worker, log_start, log_end, run)
  SELECT seq, attempt, started_at, finished_at, outcome, exit_code, signal, error, worker,
         log_start, log_end, token FROM held ORDER BY n)
"""


SETTLE = f"WITH {_settling('true')} SELECT n FROM held"
"""Within the transaction of a rescue."""


# An exchange is up to three statements in one round trip and one transaction: what ended is settled,
# what is due is made ready, and the free slots are filled. In this order: whoever cancels locks a
# running job before a waiting one that came later, so nobody may hold a waiting job and wait for a
# running one. Each does nothing for a worker that was given up: all depends on the worker's row, which
# is locked before any job is.

SETTLE_FIRST = Planned(
    "settle_first",
    f"""
    WITH {_STANDING}, {_settling(_STANDS)}
    SELECT set_config('queuectl.settled', coalesce(string_agg(n::text, ','), ''), true) FROM held
    """,
    _TYPES,
)
"""Leaves word of what counts for `_TOLD`."""

_TOLD = """
(SELECT last_value FROM changes), (SELECT fenced_at IS NULL FROM standing),
current_setting('queuectl.settled', true),
(SELECT last_value FROM front), (SELECT last_value FROM front_until)
"""

SETTLED = Planned("settled", f"WITH {_STANDING} SELECT {_TOLD}, 0", _TYPES)
"""The counter of changes, whether the worker stands, the `n` of what was settled, where the front is
and until when, and how long it took to find the jobs, in seconds.
"""

TOLD_COLUMNS = 6


def _claim(ready: str) -> str:
    return f"""
    WITH RECURSIVE {_STANDING}, {ready}, {_CLAIMED}
    SELECT NULL::bigint, NULL::boolean, NULL::text, NULL::bigint, NULL::bigint, NULL::double precision,
           claimed.* FROM claimed UNION ALL
    SELECT {_TOLD},
           (SELECT extract(epoch FROM walked.ended - standing.began)::double precision
            FROM standing, walked){", NULL" * 14}
    """


CLAIM_WITHOUT_TAGS = Planned("claim", _claim(_READY_WITHOUT_TAGS), _TYPES)
CLAIM_WITH_TAGS = Planned("claim_with_tags", _claim(_READY_WITH_TAGS), _TYPES)
"""The claims, and behind them a row as that of `SETTLED`."""

# A rescue locks the worker's row for itself, and so waits for what is under way and comes in nobody's
# way afterwards; heartbeats, settlements and the fence do not wait for this lock, nor it for them.
WRITING = "SELECT 1 FROM workers WHERE id = %(worker_id)s FOR KEY SHARE"

OUTPUT_ROW = (
    "(%s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::text, %s::text,"
    " %s::integer, %s::bytea)"
)

# Fenced as a settlement is. The same block again takes the place of the one that is there.
KEEP_OUTPUT = """
INSERT INTO output (seq, run, number, begins, length, host, folder, bytes, data)
SELECT told.seq, run, number, begins, length, host, folder, bytes, data
FROM (VALUES {}) AS told (seq, run, attempt, number, begins, length, host, folder, bytes, data)
JOIN jobs ON jobs.seq = told.seq AND jobs.claim_token = run AND jobs.attempts = told.attempt
     AND jobs.worker_id IS NOT DISTINCT FROM %s
ON CONFLICT (seq, run, number) DO UPDATE
SET begins = excluded.begins, length = excluded.length, bytes = excluded.bytes, data = excluded.data
RETURNING seq, run
"""

DROP_OUTPUT = """
DELETE FROM output WHERE seq = %s AND run = %s AND number >= %s AND number < %s
"""

# What a commit claimed whose answer never came. Nobody knows of it, so nobody runs it.
UNKNOWN_CLAIMS = """
SELECT seq, claim_token, attempts FROM jobs WHERE worker_id = %s AND claim_token = ANY(%s)
"""

GIVE_BACK = f"""
WITH told AS MATERIALIZED (
  SELECT DISTINCT ON (seq, token) * FROM json_to_recordset(%(told)s)
    AS told (seq bigint, token bigint, attempt integer)),
held AS MATERIALIZED (
  SELECT jobs.seq, cancel_requested_at IS NOT NULL AS called_off
  FROM told JOIN jobs ON jobs.seq = told.seq AND jobs.claim_token = told.token
       AND jobs.attempts = told.attempt AND jobs.worker_id IS NOT DISTINCT FROM %(worker_id)s
  ORDER BY jobs.seq FOR UPDATE OF jobs),
written AS (
  UPDATE jobs SET state = '{State.PENDING}', attempts = attempts - 1, started_at = NULL,
         worker = NULL, updated_at = %(now)s, claim_token = NULL, worker_id = NULL,
         cancel_requested_at = NULL
  FROM held WHERE jobs.seq = held.seq AND NOT held.called_off),
gone AS (
  DELETE FROM jobs USING held WHERE jobs.seq = held.seq AND held.called_off
  RETURNING jobs.seq, id, command, attempts - 1, max_retries, created_at, priority, queue, cwd, env,
            timeout, backoff_base, on_lost, max_losses, losses, requires)
INSERT INTO ended_jobs (seq, id, command, attempts, max_retries, created_at, priority, queue, cwd,
            env, timeout, backoff_base, on_lost, max_losses, losses, requires, state, finished_at,
            updated_at)
SELECT gone.*, '{State.CANCELLED}', %(now)s, %(now)s FROM gone
"""

_OUTLOOK = f"""
{{}}
SELECT (SELECT min(next_run_at) FROM jobs WHERE next_run_at IS NOT NULL),
       {{}},
       {{}} EXISTS (SELECT 1 FROM jobs WHERE state = '{State.PROCESSING}'
               AND id IS DISTINCT FROM %(inside)s AND {{}}),
       {{}},
       (SELECT json_agg(json_build_array(claim_token, seq)) FROM jobs
        WHERE worker_id = %(worker_id)s AND cancel_requested_at IS NOT NULL),
       stop_requested_at, stop_timeout, workers.id IS NULL OR fenced_at IS NOT NULL
FROM (SELECT 1) AS one LEFT JOIN workers ON workers.id = %(worker_id)s
"""

# Sorted, so that the index is used: the first rows of the table may be dead ones.
_ANY = f"SELECT 1 FROM jobs WHERE {_READY} AND requires = ''"
_ANY_FROM_FRONT = f"EXISTS ({_ANY} AND {_FROM_FRONT} {_IN_ORDER} LIMIT 1)"

# What requires none comes first: looked for in this order, whatever the statistics say, it is found
# with one seek, or is not there.
_SOME_FOR_ALL = "(SELECT requires = '' FROM jobs WHERE {} ORDER BY requires LIMIT 1)"

# What is found at the front spares the looks that would walk over all that is dead.
OUTLOOK_WITHOUT_TAGS = Planned(
    "outlook",
    _OUTLOOK.format(
        "",
        f"CASE WHEN {_ANY_FROM_FRONT} THEN true ELSE EXISTS ({_ANY} {_IN_ORDER} LIMIT 1) END",
        f"{_ANY_FROM_FRONT} OR",
        "requires = ''",
        _SOME_FOR_ALL.format(_RETRYING),
    ),
    _TYPES,
)

_TAGS = "coalesce(workers.tags, '')"

OUTLOOK = Planned(
    "outlook_with_tags",
    _OUTLOOK.format(
        f"WITH RECURSIVE {_READY_REQUIREMENTS}, {_RETRYING_REQUIREMENTS}",
        f"EXISTS (SELECT 1 FROM ready_requirements WHERE {_met(_TAGS)})",
        "",
        _met(_TAGS),
        f"EXISTS (SELECT 1 FROM retrying_requirements WHERE {_met(_TAGS)})",
    ),
    _TYPES,
)

# A job that failed after "now" failed before the clock was set back.
REBASE_RETRIES = f"""
UPDATE jobs SET next_run_at = %(now)s + (next_run_at - updated_at), updated_at = %(now)s
WHERE state = '{State.FAILED}' AND next_run_at IS NOT NULL AND updated_at > %(now)s
"""

HELD_BY = f"""
SELECT seq, id, command, cwd, env, attempts, max_retries, backoff_base, timeout, on_lost, max_losses,
       losses, claim_token, worker, started_at
FROM jobs WHERE state = '{State.PROCESSING}' AND worker_id = %(worker_id)s ORDER BY seq
"""

# ---- workers ------------------------------------------------------------------------------

INSERT_WORKER = """
INSERT INTO workers (id, name, host, boot_id, process_space, pid, process_started, slots, mode,
                     started_at, heartbeat_at, lease_seconds, lease_ends_at, tags)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

# Not while it holds a job: without the row, nobody would ever take that back.
DELETE_WORKER = """
DELETE FROM workers WHERE id = %(worker_id)s
AND NOT EXISTS (SELECT 1 FROM jobs WHERE worker_id = %(worker_id)s)
"""

RENEW_LEASE = f"""
UPDATE workers SET heartbeat_at = %s, lease_seconds = %s, lease_ends_at = %s
WHERE id = %s AND fenced_at IS NULL RETURNING {NOW}
"""

_LIST_WORKERS = """
SELECT id, name, host, boot_id, process_space, pid, process_started, slots, mode, started_at,
       heartbeat_at, lease_seconds, lease_ends_at, stop_requested_at, fenced_at,
       {}, tags
FROM {} ORDER BY started_at, id
"""

LIST_WORKERS = _LIST_WORKERS.format(
    "(SELECT count(*) FROM jobs WHERE worker_id = workers.id)", "workers"
)

LIST_WORKERS_UNCOUNTED = _LIST_WORKERS.format("0", "{schema}.workers")
"""For `Connection.look`."""
