"""The table of settings: what there is, and what each may be."""

from __future__ import annotations

from queuectl.errors import InvalidInput
from queuectl.jobs import limits
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

    Value = int | float | str

# As GNU programs have it: K alone is 1024, kB is 1000.
_SIZES = {
    "": 1,
    "b": 1,
    **{f"{letter}{end}": 1024**n for n, letter in enumerate("kmgt", 1) for end in ("", "ib")},
    **{f"{letter}b": 1000**n for n, letter in enumerate("kmgt", 1)},
}


class Setting:
    """One setting: its kind ("int", "float", "choice", "url" or "tags"), its default, and what it may
    be.

    Numbers go from `minimum` to `maximum`, both allowed. `unit` is "seconds", "bytes" or "" for
    a bare number. `zero` says what 0 stands for where it is allowed beside the range.
    """

    __slots__ = (
        "choices",
        "default",
        "help",
        "kind",
        "maximum",
        "minimum",
        "name",
        "remote_default",
        "unit",
        "zero",
    )

    def __init__(
        self,
        name: str,
        kind: str,
        default: Value,
        *,
        help: str,  # noqa: A002 - it is what argparse calls it, too
        minimum: float = 0,
        maximum: float = 0,
        choices: tuple[str, ...] = (),
        unit: str = "",
        zero: str = "",
        remote_default: Value | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.remote_default = default if remote_default is None else remote_default
        """That for a queue on a server."""
        self.help = help
        self.minimum = minimum
        self.maximum = maximum
        self.choices = choices
        self.unit = unit
        self.zero = zero

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"QUEUECTL_{self.name.upper()}"

    @property
    def accepts(self) -> str:
        """What it may be, in words that go after "must be"."""
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        if self.kind == "url":
            return "like postgresql://USER@HOST:5432/DATABASE"
        if self.kind == "tags":
            return "tags such as gpu,linux"
        words = f"from {self.minimum} to {self.maximum}"
        if self.kind == "int" and not self.unit:
            words = f"a whole number {words}"
        if self.unit:
            words = f"{words} {self.unit}"
        return f"{words}, or 0 for {self.zero}" if self.zero else words

    def check(self, value: object) -> Value | None:
        """The value as this setting holds it, or None when it may not be that."""
        if self.choices:
            return value if isinstance(value, str) and value in self.choices else None
        if self.kind == "url":
            return value if isinstance(value, str) and _may_be_url(value) else None
        if self.kind == "tags":
            return _tags(value)
        if isinstance(value, str) and self.unit:
            value = self._measure(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if self.kind == "int" and not isinstance(value, int):
            return None
        # Written so that NaN, of which every comparison is false, is refused.
        if not (self.minimum <= value <= self.maximum or (self.zero and value == 0)):
            return None
        return float(value) if self.kind == "float" else value

    def check_text(self, text: str) -> Value | None:
        """The same for text somebody typed: a number in its usual spelling, or one with a unit."""
        text = text.strip()
        if self.kind in ("int", "float") and (number := _number(text)) is not None:
            return self.check(number)
        return self.check(text)

    def refuse(self, shown: str, source: str = "") -> InvalidInput:
        """The error for a value it may not be; `source` says where the value came from."""
        hint = {
            "seconds": "Lengths of time such as 90, 5m and 1h30m are understood.",
            "bytes": "Sizes such as 65536, 64MiB and 1G are understood.",
        }.get(self.unit, "")
        prefix = f"{source}: " if source else ""
        message = f"{prefix}{self.name} must be {self.accepts}"
        if self.kind == "url":
            hint = "What was given is not shown, for it may hold a password."
        else:
            message += f", not {visible(shown, 60)}"
        return InvalidInput(message, hint=hint)

    def _measure(self, text: str) -> float | None:
        if self.unit == "bytes":
            return _size(text)
        from queuectl.jobs.duration import parse as seconds

        try:
            return seconds(text)
        except InvalidInput:
            return None


SETTINGS = (
    Setting(
        "max_retries",
        "int",
        3,
        maximum=limits.MOST_RETRIES,
        help="how often a failed job is run again before it is dead",
    ),
    Setting(
        "backoff_base",
        "float",
        2.0,
        maximum=limits.LARGEST_BACKOFF_BASE,
        help="a retry waits for backoff_base ** attempts seconds",
    ),
    Setting(
        "job_timeout",
        "float",
        0.0,
        maximum=limits.LONGEST_TIMEOUT_SECONDS,
        unit="seconds",
        help="how long a job may run (0: as long as it takes)",
    ),
    Setting(
        "lease_seconds",
        "float",
        30.0,
        remote_default=60.0,
        minimum=2,
        maximum=3600,
        unit="seconds",
        help="how long a worker may be silent before its jobs are taken back",
    ),
    Setting(
        "max_losses",
        "int",
        5,
        minimum=1,
        maximum=limits.MOST_LOSSES,
        help="how many workers a job may lose before it is dead",
    ),
    Setting(
        "on_lost",
        "choice",
        "retry",
        choices=limits.ON_LOST,
        help="what becomes of a job whose worker is lost: run again, fail, or held as dead",
    ),
    Setting(
        "kill_grace_seconds",
        "float",
        5.0,
        maximum=3600,
        unit="seconds",
        help="how long a command has between SIGTERM and SIGKILL",
    ),
    Setting(
        "stop_timeout_seconds",
        "float",
        30.0,
        maximum=86400,
        unit="seconds",
        help="how long a worker that is stopped waits for its running jobs",
    ),
    Setting(
        "log_max_bytes",
        "int",
        64 * 1024**2,
        minimum=4096,
        maximum=2**40,
        unit="bytes",
        zero="no limit",
        help="how much of one attempt's output is kept; the middle of more is cut out",
    ),
    Setting(
        "log_store",
        "choice",
        "disk",
        choices=("disk", "database"),
        help="on PostgreSQL: whether the database has the end of each run's output, or all of it;"
        " the whole is always on the worker's disk, and of a queue in a file nowhere else",
    ),
    Setting(
        "log_tail_bytes",
        "int",
        256 * 1024,
        minimum=1024,
        maximum=16 * 1024**2,
        unit="bytes",
        help="on PostgreSQL, with log_store = disk: how much of the end of each run's output the"
        " database has; without effect on a queue in a file",
    ),
    Setting(
        "poll_interval_seconds",
        "float",
        0.5,
        minimum=0.01,
        maximum=60,
        unit="seconds",
        help="how often an idle worker looks for jobs where nothing wakes it",
    ),
    Setting(
        "host_tags",
        "tags",
        "",
        help="the tags of this machine's workers, for jobs that require some",
    ),
    Setting(
        "database_url",
        "url",
        "",
        help="the queue is on this PostgreSQL server, not in a file",
    ),
)


def _may_be_url(text: str) -> bool:
    """Whether it is a URL, or nothing: then the queue is where it would be without the setting."""
    if not text:
        return True
    from queuectl.location import Url

    try:
        Url(text)
    except InvalidInput:
        return False
    return True


def _tags(value: object) -> str | None:
    if value == "":
        return ""
    from queuectl.jobs.tags import checked

    try:
        return ",".join(checked("host_tags", value))
    except InvalidInput:
        return None


def _match(pattern: str, text: str) -> re.Match[str] | None:
    import re

    return re.fullmatch(pattern, text, re.ASCII | re.IGNORECASE)


def _number(text: str) -> float | None:
    # Python alone would take 1_000, nan and the digits of every script.
    if len(text) > 60 or not _match(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text):
        return None
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _size(text: str) -> int | None:
    found = _match(r"(\d{1,15}(?:\.\d{1,15})?) *([a-z]*)", text)
    if not found or found[2].lower() not in _SIZES:
        return None
    size: float = float(found[1]) * _SIZES[found[2].lower()]
    return round(size)
