-- Raised by a worker that does not know what became of a claim: its earlier ones count no more.
ALTER TABLE workers ADD COLUMN epoch integer NOT NULL DEFAULT 0;

-- Where claims begin while dead entries pile up at the head of jobs_ready, and until when. Sequences:
-- they are read and set without a lock, and leave no dead rows.
CREATE SEQUENCE front MINVALUE -9223372036854775808;
CREATE SEQUENCE front_until;

-- What is to be cancelled of what a worker holds. All that it ever held is in jobs_held, until the
-- server may clear that away.
CREATE INDEX jobs_cancelling ON jobs (worker_id) WHERE cancel_requested_at IS NOT NULL;
