from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.jobs.job import NewJob
from queuectl.jobs.spec import Defaults, job_from_fields
from queuectl.jobs.when import parse_iso
from queuectl.quoting import join
from queuectl.text import visible

HERE = os.path.abspath(os.path.join(os.sep, "work"))
DEFAULTS = Defaults(cwd=HERE, max_retries=3, on_lost="retry", join=join)
NOW = parse_iso("2026-11-24T12:00:00Z")

posix_names = pytest.mark.skipif(os.name == "nt", reason="Windows hands on variables of any name")


def job(**fields: object) -> NewJob:
    """A job made from a command and these fields."""
    return job_from_fields({"command": "true", **fields}, defaults=DEFAULTS, now=NOW, zone=UTC)


def refusal(make: Callable[[], object]) -> InvalidInput:
    """The InvalidInput that `make` raises."""
    with pytest.raises(InvalidInput) as caught:
        make()
    return caught.value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"command": None}, "there is no command"),
        ({"command": ""}, "the command is empty"),
        ({"command": " \t\n"}, "the command is empty"),
        ({"command": "a\0b"}, "command contains a NUL character"),
        ({"command": "\udcff"}, "command cannot be written in UTF-8"),
        ({"command": 3}, "command must be a string, or a list of strings, not a number"),
        ({"command": {}}, "command must be a string, or a list of strings, not an object"),
        ({"command": []}, "the command is empty"),
        ({"command": [" ", "x"]}, "the command is empty"),
        ({"command": ["sleep", 5]}, "word 2 of the command must be a string, not a number"),
        ({"command": ["echo", ["x"]]}, "word 2 of the command must be a string, not a list"),
        ({"command": ["echo", "a\0b"]}, "command contains a NUL character"),
        ({"command": ["echo", "\udcff"]}, "command cannot be written in UTF-8"),
        ({"command": ["echo", "x" * 131_067]}, "the command is 131,072 bytes long"),
        ({"command": "x" * 131_072}, "the command is 131,072 bytes long"),
        ({"command": "é" * 65_536}, "the command is 131,072 bytes long"),
        ({"max_retries": -1}, "max_retries must be a whole number from 0 to 1000, not -1"),
        ({"max_retries": 1001}, "max_retries must be a whole number from 0 to 1000, not 1001"),
        ({"max_retries": True}, "max_retries must be a whole number from 0 to 1000, not true"),
        ({"max_retries": 3.5}, "max_retries must be a whole number from 0 to 1000, not 3.5"),
        ({"max_retries": "3"}, "max_retries must be a whole number from 0 to 1000, not '3'"),
        ({"max_retries": 10**5000}, "not a number of over 15 digits"),
        ({"priority": 1_000_001}, "priority must be a whole number from -1000000 to 1000000"),
        ({"max_losses": 0}, "max_losses must be a whole number from 1 to 1000"),
        ({"backoff_base": -0.1}, "backoff_base must be a number from 0 to 3600, not -0.1"),
        ({"backoff_base": float("nan")}, "backoff_base must be a number from 0 to 3600, not nan"),
        ({"backoff_base": "2"}, "backoff_base must be a number from 0 to 3600, not '2'"),
        ({"backoff_base": False}, "backoff_base must be a number from 0 to 3600, not false"),
        ({"timeout": -1}, "timeout must be a number of seconds from 0 to 31536000 (365d), not -1"),
        ({"timeout": float("inf")}, "timeout must be a number of seconds from 0 to 31536000"),
        ({"timeout": 10**400}, "timeout must be a number of seconds from 0 to 31536000"),
        ({"timeout": 31_536_001}, "from 0 to 31536000 (365d), not 31536001"),
        ({"timeout": "53w"}, "timeout: '53w' is longer than 365d"),
        ({"timeout": "3651d"}, "timeout: '3651d' is longer than 365d"),
        ({"timeout": "31536001"}, "timeout: '31536001' is longer than 365d"),
        ({"timeout": "soon"}, "timeout: 'soon' is not a length of time"),
        ({"delay": -1}, "delay must be a number of seconds from 0 to 315360000 (3650d), not -1"),
        ({"delay": "3651d"}, "delay: '3651d' is longer than 3650d"),
        ({"delay": "-5m"}, "delay: '-5m' is negative"),
        ({"delay": {}}, "from 0 to 315360000 (3650d), not an object"),
        ({"delay": 5, "run_at": "now"}, "run_at and delay are given together"),
        ({"run_at": "now", "next_run_at": "now"}, "run_at and next_run_at are given together"),
        ({"run_at": "whenever"}, "run_at: 'whenever' is not a time"),
        ({"next_run_at": "2026-02-30"}, "next_run_at: there is no date 2026-02-30"),
        ({"run_at": True}, "run_at must be a string, not true"),
        ({"run_at": datetime(1969, 12, 31, tzinfo=UTC)}, "outside the years 1970 to 9999"),
        ({"cwd": ""}, "cwd is empty"),
        ({"cwd": "a\0"}, "cwd contains a NUL character"),
        ({"cwd": 5}, "cwd must be a string, not a number"),
        ({"cwd": Path("a\0")}, "cwd contains a NUL character"),
        ({"env": []}, "env must be an object, not a list"),
        ({"env": {"": "x"}}, "a name in env is empty"),
        ({"env": {"A\0": "x"}}, "a name in env contains a NUL character"),
        ({"env": {"A": "x\0"}}, "env A contains a NUL character"),
        ({"env": {"A": 5}}, "env A must be a string, not a number"),
        ({"env": {"A": None}}, "env A must be a string, not a NoneType"),
        ({"env": {5: "x"}}, "a name in env must be a string, not a number"),
        ({"env": {"QUEUECTL_JOB_ID": "x"}}, "env QUEUECTL_JOB_ID is set by queuectl itself"),
        ({"env": {"queuectl_x": "x"}}, "env queuectl_x is set by queuectl itself"),
        ({"env": {"A": "x" * 131_070}}, "env A is longer than 131,071 bytes"),
        ({"on_lost": "shrug"}, "on_lost must be retry, fail or hold, not 'shrug'"),
        ({"on_lost": ["retry"]}, "on_lost must be retry, fail or hold, not a list"),
        ({"requires": "GPU"}, "requires must be tags such as gpu, not 'GPU'"),
        ({"requires": ["gpu", 7]}, "requires must be text, or a list of texts"),
        ({"requires": {"gpu": 1}}, "requires must be text, or a list of texts"),
        ({"state": "dead"}, "state must be 'pending' in a new job, not 'dead'"),
        ({"attempts": 2}, "attempts must be 0 in a new job, not 2"),
        ({"attempts": False}, "attempts must be 0 in a new job, not false"),
        ({"created_at": "yesterday"}, "created_at: 'yesterday' is not an ISO 8601 time"),
        ({"updated_at": 5}, "updated_at must be a string, not a number"),
        ({"exit_code": 1}, "exit_code is written by the queue"),
        ({"\x1b[31m": 1}, "unknown field '\\x1b[31m'"),
    ],
)
def test_refused(fields: dict[str, object], message: str) -> None:
    """Each field has its rule, and the message says which one was broken."""
    error = refusal(lambda: job(**fields))
    assert message in error.message
    assert error.message == visible(error.message)
    assert error.exit_status == 2


@pytest.mark.parametrize(
    ("id", "why"),
    [
        ("", "is empty"),
        ("a/b", "contains one of"),
        ("a\\b", "contains one of"),
        ("..", "begins with '.'"),
        ("a..b", "contains one of"),
        (".hidden", "begins with '.'"),
        ("-rf", "begins with '-'"),
        ("@last", "begins with '@'"),
        (" a", "begins or ends with a space"),
        ("a ", "begins or ends with a space"),
        ("a\nb", "contains U+000A, a character that cannot be seen"),
        ("a\x7fb", "contains U+007F, a character that cannot be seen"),
        ("a\u2028b", "contains U+2028, a character that cannot be seen"),
        ("a\u202eb", "contains U+202E, a character that cannot be seen"),
        ("a\u200bb", "contains U+200B, a character that cannot be seen"),
        ("a\u00a0b", "contains U+00A0, a character that cannot be seen"),
        ("a\u3000", "contains U+3000, a character that cannot be seen"),
        ("a\U000e0041", "contains U+E0041, a character that cannot be seen"),
        ("a\0b", "contains a NUL character"),
        ("a\ud800b", "cannot be written in UTF-8"),
        *((f"a{sign}b", "contains one of") for sign in '<>:"|?*'),
        ("CON", "a device on Windows"),
        ("nul.txt", "a device on Windows"),
        ("aux .x", "a device on Windows"),
        ("Com1", "a device on Windows"),
        ("LPT¹", "a device on Windows"),
        ("x" * 201, "is 201 bytes long"),
        ("é" * 101, "is 202 bytes long"),
    ],
)
def test_ids_that_cannot_name_a_file(id: str, why: str) -> None:
    """An id that could not name a log file on every system, could leave its folder, or looks like
    another one, is refused.
    """
    assert why in refusal(lambda: job(id=id)).message


@pytest.mark.parametrize(
    "id",
    ["1", "job-file-1", "a.b", "a b", "COM", "console", "com10", "naïve", "x" * 200, "é" * 100],
)
def test_ids_that_can(id: str) -> None:
    """Ordinary names, spaces inside and other alphabets are fine."""
    assert job(id=id).id == id


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "x" * 131_071},
        {"max_retries": 1000},
        {"priority": -1_000_000},
        {"timeout": 31_536_000},
        {"timeout": "365d"},
        {"delay": "3650d"},
        {"backoff_base": 3600.0},
        {"env": {"A": "x" * 131_069}},
    ],
)
def test_the_ends_of_the_ranges_belong_to_them(fields: dict[str, object]) -> None:
    """The largest and smallest values named in the messages are accepted."""
    job(**fields)


@pytest.mark.parametrize(
    "env",
    [
        {"TOKEN": 7777},
        {"TOKEN": "7777\0"},
        {"TOKEN": "\ud8007777"},
        {"TOKEN=7777": "x"},
        pytest.param({"TOKEN: 7777": ""}, marks=posix_names),
        pytest.param({"TOKEN 7777": "7777"}, marks=posix_names),
        {"TOKEN": "7777" * 40_000},
        {"QUEUECTL_TOKEN": "7777"},
    ],
)
def test_errors_never_show_the_value_of_a_variable(env: dict[str, object]) -> None:
    """What is wrong with a variable is told by its name alone, as its value may be secret."""
    error = refusal(lambda: job(env=env))
    assert "TOKEN" in error.message
    assert "7777" not in error.message + error.hint


@posix_names
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("B AD", "env B has ' ' in its name"),
        ("A-B", "env A has '-' in its name"),
        ("BASH_FUNC_x%%", "env BASH_FUNC_x has '%' in its name"),
        ("Größe", "env Gr has 'ö' in its name"),
        ("A\n", "env A has '\\n' in its name"),
        ("2", "a name in env begins with '2'"),
        ("-B", "a name in env begins with '-'"),
        ("=", "a name in env begins with '='"),
        ("1" * 1_000_000, "a name in env begins with '1'"),
    ],
)
def test_a_name_that_the_shell_would_drop_is_refused(name: str, message: str) -> None:
    """A variable that sh does not hand on would be missing without a word; its value is not shown."""
    error = refusal(lambda: job(env={name: "7777"}))
    assert error.message == message
    assert error.hint
    assert "7777" not in error.message + error.hint
    for good in ("_", "a", "A_1", "_9"):
        assert job(env={good: "7777"}).env == {good: "7777"}


def test_a_whole_number_may_have_a_zero_behind_its_point() -> None:
    """Some programs write each number of a JSON document with decimals; a job keeps whole ones."""
    made = job(max_retries=3.0, priority=-2.0, attempts=0.0)
    assert (made.max_retries, made.priority) == (3, -2)
    assert type(made.max_retries) is int


def test_env_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job keeps its variables when the caller goes on to change theirs, and takes os.environ."""
    for name in os.environ:
        if os.name != "nt" and not name.isidentifier():
            monkeypatch.delenv(name)  # bash exports its functions under such names.
    mine = {"A": "1"}
    made = job(env=mine)
    mine["A"] = "2"
    assert made.env == {"A": "1"}
    assert job(env=os.environ).env == dict(os.environ)


def whole(low: int, high: int) -> dict[str, object]:
    """The schema of a whole number, or null."""
    return {"type": ["integer", "null"], "minimum": low, "maximum": high}


# Said a second time in the words of another library, as far as that library can say it.
SCHEMA: dict[str, object] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["command"],
    "properties": {
        "command": {
            "type": ["string", "array"],
            "pattern": r"^[^\0]*[^\s\0][^\0]*\Z",
            "minItems": 1,
            "items": {"type": "string", "pattern": r"^[^\0]*\Z"},
            "prefixItems": [{"type": "string", "pattern": r"^[^\0]*[^\s\0][^\0]*\Z"}],
        },
        "id": {
            "type": ["string", "null"],
            "maxLength": 200,
            "pattern": r"^(?![-.@\s])(?!.*\.\.)"
            r"(?!(?i:con|nul|aux|prn|com\d|lpt\d)(\.|\Z))"
            r'[^\x00-\x1f\x7f/\\<>:"|?*]+\Z(?<!\s)',
        },
        "max_retries": whole(0, 1000),
        "priority": whole(-1_000_000, 1_000_000),
        "max_losses": whole(1, 1000),
        "backoff_base": {"type": ["number", "null"], "minimum": 0, "maximum": 3600},
        "timeout": {"type": ["number", "null"], "minimum": 0, "maximum": 31_536_000},
        "delay": {"type": ["number", "null"], "minimum": 0, "maximum": 315_360_000},
        "run_at": {"enum": [None, "now", "tomorrow 9:00"]},
        "on_lost": {"enum": [None, "retry", "fail", "hold"]},
        "cwd": {"type": ["string", "null"], "pattern": r"^[^\0]+\Z"},
        "env": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string", "pattern": r"^[^\0]*\Z"},
            "propertyNames": {
                "pattern": r"^(?!(?i:queuectl_))"
                + (r"[^=\0]+\Z" if os.name == "nt" else r"[A-Za-z_][A-Za-z0-9_]*\Z")
            },
        },
        "state": {"enum": [None, "pending"]},
        "attempts": {"type": ["integer", "null"], "minimum": 0, "maximum": 0},
    },
    "not": {
        "required": ["delay", "run_at"],
        "properties": {"delay": {"type": "number"}, "run_at": {"type": "string"}},
    },
}
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

LIKELY: st.SearchStrategy[object] = st.sampled_from(
    [None, True, False, 0, 1, -1, 3, 3.0, 0.5, 1000, 1001, 3600, 3600.5, 10**6, 10**7, 10**9, 1e300]
    + ["", " ", "x", "..", "a/b", "a b", ".a", "-", "CON", "nul.x", "a\nb", "a\0", "x" * 201]
    + ["retry", "hold", "pending", "dead", "now", "tomorrow 9:00"]
    + [
        {},
        {"A": "b"},
        {"A": 1},
        {"": "b"},
        {"A=": "b"},
        {"A-B": "b"},
        {"2": "b"},
        {"_2": "b"},
        {"QUEUECTL_A": "b"},
        {"A": "\0"},
        [],
        ["x"],
        ["x", ""],
        ["", "x"],
        ["x", 5],
    ]
)
PROPERTIES: dict[str, object] = SCHEMA["properties"]  # type: ignore[assignment]


@settings(deadline=None, max_examples=500)
@given(
    st.dictionaries(st.sampled_from([*PROPERTIES, "comand"]), LIKELY, max_size=4),
    st.booleans(),
)
def test_the_rules_are_those_of_a_schema(fields: dict[str, object], with_command: bool) -> None:
    """A job is accepted exactly when a JSON schema with the same rules accepts it."""
    if with_command:
        fields["command"] = "true"
    valid = VALIDATOR.is_valid(fields)
    try:
        job_from_fields(fields, defaults=DEFAULTS, now=NOW, zone=UTC)
        accepted = True
    except InvalidInput:
        accepted = False
    assert accepted == valid, fields


@settings(deadline=None)
@given(st.text(st.characters(), min_size=1))
def test_an_accepted_id_names_a_file_in_its_folder(id: str) -> None:
    """An id that is accepted is one name of at most 255 bytes, in the folder it is put in."""
    try:
        name = job(id=id).id + ".log"
    except InvalidInput:
        return
    assert len(os.fsencode(name)) <= 255
    assert os.path.split(os.path.normpath(os.path.join(HERE, name))) == (HERE, name)
