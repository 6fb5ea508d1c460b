from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queuectl.errors import DatabaseError, DuplicateJobId, InvalidInput, JobNotFound
from queuectl.jobs.job import new_id, new_ids
from queuectl.jobs.job_view import Job
from queuectl.jobs.lifecycle import State
from tests.contract.support import SECOND, START, Pair, new_job


def test_a_job_is_read_back_as_it_was_put_in(pair: Pair) -> None:
    """Every field of a new job comes back, and what the queue adds says that nothing happened yet."""
    job = new_job(
        "a",
        command="make report",
        cwd="/srv",
        env={"LANG": "C", "EMPTY": ""},
        priority=-7,
        max_retries=0,
        backoff_base=1.5,
        timeout=0.25,
        run_at=START + SECOND,
        on_lost="hold",
        max_losses=2,
        requires=("gpu", "linux"),
    )
    pair.enqueue(job)
    assert pair.jobs.get("a") == Job(
        id="a",
        command="make report",
        state=State.PENDING,
        attempts=0,
        max_retries=0,
        created_at=START,
        updated_at=START,
        next_run_at=START + SECOND,
        priority=-7,
        queue="default",
        cwd="/srv",
        env={"LANG": "C", "EMPTY": ""},
        timeout=0.25,
        backoff_base=1.5,
        on_lost="hold",
        max_losses=2,
        losses=0,
        exit_code=None,
        signal=None,
        error=None,
        started_at=None,
        finished_at=None,
        worker=None,
        cancel_requested_at=None,
        requires=("gpu", "linux"),
    )
    assert pair.jobs.attempts("a") == []


def test_what_a_job_leaves_open_stays_open(pair: Pair) -> None:
    """What the configuration is to decide later is not decided by the storage."""
    pair.enqueue("a")
    job = pair.job("a")
    assert (job.timeout, job.backoff_base, job.max_losses, job.next_run_at) == (None,) * 4
    assert job.env == {}


def test_a_job_survives_the_death_of_who_put_it_in(pair: Pair) -> None:
    """A process that is killed the moment enqueue returns has left its job in the queue."""
    script = (
        "import os, signal, sys\n"
        "from queuectl.storage import open_job_storage\n"
        "from tests.contract.support import new_job\n"
        "open_job_storage(sys.argv[1]).enqueue([new_job('a'), new_job('b')], 1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, pair.database.location], check=False)
    assert done.returncode == -9
    assert pair.ids() == ["a", "b"]


def test_many_jobs_keep_their_order(pair: Pair) -> None:
    """Jobs that come in one call stand in the queue as they stood in the call."""
    ids = new_ids(10_000)
    ids[::2] = reversed(ids[::2])
    pair.enqueue(*ids)
    assert pair.ids() == ids


def test_no_jobs_are_no_trouble(pair: Pair) -> None:
    """An empty call stores nothing and raises nothing."""
    pair.jobs.enqueue([], START)
    assert pair.jobs.counts() == {}


@pytest.mark.parametrize("batch", [["taken"], ["a", "b", "taken", "c"], ["a", "b", "a"]])
def test_a_taken_id_stores_none_of_the_jobs(pair: Pair, batch: list[str]) -> None:
    """All or nothing: one id that is taken, here or within the call, refuses the whole call."""
    pair.enqueue(new_job("taken", command="first"))
    before = pair.everything()
    with pytest.raises(DuplicateJobId, match=f"{batch[-2] if batch[-1] == 'c' else batch[-1]}"):
        pair.enqueue(*batch)
    assert pair.everything() == before
    pair.enqueue("a", "later")  # The refusal left nothing half open.
    assert pair.ids() == ["taken", "a", "later"]


def test_an_error_while_jobs_are_read_stores_none_of_them(pair: Pair) -> None:
    """A value that the database cannot hold, late in a call, takes back what came before it."""
    broken = new_job("c", priority=2**70)
    with pytest.raises((OverflowError, DatabaseError)):
        pair.enqueue("a", "b", broken)
    assert pair.ids() == []
    pair.enqueue("a")
    assert pair.ids() == ["a"]


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_SPITEFUL = st.sampled_from(
    ["'; DROP TABLE jobs; --", '"', "%_", "?1", ":now", "\x1b[2J", "\n", "é"]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(prefix=_TEXT | _SPITEFUL, command=_TEXT | _SPITEFUL, env=st.dictionaries(_TEXT, _TEXT))
def test_any_text_is_kept_as_it_is(
    pair: Pair, prefix: str, command: str, env: dict[str, str]
) -> None:
    """Whatever stands in ids, commands and variables is data: it comes back unchanged, and does nothing."""
    id = prefix + new_id()
    pair.enqueue(new_job(id, command=command, cwd=command, env=env))
    job = pair.job(id)
    assert (job.id, job.command, job.cwd, job.env) == (id, command, command, env)
    assert pair.jobs.resolve(id) == pair.jobs.resolve("@last") == id
    assert pair.jobs.existing([id, prefix + "?"]) == {id}


def test_existing_names_those_that_are_there(pair: Pair) -> None:
    """Of many ids, those that belong to a job are returned, whatever their state."""
    pair.enqueue("a", "b", "c")
    pair.jobs.cancel(["b"], START)
    pair.jobs.delete(["c"], list(State))
    assert pair.jobs.existing(["a", "b", "c", "d", "a"]) == {"a", "b"}
    assert pair.jobs.existing([]) == set()
    assert pair.jobs.get("c") is None


# ---- resolve: what a person types for an id


@pytest.fixture
def named(pair: Pair) -> Pair:
    """A queue whose ids are alike."""
    pair.enqueue("x", "report", "report-1", "report-22", "Report-3", "50%-off", "50x-off", "ab_d")
    return pair


@pytest.mark.parametrize(
    ("reference", "id"),
    [
        ("x", "x"),
        ("report", "report"),
        ("report-1", "report-1"),
        ("report-2", "report-22"),
        ("Repo", "Report-3"),
        ("50%-", "50%-off"),
        ("@last", "ab_d"),
    ],
)
def test_resolve_finds(named: Pair, reference: str, id: str) -> None:
    """A whole id stands for itself, also where others begin with it; a unique beginning for the rest."""
    assert named.jobs.resolve(reference) == id


@pytest.mark.parametrize(
    "reference",
    ["", "rep", "50x", "repord", "report-11", "REPORT", "50__off", "ab%d", "____", "%", "@first"]
    + ["report-1\0", "\udcff\udcff\udcff\udcff"],
)
def test_resolve_finds_nothing(named: Pair, reference: str) -> None:
    """Beginnings under 4 characters, other spellings, patterns and bytes that are no text name no job."""
    with pytest.raises(JobNotFound):
        named.jobs.resolve(reference)


def test_resolve_refuses_to_choose(named: Pair) -> None:
    """A beginning of several ids is an error of its own, not the first that is found."""
    with pytest.raises(InvalidInput, match="repo"):
        named.jobs.resolve("repo")


def test_the_last_job_is_the_one_that_came_last(pair: Pair) -> None:
    """@last goes by arrival, not by ids, priorities, or what happened since."""
    with pytest.raises(JobNotFound):
        pair.jobs.resolve("@last")
    pair.enqueue(new_job("z", priority=9), "y")
    pair.clock.set_wall(-100)
    pair.enqueue("b", "a")
    pair.register("w")
    pair.run("w")
    assert pair.jobs.resolve("@last") == "a"
    pair.jobs.delete(["a"], list(State))
    assert pair.jobs.resolve("@last") == "b"
