"""Tags and requirements on the command line: given, refused, and shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from queuectl.storage import open_worker_storage
from tests.cli.support import Cli
from tests.support import this_process_as_worker


@contextmanager
def worker_with(cli: Cli, *tags: str) -> Iterator[None]:
    """A worker with these tags is registered meanwhile."""
    storage = open_worker_storage(str(cli.database))
    storage.register(this_process_as_worker(name="hand:1", tags=tags))
    yield
    storage.unregister("w")
    storage.close()


@pytest.mark.parametrize(
    "words",
    [
        ["--command", "true", "--requires", "linux,gpu"],
        ["--command", "true", "--requires", "linux", "--requires", "gpu"],
        ['{"command": "true", "requires": ["linux", "gpu"]}'],
        ['{"command": "true", "requires": "gpu,linux"}'],
        ['{"command": "true", "requires": "tpu"}', "--requires", "gpu,linux"],
    ],
)
def test_a_job_says_what_it_requires(cli: Cli, words: list[str]) -> None:
    """As an option, several times or with commas, or in JSON; the option wins."""
    assert cli.done("enqueue", "--json", *words).json["requires"] == ["gpu", "linux"]


def test_a_file_of_jobs_may_require_tags(cli: Cli) -> None:
    """Line by line; a job that was read back keeps its requirements, or has none."""
    (cli.folder / "jobs.jsonl").write_text(
        '{"id": "a", "command": "true", "requires": ["gpu"]}\n'
        '{"id": "b", "command": "true", "requires": []}\n'
        '{"id": "c", "command": "true", "requires": null}\n'
    )
    cli.done("enqueue", "--jobs-file", "jobs.jsonl")
    shown = {job["id"]: job["requires"] for job in cli.done("list", "--json").json}
    assert shown == {"a": ["gpu"], "b": [], "c": []}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["enqueue", "--command", "true", "--requires", "GPU"], "--requires must be tags"),
        (["enqueue", "--command", "true", "--requires", ""], "--requires must be tags"),
        (["enqueue", '{"command": "true", "requires": 7}'], "requires must be text, or a list"),
        (["worker-start", "--host-tag", "a,,b"], "--host-tag must be tags such as gpu"),
        (["worker-start", "--host-tag", ",".join("abcdefghijklmnopq")], "--host-tag has 17 tags"),
        (["config", "set", "host_tags", "G"], "host_tags must be tags such as gpu,linux, not 'G'"),
        (["worker-stop", "--host", "x", "--all"], "--host are given together"),
    ],
)
def test_wrong_tags_change_nothing(cli: Cli, words: list[str], said: str) -> None:
    """One line says what is wrong with them, with status 2, and no queue is made for it."""
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err.splitlines()[0]
    assert not cli.database.exists()


def test_requirements_and_tags_are_shown(cli: Cli) -> None:
    """`list`, `show` and `worker-list` have them, in a column that is only there when needed."""
    cli.enqueue("true", "--id", "any")
    assert "REQUIRES" not in cli.done("list").out
    cli.enqueue("true", "--id", "picky", "--requires", "gpu,linux")
    table = [line.split() for line in cli.done("list").lines]
    at = table[0].index("REQUIRES")
    assert {row[0]: row[-2] for row in table[1:]} == {"any": "-", "picky": "gpu,linux"}
    assert at == len(table[0]) - 2
    assert "Requires  gpu and linux\n" in cli.done("show", "picky").out
    assert "Requires" not in cli.done("show", "any").out
    with worker_with(cli):
        assert "TAGS" not in cli.done("worker-list").out
    with worker_with(cli, "gpu", "linux"):
        heading, row = (line.split() for line in cli.done("worker-list").lines)
        assert row[heading.index("TAGS")] == "gpu,linux"
        assert cli.done("worker-list", "--json").json[0]["tags"] == ["gpu", "linux"]


def test_status_tells_what_no_living_worker_can_run(cli: Cli) -> None:
    """Ready jobs by the tags that are missing, as text and JSON; none once a worker has them."""
    cli.enqueue("true")
    for tags in ("gpu", "gpu", "tpu"):
        cli.enqueue("true", "--requires", tags)
    cli.enqueue("true", "--requires", "gpu", "--delay", "1h")
    with worker_with(cli, "tpu"):
        assert cli.done("status", "--json").json["unmet"] == [{"requires": ["gpu"], "jobs": 2}]
        assert (
            "unmet       2 ready jobs for a worker with: --host-tag gpu\n" in cli.done("status").out
        )
    with worker_with(cli, "gpu", "tpu"):
        assert cli.done("status", "--json").json["unmet"] == []
        assert "unmet" not in cli.done("status").out
    for n in range(8):
        cli.enqueue("true", "--requires", f"t{n}")
    shown = [line for line in cli.done("status").lines if line.startswith("unmet")]
    assert shown[0] == "unmet       2 ready jobs for a worker with: --host-tag gpu"
    assert shown[5:] == ["unmet       5 more sets of tags; see --json"]


def test_waiting_for_what_no_worker_can_run_says_so(cli: Cli) -> None:
    """Whoever waits for a job learns that the workers there are will never run it."""
    job = cli.enqueue("true", "--requires", "gpu,linux")
    with worker_with(cli, "gpu"):
        ran = cli("wait", job, "--timeout", "0")
        assert ran.status == 124
        assert "No running worker has the tags that are required (gpu, linux)" in ran.err
        assert "worker-start --host-tag gpu,linux" in ran.err
    with worker_with(cli, "gpu", "linux"):
        assert "No running worker" not in cli("wait", job, "--timeout", "0").err
