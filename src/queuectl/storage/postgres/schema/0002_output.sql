-- What commands wrote, for readers on machines that do not have the log: a row for each block of each
-- attempt. Written by its worker while the attempt runs, and with its outcome; removed with its job.
CREATE TABLE output (
  seq    bigint  NOT NULL,                      -- of the job
  run    bigint  NOT NULL,                      -- the claim token of the attempt
  number bigint  NOT NULL,                      -- its place in all that the attempt wrote
  begins bigint  NOT NULL,                      -- first number of the log, when this was written
  length bigint  NOT NULL,                      -- bytes of output in the log, when this was written
  host   text    NOT NULL,                      -- where the whole log is
  folder text    NOT NULL,
  bytes  integer NOT NULL,                      -- of this block
  data   bytea   NOT NULL,                      -- the block, compressed by zlib
  PRIMARY KEY (seq, run, number)
) WITH (
  -- The last block of each attempt is written again and again.
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000
);
-- Compressed already.
ALTER TABLE output ALTER COLUMN data SET STORAGE EXTERNAL;

-- Which attempt it was that wrote: their numbers begin anew. NULL: it ended before this was kept.
ALTER TABLE attempts ADD COLUMN run bigint;
