"""Workers on several machines, of which one loses the network: for a moment, and for longer than its lease."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import postgres
from tests.network import NETWORK, SWITCH_ADDRESS, Machine, Network, new_network, worker_of
from tests.postgres import Server
from tests.support import MAIN, Sandbox, WorkerProcess, new_sandbox, wait_until

# All of them come from one clock, that of the kernel. A command tells that it lives until it may end.
RUN = """
host=$(hostname)
mark() {
    read now rest < /proc/uptime
    echo "$1 $QUEUECTL_JOB_ID $QUEUECTL_ATTEMPT $host $now" >> marks
}
trap 'mark stopped; exit 1' TERM
mark start
until [ -e go-$QUEUECTL_JOB_ID ]; do mark lives; sleep 0.05; done
mark end
"""


class Mark(NamedTuple):
    """A line that a command wrote. `at` is in seconds since the machine booted."""

    kind: str
    job: str
    attempt: int
    host: str
    at: float


class Site:
    """A queue on a server at the switch, and machines with a worker each."""

    def __init__(self, sandbox: Sandbox, network: Network, url: str) -> None:
        self.sandbox = sandbox
        self.network = network
        self.url = url
        self.workers: dict[str, WorkerProcess] = {}

    @property
    def env(self) -> dict[str, str]:
        config = self.sandbox.folder / "queuectl_config.json"
        return {"QUEUECTL_DATABASE_URL": self.url, "QUEUECTL_CONFIG_PATH": str(config)}

    def start(self, count: int, *, slots: int) -> None:
        """So many machines, with a worker of so many slots on each."""
        for _ in range(count):
            machine = self.network.add()
            self.workers[machine.name] = machine.start_worker(
                self.sandbox, "--count", str(slots), env=self.env
            )

    def machine(self, name: str) -> Machine:
        return next(machine for machine in self.network.machines if machine.name == name)

    def enqueue(self, *ids: str) -> None:
        run = self.sandbox.script("run.sh", RUN)
        for id in ids:
            self.sandbox.enqueue(f"exec {run}", id=id)

    def marks(self, kind: str, *jobs: str) -> list[Mark]:
        """The lines of this kind, of these jobs or of all."""
        rows = [line.split() for line in self.sandbox.marks()]
        marks = [Mark(row[0], row[1], int(row[2]), row[3], float(row[4])) for row in rows]
        return [mark for mark in marks if mark.kind == kind and (not jobs or mark.job in jobs)]

    def let_end(self, *jobs: str) -> None:
        for job in jobs:
            self.sandbox.touch(f"go-{job}")

    def close(self) -> None:
        """All workers end well, and tell that they are gone."""
        for worker in self.workers.values():
            os.kill(worker_of(worker), signal.SIGTERM)
        for worker in self.workers.values():
            assert worker.wait() == 0, worker.said
            assert "Traceback" not in worker.said
        assert self.sandbox.queue.workers() == []


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server that is reached at the switch's address and its loopback alone, and no machine yet."""
    programs = postgres.needed().programs
    with new_network(tmp_path) as network:
        server = Server(
            programs,
            settings={"listen_addresses": f"{SWITCH_ADDRESS},127.0.0.1"},
            through=network.words,
        )
        try:
            server.begin(admits=f"host all all {NETWORK} trust")
            monkeypatch.setenv("QUEUECTL_HOME", str(tmp_path / "home"))
            near = server.new_schema()
            with new_sandbox(tmp_path, url=near) as sandbox:
                far = near.replace("@/", f"@{SWITCH_ADDRESS}/").replace(
                    f"host={server.folder}&", ""
                )
                yield Site(sandbox, network, far)
        finally:
            server.close()


def test_a_machine_that_is_cut_off_for_longer_than_its_lease(site: Site) -> None:
    """Its worker ends its command before the job begins anew elsewhere, what ended there meanwhile
    counts no more, and after it is joined again it works as before. Every job is completed, and only
    the loss of the machine cost an attempt.
    """
    sandbox = site.sandbox
    sandbox.configure(lease_seconds=4, kill_grace_seconds=0.5)
    first = [f"first-{n}" for n in range(8)]
    site.enqueue(*first)
    site.start(4, slots=2)
    wait_until(lambda: len(site.marks("start")) == 8, "all slots run")
    hosts = {mark.job: mark.host for mark in site.marks("start")}
    assert sorted(hosts.values()) == sorted(2 * list(site.workers))
    assert {worker.host for worker in sandbox.queue.workers()} == set(site.workers)

    lost = site.machine(hosts["first-0"])
    stopped, ended = (job for job in first if hosts[job] == lost.name)
    lost.cut_off()
    site.let_end(ended)
    (end,) = wait_until(lambda: site.marks("end"))
    assert (end.job, end.host) == (ended, lost.name)
    (stop,) = wait_until(lambda: site.marks("stopped"))
    assert (stop.job, stop.host) == (stopped, lost.name)

    site.let_end(*(job for job in first if job not in (stopped, ended)))
    wait_until(lambda: len(site.marks("start", stopped, ended)) == 4, "both begin anew")
    site.let_end(stopped)
    for job in first:
        sandbox.wait_state(job, "completed")

    lost.join()
    site.workers[lost.name].wait_for("given up for lost and its jobs were taken back")
    second = [f"second-{n}" for n in range(8)]
    site.enqueue(*second)
    wait_until(lambda: len(site.marks("start", *second)) == 8, "all slots run again")
    assert {mark.host for mark in site.marks("start", *second)} == set(site.workers)
    site.let_end(*second)
    for job in second:
        sandbox.wait_state(job, "completed")
    site.close()

    check_runs(site, [*first, *second], lost={stopped, ended})
    assert sandbox.queue.check() == []


def check_runs(site: Site, jobs: list[str], *, lost: set[str]) -> None:
    """The history of each job is what it was promised, and no two runs overlapped."""
    for job in jobs:
        outcomes = ["lost", "succeeded"] if job in lost else ["succeeded"]
        assert site.sandbox.outcomes(job) == outcomes
        assert site.sandbox.job(job).attempts == len(outcomes)
        assert site.sandbox.job(job).losses == outcomes.count("lost")
        starts = site.marks("start", job)
        assert [mark.attempt for mark in starts] == list(range(1, len(outcomes) + 1))
        for start, following in itertools.pairwise(starts):
            assert start.host != following.host
            last = max(
                mark.at
                for kind in ("start", "lives", "stopped", "end")
                for mark in site.marks(kind, job)
                if mark.attempt == start.attempt
            )
            assert last < following.at, f"two runs of {job} overlapped"


def test_a_cut_that_is_shorter_than_the_lease(site: Site) -> None:
    """What runs goes on, what ended is settled once the network is back, and nothing ran twice."""
    sandbox = site.sandbox
    jobs = ["a", "b", "c", "d"]
    site.enqueue(*jobs)
    site.start(2, slots=2)
    wait_until(lambda: len(site.marks("start")) == 4, "all slots run")
    hosts = {mark.job: mark.host for mark in site.marks("start")}
    cut = site.machine(hosts["a"])
    during, after = (job for job in jobs if hosts[job] == cut.name)
    cut.cut_off()
    site.let_end(during, *(job for job in jobs if hosts[job] != cut.name))
    seen = len(site.marks("lives", after))
    wait_until(lambda: len(site.marks("lives", after)) > seen + 50, "it goes on, cut off")
    assert site.marks("end", during)
    assert sandbox.state(during) == sandbox.state(after) == "processing"
    cut.join()
    site.let_end(after)
    for job in jobs:
        sandbox.wait_state(job, "completed")
    site.close()
    check_runs(site, jobs, lost=set())


def test_a_machine_is_known_to_all_others(site: Site) -> None:
    """`worker-list` shows the workers of all machines from any of them; `worker-stop` there stops its
    own alone.
    """
    site.enqueue("a")
    site.start(2, slots=1)
    one, other = site.network.machines
    words = " ".join(MAIN)
    env = " ".join(f"{name}='{value}'" for name, value in site.env.items())
    call = f"cd {site.sandbox.folder}; QUEUECTL_HOME={one.folder} {env} {words}"
    listed = json.loads(one.run(f"{call} worker-list --json"))
    assert [worker["host"] for worker in listed] == [one.name, other.name]
    wait_until(lambda: site.marks("start"))
    site.let_end("a")
    site.sandbox.wait_state("a", "completed")
    one.run(f"{call} worker-stop --all")
    assert site.workers.pop(one.name).wait() == 0
    assert [worker.host for worker in site.sandbox.queue.workers()] == [other.name]
    site.close()
