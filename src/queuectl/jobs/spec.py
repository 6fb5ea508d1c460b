"""From what a user wrote about a job to a checked NewJob.

Flags, job files, JSON Lines and the Python API all come through `job_from_fields`. It is on the
path of every enqueue, so what only some jobs need is imported where it is needed.
"""

from __future__ import annotations

import os

from queuectl.errors import InvalidInput
from queuectl.jobs.fields import CHECKS, all_of, named, string, unknown, words
from queuectl.jobs.job import NewJob, new_id
from queuectl.text import HIDDEN, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import tzinfo
    from typing import Any

_START = ("run_at", "next_run_at", "delay")
# Checked, then dropped: the queue writes its own. They are allowed so that a job that was read
# can be fed back.
_READ_BACK = ("state", "attempts", "created_at", "updated_at")
_NOT_KEPT = frozenset(_START + _READ_BACK)


class Defaults:
    """What a job takes from its surroundings: an absolute folder, the configuration, and how
    `join` makes a line for this machine's shell from words.
    """

    __slots__ = ("cwd", "join", "max_retries", "on_lost")

    def __init__(
        self, cwd: str, max_retries: int, on_lost: str, *, join: Callable[[Sequence[str]], str]
    ) -> None:
        self.cwd = cwd
        self.max_retries = max_retries
        self.on_lost = on_lost
        self.join = join


def job_from_fields(
    fields: Mapping[str, object],
    *,
    defaults: Defaults,
    now: int,
    zone: tzinfo | None = None,
    id: str | None = None,
) -> NewJob:
    """The job that `fields` describe, under the names of the job JSON; None means not given.

    `command` may be a list of words. `now` is in microseconds since the epoch; `zone` (None: this
    machine's) is for times in words. `id` is taken as it is if the fields give none; if it is None
    too, one is made up. Raises one InvalidInput that names everything wrong with the job.
    """
    values: dict[str, Any] = {
        "cwd": defaults.cwd,
        "max_retries": defaults.max_retries,
        "on_lost": defaults.on_lost,
    }
    problems: list[InvalidInput] = []
    strangers: list[object] = []
    for name, value in fields.items():
        check = CHECKS.get(name)
        if check is None:
            strangers.append(name)
        elif value is not None:
            try:
                if name == "command" and isinstance(value, (list, tuple)):
                    values[name] = check(defaults.join(words(value)))
                else:
                    values[name] = check(value)
            except InvalidInput as problem:
                problems.append(problem)
    if fields.get("command") is None:
        problems.append(InvalidInput("there is no command", hint="Every job needs a command."))
    try:
        if not _NOT_KEPT.isdisjoint(values):
            values["run_at"] = _run_at(values, now, zone)
        cwd = values["cwd"]
        if cwd is not defaults.cwd:
            cwd = os.path.normpath(os.path.join(defaults.cwd, cwd))
        # The current folder, too, may have a name that is not UTF-8.
        values["cwd"] = string("cwd", cwd)
    except InvalidInput as problem:
        problems.append(problem)
    if problems or strangers:
        raise all_of([*unknown(strangers), *problems])
    if "id" not in values:
        values["id"] = id or new_id()
    return NewJob(**values)


def job_from_json(
    document: str | bytes,
    *,
    defaults: Defaults,
    now: int,
    zone: tzinfo | None = None,
    id: str | None = None,
    overrides: Mapping[str, object] | None = None,
    source: str = "",
) -> NewJob:
    """The job that one JSON object describes; otherwise like `job_from_fields`.

    Bytes may be anything that `decode_text_file` reads. `overrides` win over the fields of the
    same name, and any start time among them over any in the object. Messages begin with `source`.
    """
    from queuectl.jobs.strict_json import parse_object

    try:
        text = decode_text_file(document, "the job") if isinstance(document, bytes) else document
        fields = parse_object(text.removeprefix("\ufeff"))
        if not overrides or "env" not in overrides:
            refuse_hidden(fields)
        if overrides:
            if not overrides.keys().isdisjoint(_START):
                fields = {name: fields[name] for name in fields if name not in _START}
            fields |= overrides
        return job_from_fields(fields, defaults=defaults, now=now, zone=zone, id=id)
    except InvalidInput as problem:
        if not source:
            raise
        raise InvalidInput(f"{visible(source, 200)}: {problem.message}", problem.hint) from None


def refuse_hidden(fields: Mapping[str, object]) -> None:
    """Raises InvalidInput when a job that was read back has lost the values of its environment:
    its command would get the stars for a password.
    """
    env = fields.get("env")
    if not isinstance(env, dict):
        return
    for name, value in env.items():
        if value == HIDDEN:
            raise InvalidInput(
                f"env {visible(name, 40)} is {HIDDEN}, which stands for a value that was not shown",
                hint="Write the value itself, or show the job with --show-env.",
            )


def decode_text_file(data: bytes, what: str) -> str:
    """The text in a file: UTF-8, or UTF-16 if its first bytes say so, as Windows' tools write it.

    Raises InvalidInput that names `what` and the first byte that does not fit.
    """
    encoding = "UTF-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "UTF-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{visible(what, 200)} is not {encoding}: byte {error.start} is 0x{data[error.start]:02x}",
            hint="Save it as UTF-8.",
        ) from None


def _run_at(values: dict[str, Any], now: int, zone: tzinfo | None) -> int | None:
    """When the job may run. Takes out of `values` what says so, and what is not kept."""
    start = {name: values.pop(name) for name in _START if name in values}
    for name in _READ_BACK:
        values.pop(name, None)
    if len(start) > 1:
        raise InvalidInput(f"{' and '.join(start)} are given together", hint="Give one of them.")
    for name, value in start.items():
        if name == "delay":
            return now + round(value * 1_000_000) if value else None
        from queuectl.jobs import when

        moment = named(name, lambda text: when.parse(text, now=now, zone=zone), value)
        at: int = moment.at
        return at
    return None
