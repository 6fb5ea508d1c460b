from __future__ import annotations

import pytest

from queuectl.errors import InvalidInput
from queuectl.location import SCHEMA, Url, completed, identity, readable, shareable, with_schema
from queuectl.text import is_like_url, is_url


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("postgresql://h/d", True),
        ("postgres://h/d", True),
        ("queuectl.db", False),
        ("/srv/postgresql://h/d", False),
        ("mysql://h/d", False),
        ("PostgreSQL://h/d", True),
        (" postgresql://h/d", True),
    ],
)
def test_a_url_is_told_from_a_path(location: str, expected: bool) -> None:
    """Only what begins like a URL of PostgreSQL is one."""
    assert is_url(location) is expected


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@Host.example/db",
        "postgres://me:other@host.example:5432/db",
        "postgresql://me@host.example/db?sslmode=require",
        "postgresql://me@host.example/db?schema=queuectl&password=x",
        "postgresql://me:a%40b@host.example/db?sslpassword=y&connect_timeout=3",
        "POSTGRESQL://me@host.example/db",
        " Postgres://me@host.example/db\n",
    ],
)
def test_ways_to_write_a_url_name_one_queue(url: str) -> None:
    """Password, options, letter case and the usual port make no other queue of it."""
    assert identity(url) == "postgresql://me@host.example/db?schema=queuectl"
    assert identity(identity(url)) == identity(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://you@h/d",
        "postgresql://me@h:5433/d",
        "postgresql://me@h/e",
        "postgresql://me@i,h/d",
        "postgresql://me@h/d?schema=s",
        "postgresql://me@h/d?host=/run",
        "postgresql:///d",
    ],
)
def test_other_places_are_other_queues(url: str) -> None:
    """A difference in user, host, port, database or schema makes another queue."""
    assert identity(url) != identity("postgresql://me@h/d")


def test_the_schema_is_the_nearest_that_is_named() -> None:
    """An option goes before the URL's own, which a worker hands on, and that before the environment."""
    environ = {"QUEUECTL_SCHEMA": "e"}
    assert Url(with_schema("postgresql://h/d", None, {})).schema == SCHEMA
    assert Url(with_schema("postgresql://h/d", None, environ)).schema == "e"
    assert Url(with_schema("postgresql://h/d?schema=u", None, environ)).schema == "u"
    assert Url(with_schema("postgresql://h/d?schema=u", "a b&c", environ)).schema == "a b&c"


def test_what_the_library_gets_is_whole() -> None:
    """All but the schema reaches PostgreSQL's library as it was given."""
    url = "postgresql://me:pa%20ss@a:1,b:2/d?sslmode=verify-full&target_session_attrs=read-write"
    assert Url(with_schema(url, "s", {})).written() == url


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me@h/jobs", "jobs"),
        ("postgresql://me@h/jobs?schema=s%20t", "jobs-s_t"),
        ("postgresql://me@h", "me"),
        ("postgresql://h/..%2F..", "2F"),
        ("postgresql:///" + "x" * 200, "x" * 60),
    ],
)
def test_a_folder_has_a_name_for_people(url: str, name: str) -> None:
    """The database and the schema, with nothing in it that a path could be led astray by."""
    assert readable(url) == name


def test_a_url_can_be_handed_on_without_its_secrets() -> None:
    """All the rest of it stays, for without it the server might not be reached, or not be trusted."""
    url = "postgresql://me:pw@h/d?sslmode=verify-full&sslpassword=x&password=y&schema=a%20b"
    assert shareable(url) == "postgresql://me@h/d?sslmode=verify-full&schema=a%20b"
    assert completed(shareable(url), url) == url


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("postgresql://me:a@h/d", "postgresql://me:b@h/d"),
        ("postgresql://me@h/d?sslmode=verify-full", "postgresql://me:b@h/d"),
        ("postgresql://me@h/d", "postgresql://me:b@i/d"),
        ("postgresql://me@h/d", "postgresql://me:b@h/d?schema=s"),
        ("postgresql://me@h/d", "nothing of the kind"),
    ],
)
def test_a_url_is_not_completed_by_another(url: str, other: str) -> None:
    """Only secrets are taken over, and only where none were given."""
    assert completed(url, other) == url


@pytest.mark.parametrize("schema", ["pg_temp", "information_schema", "x" * 64, "é" * 32, "a\0b"])
def test_a_schema_that_cannot_be_is_refused(schema: str) -> None:
    """PostgreSQL's own ones, and names that it would cut."""
    with pytest.raises(InvalidInput):
        with_schema("postgresql://h/d", schema, {})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:a@b@h/d",
        "postgresql://me:a/b@h/d",
        "postgresql://me:a?b@h/d",
        "postgresql://me:a?b=c@h/d",
    ],
)
def test_a_password_that_needs_encoding_is_refused(url: str) -> None:
    """Taken apart at the wrong place, a part of it would be shown as a host or a database."""
    with pytest.raises(InvalidInput) as told:
        Url(url)
    assert "%40" in told.value.hint
    assert "h/d" not in told.value.message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://h/x%20password%3Dhunter2",
        "postgresql://h/x password=hunter2",
        "postgresql://h/?dbname=postgresql%3A%2F%2Fu%3Ahunter2%40h",
        "postgresql://h/d?dbname=x%20password%3Dhunter2",
        "postgresql://h/u%3Ahunter2%40h?dbname=d",
        "postgresql://u:hunter2",
        "postgresql://u:hunter2/d",
        "postgresql://h/d?port=hunter2",
        "postgresql://u%3Ahunter2@h/d",
        "postgresql://h/d?user=u:hunter2",
        "postgresql://h dbname=x password=hunter2",
        "postgresql:///d?host=postgresql%3A%2F%2Fu%3Ahunter2%40h",
    ],
)
def test_a_password_in_the_place_of_a_name_is_refused(url: str) -> None:
    """What the library would take apart once more, or a part in the place of another: it would be
    shown as the name of a database, a user or a host.
    """
    with pytest.raises(InvalidInput) as told:
        Url(url)
    assert "hunter2" not in told.value.message + told.value.hint


@pytest.mark.parametrize("url", ["postgresql://me@[::1]:5433/d", "postgresql://h:1,i/d?port=1,2"])
def test_hosts_and_ports_are_taken_as_they_are(url: str) -> None:
    """Addresses of IPv6, several hosts, ports of all kinds of writing."""
    assert Url(url).written() == url


def test_a_parameter_counts_however_its_name_is_written() -> None:
    """The library decodes names, too: a password is one in any spelling."""
    url = Url("postgresql://h/d?p%61ssword=hunter2")
    assert url.password == "hunter2"
    assert "hunter2" not in url.written(secrets=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresq://u:hunter2@h/db", True),
        ("mysql://u:hunter2@h/db", True),
        ("postgresql:/u:hunter2@h/db", True),
        ("postgresql:u:hunter2@h/db", True),
        ("postgresql//u:hunter2@h/db", True),
        ("POSTGRESQL://u:hunter2@h/db", True),
        (" postgresql+psycopg2://u:hunter2@h/db", True),
        ("jdbc:postgresql://h/db?password=hunter2", True),
        ("user=u password = hunter2 host=h", True),
        ("sqlite:///srv/queuectl.db", True),
        ("queuectl.db", False),
        ("C:/queue/queuectl.db", False),
        ("C:\\queue\\queuectl.db", False),
        ("/srv/12:30/a=b@c.db", False),
        ("postgres.db", False),
    ],
)
def test_what_names_a_server_is_told_from_a_path(text: str, expected: bool) -> None:
    """A URL with a slip in it, or one of another program; a path may hold the same signs."""
    assert is_like_url(text) is expected
