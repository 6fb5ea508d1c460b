"""Who may do what on a server, and how it is reached: least privileges, encryption."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from queuectl.errors import DatabaseUnreachable, EnvironmentFault
from queuectl.storage import open_job_storage
from tests import postgres
from tests.contract.support import Database
from tests.postgres import NoServer, Server
from tests.support import MAIN, ROOT, clean_environment

GUIDES = ROOT / "docs" / "guides"
ROLES = ("queue_owner", "queue_worker", "queue_producer")


class Roles:
    """A database in which the scripts of the guide were run, as the guide says."""

    def __init__(self, server: Server, url: str) -> None:
        self._server = server
        self.url = url
        for _ in range(2):  # It may be run again.
            server.sql((GUIDES / "postgresql-roles.sql").read_text(), url)

    def make(self) -> None:
        """The owner makes the queue."""
        Database(self.of("queue_owner")).open_jobs().close()

    def grant(self) -> None:
        """The owner gives the others their rights."""
        for _ in range(2):
            self._server.sql((GUIDES / "postgresql-grants.sql").read_text(), self.of("queue_owner"))

    def of(self, role: str) -> str:
        return self.url.replace("postgres@", f"{role}@")

    def refuses(self, role: str, statement: str) -> bool:
        """Whether the server does not let this role do that."""
        try:
            self._server.sql(statement, self.of(role))
        except psycopg2.errors.InsufficientPrivilege:
            return True
        return False


@pytest.fixture
def only_roles() -> Iterator[Roles]:
    """There is no queue yet. They are gone afterwards."""
    server = postgres.needed()
    for url in postgres.new_url():
        yield Roles(server, url)
    for role in ROLES:
        server.sql(f"DROP ROLE IF EXISTS {role}")


@pytest.fixture
def roles(only_roles: Roles) -> Roles:
    """As they are for use."""
    only_roles.make()
    only_roles.grant()
    return only_roles


def run(url: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One command line on this queue."""
    env = {
        **clean_environment(),
        "QUEUECTL_DATABASE_URL": url,
        "QUEUECTL_HOME": str(folder / "home"),
    }
    return subprocess.run(
        [*MAIN, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_a_worker_needs_few_rights(roles: Roles, tmp_path: Path) -> None:
    """The role for workers can live the whole life of a queue that its owner made."""
    url = roles.of("queue_worker")
    (tmp_path / "jobs").write_text('{"command": "true"}\n' * 30)
    for words in (
        "init",
        "enqueue --id a --command true",
        "enqueue --id b --command false --max-retries 0",
        "enqueue --id c --command true --delay 1h",
        "enqueue --jobs-file jobs",
        "cancel c",
        "worker-start --drain --count 2",
        "list",
        "status",
        "show a",
        "dlq list",
        "dlq retry b",
        "cancel b",
        "retry a",
        "worker-start --drain",
        "delete b",
        "prune --older-than 0 --yes",
        "worker-list",
        "doctor",
    ):
        ran = run(url, tmp_path, *words.split())
        assert ran.returncode == 0, (words, ran)


def test_a_producer_only_puts_jobs_in(roles: Roles, tmp_path: Path) -> None:
    """Its role can enqueue one job or many, and look; what decides or runs is refused in two lines."""
    url = roles.of("queue_producer")
    (tmp_path / "jobs").write_text('{"command": "true"}\n' * 30)
    for words in ("enqueue --id a --command true", "enqueue --jobs-file jobs", "list", "status"):
        ran = run(url, tmp_path, *words.split())
        assert ran.returncode == 0, (words, ran)
    for words in ("cancel a", "delete a", "worker-start --drain"):
        ran = run(url, tmp_path, *words.split())
        assert ran.returncode == 5, (words, ran)
        assert "permission denied for table" in ran.stderr
        assert "The role queue_producer lacks this right." in ran.stderr
        assert len(ran.stderr.splitlines()) == 2
    assert run(url, tmp_path, "show", "a").returncode == 0


@pytest.mark.parametrize("role", ["queue_worker", "queue_producer"])
def test_none_but_the_owner_changes_tables(roles: Roles, role: str) -> None:
    """No table can be made, changed or dropped, nor the version of the schema be written; no other
    schema is within reach, and no role is more than it was made to be.
    """
    for statement in (
        "CREATE TABLE queuectl.mine ()",
        "CREATE TEMPORARY TABLE mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "ALTER TABLE queuectl.jobs ADD COLUMN mine text",
        "DROP TABLE queuectl.jobs",
        "TRUNCATE queuectl.jobs",
        "CREATE INDEX mine ON queuectl.jobs (id)",
        "UPDATE queuectl.queuectl_schema SET version = 2",
        "UPDATE queuectl.attempts SET outcome = 'succeeded'",
        "DROP SCHEMA queuectl",
        "CREATE ROLE mine",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY queuectl.jobs TO PROGRAM 'cat'",
    ):
        assert roles.refuses(role, statement), statement
    with pytest.raises(EnvironmentFault, match=f"the role {role} may not make one"):
        open_job_storage(f"{roles.of(role)}&schema=mine", create=True)


def test_doctor_says_what_a_role_may_do(roles: Roles, tmp_path: Path) -> None:
    """Whether it may run jobs is a fact; that it may do some of what a worker does is wrong: so it is after
    an upgrade that brings a table, until the script with the rights is run again.
    """
    for role, may in (
        ("queue_owner", "may run jobs"),
        ("queue_worker", "may run jobs"),
        ("queue_producer", "may enqueue and look, not run jobs"),
    ):
        ran = run(roles.of(role), tmp_path, "doctor")
        assert ran.returncode == 0, ran
        assert f"ok      rights: the role {role} {may}" in ran.stdout
    server = postgres.needed()
    server.sql("REVOKE INSERT, SELECT ON queuectl.output FROM queue_worker", roles.url)
    ran = run(roles.of("queue_worker"), tmp_path, "doctor")
    assert ran.returncode == 1, ran
    assert (
        "WRONG   rights: the role queue_worker lacks SELECT on output, INSERT on output"
        in ran.stdout
    )
    assert "postgresql-grants.sql" in ran.stdout
    server.sql("REVOKE USAGE ON SCHEMA queuectl FROM queue_producer", roles.url)
    ran = run(roles.of("queue_producer"), tmp_path, "doctor")
    assert ran.returncode == 1, ran
    assert "WRONG   database: " in ran.stdout
    assert "the role queue_producer may not read the schema" in ran.stdout


@pytest.mark.parametrize("role", ["queue_worker", "queue_producer"])
@pytest.mark.parametrize("may_make_temporary_tables", [False, True])
def test_who_may_not_make_a_queue_is_told(
    only_roles: Roles, tmp_path: Path, role: str, may_make_temporary_tables: bool
) -> None:
    """Before its owner has made it there is none, and this role makes none: not even one of temporary
    tables, which would be gone with the connection.
    """
    server, url = postgres.needed(), only_roles.of(role)
    if may_make_temporary_tables:
        database = url.split("@/")[1].split("?")[0]
        server.sql(f"GRANT TEMPORARY ON DATABASE {database} TO {role}", only_roles.url)
    for words in ("init", "enqueue --command true", "worker-start --drain"):
        ran = run(url, tmp_path, *words.split())
        assert ran.returncode == 5, (words, ran)
        assert "there is no queue at postgresql://" in ran.stderr
        assert f"the role {role} may not make one" in ran.stderr
        assert "has to call `init` first" in ran.stderr
        assert len(ran.stderr.splitlines()) == 2
    assert run(url, tmp_path, "status").returncode == 3


@pytest.mark.parametrize("role", ["queue_worker", "queue_producer"])
def test_who_was_not_given_its_rights_is_told(only_roles: Roles, tmp_path: Path, role: str) -> None:
    """Between `init` and the script with the rights, each command names the script."""
    only_roles.make()
    for words in ("init", "status", "enqueue --command true", "worker-start --drain"):
        ran = run(only_roles.of(role), tmp_path, *words.split())
        assert ran.returncode == 5, (words, ran)
        assert f"the role {role} may not read the schema 'queuectl'" in ran.stderr
        assert "postgresql-grants.sql" in ran.stderr
        assert len(ran.stderr.splitlines()) == 2


def test_who_may_not_bring_the_tables_up_to_date_is_told(roles: Roles, tmp_path: Path) -> None:
    """After an upgrade of the program its owner goes first."""
    postgres.needed().sql("UPDATE queuectl.queuectl_schema SET version = 1", roles.url)
    ran = run(roles.of("queue_worker"), tmp_path, "status")
    assert ran.returncode == 5, ran
    assert "has schema version 1, and the role queue_worker may not bring it up" in ran.stderr
    assert "postgresql-grants.sql" in ran.stderr


def test_a_connection_that_is_not_made_has_its_own_hint(roles: Roles, tmp_path: Path) -> None:
    """No server, no such user or database, no right to connect: each is told as what it is."""
    server = postgres.needed()
    name = roles.url.split("@/")[1].split("?")[0]
    address = f"postgresql://postgres@127.0.0.1:1/{name}"
    server.sql("CREATE ROLE no_login")
    server.sql("CREATE ROLE a_stranger LOGIN")
    try:
        for url, said, hint in (
            (roles.url.replace("host=", "host=/nowhere"), "No such file", "that the server runs"),
            (address, "refused", "that the server runs, and the host and port"),
            (roles.of("nobody"), 'role "nobody" does not exist', "Check the user in the URL"),
            (roles.url.replace(f"/{name}", "/none"), "does not exist", "name of the database"),
            (roles.of("no_login"), "not permitted to log in", "right to connect"),
            (roles.of("a_stranger"), "permission denied for database", "GRANT CONNECT"),
        ):
            ran = run(url, tmp_path, "status")
            assert ran.returncode == 5, ran
            assert said in ran.stderr
            assert hint in ran.stderr
            assert len(ran.stderr.splitlines()) == 2
    finally:
        server.sql("DROP ROLE no_login")
        server.sql("DROP ROLE a_stranger")


def test_a_password_that_is_wrong_has_its_own_hint(tmp_path: Path) -> None:
    """A server that asks for one: it is missing, or another."""
    server = Server(postgres.needed().programs)
    try:
        server.make()
        server.admit("local all me password")
        server.start()
        server.sql("CREATE ROLE me LOGIN PASSWORD 'right'")
        for login in ("me", "me:wrong"):
            ran = run(server.url.replace("postgres@", f"{login}@"), tmp_path, "status")
            assert ran.returncode == 5, ran
            assert "~/.pgpass" in ran.stderr
            assert "server runs" not in ran.stderr
    finally:
        server.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url + "&bogus=1", '"bogus"'),
        (lambda url: url + "&sslmode=foo", '"foo"'),
        (lambda url: url + "&connect_timeout=soon", '"soon"'),
        (lambda url: url.replace("@/", "@h:port/"), "its port is not a number"),
        (lambda url: url.replace("@/", "@h:99999999/").split("?")[0], '"99999999"'),
        (lambda url: url.replace("@/", ":a%b@/"), "In a password % is written %25."),
        (lambda url: url.replace("@/", "@a,b/").split("?")[0] + "?port=1,2,3", "3 port numbers"),
    ],
)
def test_what_is_wrong_in_a_url_is_an_error_of_input(
    tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    """Whatever the server does, it cannot be used: status 2, and where to look."""
    ran = run(change(postgres.needed().url), tmp_path, "status")
    assert ran.returncode == 2, ran
    assert said in ran.stderr
    assert "server runs" not in ran.stderr
    assert len(ran.stderr.splitlines()) == 2


def guided(heading: str) -> list[str]:
    """The commands in a part of the guide, in their order: of each block one text."""
    text = (GUIDES / "postgresql.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.split("```")[0] for block in text.split("```sh\n")[1:]]


def shell(commands: str, folder: Path, server: Server, **urls: str) -> str:
    """Runs commands of the guide, which must all end well, on these databases in place of its own."""
    ran = tried(commands, folder, server, **urls)
    assert ran.returncode == 0, ran
    return ran.stdout


def tried(
    commands: str, folder: Path, server: Server, **urls: str
) -> subprocess.CompletedProcess[str]:
    """Runs commands of the guide, until one fails."""
    for role, url in urls.items():
        commands = commands.replace(f"postgresql://{role}@db.example.org/queue", url)
    assert "example.org" not in commands
    environ = {**clean_environment(), "PATH": f"{server.programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", "-euc", commands],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the scripts of the guide in it."""
    for script in GUIDES.glob("*.sql"):
        shutil.copy(script, tmp_path)
    return tmp_path


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_backup_of_the_roles_is_restored_as_the_guide_says(
    roles: Roles, folder: Path, elsewhere: bool
) -> None:
    """The command that `backup` prints works for a worker's role; what it wrote brings all back, with the
    owner and the rights of each role, there or in another database.
    """
    server, worker = postgres.needed(), roles.of("queue_worker")
    for job in ("a", "b"):
        assert run(worker, folder, "enqueue", "--id", job, "--command", "true").returncode == 0
    told = run(worker, folder, "backup", "queue.sql")
    assert told.returncode == 1, told
    shell(told.stderr.partition("than the server: ")[2], folder, server)
    assert run(worker, folder, "delete", "b", "--yes").returncode == 0
    target = server.new_database() if elsewhere else roles.url
    _, _, as_administrator = guided("Backups")
    shell(as_administrator, folder, server, postgres=target)
    roles.url = target
    ran = run(roles.of("queue_producer"), folder, "list", "-q")
    assert sorted(ran.stdout.split()) == ["a", "b"], ran
    ran = run(roles.of("queue_worker"), folder, "worker-start", "--drain")
    assert ran.returncode == 0, ran
    assert run(roles.of("queue_owner"), folder, "init").returncode == 0
    assert roles.refuses("queue_producer", "DELETE FROM queuectl.jobs")
    if elsewhere:
        server.end_connections(target)
        server.sql("DROP DATABASE " + target.split("@/")[1].split("?")[0])


def test_a_backup_of_one_role_is_restored_as_the_guide_says(folder: Path) -> None:
    """As the role that owns the database, and a schema whose name needs quotes stays what it is."""
    server = postgres.needed()
    server.sql("CREATE ROLE queue LOGIN")
    for made in postgres.new_url():
        name = made.split("@/")[1].split("?")[0]
        server.sql(f"ALTER DATABASE {name} OWNER TO queue")
        url = made.replace("postgres@", "queue@")
        for schema in ("queuectl", "Team 2.*"):
            here = ["--schema", schema]
            assert run(url, folder, *here, "enqueue", "--id", "a", "--command", "x").returncode == 0
        dump, restore, _ = guided("Backups")
        shell(dump, folder, server, queue=url)
        shell(restore, folder, server, queue=url)
        told = run(url, folder, *here, "backup", "other.sql")
        shell(told.stderr.partition("than the server: ")[2], folder, server)
        assert 'CREATE SCHEMA "Team 2.*"' in (folder / "other.sql").read_text()
        assert "CREATE SCHEMA queuectl" not in (folder / "other.sql").read_text()
        assert run(url, folder, "worker-start", "--drain").returncode == 0
    server.sql("DROP ROLE queue")


def test_a_copy_that_the_server_cannot_read_costs_nothing(roles: Roles, folder: Path) -> None:
    """The guide's commands drop the queue in the transaction that brings it back: of a copy with what
    this server does not know, as a newer pg_dump may write it, nothing is read, and the queue stays.
    """
    server, worker = postgres.needed(), roles.of("queue_worker")
    assert run(worker, folder, "enqueue", "--id", "a", "--command", "true").returncode == 0
    dump, as_one_role, as_administrator = guided("Backups")
    shell(dump, folder, server, queue=worker)
    copy = folder / "queue.sql"
    copy.write_text("SET setting_of_a_later_version = 0;\n" + copy.read_text())
    for commands in (as_one_role, as_administrator):
        failed = tried(commands, folder, server, queue=roles.url, postgres=roles.url)
        assert failed.returncode == 3, failed
        assert "setting_of_a_later_version" in failed.stderr
        assert run(worker, folder, "list", "-q").stdout.split() == ["a"]


def test_the_owner_is_no_superuser(roles: Roles) -> None:
    """The role that migrates has its schema, and nothing besides."""
    for statement in ("CREATE SCHEMA mine", "CREATE TABLE public.mine ()", "CREATE ROLE mine"):
        assert roles.refuses("queue_owner", statement), statement


# ---- encryption --------------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def make_certificate(folder: Path) -> Path:
    """A certificate for the name `localhost`, signed by itself, beside its key."""
    certificate = folder / "server.crt"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [
            *words.split(),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", folder / "server.key", "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


class Encrypted:
    """A server that takes encrypted connections alone. `certificate` is its own, and proves it."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.certificate = make_certificate(folder)
        self.port = _free_port()
        self.server = Server(
            programs,
            settings={
                "listen_addresses": "127.0.0.1",
                "port": self.port,
                "ssl": "on",
                "ssl_cert_file": "server.crt",
                "ssl_key_file": "server.key",
            },
        )

    def begin(self) -> None:
        """Starts it. Raises NoServer where its programs know no encryption."""
        self.server.make()
        for name in ("server.crt", "server.key"):
            self.server.put(name, self.certificate.with_name(name).read_bytes())
        self.server.admit("hostssl all all 127.0.0.1/32 trust\nhostnossl all all all reject")
        self.server.start()

    def url(self, **parameters: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://postgres@localhost:{self.port}/postgres?{query}"


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Encrypted]:
    """Of this test process's programs, or of Debian's: not all are made with encryption."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing, so no certificate can be made")
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for programs in [postgres.needed().programs, *known]:
        made = Encrypted(programs, tmp_path)
        try:
            made.begin()
        except NoServer as error:
            why = str(error)
            made.server.close()
            continue
        try:
            yield made
        finally:
            made.server.close()
        return
    pytest.skip(f"no PostgreSQL here takes encrypted connections: {why.splitlines()[-1]}")


def test_the_options_of_encryption_count(encrypted: Encrypted, tmp_path: Path) -> None:
    """With the right certificate the server is trusted, with another or without encryption it is
    refused in one line that says so.
    """
    right = encrypted.url(sslmode="verify-full", sslrootcert=encrypted.certificate)
    ran = run(right, tmp_path, "enqueue", "--command", "true")
    assert ran.returncode == 0, ran
    assert run(right, tmp_path, "worker-start", "--drain").returncode == 0
    storage = open_job_storage(right)
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert storage._db.fetch(query) == [(True,)]  # type: ignore[attr-defined]
    storage.close()
    other = tmp_path / "other"
    other.mkdir()
    unknown = make_certificate(other)
    for url, words in (
        (encrypted.url(sslmode="verify-full", sslrootcert=unknown), "certificate"),
        (encrypted.url(sslmode="verify-full", sslrootcert=tmp_path / "missing"), "certificate"),
        (right.replace("localhost", "127.0.0.1"), "does not match host name"),
        # For want of encryption: servers say so in different words, "SSL off" before 14.
        (encrypted.url(sslmode="disable"), "pg_hba.conf rejects connection"),
    ):
        ran = run(url, tmp_path, "status")
        assert ran.returncode == 5, ran
        assert words in ran.stderr
        assert len(ran.stderr.splitlines()) == 2


def test_encryption_that_is_asked_for_is_not_done_without(tmp_path: Path) -> None:
    """A server that has none is refused where the URL says that it has to be."""
    port = _free_port()
    server = Server(
        postgres.needed().programs, settings={"listen_addresses": "127.0.0.1", "port": port}
    )
    try:
        server.begin()
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with pytest.raises(DatabaseUnreachable, match="does not support SSL"):
            open_job_storage(f"{url}?sslmode=require", create=True)
        open_job_storage(f"{url}?sslmode=prefer", create=True).close()
    finally:
        server.close()
