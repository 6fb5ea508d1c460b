-- Times: microseconds since the epoch, UTC. Lengths: seconds.
-- *_ticks: microseconds of the machine's own clock since it booted, which nobody can set.

CREATE TABLE jobs (
  seq                 INTEGER PRIMARY KEY,      -- order of arrival
  id                  TEXT    NOT NULL UNIQUE,
  queue               TEXT    NOT NULL,
  command             TEXT    NOT NULL,
  cwd                 TEXT    NOT NULL,
  env                 TEXT,                     -- JSON object, or NULL
  state               TEXT    NOT NULL,
  priority            INTEGER NOT NULL,
  attempts            INTEGER NOT NULL,
  max_retries         INTEGER NOT NULL,
  backoff_base        REAL,                     -- NULL: the configuration's, when it fails
  timeout             REAL,                     -- NULL: the configuration's, when it runs
  on_lost             TEXT    NOT NULL,
  max_losses          INTEGER,                  -- NULL: the configuration's
  losses              INTEGER NOT NULL,
  created_at          INTEGER NOT NULL,
  updated_at          INTEGER NOT NULL,
  next_run_at         INTEGER,                  -- NULL: ready, or not waiting at all
  started_at          INTEGER,
  finished_at         INTEGER,
  exit_code           INTEGER,
  signal              INTEGER,
  error               TEXT,
  worker              TEXT,                     -- its name, for people
  worker_id           TEXT,                     -- while claimed
  claim_token         INTEGER,                  -- while claimed
  cancel_requested_at INTEGER
);

-- What a worker may claim now, in the order in which it is claimed. Jobs that wait for their
-- time are not in it, nor are finished ones: so its cost does not grow with either.
CREATE INDEX jobs_ready ON jobs (queue, priority DESC, seq)
  WHERE state IN ('pending', 'failed') AND next_run_at IS NULL;

-- What waits for its time. A due job is moved to jobs_ready by clearing next_run_at.
CREATE INDEX jobs_scheduled ON jobs (next_run_at) WHERE next_run_at IS NOT NULL;

-- Counts and lists by state; also finds what is running.
CREATE INDEX jobs_by_state ON jobs (state, seq);

CREATE INDEX jobs_cancelling ON jobs (worker_id) WHERE cancel_requested_at IS NOT NULL;

-- One row for each attempt that ended. The one that is running is in its job's row.
-- In the order of their ends, whatever the clock said; an attempt given back has its number
-- used again.
CREATE TABLE attempts (
  ended       INTEGER PRIMARY KEY,
  seq         INTEGER NOT NULL,                 -- jobs.seq
  attempt     INTEGER NOT NULL,
  started_at  INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  outcome     TEXT    NOT NULL,
  exit_code   INTEGER,
  signal      INTEGER,
  error       TEXT,
  worker      TEXT,
  log_start   INTEGER,                          -- bytes
  log_end     INTEGER
);

CREATE INDEX attempts_by_job ON attempts (seq);

-- One row for each worker that lives, or died and is not cleared away yet.
CREATE TABLE workers (
  id                TEXT    PRIMARY KEY,        -- drawn for each life of a worker
  name              TEXT    NOT NULL,
  host              TEXT    NOT NULL,
  boot_id           TEXT    NOT NULL,           -- names this run of this machine
  process_space     TEXT    NOT NULL,           -- where its pid means something
  pid               INTEGER NOT NULL,
  process_started   TEXT    NOT NULL,           -- tells it from a later process with the same pid
  slots             INTEGER NOT NULL,
  mode              TEXT    NOT NULL,           -- foreground, background
  started_at        INTEGER NOT NULL,
  heartbeat_at      INTEGER NOT NULL,
  lease_seconds     REAL    NOT NULL,
  lease_ends_ticks  INTEGER NOT NULL,
  stop_requested_at INTEGER,
  stop_timeout      REAL,                       -- seconds running commands may still take
  fenced_at         INTEGER                     -- given up for lost: it may write no more
) WITHOUT ROWID;
