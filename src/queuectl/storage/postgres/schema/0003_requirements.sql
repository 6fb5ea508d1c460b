-- What a job requires of its worker, and what a worker has: tags in ascending order, with commas
-- between them; '' for none.
ALTER TABLE jobs ADD COLUMN requires text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE ended_jobs ADD COLUMN requires text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN tags text NOT NULL DEFAULT '';

-- Jobs with the same requirements are together, in the order in which they are claimed: a claim
-- passes over none that its worker cannot run. In one direction, so that a place in it can be sought.
DROP INDEX jobs_ready;
CREATE INDEX jobs_ready ON jobs (queue, requires, (-priority), seq)
  WHERE state IN ('pending', 'failed') AND next_run_at IS NULL;

-- What those require that wait for their retry: a drain may have to wait for them.
CREATE INDEX jobs_retrying ON jobs (requires) WHERE state = 'failed' AND next_run_at IS NOT NULL;
