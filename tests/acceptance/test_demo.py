from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import PATIENCE_SECONDS, Sandbox, new_sandbox

pytestmark = pytest.mark.sqlite_only("a demo makes a queue of its own, which is a file")


@pytest.fixture
def stage(sandbox: Sandbox) -> Sandbox:
    """A place where the folders of demos are made within the test's own."""
    sandbox.environ["TMPDIR"] = str(sandbox.folder)
    return sandbox


class Tour(NamedTuple):
    """A demo that has run to its end."""

    stage: Sandbox
    folder: Path
    """Its scratch folder."""
    out: str


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    """One demo for several tests, run where the environment says other things."""
    with new_sandbox(tmp_path_factory.mktemp("tour")) as stage:
        stage.environ["TMPDIR"] = str(stage.folder)
        env = {
            "QUEUECTL_DB_PATH": str(stage.database),
            "QUEUECTL_DATABASE_URL": "postgresql://nobody@nowhere.invalid/none",
            "QUEUECTL_MAX_RETRIES": "0",
        }
        ran = stage.run("demo", env=env, seconds=120)
        assert ran.returncode == 0, ran
        (folder,) = stage.folder.glob("queuectl-demo-*")
        yield Tour(stage, folder, ran.stdout)


def test_the_tour_shows_it_all_and_leaves_nothing_running(tour: Tour) -> None:
    """A demo that is not on a terminal tells in plain lines what happened, and no process is left."""
    assert "\x1b" not in tour.out
    assert "\r" not in tour.out
    for words in ("enqueue --jobs-file", "worker-start", "status", "dlq list", "logs flaky"):
        assert f"$ queuectl {words}" in tour.out
    assert len(re.findall(r"flaky failed \(exit status 1\); it runs again in", tour.out)) == 2
    assert "flaky completed in run 3" in tour.out
    assert "count-lines is dead after 2 runs" in tour.out
    assert tour.out.count("[queuectl] attempt 3 ended") == 1
    assert not tour.stage.processes()


def test_settings_from_outside_neither_reach_it_nor_are_touched(tour: Tour) -> None:
    """A database that the environment names is not made, and its settings do not change the tour."""
    assert not tour.stage.database.exists()
    assert re.search(r"^dead +1$", tour.out, re.MULTILINE)


def test_the_work_is_real(tour: Tour) -> None:
    """The archives and the checksums that the demo's jobs made are there, and are right."""
    check = ["sha256sum", "--check", "--quiet", "json.sha256"]
    subprocess.run(check, cwd=tour.folder, check=True)
    listed = subprocess.check_output(["tar", "-tzf", "json.tar.gz"], cwd=tour.folder, text=True)
    assert "json/decoder.py" in listed


def test_what_it_tells_to_type_next_works(tour: Tour) -> None:
    """The lines at the end of the tour, typed into a shell, bring the dead job to its end."""
    steps = re.findall(r"^  (\S.*)$", tour.out.partition("To go on by hand")[2], re.MULTILINE)
    assert steps[0].startswith("cd ")
    ran = subprocess.run(
        ["bash", "-c", "shopt -s expand_aliases; set -e\n" + "\n".join(steps)],
        cwd=tour.stage.folder,
        env=tour.stage.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran
    assert "Requeued job: count-lines" in ran.stdout
    assert "1 run succeeded, 0 failed" in ran.stderr
    assert tour.out.splitlines()[-1].endswith(f"rm -r {tour.folder}")


def test_a_program_gets_an_object(stage: Sandbox) -> None:
    """With --json the tour is told on stderr, and stdout is one object with the folder and counts."""
    ran = stage.run("demo", "--json", seconds=120)
    assert ran.returncode == 0, ran
    shown = json.loads(ran.stdout)
    assert Path(shown["folder"], "queuectl.db").exists()
    assert (shown["jobs"]["dead"], shown["jobs"]["failed"]) == (1, 0)
    assert shown["jobs"]["completed"] > 10
    assert "$ queuectl status" in ran.stderr


def test_quiet_prints_the_folder_alone(stage: Sandbox) -> None:
    """With -q the tour is not told, and what it leaves is named; --db would mean nothing here."""
    ran = stage.run("demo", "-q", seconds=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert Path(ran.stdout.rstrip("\n"), "queuectl.db").exists()
    assert stage.run("demo", "--db", "x.db").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything_at_once(stage: Sandbox, number: signal.Signals) -> None:
    """Ctrl-C, or a SIGTERM, in the middle of the tour ends the worker and its commands too."""
    # As in a terminal: a group of its own, all of which the signal reaches.
    demo = subprocess.Popen(
        stage.command_line("demo"),
        cwd=stage.folder,
        env=stage.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
    )
    with demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if " s  " in line:
                break
        os.killpg(demo.pid, number)
        rest = demo.stdout.read()
        assert demo.wait(PATIENCE_SECONDS) == 130
    assert "nothing is left running" in rest
    assert not stage.processes()
