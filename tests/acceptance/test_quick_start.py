from __future__ import annotations

import re
import shlex
import subprocess

from tests.support import MAIN, ROOT, Sandbox
from tests.unit.documents import code_blocks

# What differs from one machine, or moment, to the next.
_CHANGING = [
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"after \d+\.\d+s", "after TIME"),
    (r"\bpid \d+", "pid N"),
    (r"\b[\w.-]+:\d{2,}\b", "WORKER"),
    (r"\b(\d+s ago|now)\b", "AGO"),
    (r"/home/ada/tour", "FOLDER"),
    (r" +", " "),
]


def test_the_quick_start_of_the_readme_shows_what_happens(sandbox: Sandbox) -> None:
    """Its command lines, typed into a shell one after the other, print what stands there."""
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## Quick start\n")[2].partition("\n## ")[0]
    shown = "".join(code_blocks(section, "console"))
    typed = re.findall(r"^\$ (.*)$", shown, re.MULTILINE)
    lines = [f'queuectl() {{ {shlex.join(MAIN)} "$@"; }}']
    for line in typed:
        echo = f"status=$?; echo {shlex.quote('$ ' + line)}; (exit $status)"
        lines += [echo, line]
    ran = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=sandbox.folder,
        env=sandbox.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert len(typed) > 10
    said = ran.stdout.replace(sandbox.queue.workspace.database, "FOLDER/queuectl.db")
    assert plain(said.replace(str(sandbox.folder), "FOLDER")) == plain(shown)
    assert not sandbox.processes()


def plain(text: str) -> str:
    """A transcript without what is different each time."""
    for pattern, word in _CHANGING:
        text = re.sub(pattern, word, text)
    return text
