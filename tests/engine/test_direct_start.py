from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import Sandbox

THROUGH_THE_SHELL = {"BASH_ENV": "/dev/null"}
"""With this in the worker's environment nothing is started without a shell."""


def _prepare(folder: Path) -> None:
    """Programs of every kind that a first word may name."""
    (folder / "script").write_text('#!/bin/sh\necho "$0 $# $*"\nexit 5\n')
    (folder / "no-interpreter-line").write_text("echo plain $#\nexit 6\n")
    (folder / "bad-interpreter").write_text("#!/no/such/interpreter\n")
    (folder / "not-executable").write_text("#!/bin/sh\n")
    (folder / "suicide").write_text("#!/bin/sh\nkill -9 $$\n")
    (folder / "empty").write_text("")
    (folder / "binary").write_bytes(b"\x7fELF\x00\x01\x02")
    (folder / "dangling").symlink_to("nowhere")
    for name in "script no-interpreter-line bad-interpreter suicide empty binary".split():
        (folder / name).chmod(0o755)


COMMANDS = [
    "true",
    "false",
    "true --help",
    "ls -d /tmp",
    "ls /no/such/folder",
    "./script a b=c --d=e,f:g@h%i+j",
    "  ./script   spaced    out  ",
    "./script a\tb",
    "./no-interpreter-line x y",
    "./bad-interpreter",
    "./not-executable",
    "./suicide",
    "./empty",
    "./binary",
    "./dangling",
    "./no-such-program",
    "no-such-program-anywhere -x",
    "/tmp",
    "no-interpreter-line",
    "env FROM_COMMAND=1",
    "A=1",
    "A=1 env",
    "-c true",
    "--version",
    "echo -n -e x",
    "printf a%sb c",
    "kill -0 1",
    "test -d /tmp",
    "time --version",
    "command true",
    "exec true",
    "if",
    "done",
    "function",
    "#true",
    "!",
    "{",
    "~root",
    "./script ~ scr* ? [a] {a,b}",
    "./script $HOME",
    "nice -n 0 sh -c exit",
    "pwd",
    "cat /proc/self/comm",
    "grep -E Sig(Blk|Ign|Cgt) /proc/self/status",
    "sed -n /^Sig[BIC]/p /proc/self/status",
    "readlink /proc/self/cwd /proc/self/fd/0",
]


@pytest.mark.parametrize("odd", [{}, {"WITH.DOT": "1", "-": "2"}], ids=["plain", "odd-names"])
def test_a_start_without_the_shell_cannot_be_told_from_one_with_it(
    sandbox: Sandbox, odd: dict[str, str]
) -> None:
    """State, exit code, signal, reason and output are the same for every kind of command, and so
    is the environment it finds.
    """
    _prepare(sandbox.folder)
    commands = [*COMMANDS, "env"]
    records = []
    for n, env in enumerate([odd, {**odd, **THROUGH_THE_SHELL}]):
        jobs = [
            sandbox.enqueue(command, id=f"{n}-{i}", max_retries=0)
            for i, command in enumerate(commands)
        ]
        worker = sandbox.start_worker("--drain", "--count", "4", env=env, ready=False)
        assert worker.wait() == 0, worker.said
        found = [sandbox.job(id) for id in jobs]
        records.append(
            [
                (job.command, job.state, job.exit_code, job.signal, job.error, _output(sandbox, id))
                for job, id in zip(found, jobs, strict=True)
            ]
        )
    direct, shell = records
    assert direct == shell


def _output(sandbox: Sandbox, id: str) -> list[bytes]:
    """The lines it wrote, sorted: the order of variables in an environment means nothing; and without
    the one word by which the shell tells that it was asked to become the program.
    """
    lines = sandbox.output(id).replace(b"sh: 1: exec: ", b"sh: 1: ").splitlines()
    return sorted(
        line
        for line in lines
        if not line.startswith((b"BASH_ENV=", b"QUEUECTL_JOB_ID=", b"QUEUECTL_CLAIM="))
    )


@pytest.mark.parametrize("path", ["/no/such/folder", "", "."])
def test_with_a_path_of_its_own_a_job_finds_what_the_shell_would(
    sandbox: Sandbox, path: str
) -> None:
    """A job that is given another PATH gets the shell's own commands, and programs from there."""
    _prepare(sandbox.folder)
    for name in ("true", "ls"):
        (sandbox.folder / name).write_text("#!/bin/sh\nexit 9\n")
        (sandbox.folder / name).chmod(0o755)
    commands = ["true", "false", "ls", "script", "./script", "/bin/true"]
    jobs = [sandbox.enqueue(command, env={"PATH": path}, max_retries=0) for command in commands]
    sandbox.drain()
    shell = [
        subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=sandbox.folder,
            env={"PATH": path},
            capture_output=True,
            check=False,
        ).returncode
        for command in commands
    ]
    assert [sandbox.job(id).exit_code for id in jobs] == shell
