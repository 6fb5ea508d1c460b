"""The embedded database: one SQLite file, with the SQLite that comes with apsw."""
