-- Roles with no more rights than they need. See "Roles" in postgresql.md.
--
-- As an administrator, in the database that is for the queue, once, before `queuectl init`:
--
--   psql --file postgresql-roles.sql queue
--
-- It may be run again. Give the roles passwords with \password in psql, or let them in by certificate.

-- queue_owner makes the tables and brings them up to date. No worker runs as this.
-- queue_worker runs jobs, and decides about them: for workers, and for those who look after the queue.
-- queue_producer puts jobs in and looks at them: for programs that only enqueue.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['queue_owner', 'queue_worker', 'queue_producer'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
      EXECUTE format('CREATE ROLE %I LOGIN', name);
    END IF;
    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', name);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
  END LOOP;
  -- Nobody else comes in, and nobody makes schemas or temporary tables.
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS queuectl AUTHORIZATION queue_owner;
