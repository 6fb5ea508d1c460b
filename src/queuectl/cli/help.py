"""The overview of all commands. Each command's own help comes from its parser."""

from __future__ import annotations

from queuectl.cli.wrapping import fitted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_SECTIONS = (
    ("Queue", ("enqueue", "run")),
    ("Look", ("status", "list", "show", "logs", "wait")),
    ("Decide", ("cancel", "retry", "delete", "prune")),
    ("Work", ("worker-start", "worker-stop", "worker-list")),
    ("Dead letter queue", ("dlq list", "dlq show", "dlq retry", "dlq purge")),
    ("Settings", ("config list", "config get", "config set", "config unset")),
    ("Set up and care", ("init", "demo", "doctor", "backup", "export", "import")),
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
        "Options for every command (demo alone has neither --db nor --schema):",
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
