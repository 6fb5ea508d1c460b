from __future__ import annotations

import os
import shutil
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from queuectl.engine.direct import environment_allows, program_and_words

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no sh elsewhere")

# Whatever may be /bin/sh somewhere, of which there is at least the one that is.
SHELLS = ["/bin/sh"] + [
    path
    for name in ("dash", "bash", "ksh", "mksh", "busybox", "yash", "zsh")
    if (path := shutil.which(name))
]

PLAIN = string.ascii_letters + string.digits + "_@%+:,./-"

BUILT_IN = """
. : [ alias bg break cd chdir command continue echo eval exec exit export false fc fg getopts hash jobs
kill let local print printf pwd read readonly return set shift source suspend test times trap true type
typeset ulimit umask unalias unset wait whence bind builtin caller compgen complete declare dirs disown
enable help history logout mapfile popd pushd readarray shopt
""".split()
RESERVED = (
    "case coproc do done elif else esac fi for function if in select then time until while".split()
)


def run_by(shell: str, command: str, folder: Path) -> tuple[bytes, bytes, int]:
    """What a shell that is /bin/sh makes of the command."""
    words = ["sh", "-c", "--", command]
    if shell.endswith("busybox"):
        words = ["busybox", *words]
    return _outcome(words, shell, folder)


def run_directly(program: str, words: list[str], folder: Path) -> tuple[bytes, bytes, int]:
    """What becomes of it without a shell."""
    return _outcome(words, program, folder)


def _outcome(words: list[str], program: str, folder: Path) -> tuple[bytes, bytes, int]:
    environ = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        words, executable=program, cwd=folder, env=environ, capture_output=True, check=False
    )
    return done.stdout, done.stderr, done.returncode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a script that shows its words, and a bin/ on the PATH for more of them."""
    folder = tmp_path_factory.mktemp("direct")
    (folder / "bin").mkdir()
    (folder / "show").write_text(
        '#!/bin/sh\nprintf "<%s>\\n" "$0" "$#" "$@"\necho complaint >&2\nexit $(($# % 7))\n'
    )
    (folder / "show").chmod(0o755)
    return folder


NAMES = st.text(PLAIN.replace("/", ""), min_size=1, max_size=8).filter(
    lambda n: n not in (".", "..")
)
WORDS = st.text(PLAIN + "=", min_size=1, max_size=8)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    NAMES,
    st.sampled_from(["{}", "./{}", "bin/../{}"]),
    st.lists(st.tuples(st.integers(1, 3), WORDS), max_size=6),
    st.integers(0, 2),
)
@example("%1", "{}", [], 0)
@example("%show", "{}", [(1, "a")], 0)
@example("+x", "{}", [(1, "A=1")], 0)
@example("@a", "{}", [(1, "-c"), (1, "--"), (1, "=")], 1)
@example("1,2", "{}", [(1, "a=~"), (1, "x:y")], 0)
def test_a_direct_start_is_what_the_shell_does(
    folder: Path, name: str, way: str, words: list[tuple[int, str]], trailing: int
) -> None:
    """Output, errors, exit status and the words a program gets are those of every shell there is."""
    place = folder / (name if "/" in way else f"bin/{name}")
    if not place.exists():
        place.symlink_to(folder / "show")
    command = way.format(name) + "".join(" " * n + word for n, word in words) + " " * trailing
    split = program_and_words(command)
    if split is None:
        return
    directly = run_directly(*split, folder)
    for shell in SHELLS:
        assert run_by(shell, command, folder) == directly, shell


@pytest.mark.parametrize(
    ("command", "program", "words"),
    [
        ("convert a.png b.jpg", "convert", ["convert", "a.png", "b.jpg"]),
        ("gzip  -9   file ", "gzip", ["gzip", "-9", "file"]),
        ("./run.sh --size=3 -v", "./run.sh", ["./run.sh", "--size=3", "-v"]),
        ("/usr/bin/env A=1 b", "/usr/bin/env", ["/usr/bin/env", "A=1", "b"]),
        (
            "python3 -m x user@host:/a,b+c%d",
            "python3",
            ["python3", "-m", "x", "user@host:/a,b+c%d"],
        ),
        ("true", "/bin/true", ["true"]),
        ("false", "/bin/false", ["false"]),
    ],
)
def test_plain_commands_need_no_shell(command: str, program: str, words: list[str]) -> None:
    """Ordinary lines are split at their spaces, and nothing else is done to them."""
    assert program_and_words(command) == (program, words)


@pytest.mark.parametrize("command", ["true", "false"])
def test_true_and_false_are_what_they_are_in_a_shell(folder: Path, command: str) -> None:
    """The programs do what the built-ins do."""
    split = program_and_words(command)
    assert split is not None
    for shell in SHELLS:
        assert run_directly(*split, folder) == run_by(shell, command, folder)


@given(st.text(), st.characters(exclude_characters=PLAIN + "= "), st.text())
def test_syntax_is_left_to_the_shell(before: str, character: str, after: str) -> None:
    """A single character that could mean something to a shell, anywhere, is enough."""
    assert program_and_words(before + character + after) is None


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*\+?=", fullmatch=True), st.text(PLAIN + "= "))
def test_assignments_are_left_to_the_shell(assignment: str, rest: str) -> None:
    """A line that begins with a variable is no program with an odd name."""
    assert program_and_words(assignment + rest) is None


@pytest.mark.parametrize(
    "command", ["", " ", " ls", "=", "=x", "-x", "--", "- a", "ls\n", "ls\t-l", "ls\0"]
)
def test_odd_lines_are_left_to_the_shell(command: str) -> None:
    """Nothing, leading spaces, options in place of a program, other white space: the shell decides."""
    assert program_and_words(command) is None


def known_to(shell: str, candidates: list[str]) -> set[str]:
    """Those of the words that the shell treats as its own."""
    words = [shell, "-c", 'type "$@"', "sh", *candidates]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return {
        line.split(" ", 1)[0]
        for line in done.stdout.splitlines()
        if "builtin" in line or "keyword" in line or "reserved" in line
    }


@pytest.mark.parametrize("shell", dict.fromkeys(os.path.realpath(path) for path in SHELLS))
def test_a_shells_own_words_are_left_to_it(shell: str) -> None:
    """No built-in and no reserved word of a shell is ever looked for among the programs."""
    candidates = set(BUILT_IN + RESERVED)
    for folder in ("/bin", "/usr/bin"):
        candidates.update(os.listdir(folder))
    if shell.endswith("bash"):
        listed = subprocess.run(
            [shell, "-c", "compgen -b; compgen -k"], capture_output=True, text=True, check=True
        )
        candidates.update(listed.stdout.split())
    own = known_to(shell, sorted(candidates)) & candidates
    assert len(own) > 25
    for word in own - {"true", "false"}:
        assert program_and_words(word) is None, word
    for word in own:
        assert program_and_words(f"{word} x") is None, word


@pytest.mark.parametrize("word", BUILT_IN + RESERVED)
def test_well_known_words_are_left_to_the_shell(word: str) -> None:
    """Also where only one of the common shells has them, and that one is not here."""
    assert program_and_words(f"{word} x y") is None


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        (b"PATH", True),
        (b"LC_ALL", True),
        (b"_", True),
        (b"x1", True),
        (b"BASH_VERSION", True),
        (b"BASH_ENV", False),
        (b"ENV", False),
        (b"SHELLOPTS", False),
        (b"BASHOPTS", False),
        (b"BASH_FUNC_ls%%", False),
        (b"BASH_FUNC_ls()", False),
        (b"with.dot", False),
        (b"with-dash", False),
        (b"1st", False),
        (b"", False),
    ],
)
def test_variables_that_make_a_shell_do_more(name: bytes, allowed: bool) -> None:
    """One that names a start-up file, holds a function, or would be dropped, needs the shell itself."""
    assert environment_allows({b"HOME": b"/root", name: b"x", b"LANG": b"C"}) is allowed
    assert environment_allows({})
