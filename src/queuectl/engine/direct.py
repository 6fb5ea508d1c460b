"""Which commands can be started without a shell, with provably the same result. Pure.

`sh -c 'convert a.png b.jpg'` costs a shell that only looks the program up and becomes it. Such a
line can be split here and started directly, as `make` does. A line qualifies when the shell would
do nothing to it but split it at spaces: every character is one that has no meaning to any shell,
the first word is no assignment, and no name that any common `sh` treats as its own.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN: Callable[[str], object] = re.compile(r"[A-Za-z0-9_@+:,./][A-Za-z0-9_@%+:,./= -]*").fullmatch

_NAME: Callable[[bytes], object] = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*").fullmatch

# Reserved words and built-ins of POSIX sh, dash, bash, ksh and busybox. Where a program of the
# same name exists it may differ from the built-in (`echo`, `printf`, `kill`, `test`, `time`).
_SHELLS_OWN = frozenset(
    """
    . : [ alias autoload bg bind break builtin caller case cd chdir command compgen complete compopt
    compound continue coproc declare dirs disown do done echo elif else enable enum esac eval exec exit export
    false fc fg fi float for function functions getopts global hash help hist history if in integer inlib jobs
    kill let local logout mapfile nameref newgrp nohup popd print printf pushd pwd read readarray
    readonly realpath redirect rename return select set shift shopt source stop suspend test then time times
    trap true type typeset ulimit umask unalias unset until vmap vpath wait whence while
    """.split()
)

# Built-ins that do exactly what the program at this path does: with no word behind them,
# nothing but end with a status.
_SAME_AS_PROGRAM = {"true": "/bin/true", "false": "/bin/false"}


def program_and_words(command: str) -> tuple[str, list[str]] | None:
    """The program to start and its words, or None when the command needs a shell.

    A program without a slash is to be looked up on the PATH. When it cannot be started, the
    caller hands the command to the shell after all, and the shell says what is wrong.
    """
    if _PLAIN(command) is None:
        return None
    words = command.split()
    first = words[0]
    if first in _SHELLS_OWN:
        same = _SAME_AS_PROGRAM.get(first)
        return (same, words) if same and len(words) == 1 else None
    if "=" in first or first.startswith("-"):
        return None
    return first, words


def environment_allows(environ: dict[bytes, bytes]) -> bool:
    """Whether a shell would hand all of these variables on, and do nothing more because of them.

    A shell drops variables whose names it cannot spell, takes functions from some, and reads
    start-up files that others name.
    """
    return not any(
        _NAME(name) is None or name in (b"BASH_ENV", b"ENV", b"SHELLOPTS", b"BASHOPTS")
        for name in environ
    )
