"""The text of every SQL statement is made of constants; values are bound to it, never written into it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

STORAGE = ROOT / "src" / "queuectl" / "storage"
FILES = sorted(path for name in ("postgres", "sqlite") for path in (STORAGE / name).glob("*.py"))

NAMED = [path for path in FILES if path.name == "sql.py"]
"""The named statements: made once, when the program starts."""

_SQL = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|DROP|ALTER|COPY|LISTEN|NOTIFY|PRAGMA|VACUUM|ATTACH"
    r"|SET LOCAL|BEGIN|WITH|FROM|WHERE|AND|UNION ALL|ORDER BY|VALUES|seq [<>]) "
)

_CONSTANT = re.compile(r"(\w+\.)*_?[A-Z][A-Z_]*(\.[A-Z]+)?(\[\w+\])?")
"""`NOW`, `sql.JOB_COLUMNS`, `State.DEAD`, or one of a table of constants."""

_MADE_SAFE = re.compile(r"quote\(.*\)|_marks\([\w.]+\)|_states\(.*\)|_table\(state\)")
"""Names as PostgreSQL quotes them, question marks, the words of the life of a job, one of two tables."""

PARTS = {
    "postgres/connection.py": {
        "', '.join(pairs)": "constants, and that name, as `literal` gives them",
        "self._quoted_schema": "its name, as `quote` gives it",
        "how": "one of two ways to begin a transaction",
        "self._setting": "made of the former",
        "limit": "a number of the program's own",
        "table": "COPY_JOBS",
    },
    "postgres/jobs.py": {"table": "jobs or ended_jobs"},
    "postgres/listing.py": {
        "direction": "ASC or DESC",
        "beyond": "one of two conditions",
        "end": "made of the direction",
        "' UNION ALL '.join(parts)": "made of the same",
        "state.value": "a word of the life of a job",
        "columns": "the table of what can be sorted by",
        "order": "made of that",
        "where": "one condition, or none",
        "table": "jobs or ended_jobs",
    },
    "postgres/work.py": {"places": "placeholders"},
    "sqlite/jobs.py": {"condition": "made of question marks"},
    "sqlite/listing.py": {
        "direction": "ASC or DESC",
        "beyond": "one of two conditions",
        "end": "made of the direction",
        "of_state": "made of the same",
        "where": "made of question marks",
        "order": "made of the table of what can be sorted by",
    },
}
"""What statements are put together from besides constants, and why it holds no value of a job's."""


def put_in(source: str) -> Iterator[str]:
    """Each expression whose value goes into the text of a statement."""
    for node in ast.walk(ast.parse(source)):
        text, values = _template(node)
        if _SQL.search(text + " "):
            # A text within the text is looked at by itself.
            yield from (
                ast.unparse(value)
                for value in values
                if not isinstance(value, ast.Constant | ast.JoinedStr)
            )


def _template(node: ast.AST) -> tuple[str, list[ast.expr]]:
    if isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        return text, [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "format"
    ):
        text = ast.unparse(node.func.value)
        return f"SELECT {text}", [*node.args, *[word.value for word in node.keywords]]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(one, ast.JoinedStr):
                return _template(one)[0], [other]
            if isinstance(one, ast.Constant) and isinstance(one.value, str):
                return one.value, [other]
    return "", []


def not_constant(source: str) -> set[str]:
    """Those among them that may hold anything."""
    return {
        found
        for found in put_in(source)
        if not _CONSTANT.fullmatch(found) and not _MADE_SAFE.fullmatch(found)
    }


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.parent.name)
def test_the_named_statements_are_made_before_there_are_values(path: Path) -> None:
    """Nobody outside that file can call what puts them together."""
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert names
    for other in FILES:
        text = "" if other == path else other.read_text(encoding="utf-8")
        assert all(name.startswith("_") and f"sql.{name}" not in text for name in names)


@pytest.mark.parametrize(
    "path", [p for p in FILES if p not in NAMED], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_no_statement_holds_a_value(path: Path) -> None:
    """Only what is named above is put into statements, and nothing is named that is not."""
    name = str(path.relative_to(STORAGE))
    assert not_constant(path.read_text(encoding="utf-8")) == set(PARTS.get(name, {}))


@pytest.mark.parametrize(
    "line",
    [
        "f\"SELECT * FROM jobs WHERE id = '{job_id}'\"",
        "\"SELECT * FROM jobs WHERE id = '%s'\" % job_id",
        "\"SELECT * FROM jobs WHERE id = '{}'\".format(job_id)",
        "sql.JOB.format(job_id)",
        '"SELECT * FROM jobs WHERE id = \'" + job_id + "\'"',
        "f\"UPDATE jobs SET state = '{State.DEAD}' WHERE id = '\" + job_id",
    ],
)
def test_a_value_in_a_statement_would_be_found(line: str) -> None:
    """In each of the ways in which texts are put together."""
    assert not_constant(line) == {"job_id"}


def test_constants_in_a_statement_are_let_be() -> None:
    """Among them what is a text of the program's own."""
    line = "f\"SELECT {sql.JOB_COLUMNS} FROM jobs WHERE state = '{State.DEAD}' AND {ENDED} {quote(x)}\""
    assert not_constant(line) == set()
    assert list(put_in(line))
