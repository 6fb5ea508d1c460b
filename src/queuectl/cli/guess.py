"""What a mistyped command or option was meant to be."""

from __future__ import annotations

from queuectl.text import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ELSEWHERE = {
    "add": ("enqueue",),
    "submit": ("enqueue",),
    "push": ("enqueue",),
    "queue": ("enqueue",),
    "exec": ("run",),
    "ls": ("list",),
    "ps": ("list",),
    "jobs": ("list",),
    "rm": ("delete",),
    "remove": ("delete",),
    "kill": ("cancel",),
    "clean": ("prune",),
    "clear": ("prune",),
    "log": ("logs",),
    "tail": ("logs",),
    "output": ("logs",),
    "follow": ("logs",),
    "info": ("show",),
    "stats": ("status",),
    "dead": ("dlq list",),
    "worker": ("worker-start", "worker-stop", "worker-list"),
    "workers": ("worker-list",),
    "check": ("doctor",),
    "set": ("config set",),
    "get": ("config get",),
    "--cmd": ("--command",),
    "--daemon": ("--background",),
    "--detach": ("--background",),
    "--jobs": ("--count",),
    "--workers": ("--count",),
    "--retries": ("--max-retries",),
}
"""Words that other tools have for what is meant here."""

_MOST = 3


def guesses(word: str, known: Sequence[str]) -> list[str]:
    """The known words, up to three, that `word` most likely stands for; none when nothing is close."""
    elsewhere = [name for name in _ELSEWHERE.get(word, ()) if name in known]
    if elsewhere:
        return elsewhere
    begun = [name for name in known if len(word.lstrip("-")) > 1 and name.startswith(word)]
    if 0 < len(begun) <= _MOST:
        return begun
    guess = nearest(word.lower(), list(known))
    return [guess] if guess else []


def asked(words: Sequence[str]) -> str:
    """The question whether one of these was meant."""
    return f"Did you mean {', '.join(words[:-1])}{' or ' * (len(words) > 1)}{words[-1]}?"
