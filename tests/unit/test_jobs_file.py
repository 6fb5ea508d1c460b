from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuectl.errors import InvalidInput
from queuectl.jobs.job import NewJob
from queuectl.jobs.jobs_file import read_jobs
from queuectl.jobs.spec import Defaults, job_from_json
from queuectl.quoting import join

DEFAULTS = Defaults(cwd="/work", max_retries=3, on_lost="retry", join=join)
NOW = 1_795_521_600_000_000


def read(data: bytes, source: str = "jobs.jsonl") -> list[NewJob]:
    """The jobs in a file with these bytes."""
    lines = data.splitlines(keepends=True)
    return list(read_jobs(lines, source=source, defaults=DEFAULTS, now=NOW))


def refusal(data: bytes) -> InvalidInput:
    """The error that a file with these bytes gives."""
    with pytest.raises(InvalidInput) as caught:
        read(data)
    return caught.value


def test_one_job_a_line_in_order() -> None:
    """Each line becomes a job, in the order of the file; blank lines are passed over."""
    jobs = read(b'{"command": "a"}\n\n{"command": "b", "priority": 3}\r\n \t\r\n{"command":"c"}')
    assert [(job.command, job.priority) for job in jobs] == [("a", 0), ("b", 3), ("c", 0)]


def test_a_command_may_be_a_list_of_words() -> None:
    """A line may give the words of a command; they are quoted for the shell."""
    [job] = read(b'{"command": ["echo", "a b"]}')
    assert job.command == join(["echo", "a b"])


def test_an_empty_file_has_no_jobs() -> None:
    """Nothing, or nothing but blank lines, is no jobs and no error."""
    assert read(b"") == []
    assert read(b"\n\r\n") == []


def test_jobs_without_an_id_get_one() -> None:
    """Ids that were made up are unique, and those that were given are kept."""
    jobs = read(b'{"command": "a"}\n{"command": "b", "id": "b"}\n' + b'{"command": "c"}\n' * 5000)
    assert len({job.id for job in jobs}) == 5002
    assert jobs[1].id == "b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"command": }', "not valid JSON at column 13: "),
        (b"[]", "the JSON is a list, not an object"),
        (b'{"command": ""}', "the command is empty"),
        (b'{"command": []}', "the command is empty"),
        (b'{"command": ["echo", null]}', "word 2 of the command must be a string"),
        (b'{"command": "x", "comand": "x"}', "unknown field 'comand'"),
        (b'{"command": "x", "id": "one"}', "id 'one' is already used in line 1"),
        (b'{"command": "x", "command": "x"}', "'command' is given twice"),
        (b'{"command": "x", "priority": NaN}', "NaN is not a JSON number"),
        (b'{"command": "\xff"}', "the line is not UTF-8: byte 13 is 0xff"),
        (b'{"command": "x", "run_at": "someday"}', "run_at: 'someday' is not a time"),
    ],
)
def test_the_first_wrong_line_is_reported(line: bytes, message: str) -> None:
    """An error names the file and the line, and lines behind it do not matter."""
    error = refusal(b'{"command": "x", "id": "one"}\n\n' + line + b"\n{]\n")
    assert error.message.startswith(f"jobs.jsonl: line 3: {message}")


def test_a_wrong_line_far_into_the_file() -> None:
    """The number of the line is right behind many thousands of good ones."""
    good = b"".join(b'{"command": "true", "id": "j%d"}\n' % n for n in range(73_511))
    assert refusal(good + b"{}\n").message == "jobs.jsonl: line 73512: there is no command"


def test_the_name_of_the_file_is_made_visible() -> None:
    """Control characters in the file's name do not reach the terminal."""
    with pytest.raises(InvalidInput, match=r"^jobs\\x1b: line 1: "):
        read(b"{", source="jobs\x1b")


def test_lines_are_read_as_they_are_asked_for() -> None:
    """A file is read as a stream: one job is ready before the next line is looked at."""
    seen = []

    def lines() -> Iterator[bytes]:
        for number in range(3):
            seen.append(number)
            yield b'{"command": "true"}\n'

    jobs = read_jobs(lines(), source="f", defaults=DEFAULTS, now=NOW)
    next(jobs)
    assert seen == [0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_as_windows_writes_them(encoding: str, end: str) -> None:
    """Files of UTF-8 with or without a mark, and of UTF-16 with one, are read."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    # U+010A, U+0A0A and U+0D0A hold the byte of a line feed in UTF-16.
    commands = ["echo é", "echo Ċ", "echo ਊ\u0d0a"]
    text = mark + "".join(json.dumps({"command": c}, ensure_ascii=False) + end for c in commands)
    lines = [part + b"\n" for part in text.encode(encoding).split(b"\n")]
    lines[-1] = lines[-1].removesuffix(b"\n")
    jobs = read_jobs(lines, source="f", defaults=DEFAULTS, now=NOW)
    assert [job.command for job in jobs] == commands


def test_broken_utf16_is_refused_as_a_whole() -> None:
    """Where lines cannot be told apart, the error names the byte of the file."""
    assert refusal(b"\xff\xfe{").message == "jobs.jsonl is not UTF-16: byte 2 is 0x7b"


FIELDS = st.dictionaries(
    st.sampled_from(["command", "id", "priority", "timeout", "env", "delay", "state", "x"]),
    st.none()
    | st.booleans()
    | st.integers(-5, 2000)
    | st.floats()
    | st.sampled_from(["a", "a:b", "pending", "5m", ""])
    | st.dictionaries(st.sampled_from(["A", "B:", ""]), st.sampled_from(["x", ":"]) | st.none()),
    max_size=4,
)


@settings(deadline=None, max_examples=300)
@given(FIELDS)
def test_a_line_is_judged_as_a_single_job_is(fields: dict[str, object]) -> None:
    """A jobs file accepts the lines that are accepted alone, and gives the same job or reason."""
    text = json.dumps(fields)

    def answer(make: Callable[[], NewJob]) -> object:
        try:
            job = make()
        except InvalidInput as error:
            return error.message, error.hint
        return [getattr(job, n) for n in NewJob.__slots__ if n != "id" or fields.get("id")]

    alone = answer(lambda: job_from_json(text, defaults=DEFAULTS, now=NOW, source="f: line 1"))
    assert answer(lambda: read(text.encode(), source="f")[0]) == alone


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30) | st.just(b'{"command": "x"}\n'), max_size=5))
def test_any_bytes_are_read_or_refused(lines: list[bytes]) -> None:
    """No bytes give anything but jobs, or InvalidInput that names the file."""
    refused = None
    try:
        jobs = list(read_jobs(lines, source="f", defaults=DEFAULTS, now=NOW))
    except InvalidInput as error:
        refused = error
    if refused:
        assert refused.message.startswith(("f: line ", "f is not UTF-16"))
    else:
        assert all(job.command == "x" for job in jobs)
