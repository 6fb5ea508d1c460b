"""The overview of all commands. Each command's own help comes from its parser."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NARROWEST = 20

_SECTIONS = (
    ("Queue", ("enqueue", "run")),
    ("Look", ("status", "list", "show", "logs", "wait")),
    ("Decide", ("cancel", "retry", "delete", "prune")),
    ("Work", ("worker-start", "worker-stop", "worker-list")),
    ("Dead letter queue", ("dlq list", "dlq show", "dlq retry", "dlq purge")),
    ("Settings", ("config list", "config get", "config set", "config unset")),
    ("Set up and care", ("init", "demo", "doctor", "backup")),
)


def overview(commands: Mapping[str, tuple[str, str]]) -> str:
    """What `queuectl --help` prints."""
    lines = [
        "queuectl: the queue for commands",
        "",
        "Examples:",
        "  queuectl enqueue --command 'make report'    queue a command; prints its id",
        "  queuectl enqueue -- rsync -a src/ dst/      the same, without quoting",
        "  queuectl worker-start --count 4             run what is queued, four at a time",
        "  queuectl status                             see how it goes",
        "  queuectl logs @last --follow                see the newest job's output",
        "",
        "Usage: queuectl COMMAND [OPTION ...]    (queuectl COMMAND --help says more)",
    ]
    width = max(map(len, commands)) + 2
    for title, names in _SECTIONS:
        lines += ["", f"{title}:"]
        lines += [f"  {name:<{width}}{commands[name][1]}" for name in names if name in commands]
    lines += [
        "",
        "Options for every command:",
        "  --db PATH     the queue, a file or a URL; else QUEUECTL_DATABASE_URL, else",
        "                QUEUECTL_DB_PATH, else the nearest from here up",
        "  --schema NAME the queue's schema, where it is on PostgreSQL",
        "  --json        print the result as JSON, and errors as JSON on stderr",
        "  -q, --quiet   print ids alone, or nothing; errors are still said",
        "  --version     print the version (without a command)",
    ]
    return fitted(lines)


_GROUP_EXAMPLES = {
    "dlq": (
        "queuectl dlq list                 see what is dead, and why",
        "queuectl dlq retry --all          give all of it another chance",
        "queuectl dlq purge --older-than 30d",
    ),
    "config": (
        "queuectl config list              see what can be set",
        "queuectl config set max_retries 5",
        "queuectl config unset max_retries",
    ),
}


def group(name: str, commands: Mapping[str, tuple[str, str]]) -> str:
    """What `queuectl dlq` or `queuectl config` alone prints."""
    members = [command for command in commands if command.startswith(name + " ")]
    width = max(map(len, members)) + 2
    lines = ["Examples:", *("  " + example for example in _GROUP_EXAMPLES[name])]
    lines += ["", f"Usage: queuectl {name} COMMAND [OPTION ...]", ""]
    lines += [f"  {member:<{width}}{commands[member][1]}" for member in members]
    return fitted(lines)


def fitted(lines: Iterable[str]) -> str:
    """The lines, those that are wider than the terminal broken between words. What stands in a
    second column stays in it, or goes below where there is no room beside the first.
    """
    width = _terminal_width()
    return "\n".join(part for line in lines for part in _broken(line, width))


def _terminal_width() -> int:
    # As `shutil` tells it, which is slow to load.
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return max(int(columns), _NARROWEST)
    try:
        return max(os.get_terminal_size(1).columns or 80, _NARROWEST)
    except OSError:
        return 80


def _broken(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    import re
    from textwrap import wrap

    first, gap, second = re.fullmatch(r"( *.*?\S)(?:(  +)(\S.*))?", line).groups("")  # type: ignore[union-attr]
    indent = " " * min(len(line) - len(line.lstrip()), width // 4)
    column = " " * len(first + gap)
    if gap and len(column) <= width // 2:
        parts = [(second, first + gap, column)]
    else:
        deeper = indent + "    " if indent or line.startswith("Usage: ") else ""
        parts = [(first.strip(), indent, deeper), (second, deeper, deeper)]
    return [
        part.replace("\xa0", " ")
        for text, initial, others in parts
        for part in wrap(
            re.sub(r"\[[^]]*\]", lambda option: option[0].replace(" ", "\xa0"), text),
            width,
            initial_indent=initial,
            subsequent_indent=others,
            break_on_hyphens=False,
            break_long_words=False,
        )
    ]
