from __future__ import annotations

import apsw
import pytest

from queuectl.jobs.outcome import SUCCEEDED, Outcome, cancelled
from tests.cli.support import Cli, Terminal, hand_worker, meanwhile
from tests.support import wait_until


def test_cancel_waiting_jobs(cli: Cli) -> None:
    """Waiting jobs are cancelled at once, and each is named."""
    cli.enqueue("true", "--id", "one")
    cli.enqueue("true", "--id", "two", "--delay", "1h")
    ran = cli.done("cancel", "one", "@last")
    assert ran == (0, "Cancelled job: one\nCancelled job: two\n", "")
    assert cli.states() == {"two": "cancelled", "one": "cancelled"}


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (cancelled(None, 15), 0, "Cancelled job: job1\n"),
        (SUCCEEDED, 1, "Too late for job: job1 (completed before it could be stopped)\n"),
    ],
)
def test_cancel_waits_for_a_running_job(cli: Cli, outcome: Outcome, status: int, said: str) -> None:
    """`cancel` of a running job ends when its worker has ended it, and says how that went."""
    cli.enqueue("sleep 60", "--id", "job1")
    with hand_worker(cli.database) as worker:
        (claim,) = worker.claim()

        def end_when_asked() -> None:
            with hand_worker(cli.database, like=worker) as other:
                wait_until(lambda: cli.job("job1").cancel_requested_at is not None)
                other.settle(claim, outcome)

        with meanwhile(end_when_asked):
            ran = cli("cancel", "job1")
    assert (ran.status, ran.out) == (status, said)
    assert ran.err == "Waiting for 1 running job to stop ...\n"


@pytest.mark.parametrize("option", ["--no-wait", "--json", "-q"])
def test_cancel_need_not_wait(cli: Cli, option: str) -> None:
    """Asked not to wait, and with --json and -q, `cancel` returns while the job still runs."""
    cli.enqueue("true", "--id", "waits")
    cli.enqueue("sleep 60", "--id", "runs", "--priority", "1")
    with hand_worker(cli.database) as worker:
        worker.claim()
        ran = cli.done("cancel", "waits", "runs", option)
        assert worker.is_asked_to_cancel()
    assert ran.err == ""
    if option == "--json":
        assert ran.json == {"cancelled": ["waits"], "stopping": ["runs"]}
    elif option == "-q":
        assert ran.lines == ["waits", "runs"]
    else:
        assert ran.lines[1] == "Cancelling job: runs (running; its worker ends it)"


def test_cancel_does_not_wait_for_a_worker_that_is_gone(cli: Cli) -> None:
    """When no worker lives there is nothing to wait for, and `cancel` says who ends the job."""
    cli.enqueue("sleep 60", "--id", "job1")
    with hand_worker(cli.database) as worker:
        worker.claim()
    with apsw.Connection(str(cli.database)) as db:
        db.execute("UPDATE workers SET process_started = 'another time'")
    ran = cli.done("cancel", "job1")
    assert ran.out == (
        "Cancelling job: job1 (running; no worker lives to end it; the next one will, or now:"
        " queuectl doctor --fix)\n"
    )
    assert ran.err == ""


def test_retry(cli: Cli) -> None:
    """Dead, cancelled and completed jobs are pending again, with all their attempts."""
    done, dead = cli.completed(), cli.dead()
    off = cli.enqueue()
    cli.done("cancel", off)
    ran = cli.done("retry", done, dead, off)
    assert ran == (0, "".join(f"Requeued job: {j}\n" for j in (done, dead, off)), "")
    assert cli.states() == {off: "pending", dead: "pending", done: "pending"}
    assert cli.job(dead).attempts == 0
    cli.finish(done)
    assert cli.done("retry", done, "--json").json == {"requeued": 1, "ids": [done]}


def test_delete(cli: Cli) -> None:
    """A deleted job is gone, and its output with it; one job is deleted without a question."""
    job_id = cli.completed()
    log = cli.folder / "job_logs" / f"{job_id}.log"
    assert log.exists()
    assert cli.done("delete", job_id) == (0, f"Deleted job: {job_id}\n", "")
    assert cli.states() == {}
    assert not log.exists()
    other = cli.enqueue()
    assert cli.done("delete", other, "--json").json == {"deleted": 1, "ids": [other]}


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete"])
def test_all_or_none(cli: Cli, verb: str) -> None:
    """When one of several jobs does not exist, nothing happens to the others."""
    cli.enqueue("true", "--id", "waits")
    cli.completed("true", "--id", "ended", "--priority", "1")
    before = cli.states()
    options = ["--yes"] if verb == "delete" else []
    ran = cli(verb, "waits" if verb == "cancel" else "ended", "nope", *options)
    assert (ran.status, ran.out) == (3, "")
    assert "there is no job 'nope'" in ran.err
    assert cli.states() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cancel", "waits", "ended"], "job ended is completed and cannot be cancelled"),
        (["cancel", "ended"], "It has ended. To run it once more: queuectl retry ended"),
        (["retry", "ended", "waits"], "job waits is pending and cannot be requeued"),
        (["delete", "--yes", "ended", "runs"], "Stop it first: queuectl cancel runs"),
    ],
)
def test_wrong_state(cli: Cli, words: list[str], said: str) -> None:
    """When one of several jobs is in a state that does not allow it, nothing happens to any."""
    cli.enqueue("true", "--id", "waits")
    cli.completed("true", "--id", "ended", "--priority", "2")
    cli.enqueue("true", "--id", "runs", "--priority", "1")
    with hand_worker(cli.database) as worker:
        worker.claim()
        before = cli.states()
        ran = cli(*words)
        assert (ran.status, ran.out) == (4, "")
        assert said in ran.err
        assert cli.states() == before


def _ended(cli: Cli) -> None:
    cli.completed("true", "--id", "completed")
    cli.dead("false", "--id", "dead")
    cli.enqueue("true", "--id", "cancelled")
    cli.done("cancel", "cancelled")
    cli.enqueue("true", "--id", "pending")


def test_prune(cli: Cli) -> None:
    """`prune` removes what ended long enough ago, but the dead only when they are named."""
    _ended(cli)
    assert cli.done("prune", "--older-than", "1h", "--yes").out == "There is nothing to remove.\n"
    assert len(cli.states()) == 4
    ran = cli.done("prune", "--older-than", "0", "--dry-run")
    assert ran.out == "Would remove 2 completed or cancelled jobs\n"
    assert len(cli.states()) == 4
    ran = cli.done("prune", "--older-than", "0", "--yes", "--json")
    assert ran.json == {"matched": 2, "removed": 2, "dry_run": False}
    assert set(cli.states()) == {"dead", "pending"}
    assert not (cli.folder / "job_logs" / "completed.log").exists()
    ran = cli.done("prune", "--older-than", "0", "--state", "dead", "--yes")
    assert ran.out == "Removed 1 job\n"
    assert set(cli.states()) == {"pending"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune"], "--older-than"),
        (["prune", "--older-than", "soon"], "--older-than: 'soon'"),
        (["prune", "--older-than", "-5"], "--older-than: '-5' is negative"),
        (["prune", "--older-than", "0", "--state", "pending"], "--state cannot be 'pending'"),
        (["delete"], "ID"),
    ],
)
def test_bad_options(cli: Cli, words: list[str], said: str) -> None:
    """Only what has ended can be pruned, and only when somebody says how long ago."""
    _ended(cli)
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert len(cli.states()) == 4


DESTRUCTIVE = [
    (["delete", "completed", "dead"], "Delete 2 jobs and their output?", 2),
    (["prune", "--older-than", "0"], "Remove 2 completed or cancelled jobs with their output?", 2),
    (["dlq", "purge"], "Remove 1 dead job with its output?", 3),
]


@pytest.mark.parametrize(("words", "question", "left"), DESTRUCTIVE)
def test_destruction_is_asked_about_on_a_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str], question: str, left: int
) -> None:
    """On a terminal, many jobs are removed only after a yes; anything else leaves them."""
    _ended(cli)
    for answer in ("n\n", "\n", "", "yesterday\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        ran = cli(*words)
        assert (ran.status, ran.out) == (1, "")
        assert ran.err.startswith(f"{question} [y/N] ")
        assert "nothing was done" in ran.err
        assert len(cli.states()) == 4
    monkeypatch.setattr("sys.stdin", Terminal("Y\n"))
    cli.done(*words)
    assert len(cli.states()) == left


@pytest.mark.parametrize(("words", "question", "left"), DESTRUCTIVE)
def test_destruction_needs_yes_elsewhere(
    cli: Cli, words: list[str], question: str, left: int
) -> None:
    """Where nobody can answer, --yes must be given, unless there is nothing to remove."""
    _ended(cli)
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert question in ran.err
    assert "Add --yes" in ran.err
    assert len(cli.states()) == 4
    cli.done(*words, "--yes")
    assert len(cli.states()) == left
    if words[0] != "delete":
        assert cli.done(*words).out == "There is nothing to remove.\n"


class _Interrupted(Terminal):
    """A terminal at which Ctrl-C is the answer."""

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        raise KeyboardInterrupt


def test_interrupted_question_ends_its_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C at a question the shell's prompt begins a line of its own."""
    cli.dead()
    monkeypatch.setattr("sys.stdin", _Interrupted())
    ran = cli("dlq", "purge")
    assert (ran.status, ran.out) == (130, "")
    assert ran.err.endswith("[y/N] \n")


def test_hint_quotes_an_id_for_the_shell(cli: Cli) -> None:
    """A hint can be typed as it stands, also when an id holds what a shell would take apart."""
    cli.enqueue("true", "--id", "$(touch x)")
    again = cli("enqueue", "--command", "true", "--id", "$(touch x)")
    assert again.err.endswith("queuectl show '$(touch x)'\n")
    assert "queuectl show '$(touch x)'" in cli("wait", "$(touch x)", "--timeout", "0").err
    with hand_worker(cli.database) as worker:
        worker.claim()
        assert "queuectl cancel '$(touch x)'" in cli("delete", "$(touch x)").err


def test_beginning_that_is_too_short_says_so(cli: Cli) -> None:
    """That a job was named by too little of its id is not told as if it did not exist."""
    cli.enqueue("true", "--id", "longer")
    assert "A beginning of an id needs 4 or more characters" in cli("show", "lon").err
    assert "needs 4" not in cli("show", "nope").err
