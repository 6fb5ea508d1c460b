"""Output of workers on other machines: two machines are two names and two folders for one queue."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.postgres import Server
from tests.support import ROOT, Sandbox, WorkerProcess, wait_until

pytestmark = pytest.mark.parametrize("sandbox", ["postgres"], indirect=True)

_FAR = [sys.executable, str(ROOT / "tests" / "engine" / "far_worker.py")]
_UNTIL_GO = "until [ -e go ]; do sleep 0.02; done"


def on_far(sandbox: Sandbox, host: str = "far", **settings: object) -> dict[str, str]:
    """The environment of a machine with this name."""
    told = {f"QUEUECTL_{name.upper()}": str(value) for name, value in settings.items()}
    home = str(sandbox.folder / f"home of {host}")
    return {"QUEUE_OF_A_TEST_HOST": host, "QUEUECTL_HOME": home, **told}


def far_worker(
    sandbox: Sandbox, *options: str, host: str = "far", **settings: object
) -> WorkerProcess:
    """A worker on another machine."""
    return sandbox.start_worker(
        *options,
        program=[*_FAR, "worker-start"],
        env=on_far(sandbox, host, **settings),
        ready="--drain" not in options,
    )


def far_drain(sandbox: Sandbox, host: str = "far", **settings: object) -> None:
    """Has another machine run all there is."""
    worker = far_worker(sandbox, "--drain", host=host, **settings)
    assert worker.wait() == 0, worker.said


def far_log(sandbox: Sandbox, id: str, host: str = "far") -> Path:
    """The log of a job on that machine."""
    (folder,) = (sandbox.folder / f"home of {host}").iterdir()
    return folder / "job_logs" / f"{id}.log"


def logs(sandbox: Sandbox, *words: str, env: dict[str, str] | None = None) -> tuple[bytes, str]:
    """What `logs` prints here, and what it says on stderr."""
    ran = subprocess.run(
        sandbox.command_line("logs", *words),
        cwd=sandbox.folder,
        env={**sandbox.environ, **(env or {})},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran
    return ran.stdout, ran.stderr.decode()


@pytest.fixture
def server() -> Iterator[Server]:
    """The server of this test process, which runs again afterwards."""
    server = postgres.needed()
    yield server
    if not server.is_running:
        server.start()


def test_output_is_the_same_from_everywhere(sandbox: Sandbox) -> None:
    """Bytes of any kind and queuectl's own lines, byte for byte as in the log, as soon as the job has
    ended; on stderr where that is.
    """
    ids = [
        sandbox.enqueue(r"printf 'a\000\377\nb'", backoff_base=0),
        sandbox.enqueue("echo $QUEUECTL_ATTEMPT; exit 3", max_retries=1, backoff_base=0),
        sandbox.enqueue("seq 1 20000"),
        sandbox.enqueue("true"),
        sandbox.enqueue("true", cwd="/nowhere"),
    ]
    worker = far_worker(sandbox)
    for id in ids[:4]:
        sandbox.run("wait", id)
        text, said = logs(sandbox, id)
        log = far_log(sandbox, id)
        assert text == log.read_bytes()
        if id == ids[3]:
            assert said == ""
        else:
            assert "From the database, where all " in said
            assert f"the log itself is on far: {log}" in said
    assert worker.stop() == 0


def test_parts_of_output(sandbox: Sandbox) -> None:
    """--tail, --attempt and --json, and the end in `show`, as of a log that is here."""
    job = sandbox.enqueue("seq 1 30000; exit $((QUEUECTL_ATTEMPT < 2))", backoff_base=0)
    far_drain(sandbox)
    whole = far_log(sandbox, job).read_bytes()
    for lines in (0, 1, 2, 1000, 29_999, 40_000, 100_000):
        expected = b"".join(whole.splitlines(keepends=True)[-lines:] if lines else [])
        assert logs(sandbox, job, "--tail", str(lines))[0] == expected
    second = whole.index(b"[queuectl] attempt 2 of")
    assert logs(sandbox, job, "--attempt", "1")[0] == whole[:second]
    assert logs(sandbox, job, "--attempt", "2", "-n", "3")[0].splitlines()[0] == b"29999"
    told = json.loads(logs(sandbox, job, "--json")[0])
    assert told["output"].encode() == whole
    assert (told["host"], told["path"]) == ("far", str(far_log(sandbox, job)))
    assert told["missing_bytes"] == 0
    assert "29999" in sandbox.run("show", job).stdout
    assert sandbox.queue.read_log(job, tail=1) == whole.splitlines(keepends=True)[-1]
    assert sandbox.queue.read_log(job) == whole


def test_of_much_output_the_end_is_there(sandbox: Sandbox) -> None:
    """With log_store = disk the database has the end, and it is said how much, and where the rest is."""
    job = sandbox.enqueue("seq 1 300000")
    far_drain(sandbox)
    text, said = logs(sandbox, job)
    whole = far_log(sandbox, job).read_bytes()
    assert 256 * 1024 <= len(text) < 400 * 1024
    first, gap, rest = text.split(b"\n", 2)
    assert whole.startswith(first)
    assert whole.endswith(rest)
    missing = len(whole) - len(first) - 1 - len(rest)
    assert gap == b"[queuectl] %d bytes are only on far" % missing
    assert " of 1,988,895 bytes of output are; the log itself is on far: " in said
    assert logs(sandbox, job, "--follow")[0] == text
    lines = text.splitlines(keepends=True)
    assert logs(sandbox, job, "--tail", str(len(lines) - 1))[0] == b"".join(lines[1:])
    assert json.loads(logs(sandbox, job, "--json")[0])["output"].encode() == text


def test_a_reader_that_falls_behind_is_told_what_it_missed(sandbox: Sandbox) -> None:
    """Who follows while more is written than the database keeps sees where bytes are missing, and on
    which machine they are; that nothing was cut out of the log is not denied.
    """
    job = sandbox.enqueue(f"echo early; {_UNTIL_GO}; seq 1 300000")
    worker = far_worker(sandbox)
    wait_until(lambda: sandbox.queue.output.copied(job) and b"early\n" in logs(sandbox, job)[0])
    out = Taken()
    follower = sandbox.queue.output.follower(job)
    assert follower
    follower.look(out)
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    follower.look(out)
    # The header line of one that runs has the time of its claim.
    whole = far_log(sandbox, job).read_bytes().partition(b"\n")[2]
    before, _, after = out.text.partition(b"\n")[2].partition(b"\n[queuectl] ")
    words, _, rest = after.partition(b"\n")
    assert before == b"early\n"
    assert whole.endswith(rest)
    assert words == b"%d bytes are only on far" % (len(whole) - len(before) - len(rest))
    assert worker.stop() == 0


class Taken:
    """Takes a log as it comes, and keeps it."""

    def __init__(self) -> None:
        self.text = b""

    def output(self, data: bytes) -> None:
        self.text += data

    own_line = output

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("limit", [0, 256 * 1024])
def test_all_output_is_there_when_asked_for(sandbox: Sandbox, limit: int) -> None:
    """With log_store = database all of it, also of what was cut in the middle while it ran."""
    job = sandbox.enqueue(f"seq 1 200000; {_UNTIL_GO}; seq 200001 400000; echo the end")
    worker = far_worker(sandbox, log_store="database", log_max_bytes=limit)
    wait_until(
        lambda: sandbox.queue.output.copied(job) and logs(sandbox, job)[0].count(b"\n") > 999
    )
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    text, _ = logs(sandbox, job)
    assert text == far_log(sandbox, job).read_bytes()
    assert (b"bytes were cut here" in text) == bool(limit)
    assert worker.stop() == 0


def test_a_job_can_be_followed_from_everywhere(sandbox: Sandbox) -> None:
    """`logs --follow` and `run` show what another machine writes, while it writes it."""
    worker = far_worker(sandbox)
    with (
        subprocess.Popen(
            sandbox.command_line("run", "--command", f"echo early; {_UNTIL_GO}; echo late; exit 3"),
            cwd=sandbox.folder,
            env={**sandbox.environ, "QUEUECTL_MAX_RETRIES": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running,
        subprocess.Popen(
            sandbox.command_line(
                "logs", wait_until(lambda: [*sandbox.queue.list()])[0].id, "--follow"
            ),
            cwd=sandbox.folder,
            env=sandbox.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as following,
    ):
        assert running.stdout
        assert running.stderr
        assert following.stdout
        assert running.stdout.readline() == b"early\n"
        assert b"attempt 1 " in following.stdout.readline()
        assert following.stdout.readline() == b"early\n"
        sandbox.touch("go")
        assert running.stdout.read() == b"late\n"
        assert b"Attempt 1 ended " in running.stderr.read()
        assert running.wait() == 3
        assert following.stdout.read().startswith(b"late\n[queuectl] attempt 1 ended ")
        assert following.wait() == 0
    assert worker.stop() == 0


def test_attempts_on_several_machines_are_one_log(sandbox: Sandbox) -> None:
    """In their order, each once, from whichever of the machines it is read; following, too."""
    job = sandbox.enqueue("echo on ${QUEUE_OF_A_TEST_HOST:-here}; exit 1", max_retries=0)
    far_drain(sandbox)
    sandbox.queue.retry(job)
    sandbox.drain()
    sandbox.queue.retry(job)
    far_drain(sandbox, "other")
    texts = [
        logs(sandbox, job)[0],
        logs(sandbox, job, "--follow")[0],
        logs(sandbox, job, env=on_far(sandbox))[0],
        logs(sandbox, job, env=on_far(sandbox, "other"))[0],
        logs(sandbox, job, env=on_far(sandbox, "no worker's"))[0],
    ]
    assert len(set(texts)) == 1
    lines = texts[0].splitlines()
    assert [line for line in lines if not line.startswith(b"[")] == [
        b"on far",
        b"on here",
        b"on other",
    ]
    assert texts[0] == b"".join(
        log.read_bytes()
        for log in (
            far_log(sandbox, job),
            sandbox.folder / "job_logs" / f"{job}.log",
            far_log(sandbox, job, "other"),
        )
    )
    assert b"on other" in logs(sandbox, job, "--attempt", "1")[0]
    assert logs(sandbox, job, "--tail", "2", "--follow")[0] == b"".join(
        texts[0].splitlines(keepends=True)[-2:]
    )


def test_a_command_that_empties_its_log(sandbox: Sandbox) -> None:
    """What it wrote since is there, and what it wrote before is not."""
    job = sandbox.enqueue(f"echo before; {_UNTIL_GO}; echo after > /dev/stdout; echo more")
    worker = far_worker(sandbox)
    wait_until(lambda: sandbox.queue.output.copied(job) and b"before\n" in logs(sandbox, job)[0])
    sandbox.touch("go")
    sandbox.wait_state(job, "completed")
    lines = logs(sandbox, job)[0].splitlines()
    assert lines[1:-1] == [b"after", b"more"]
    assert worker.stop() == 0


def test_what_a_lost_worker_had_copied_stays(sandbox: Sandbox) -> None:
    """After kill -9 the output is there as of the last step, closed by the line of its rescue."""
    job = sandbox.enqueue(f"echo out; {_UNTIL_GO}", on_lost="hold")
    worker = far_worker(sandbox, lease_seconds=2)
    wait_until(lambda: sandbox.queue.output.copied(job) and b"out\n" in logs(sandbox, job)[0])
    worker.kill()
    rescuer = sandbox.start_worker()
    sandbox.wait_state(job, "dead", seconds=60)
    text, said = logs(sandbox, job)
    lines = text.splitlines()
    assert lines[1] == b"out"
    assert lines[-1].endswith(b": worker lost")
    assert "on far: " in said
    assert rescuer.stop() == 0


def test_the_copy_catches_up_with_a_server_that_was_away(sandbox: Sandbox, server: Server) -> None:
    """The command goes on meanwhile, and all it wrote is there when its outcome is."""
    job = sandbox.enqueue(
        f"echo begun; touch begun; {_UNTIL_GO}; seq 1 200000; touch written; until [ -e end ]; do sleep 0.02; done"
    )
    worker = far_worker(sandbox, log_store="database")
    wait_until((sandbox.folder / "begun").exists)
    wait_until(lambda: sandbox.queue.output.copied(job) and b"begun\n" in logs(sandbox, job)[0])
    sandbox.close_queue()
    server.stop()
    sandbox.touch("go")
    wait_until((sandbox.folder / "written").exists)
    worker.wait_for("lost the connection to ")
    sandbox.touch("end")
    server.start()
    sandbox.wait_state(job, "completed")
    assert logs(sandbox, job)[0] == far_log(sandbox, job).read_bytes()
    assert worker.stop() == 0


def test_a_log_that_is_here_is_read_here(sandbox: Sandbox) -> None:
    """Nothing is said of the database; when the log is gone, what that has is shown."""
    job = sandbox.enqueue("echo out")
    sandbox.drain()
    text, said = logs(sandbox, job)
    assert (text, said) == (sandbox.log(job), "")
    (sandbox.folder / "job_logs" / f"{job}.log").unlink()
    again, said = logs(sandbox, job)
    assert again == text
    assert said.startswith("From the database, where all 4 bytes of output are; ")


@pytest.mark.parametrize("how", ["delete", "prune", "dlq purge"])
def test_output_goes_with_its_job(sandbox: Sandbox, how: str) -> None:
    """However a job is removed, nothing of its output stays in the database."""
    for _ in range(3):
        job = sandbox.enqueue("echo out; exit 1", max_retries=0)
    far_drain(sandbox)
    server = postgres.needed()
    schema = sandbox.location.split("schema=")[1]
    count = f"SELECT count(*) FROM {schema}.output"
    assert server.sql(count) == [(3,)]
    words = {
        "delete": ["delete", job],
        "prune": ["prune", "--state", "dead", "--older-than", "0s"],
        "dlq purge": ["dlq", "purge"],
    }[how]
    ran = sandbox.run(*words, "--yes")
    assert ran.returncode == 0, ran
    assert server.sql(count) == [(2 if how == "delete" else 0,)]


_NOT_HERE = "is not here: worker far:"


def moved(sandbox: Sandbox) -> None:
    """Moves the queue into another schema of the server by export and import, without its logs."""
    lines = [line.encode() for line in sandbox.queue.export_lines()]
    sandbox.close_queue()
    sandbox.location = postgres.needed().new_schema()
    sandbox.environ["QUEUECTL_DATABASE_URL"] = sandbox.location
    sandbox.queue.import_lines(lines)


def test_output_that_did_not_move_along_is_missed(sandbox: Sandbox) -> None:
    """After a move `logs` and `show` say of which attempts the output is not here, how much it was,
    and where they ran; a log that is copied into the folder is read again.
    """
    job = sandbox.enqueue("seq 1 1000; exit 1", max_retries=1, backoff_base=0)
    quiet = sandbox.enqueue("true")
    far_drain(sandbox)
    whole = far_log(sandbox, job).read_bytes()
    assert "See all of its output: " in sandbox.run("show", job).stdout
    moved(sandbox)

    text, said = logs(sandbox, job)
    assert text.count(b" ended ") == 2
    assert text.count(b"\n[queuectl] 3893 bytes are not here: worker far:") == 2
    assert said.startswith(f"The output of attempts 1 and 2 (7,786 bytes) {_NOT_HERE}")
    assert f"look for {job}.log in its earlier job_logs folder on far, and copy it to /" in said
    assert len(said.splitlines()) == 1
    second = logs(sandbox, job, "--attempt", "2")[1]
    assert second.startswith(f"The output of attempt 2 (3,893 bytes) {_NOT_HERE}")
    told = json.loads(logs(sandbox, job, "--json")[0])
    assert (told["missing_bytes"], told["host"], told["path"]) == (7786, "far", None)
    followed = logs(sandbox, job, "--follow")
    assert followed[0] == text
    assert _NOT_HERE in followed[1]
    shown = sandbox.run("show", job).stdout
    assert f"The output of attempts 1 and 2 (7,786 bytes) {_NOT_HERE}" in shown
    assert "See all of its output" not in shown
    assert logs(sandbox, quiet)[1] == ""
    assert "not here" not in sandbox.run("show", quiet).stdout

    path = Path(sandbox.queue.logs.path(job))
    path.parent.mkdir(parents=True)
    path.write_bytes(whole)
    assert logs(sandbox, job) == (whole, "")


def test_a_lost_run_that_moved_may_have_written_something(sandbox: Sandbox) -> None:
    """Nobody wrote down how much, so that it is not taken for a run that wrote nothing."""
    job = sandbox.enqueue(f"touch begun; {_UNTIL_GO}")
    worker = far_worker(sandbox)
    wait_until((sandbox.folder / "begun").exists)
    moved(sandbox)
    sandbox.queue.cancel(job)
    said = logs(sandbox, job)[1]
    assert said.startswith("What attempt 1 wrote, if anything, is not here: worker far:")
    sandbox.touch("go")
    worker.kill()


def into_a_file(sandbox: Sandbox) -> None:
    """Moves the queue into a file by export and import, without its logs."""
    export = [line.encode() for line in sandbox.queue.export_lines()]
    sandbox.close_queue()
    (sandbox.folder / "file").mkdir()
    sandbox.location = str(sandbox.folder / "file" / "queuectl.db")
    del sandbox.environ["QUEUECTL_DATABASE_URL"]
    sandbox.environ["QUEUECTL_DB_PATH"] = sandbox.location
    sandbox.queue.import_lines(export)


def test_output_that_did_not_move_into_a_file_is_missed(sandbox: Sandbox) -> None:
    """`show` says the same of a queue that was moved into a file, and the error of `logs` where to look."""
    job = sandbox.enqueue("seq 1 1000; exit 1", max_retries=0)
    far_drain(sandbox)
    into_a_file(sandbox)
    shown = sandbox.run("show", job).stdout
    assert f"The output of attempt 1 (3,893 bytes) {_NOT_HERE}" in shown
    assert "See all of its output" not in shown
    ran = sandbox.run("logs", job)
    assert ran.returncode == 1
    assert "but its log is gone" in ran.stderr
    assert "Worker far:" in ran.stderr
    assert "look in its earlier job_logs folder there" in ran.stderr


def test_what_ran_since_a_move_into_a_file_is_not_taken_for_what_ran_before(
    sandbox: Sandbox,
) -> None:
    """The log there is that of the later run alone, which is said, and no part of it is shown as what
    an earlier run wrote.
    """
    job = sandbox.enqueue("seq 1 1000; exit $((QUEUECTL_ATTEMPT < 2))", backoff_base=2)
    worker = far_worker(sandbox)
    sandbox.wait_state(job, "failed")
    assert worker.stop() == 0
    into_a_file(sandbox)
    sandbox.drain()
    text, said = logs(sandbox, job)
    assert text.count(b"\n1000\n") == 1
    assert said.startswith(f"The output of attempt 1 (3,893 bytes) {_NOT_HERE}")
    assert ", and copy it to" not in said
    assert json.loads(logs(sandbox, job, "--json")[0])["missing_bytes"] == 3893
    assert logs(sandbox, job, "--attempt", "1")[0] == b""
    assert logs(sandbox, job, "--attempt", "2") == (text, "")


def test_a_folder_that_is_not_utf8_keeps_nothing_from_its_worker(sandbox: Sandbox) -> None:
    """Outcome and output are in the database, with the folder's odd byte written out; read on that
    machine, the log there is used.
    """
    ids = [sandbox.enqueue("echo out"), sandbox.enqueue(f"echo begun; {_UNTIL_GO}")]
    odd = on_far(sandbox) | {"QUEUECTL_HOME": f"{sandbox.folder}/home \udcff"}
    worker = sandbox.start_worker("--drain", program=[*_FAR, "worker-start"], env=odd, ready=False)
    wait_until(
        lambda: sandbox.queue.output.copied(ids[1]) and b"begun\n" in logs(sandbox, ids[1])[0]
    )
    there = subprocess.run(
        [*_FAR, "logs", ids[1]], env={**sandbox.environ, **odd}, capture_output=True, check=True
    )
    assert (there.stdout.splitlines()[1], there.stderr) == (b"begun", b"")
    sandbox.touch("go")
    assert worker.wait() == 0, worker.said
    assert "cannot" not in worker.said
    for id, out in zip(ids, (b"out", b"begun"), strict=True):
        assert sandbox.state(id) == "completed"
        text, said = logs(sandbox, id)
        assert text.splitlines()[1] == out
        assert "the log itself is on far: " in said
        assert "/home \\udcff/" in said
        assert logs(sandbox, id, env=odd) == (text, "")


def test_output_that_cannot_be_copied_keeps_no_outcome_up(sandbox: Sandbox) -> None:
    """Whatever is wrong with the table of output, that is said once, the jobs are settled, and what was
    not copied is missed.
    """
    schema = sandbox.location.split("schema=")[1]
    ids = [sandbox.enqueue(f"echo {n}") for n in range(3)]
    long = sandbox.enqueue(f"touch begun; echo begun; {_UNTIL_GO}; echo more and more")
    worker = far_worker(sandbox)
    wait_until(lambda: sandbox.queue.output.copied(long) and b"begun\n" in logs(sandbox, long)[0])
    sandbox.close_queue()
    refuse = f"ALTER TABLE {schema}.output ADD CONSTRAINT refused CHECK (false) NOT VALID"
    postgres.needed().sql(refuse)
    ids += [sandbox.enqueue(f"echo {n}") for n in range(3)]
    sandbox.touch("go")
    for id in [*ids, long]:
        sandbox.wait_state(id, "completed")
    assert worker.said.count("cannot copy output into the database: ") == 1
    assert "; the log on this machine has it all" in worker.said
    assert _NOT_HERE in logs(sandbox, ids[-1])[1]
    assert "where 6 of 20 bytes of output are" in logs(sandbox, long)[1]
    assert worker.stop() == 0


def test_a_broken_table_of_output_keeps_no_outcome_up(sandbox: Sandbox) -> None:
    """Also one that is not there at all."""
    worker = far_worker(sandbox)
    schema = sandbox.location.split("schema=")[1]
    postgres.needed().sql(f"DROP TABLE {schema}.output")
    for n in range(3):
        sandbox.wait_state(sandbox.enqueue(f"echo {n}"), "completed")
    assert worker.said.count("cannot copy output into the database: ") == 1
    assert worker.stop() == 0
