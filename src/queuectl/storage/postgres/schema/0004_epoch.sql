-- Raised by a worker that does not know what became of a claim: its earlier ones count no more.
ALTER TABLE workers ADD COLUMN epoch integer NOT NULL DEFAULT 0;
