"""The queue in a schema of a PostgreSQL database, for workers on many machines."""
