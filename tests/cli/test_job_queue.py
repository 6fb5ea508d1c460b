from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from queuectl.errors import InvalidInput
from queuectl.job_queue import JobQueue
from tests.cli.support import hand_worker
from tests.support import ROOT, clean_environment


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    """An empty queue, as a program opens it."""
    with JobQueue.open(tmp_path / "queuectl.db") as queue:
        yield queue


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ("true", "several jobs, and was given one"),
        ({"command": "true"}, "several jobs, and was given one"),
        (["true", " "], "item 2: the command is empty"),
        ([{"command": []}], "item 1: the command is empty"),
        ([{"command": [""]}], "item 1: the command is empty"),
        (
            [{"command": "a", "id": "x"}, "b", {"command": "c", "id": "x"}],
            "item 3: id 'x' is already used by item 1",
        ),
    ],
)
def test_enqueue_many_refuses_all_for_one(queue: JobQueue, jobs: Any, said: str) -> None:
    """One wrong job, or one job where several belong, queues nothing, and the error says which."""
    with pytest.raises(InvalidInput, match=said):
        queue.enqueue_many(jobs)
    assert sum(queue.counts().values()) == 0


def test_one_name_is_one_job(queue: JobQueue) -> None:
    """Where several jobs can be named, a string is one of them and not one for each letter."""
    job_id = queue.enqueue("true", id="abcd")
    assert queue.cancel("abcd") == []
    assert [job.id for job in queue.wait("abcd")] == [job_id]
    assert queue.retry("abcd") == [job_id]
    assert [job.id for job in queue.list("pending")] == [job_id]
    assert queue.delete("abcd") == [job_id]


@pytest.mark.parametrize(
    ("states", "options", "said"),
    [
        ("nope", {}, "there is no state 'nope'"),
        (["dead", "nope"], {}, "there is no state 'nope'"),
        ((), {"limit": 0}, "limit must be 1 or more, not 0"),
        ((), {"limit": -1}, "limit must be 1 or more, not -1"),
        ((), {"sort": "size"}, "cannot sort by 'size'"),
    ],
)
def test_list_refuses_what_cannot_be_meant(
    queue: JobQueue, states: Any, options: dict[str, Any], said: str
) -> None:
    """A state, an order or a number of jobs that makes no sense is an error, not an empty list."""
    with pytest.raises(InvalidInput, match=said):
        queue.list(states, **options)


NAN = float("nan")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda q: q.get(None), "a job is named by text, not by None"),
        (lambda q: q.attempts(5), "a job is named by text, not by a value of type int"),
        (lambda q: q.wait([5.5]), "a job is named by text, not by a value of type float"),
        (lambda q: q.wait(5), "one name, or several, were needed, not a value of type int"),
        (lambda q: q.delete([{}]), "a job is named by text, not by a value of type dict"),
        (lambda q: q.cancel(None), "one name, or several, were needed, not None"),
        (lambda q: q.existing(None), "one name, or several, were needed"),
        (
            lambda q: q.dead_letters.retry([b"x"]),
            "a job is named by text, not by a value of type bytes",
        ),
        (
            lambda q: q.prune(states="dead", older_than=NAN),
            "older_than must be a number .* not nan",
        ),
        (lambda q: q.prune(states="dead", older_than=-1), "older_than must be a number .* not -1"),
        (lambda q: q.prune(states="dead", older_than="soon"), "older_than: 'soon' is not a length"),
        (
            lambda q: q.prune(states="dead", older_than=1e9),
            r"older_than must be .* from 0 to 315360000 \(3650d\), not 1000000000",
        ),
        (
            lambda q: q.prune(states="dead", older_than="9999d"),
            "older_than: '9999d' is longer than 3650d",
        ),
        (lambda q: q.wait([], timeout=NAN), "timeout must be a number .* not nan"),
        (
            lambda q: q.wait([], timeout=-1),
            "timeout must be a number of seconds, 0 or more, not -1",
        ),
        (lambda q: q.stop_workers([], timeout=NAN), "timeout must be a number of seconds"),
        (lambda q: q.enqueue_many([5]), "item 1: a job is a command or a mapping"),
        (lambda q: q.enqueue_many(5), "several jobs"),
        (lambda q: q.enqueue_many([["echo", 5]]), "item 1: word 2 of the command must be a string"),
        (lambda q: q.enqueue(5), "command must be a string, or a list of strings, not a number"),
        (lambda q: q.enqueue("true", max_retrys=3), "unknown field 'max_retrys'"),
        (lambda q: q.list(limit="5"), "limit must be 1 or more, not a value of type str"),
        (lambda q: q.list(sort=[]), "cannot sort by"),
        (lambda q: q.backup(5), "a path was needed, not a value of type int"),
        (lambda q: q.open(5), "a path was needed"),
        (lambda q: q.open("a\0b"), "cannot contain a NUL character"),
        (lambda q: q.open(""), "the path of the database is empty"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_as_such(
    queue: JobQueue, call: Callable[[Any], object], said: str
) -> None:
    """Whatever a program passes by mistake, the error is queuectl's own, and says what was needed."""
    with pytest.raises(InvalidInput, match=said):
        call(queue)


def test_a_command_may_be_a_list_of_words_among_many(queue: JobQueue) -> None:
    """`enqueue_many` takes each command in the forms in which `enqueue` takes it."""
    ids = queue.enqueue_many([["echo", "it's"], "true", {"command": ("echo", "a b")}])
    commands = [queue.get(job_id).command for job_id in ids]
    assert commands == ["echo 'it'\"'\"'s'", "true", "echo 'a b'"]


def test_times_and_folders_of_the_standard_library(queue: JobQueue, tmp_path: Path) -> None:
    """A program passes its own datetime and Path; a datetime without a zone is UTC, as text is."""
    aware = datetime(2035, 1, 31, 9, 30, tzinfo=UTC).astimezone()
    naive = datetime(2035, 1, 31, 9, 30, tzinfo=UTC).replace(tzinfo=None)
    ids = [
        queue.enqueue("true", run_at=aware, cwd=tmp_path),
        *queue.enqueue_many([{"command": "true", "run_at": naive, "cwd": tmp_path}]),
    ]
    for job in map(queue.get, ids):
        assert (job.cwd, job.next_run_at) == (str(tmp_path), int(aware.timestamp()) * 1_000_000)


def test_the_package_lists_its_names() -> None:
    """`dir` shows the names that are imported when first used, so that a shell can complete them."""
    code = "import queuectl; print(*{*queuectl.__all__} - {*dir(queuectl)}, dir(queuectl).count('State'))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean_environment(), "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "1\n"


def test_lengths_may_be_written_in_words(queue: JobQueue) -> None:
    """Where a length of time is asked for, '7d' means what it means on the command line."""
    job_id = queue.enqueue("true", timeout="5m")
    queue.cancel(job_id)
    assert queue.prune(states="cancelled", older_than="7d") == 0
    assert [job.id for job in queue.wait(job_id, timeout="1s")] == [job_id]
    assert queue.dead_letters.purge(older_than="7d") == 0


def test_one_name_of_a_worker_or_a_job_is_one(queue: JobQueue) -> None:
    """A string is one id, not one for each of its letters."""
    for job_id in ("ab", "a", "b"):
        queue.enqueue("true", id=job_id)
    assert queue.existing("ab") == {"ab"}
    with hand_worker(Path(queue.workspace.database)):
        [worker] = queue.workers()
        queue.stop_workers(worker.id)
        assert queue.workers()[0].stop_requested_at is not None


def test_a_queue_that_was_closed_stays_closed(tmp_path: Path) -> None:
    """After `close` nothing opens the database again by itself."""
    with JobQueue.open(tmp_path / "queuectl.db") as queue:
        queue.enqueue("true")
    for use in (queue.counts, lambda: queue.enqueue("true"), lambda: queue.dead_letters):
        with pytest.raises(InvalidInput, match="was closed"):
            use()
    queue.close()


def test_options_of_a_job_have_types(tmp_path: Path) -> None:
    """A type checker finds a mistyped option, and one of the wrong type."""
    program = tmp_path / "program.py"
    program.write_text(
        "from datetime import datetime\n"
        "from pathlib import Path\n"
        "from queuectl import JobQueue\n"
        "with JobQueue.open() as queue:\n"
        "    queue.enqueue('x', max_retries=3, timeout='5m', env={'A': '1'})\n"
        "    queue.enqueue_many(['x', ['a', 'b'], {'command': 'y'}])\n"
        "    queue.enqueue('x', run_at=datetime(2035, 1, 31), cwd=Path('sub'))\n"
        "    queue.enqueue('x', max_retrys=3)\n"
        "    queue.enqueue('x', max_retries='3')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-color-output", str(program)],
        cwd=tmp_path,
        env={**clean_environment(), "MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line.split(":")[1] for line in ran.stdout.splitlines() if ": error:" in line]
    assert found == ["8", "9"], ran.stdout
