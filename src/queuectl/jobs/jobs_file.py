"""JSON Lines: one job a line, read as a stream, with the number of the first line that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import tzinfo
from itertools import chain

from queuectl.errors import InvalidInput
from queuectl.jobs.job import NewJob, fresh_ids
from queuectl.jobs.spec import Defaults, decode_text_file, job_from_fields, refuse_hidden
from queuectl.jobs.strict_json import parse_object
from queuectl.text import visible


def read_jobs(
    lines: Iterable[bytes],
    *,
    source: str,
    defaults: Defaults,
    now: int,
    zone: tzinfo | None = None,
    numbers: dict[str, int] | None = None,
) -> Iterator[NewJob]:
    """The jobs in `lines` (as a binary file gives them), one by one; blank lines are passed over.

    `now` is in microseconds since the epoch; `zone` (None: this machine's) is for times in words.
    `numbers` is filled with the number of the line of each id that the file gives.

    Raises InvalidInput "SOURCE: line N: ..." at the first line that is wrong, an id that an
    earlier line has included; what was yielded before it must then not be used.
    """
    first_lines = {} if numbers is None else numbers
    ids = fresh_ids()
    id = next(ids)
    for number, line in enumerate(as_utf8(lines, source), 1):
        if not line.strip():
            continue
        try:
            fields = parse_object(decode_text_file(line, "the line"), one_line=True)
            refuse_hidden(fields)
            job = job_from_fields(fields, defaults=defaults, now=now, zone=zone, id=id)
            if job.id is id:
                id = next(ids)
            else:
                _check_first(job.id, first_lines.setdefault(job.id, number), number)
        except InvalidInput as problem:
            raise InvalidInput(
                f"{visible(source)}: line {number}: {problem.message}", problem.hint
            ) from None
        yield job


def _check_first(id: str, first: int, number: int) -> None:
    if first != number:
        raise InvalidInput(f"id '{visible(id, 40)}' is already used in line {first}")


def as_utf8(lines: Iterable[bytes], source: str) -> Iterator[bytes]:
    """The lines of a file in UTF-8, whichever way it was saved; `source` names it in an error."""
    rest = iter(lines)
    first = next(rest, b"").removeprefix(b"\xef\xbb\xbf")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        # In UTF-16 a line feed is two bytes, so these lines are cut in the wrong places.
        return iter(decode_text_file(first + b"".join(rest), source).encode().split(b"\n"))
    return chain([first], rest)
