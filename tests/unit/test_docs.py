from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from queuectl import errors
from queuectl.cli import _command_name, _leading_options, _load
from queuectl.cli.command import build_parser
from queuectl.job_logs import LogNotFound
from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import FINISHED, MOVES, State
from queuectl.jobs.outcome import (
    LOST,
    SUCCEEDED,
    Policy,
    cancelled,
    exited,
    interrupted,
    judge,
    not_started,
    timed_out,
)
from tests.support import ROOT
from tests.unit.documents import code_blocks, table

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LIFECYCLE = ROOT / "docs" / "lifecycle.md"
GUARANTEES = ROOT / "docs" / "guarantees.md"

OUTCOMES = [
    SUCCEEDED,
    exited(1),
    timed_out(1, None, 15),
    not_started("its folder is gone"),
    LOST,
    interrupted(None, 15),
    cancelled(None, 15),
]


def name(path: Path) -> str:
    """A document as the tests' names show it."""
    return str(path.relative_to(ROOT))


def test_the_states_are_all_described() -> None:
    """The table has a row for each state, and says rightly which of them go on by themselves."""
    rows = table(LIFECYCLE, "States")
    assert [row[0] for row in rows] == [f"`{state}`" for state in State]
    assert [row[2] for row in rows] == ["no" if state in FINISHED else "yes" for state in State]


def test_the_moves_are_those_of_the_program() -> None:
    """The table of moves has the same names, sources, targets and makers, in the same order."""
    expected = [
        [move.name, ", ".join(move.sources) or "-", ", ".join(move.targets), move.by]
        for move in MOVES
    ]
    assert [row[:4] for row in table(LIFECYCLE, "Moves")] == expected


def test_the_diagram_shows_the_moves() -> None:
    """Each arrow of the diagram is a move, and each move is there."""
    (diagram,) = code_blocks(LIFECYCLE, "mermaid")
    arrows = re.findall(r"^  (\S+) --> (\S+): (\S+)$", diagram, re.MULTILINE)
    expected = {
        (source, target.value, move.name)
        for move in MOVES
        for source in ([state.value for state in move.sources] or ["[*]"])
        for target in move.targets
    }
    assert set(arrows) == expected
    assert len(arrows) == len(expected)


def test_the_outcomes_are_all_described() -> None:
    """Each outcome has a row that says rightly whether it counts as a run."""
    claim = Claim(1, "a", "true", "/", None, 2, 3, None, None, "retry", None, 0, 7)
    policy = Policy(backoff_base=2, max_losses=5)
    expected = [
        [f"`{outcome.kind}`", "yes" if judge(claim, outcome, policy).attempts == 2 else "no"]
        for outcome in OUTCOMES
    ]
    rows = table(LIFECYCLE, "How a run can end")
    assert [[row[0], row[2]] for row in rows] == expected


def test_the_codes_of_errors_are_all_listed() -> None:
    """The guide for programs lists the code of every error that can reach one, by exit status."""
    found: dict[int, set[str]] = {}
    for value in [LogNotFound, *vars(errors).values()]:
        if isinstance(value, type) and issubclass(value, errors.QueuectlError):
            found.setdefault(value.exit_status, set()).add(value.code)
    found[1].remove("error")  # What the others have in common.
    found[4].remove("worker_fenced")  # Stays within a worker.
    rows = table(ROOT / "docs" / "guides" / "coding-agents.md", "Errors")
    assert {int(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in rows} == found


def test_the_tests_that_prove_the_guarantees_exist() -> None:
    """Every test named in docs/guarantees.md is a function of that file."""
    for path, function in re.findall(r"`(tests/\S+?\.py)::(\w+)`", GUARANTEES.read_text()):
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"{path}::{function}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    """Each link within the project names a file that is there, and a heading that is in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def anchors(document: Path) -> set[str]:
    """What the headings of a document are called in links."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_command_lines_are_accepted(document: Path) -> None:
    """Each command line of queuectl in a block of code has a known command and known options."""
    for words in command_lines(document):
        _, rest = _leading_options(words)
        if not rest:
            continue
        command, arguments = _command_name(rest)
        definition = _load(command)
        if definition.takes_command and "--" in arguments:
            arguments = arguments[: arguments.index("--")]
        if "--help" not in arguments:
            build_parser(command, definition).parse_args(arguments)


def command_lines(document: Path) -> Iterator[list[str]]:
    """The words behind each `queuectl` in the blocks of code for a shell."""
    for block in code_blocks(document, "sh", "console", "cron", "ini"):
        for line in block.replace("\\\n", " ").splitlines():
            if "queuectl " in line and not re.match(r"queuectl: |#", line):
                yield from calls(line.removeprefix("$ "))


def calls(line: str) -> Iterator[list[str]]:
    """The words behind each `queuectl` in a line, up to where the shell ends the command."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    call: list[str] | None = None
    for word in lexer:
        if set(word) <= set("();<>|&"):
            if call:
                yield call
            call = None
        elif re.fullmatch(r"(.*[/=])?queuectl", word):
            call = []
        elif call is not None:
            call.append(word)
    if call:
        yield call


def test_calls_are_found_where_they_stand() -> None:
    """Calls are found at a line's beginning, in a substitution, and behind a path."""
    line = "queuectl cancel $(/opt/bin/queuectl list -q) && queuectl status # queuectl none"
    assert list(calls(line)) == [["cancel", "$"], ["list", "-q"], ["status"]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_nobody_is_sent_to_the_other_project_of_that_name(document: Path) -> None:
    """No document tells a reader to install queuectl by its name from the index."""
    assert not re.search(r"\b(install|add|run|uvx)( -\S+)* queuectl\b", document.read_text())


def test_the_scripts_for_roles_can_be_made_for_another_schema() -> None:
    """What the guide says to call for that leaves no statement in which the usual one is named."""
    guides = ROOT / "docs" / "guides"
    calls = re.findall(
        r"^sed -E 's/(.*)/\\1 builds/' (\S+) \|",
        (guides / "postgresql.md").read_text(),
        re.MULTILINE,
    )
    assert [script for _, script in calls] == ["postgresql-roles.sql", "postgresql-grants.sql"]
    for pattern, script in calls:
        lines = (guides / script).read_text().splitlines()
        text = "\n".join(re.sub(pattern, r"\1 builds", line, count=1) for line in lines)
        statements = re.sub(r"--.*", "", text)
        assert "builds" in statements
        assert "queuectl" not in statements
