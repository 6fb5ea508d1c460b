"""`export` and `import`, as they are typed."""

from __future__ import annotations

import io
import json
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from queuectl.job_queue import JobQueue
from queuectl.jobs.job import new_ids
from tests import exports, postgres
from tests.cli.support import Cli, Terminal, hand_worker
from tests.support import MAIN, clean_environment, wait_until


@pytest.fixture
def used(cli: Cli) -> Cli:
    """A queue with jobs that ended, and one that waits, with a secret."""
    cli.completed()
    cli.dead("exit 3")
    cli.enqueue("true", "--id", "waiting", "--env", "TOKEN=secret")
    return cli


def body(path: Path) -> list[str]:
    """The lines of an export but for its header."""
    return path.read_text().splitlines()[1:]


def test_a_queue_moves_to_a_server_and_back(used: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same three commands as a person types move all there is, in either direction."""
    monkeypatch.setenv("QUEUECTL_HOME", str(used.folder / "home"))
    url = postgres.needed().new_schema()
    used.done("config", "set", "max_retries", "7")
    assert "Wrote " in used.done("export", "1.jsonl").out
    ran = used.done("--db", url, "import", "1.jsonl")
    assert ran.out == "Imported 3 jobs with 2 attempts\n"
    assert ran.err.startswith("Made a new queue: postgresql://")
    used.done("--db", url, "export", "2.jsonl")
    (used.folder / "back").mkdir()
    used.done("--db", "back/queue.db", "import", "2.jsonl")
    used.done("--db", "back/queue.db", "export", "3.jsonl")
    exports = [body(used.folder / f"{n}.jsonl") for n in (1, 2, 3)]
    assert exports[0] == exports[1] == exports[2]
    assert used.done("--db", "back/queue.db", "config", "get", "max_retries").out == "7\n"
    assert "secret" in exports[0][3]


@pytest.mark.parametrize("on_server", [False, True])
def test_an_import_that_fails_says_that_it_made_the_queue(
    used: Cli, monkeypatch: pytest.MonkeyPatch, on_server: bool
) -> None:
    """Nothing is made for a file that is no export at all. One that is damaged farther down leaves an
    empty queue, and that is said.
    """
    monkeypatch.setenv("QUEUECTL_HOME", str(used.folder / "home"))
    url = postgres.needed().new_schema() if on_server else "other.db"
    used.done("export", "good.jsonl")
    lines = (used.folder / "good.jsonl").read_text().splitlines(keepends=True)
    bad = used.folder / "bad.jsonl"
    for text in ("", "[]\n", lines[0], lines[0] + '{"settings": {"none": 1}}\n'):
        bad.write_text(text)
        ran = used("--db", url, "import", "bad.jsonl")
        assert (ran.status, "Made" in ran.err) == (2, False), ran
        assert used("--db", url, "status").status == 3
    bad.write_text("".join(lines[:-1]))
    for made in (True, False):
        ran = used("--db", url, "import", "bad.jsonl")
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("Made a new queue: ") is made
        assert ran.err.count("Made a new queue: ") == made
    assert used.done("--db", url, "list", "-q").out == ""


def test_the_header_says_what_it_is(used: Cli) -> None:
    """The format, the program, the time and the kind of database."""
    header = json.loads(used.done("export").lines[0])
    assert header.keys() == {"queuectl_export", "queuectl", "exported_at", "database"}
    assert header["queuectl_export"] == 1
    assert header["database"].startswith("SQLite ")


def test_the_file_is_private_and_whole(used: Cli) -> None:
    """Only its owner may read it; a file that is there stays; one that fails is not left."""
    used.done("export", "queue.jsonl")
    path = used.folder / "queue.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    ran = used("export", "queue.jsonl")
    assert (ran.status, "exists already" in ran.err) == (1, True)
    assert path.read_bytes() == before
    assert used("export", "nowhere/queue.jsonl").status == 5
    (used.folder / "queuectl_config.json").write_text("{broken")
    assert used("export", "other.jsonl").status == 2
    assert not (used.folder / "other.jsonl").exists()


def test_forms_of_the_result(used: Cli) -> None:
    """--json tells of the file, and needs one; -q prints nothing but an export to stdout."""
    path = str(used.folder / "queue.jsonl")
    assert used.done("export", "queue.jsonl", "--json").json == {
        "export": path,
        "jobs": 3,
        "attempts": 2,
    }
    ran = used.done("export", "told.jsonl")
    assert ran.out == f"Wrote {used.folder / 'told.jsonl'}: 3 jobs with 2 attempts\n"
    ran = used("export", "--json")
    assert (ran.status, ran.out) == (2, "")
    assert used.done("export", "quiet.jsonl", "-q") == (0, "", "")
    assert len(used.done("export", "-", "-q").lines) == 6
    ran = used.done("--db", "a.db", "import", "queue.jsonl", "--json")
    assert ran.json == {"imported": 3, "attempts": 2}
    assert used.done("--db", "b.db", "import", "queue.jsonl", "-q") == (0, "", "")


def test_through_a_pipe(used: Cli) -> None:
    """What one process writes another takes in, and a reader that has seen enough is no trouble."""
    env = clean_environment()
    lines = subprocess.run([*MAIN, "export"], env=env, capture_output=True, check=True).stdout
    subprocess.run([*MAIN, "--db", "b.db", "import"], env=env, input=lines, check=True)
    again = subprocess.run(
        [*MAIN, "--db", "b.db", "export", "-"], env=env, capture_output=True, check=True
    )
    assert again.stdout.splitlines()[1:] == lines.splitlines()[1:]
    with JobQueue.open("b.db") as queue:
        queue.enqueue_many(["true"] * 3_000)
    with subprocess.Popen(
        [*MAIN, "--db", "b.db", "export"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_taken_id_changes_nothing(used: Cli) -> None:
    """It ends with the status of a conflict, and names file, line and job; settings stay as well."""
    used.done("config", "set", "max_retries", "7")
    used.done("export", "queue.jsonl")
    used.done("config", "unset", "max_retries")
    used.done("delete", "waiting")
    before = used.done("export").lines[1:]
    first = json.loads(body(used.folder / "queue.jsonl")[1])["job"]["id"]
    ran = used("import", "queue.jsonl")
    assert ran.status == 4
    assert ran.out == ""
    assert ran.err.splitlines()[0] == (
        f"queuectl: queue.jsonl: line 3: a job with the id '{first}' is already in the queue;"
        " nothing was imported"
    )
    assert used.done("export").lines[1:] == before
    error = json.loads(used("import", "queue.jsonl", "--json").err)["error"]
    assert (error["code"], error["exit"]) == ("duplicate_job_id", 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], "queue.jsonl: it ends behind line 5, without the line"),
        (lambda lines: [*lines[:2], "{}", *lines[3:]], "queue.jsonl: line 3: an object with"),
        (lambda lines: ['{"queuectl_export": 99}'], "line 1: the export has format 99"),
        (
            lambda lines: [lines[0], '{"settings": {"colour": 1}}', *lines[2:]],
            "line 2: there is no",
        ),
        (lambda lines: [lines[0], '{"settings": {"max_retries": -1}}'], "line 2: max_retries must"),
        (lambda lines: [], "queue.jsonl: it is empty"),
    ],
    ids=["cut off", "damaged", "newer", "unknown setting", "wrong setting", "empty"],
)
def test_a_damaged_file_changes_nothing(used: Cli, change: object, said: str) -> None:
    """It is refused with the number of its line, as wrong input, and the queue stays as it was."""
    used.done("config", "set", "max_retries", "7")
    used.done("export", "queue.jsonl")
    used.done("config", "unset", "max_retries")
    used.done("delete", "--yes", *used.states())
    path = used.folder / "queue.jsonl"
    lines = change(path.read_text().splitlines())  # type: ignore[operator]
    path.write_text("".join(line + "\n" for line in lines))
    ran = used("import", "queue.jsonl")
    assert ran.status == 2
    assert said in ran.err
    assert used.states() == {}
    assert used.done("config", "get", "max_retries").out == "3\n"


def test_what_cannot_be_read_makes_no_queue(cli: Cli) -> None:
    """A file that is not there, or is no export, is refused before a queue is made for it."""
    assert cli("import", "nothing.jsonl").status == 2
    (cli.folder / "jobs.jsonl").write_text('{"command": "true"}\n')
    ran = cli("import", "jobs.jsonl")
    assert (ran.status, "not the beginning of an export" in ran.err) == (2, True)
    assert "enqueue --jobs-file" in ran.err
    assert not cli.database.exists()
    assert cli("export").status == 3


def test_settings_that_are_set_stay(used: Cli) -> None:
    """Of the settings those are taken over that the file here does not have; where the queue is, never."""
    used.done("config", "set", "max_retries", "7")
    used.done("config", "set", "log_max_bytes", "8192")
    (used.folder / "other").mkdir()
    config = used.folder / "queuectl_config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "database_url": "postgresql://u:pw@h/d"})
    )
    used.done("--db", "queuectl.db", "export", "queue.jsonl")
    assert "pw" not in (used.folder / "queue.jsonl").read_text()
    used.done("--db", "other/q.db", "config", "set", "max_retries", "1")
    used.done("--db", "other/q.db", "import", "queue.jsonl")
    written = json.loads((used.folder / "other" / "queuectl_config.json").read_text())
    assert written == {"max_retries": 1, "log_max_bytes": 8192}


def test_a_job_that_runs_waits_in_the_export(cli: Cli) -> None:
    """A worker's claim is not its new queue's: there the job waits, its run shown as interrupted."""
    job = cli.enqueue("sleep 60")
    with hand_worker(cli.database) as worker:
        worker.claim()
        cli.done("export", "queue.jsonl")
    cli.done("--db", "b.db", "import", "queue.jsonl")
    shown = cli.done("--db", "b.db", "show", job, "--json").json
    assert (shown["state"], shown["attempts"]) == ("pending", 0)
    assert [run["outcome"] for run in shown["attempt_log"]] == ["interrupted"]
    assert cli.states() == {job: "processing"}


def test_progress_is_for_terminals(used: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on stderr when it takes long and somebody looks; none with -q, --json or elsewhere."""
    with JobQueue.open(used.database) as queue:
        queue.enqueue_many(["true"] * 2_000)
    monkeypatch.setattr("queuectl.cli.jobs_file._QUIET_SECONDS", 0)
    for n, (words, shown) in enumerate([([], True), (["-q"], False), (["--json"], False)]):
        stderr = Terminal()
        monkeypatch.setattr("sys.stderr", stderr)
        used.done("export", f"{n}.jsonl", *words)
        assert ("jobs written" in stderr.getvalue()) is shown
        stderr = Terminal()
        monkeypatch.setattr("sys.stderr", stderr)
        used.done("--db", f"{n}.db", "import", f"{n}.jsonl", *words)
        assert ("jobs read" in stderr.getvalue()) is shown
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    used.done("export", "pipe.jsonl")
    assert pipe.getvalue() == ""


def test_programs_can_move_a_queue(used: Cli) -> None:
    """The lines are there for Python as well, and what came in can be used at once."""
    with JobQueue.open(used.database) as here, JobQueue.open("there.db") as there:
        lines = (line.encode() for line in here.export_lines())
        assert there.import_lines(lines) == (3, 2)
        assert [job.id for job in there.list()] == [job.id for job in here.list()]
        assert there.dead_letters.retry_all() == 1


def test_a_full_disk_leaves_no_file(used: Cli) -> None:
    """An export that finds no room says so, and leaves nothing under its name."""
    with JobQueue.open(used.database) as queue:
        queue.enqueue_many(["true"] * 300)
    ran = subprocess.run(
        ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *MAIN, "export", "queue.jsonl"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, "cannot write queue.jsonl" in ran.stderr) == (5, True), ran
    assert not (used.folder / "queue.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_that_is_killed_leaves_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Ended in the middle, while its source pauses, it has put nothing in and holds nobody up."""
    monkeypatch.setenv("QUEUECTL_HOME", str(cli.folder / "home"))
    server = postgres.needed()
    url = server.new_database()
    cli.done("--db", url, "init")
    lines = exports.as_file(exports.written((exports.job(id), []) for id in new_ids(1_500)))
    sessions = (
        "SELECT count(*) FILTER (WHERE state = 'idle in transaction' AND query LIKE '%ended_jobs%'),"
        " count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    env = {**clean_environment(), "QUEUECTL_HOME": str(cli.folder / "home")}
    with subprocess.Popen(
        [*MAIN, "--db", url, "import"],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"".join(lines[:-1]))
        process.stdin.flush()
        wait_until(lambda: server.sql(sessions, url)[0][0] == 1, "the first page is in")
        process.send_signal(number)
        assert process.wait(30) == (130 if number == signal.SIGINT else -number)
        assert process.stderr.read() == b""
    wait_until(lambda: server.sql(sessions, url)[0][1] == 0, "its session is gone")
    assert cli.done("--db", url, "list", "--json").json == []
