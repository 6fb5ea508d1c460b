from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.jobs.job import NewJob
from queuectl.jobs.spec import Defaults, decode_text_file, job_from_fields, job_from_json
from queuectl.jobs.when import parse_iso
from queuectl.quoting import join
from queuectl.text import visible

HERE = os.path.abspath(os.path.join(os.sep, "work"))
DEFAULTS = Defaults(cwd=HERE, max_retries=3, on_lost="retry", join=join)
NOW = parse_iso("2026-11-24T12:00:00Z")


def job(**fields: object) -> NewJob:
    """A job made from a command and these fields."""
    return job_from_fields({"command": "true", **fields}, defaults=DEFAULTS, now=NOW, zone=UTC)


def refusal(make: Callable[[], object]) -> InvalidInput:
    """The InvalidInput that `make` raises."""
    with pytest.raises(InvalidInput) as caught:
        make()
    return caught.value


def test_a_command_alone_takes_the_defaults() -> None:
    """What is not said comes from the surroundings, or stays open for the configuration."""
    made = job()
    assert (made.command, made.cwd, made.max_retries, made.on_lost) == ("true", HERE, 3, "retry")
    assert (made.priority, made.env, made.run_at) == (0, None, None)
    assert (made.timeout, made.backoff_base, made.max_losses) == (None, None, None)
    assert made.id != job().id


def test_every_field_is_kept() -> None:
    """Each field arrives in the job, in the units of the job."""
    made = job(
        id="nightly-1",
        max_retries=0,
        backoff_base=0,
        timeout="1h30m",
        run_at="2026-11-25 09:00",
        priority=-5,
        cwd="sub/../other",
        env={"LEVEL": "debug"},
        on_lost="hold",
        max_losses=1,
        requires="linux,gpu",
    )
    assert {name: getattr(made, name) for name in NewJob.__slots__} == {
        "id": "nightly-1",
        "command": "true",
        "max_retries": 0,
        "backoff_base": 0.0,
        "timeout": 5400.0,
        "run_at": parse_iso("2026-11-25T09:00Z"),
        "priority": -5,
        "cwd": os.path.join(HERE, "other"),
        "env": {"LEVEL": "debug"},
        "on_lost": "hold",
        "max_losses": 1,
        "requires": ("gpu", "linux"),
    }


def test_null_is_not_given() -> None:
    """None in any field is as if the field were not there."""
    nothing = dict.fromkeys(
        "id cwd env priority max_retries backoff_base timeout delay run_at next_run_at on_lost"
        " max_losses requires state attempts created_at updated_at".split()
    )
    made = job(**nothing)
    assert (made.cwd, made.max_retries, made.run_at) == (HERE, 3, None)


def test_the_callers_id_is_for_jobs_without_one() -> None:
    """An id from the caller is taken only where the fields give none."""
    fields: dict[str, object] = {"command": "true"}
    assert job_from_fields(fields, defaults=DEFAULTS, now=NOW, id="spare").id == "spare"
    fields["id"] = "own"
    assert job_from_fields(fields, defaults=DEFAULTS, now=NOW, id="spare").id == "own"


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"delay": 0}, None),
        ({"delay": "0s"}, None),
        ({"delay": 1.5}, NOW + 1_500_000),
        ({"delay": "5"}, NOW + 5_000_000),
        ({"delay": "1h30m"}, NOW + 5_400_000_000),
        ({"run_at": "tomorrow 9:00"}, parse_iso("2026-11-25T09:00Z")),
        ({"run_at": "2001-01-01"}, parse_iso("2001-01-01")),
        ({"next_run_at": "2026-11-24T13:00Z"}, parse_iso("2026-11-24T13:00Z")),
        ({"run_at": "in 2 hours", "next_run_at": None}, NOW + 7_200_000_000),
        (
            {"run_at": datetime(2027, 1, 31, 9, 0, 0, 5, timezone(timedelta(hours=2)))},
            parse_iso("2027-01-31T07:00:00.000005Z"),
        ),
    ],
)
def test_start(fields: dict[str, object], start: int | None) -> None:
    """A delay counts from now, a time may be in words, in the past or a program's own datetime,
    and 0 is at once.
    """
    assert job(**fields).run_at == start


def test_a_datetime_without_a_zone_is_utc() -> None:
    """As in text, what says nothing of its offset is UTC, wherever this machine is."""
    naive = datetime(2027, 1, 31, 9, tzinfo=UTC).replace(tzinfo=None)
    fields = {"command": "true", "run_at": naive}
    east = timezone(timedelta(hours=2))
    made = job_from_fields(fields, defaults=DEFAULTS, now=NOW, zone=east)
    assert made.run_at == parse_iso("2027-01-31T09:00Z")


def test_a_folder_may_be_a_path() -> None:
    """A program's path is the folder that its text names."""
    assert job(cwd=Path("sub")).cwd == os.path.join(HERE, "sub")


@pytest.mark.parametrize("words", [["echo", "a b"], ("echo", "it's", "")])
def test_words_are_quoted_by_the_surroundings(words: list[str]) -> None:
    """A list of words becomes the line that the shell splits into them again, in JSON as well."""
    assert job(command=words).command == join(words)
    assert from_json(json.dumps({"command": words})).command == join(words)


def test_words_are_read_in_the_given_zone() -> None:
    """The zone decides what a time in words means."""
    east = timezone(timedelta(hours=2))
    fields = {"command": "true", "run_at": "tomorrow 9:00"}
    made = job_from_fields(fields, defaults=DEFAULTS, now=NOW, zone=east)
    assert made.run_at == parse_iso("2026-11-25T07:00Z")


def test_a_job_that_was_read_can_be_fed_back() -> None:
    """The original's whole job object is accepted while it describes a job that has not begun."""
    made = job(
        id="a",
        state="pending",
        attempts=0,
        max_retries=3,
        created_at="2025-11-04T10:30:00Z",
        updated_at="2025-11-04T10:30:00Z",
        next_run_at=None,
    )
    assert (made.id, made.run_at) == ("a", None)


def test_a_job_that_has_run_is_refused_in_one_sentence() -> None:
    """Of a whole job that was read, what only the queue writes is listed once, with one hint."""
    error = refusal(
        lambda: job(
            queue="default", losses=0, exit_code=0, signal=None, worker="w", state="pending"
        )
    )
    assert error.message == "queue, losses, exit_code, signal and worker are written by the queue"
    assert error.hint == "Leave out what the queue itself writes."
    error = refusal(lambda: job(exit_code=0, state="completed", attempts=1, comand="x"))
    assert error.message.split("; ") == [
        "exit_code is written by the queue",
        "unknown field 'comand'",
        "state must be 'pending' in a new job, not 'completed'",
        "attempts must be 0 in a new job, not 1",
    ]
    assert error.hint == "Leave out what the queue itself writes. Did you mean 'command'?"


def test_everything_wrong_is_said_at_once() -> None:
    """One error names every problem of a job, with a hint for each that has one."""
    error = refusal(lambda: job(comand="x", id="a/b", priority=1.5, run_at=5, env={"A": 1, "": ""}))
    assert error.message.split("; ") == [
        "unknown field 'comand'",
        "id 'a/b' contains one of .. / \\ < > : \" | ? *",
        "priority must be a whole number from -1000000 to 1000000, not 1.5",
        "run_at must be a string, not a number",
        "env A must be a string, not a number",
        "a name in env is empty",
    ]
    assert "Did you mean 'command'?" in error.hint


def test_a_thousand_problems_stay_one_readable_line() -> None:
    """Of very many problems the first are told, and the number of the others."""
    error = refusal(lambda: job(**{f"x{n}": n for n in range(1000)}))
    assert error.message.endswith("; and 990 problems more")
    assert len(error.message) < 500


def test_a_number_for_a_time_is_answered_with_the_time() -> None:
    """The hint shows what to write for seconds since 1970."""
    hint = refusal(lambda: job(run_at=NOW // 1_000_000)).hint
    assert "2026-11-24T12:00:00Z" in hint


def test_a_current_folder_that_is_not_utf8_is_refused() -> None:
    """A folder whose name cannot be stored is an error, also when the job says only a part of it."""
    strange = Defaults(os.path.join(HERE, "\udcff"), 3, "retry", join=join)
    for fields in ({"command": "x"}, {"command": "x", "cwd": "sub"}):
        with pytest.raises(InvalidInput, match="cwd cannot be written in UTF-8"):
            job_from_fields(fields, defaults=strange, now=NOW)
    fields = {"command": "x", "cwd": HERE}
    assert job_from_fields(fields, defaults=strange, now=NOW).cwd == HERE


def from_json(document: str | bytes, **more: Any) -> NewJob:
    """A job from a JSON document, in these tests' surroundings."""
    return job_from_json(document, defaults=DEFAULTS, now=NOW, **more)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_document_in_the_encodings_of_windows(encoding: str) -> None:
    """UTF-8 with or without a mark, and UTF-16 with one, are read."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    assert from_json((mark + '{"command": "écho"}\r\n').encode(encoding)).command == "écho"


def test_a_mark_in_text_is_passed_over() -> None:
    """A byte order mark that was decoded with the text does no harm."""
    assert from_json('\ufeff{"command": "true"}').command == "true"


def test_a_broken_document_is_refused_with_the_place() -> None:
    """JSON that does not parse is refused with its line and column."""
    error = refusal(lambda: from_json('{"command": "x",\n "id" 5}'))
    assert error.message.startswith("not valid JSON at line 2, column 7: ")


def test_a_document_is_named_in_its_errors() -> None:
    """With a source, errors of the JSON and of the job begin with it."""
    for text in ("{", '{"command": ""}'):
        error = refusal(lambda text=text: from_json(text, source="job\n.json"))  # type: ignore[misc]
        assert error.message.startswith("job\\n.json: ")


def test_overrides_win() -> None:
    """What is said beside the document wins, and a start time beside it over any start in it."""
    text = '{"command": "true", "id": "a", "delay": 5, "priority": 1}'
    made = from_json(text, overrides={"id": "b", "run_at": "2026-11-25"})
    assert (made.id, made.run_at, made.priority) == ("b", parse_iso("2026-11-25"), 1)
    assert from_json(text, overrides={"id": "b"}).run_at == NOW + 5_000_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"abc\xff", "f is not UTF-8: byte 3 is 0xff"),
        (b"\xef\xbb\xbfabc\xff", "f is not UTF-8: byte 6 is 0xff"),
        (b"\xff\xfea\x00b", "f is not UTF-16: byte 4 is 0x62"),
        (b"\xed\xa0\x80", "f is not UTF-8: byte 0 is 0xed"),
    ],
)
def test_a_file_that_is_not_text(data: bytes, message: str) -> None:
    """The first byte that does not fit is named by its offset in the file."""
    assert refusal(lambda: decode_text_file(data, "f")).message == message


@settings(deadline=None)
@given(st.text())
def test_text_survives_every_encoding(text: str) -> None:
    """Text is what it was, whichever of the known encodings it was saved in."""
    for encoding in ("utf-8-sig", "utf-16"):
        assert decode_text_file(text.encode(encoding), "f") == text.removeprefix("\ufeff")


def test_a_plain_job_loads_nothing_heavy() -> None:
    """The way of every enqueue does not load what only some jobs need."""
    code = (
        "import sys; from queuectl.jobs.spec import Defaults, job_from_fields;"
        "job_from_fields({'command': 'true'}, defaults=Defaults('/', 3, 'retry', join=' '.join), now=0);"
        "print(*sorted({*sys.modules} & {'typing', 'json', 'datetime', 'shlex', 'inspect', 'uuid',"
        "'difflib', 'dataclasses', 'queuectl.jobs.when', 'queuectl.jobs.duration'}))"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert answer.stdout == "\n"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    "id command cwd env priority max_retries backoff_base timeout delay run_at next_run_at on_lost"
    " max_losses state attempts created_at updated_at exit_code".split()
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(NAMES | st.text(max_size=5), ANYTHING, max_size=6))
def test_anything_is_accepted_or_refused_in_one_line(fields: dict[str, object]) -> None:
    """Whatever the fields hold, the answer is a job that can be stored, or one visible line."""
    refused = None
    try:
        made = job_from_fields(fields, defaults=DEFAULTS, now=NOW, zone=UTC)
    except InvalidInput as error:
        refused = error
    if refused:
        assert refused.message == visible(refused.message)
        assert refused.hint == visible(refused.hint)
    else:
        values = [getattr(made, name) for name in NewJob.__slots__]
        assert json.dumps(values, ensure_ascii=False).encode()
