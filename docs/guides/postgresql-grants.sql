-- What the roles of postgresql-roles.sql may do with the tables. See "Roles" in postgresql.md.
--
-- As queue_owner, after `queuectl init` and after each upgrade that changed the tables:
--
--   psql --file postgresql-grants.sql postgresql://queue_owner@db.example.org/queue

SET search_path = queuectl;

GRANT USAGE ON SCHEMA queuectl TO queue_worker, queue_producer;
REVOKE ALL ON ALL TABLES IN SCHEMA queuectl FROM queue_worker, queue_producer;
GRANT SELECT ON ALL TABLES IN SCHEMA queuectl TO queue_worker, queue_producer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA queuectl TO queue_worker, queue_producer;

GRANT INSERT ON jobs TO queue_producer;

-- The version of the tables is the owner's to write. What was recorded of an attempt is never changed.
GRANT INSERT, UPDATE, DELETE ON jobs, ended_jobs, output, workers TO queue_worker;
GRANT INSERT, DELETE ON attempts TO queue_worker;

-- Where claims begin while somebody holds a transaction open.
GRANT UPDATE ON SEQUENCE front, front_until TO queue_worker;
