from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from queuectl import windows

# ---- quoting, against the rules of its two readers as Microsoft states them


def read_by_cmd(line: str) -> str:
    """What cmd makes of a line that was typed: variables first, then quotes and `^`.

    Every name stands for a variable here, but those that begin with `^`.
    """
    at = 0
    while (start := line.find("%", at)) >= 0:
        end = line.find("%", start + 1)
        if end > start + 1 and line[start + 1] != "^":
            line = f"{line[:start]}EXPANDED{line[end + 1 :]}"
        at = start + 1
    result, quoted, position = "", False, 0
    while position < len(line):
        character = line[position]
        if character == "^" and not quoted:
            position += 1
            character = line[position]
        elif character == '"':
            quoted = not quoted
        else:
            assert quoted or character not in "&|<>()", f"cmd acts on {character} in: {line}"
        result += character
        position += 1
    assert not quoted
    return result


def read_by_program(line: str) -> list[str]:
    """The words that a C program finds in its command line, but the first, which is its name."""
    rest = re.sub(r'^("[^"]*"|[^ ]*)', "", line)
    words: list[str] = []
    position = 0
    while position < len(rest):
        if rest[position] in " \t":
            position += 1
            continue
        word, quoted = "", False
        while position < len(rest) and (quoted or rest[position] not in " \t"):
            slashes = len(rest) - position - len(rest[position:].lstrip("\\"))
            position += slashes
            if position < len(rest) and rest[position] == '"':
                word += "\\" * (slashes // 2)
                if slashes % 2:
                    word += '"'
                else:
                    quoted = not quoted
                position += 1
            else:
                word += "\\" * slashes
                if not slashes:
                    word += rest[position]
                    position += 1
        assert not quoted
        words.append(word)
    return words


SPECIAL = st.text(alphabet='"\\%^&|<>()!= \tab:/;,*', max_size=12)
ANY = st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12)


@given(st.lists(SPECIAL | ANY, max_size=4))
@example(["%PATH%", "%PATH:a=b%", "%", "%%", "100%", "a%b%c", '%"%'])
@example(['"', '\\"', '\\\\"', "\\", "a b\\", "a b\\\\", '""', 'a"&calc&"'])
@example(["", " ", "^", "!x!", "(a)", "<>|&"])
def test_words_reach_the_program_as_they_are(words: list[str]) -> None:
    """Whatever is in them, neither cmd acts on it, nor does the program split them elsewhere."""
    line = windows.join(["prog.exe", *words])
    assert read_by_program(read_by_cmd(line)) == words


@pytest.mark.parametrize(
    "program",
    ["prog", r"C:\Tools\prog.exe", r"C:\Program Files\a & b (x86)\prog.exe", "bin/prog", "@prog"],
)
def test_the_program_is_one_word_to_cmd(program: str) -> None:
    """Cmd finds it whole: in quotes that cmd itself sees, where it would end it, or read options."""
    line = windows.join([program, 'x"y'])
    first = read_by_cmd(line).removesuffix(r' "x\"y"')
    assert first == (program if re.fullmatch(r"[\w.:\\]+", program) else f'"{program}"')
    assert line.startswith(first + " ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], ""),
        (["gzip", "--keep", "numbers.txt"], "gzip --keep numbers.txt"),
        (["copy", r"C:\a b\c.txt", "d:/e/f"], r'copy "C:\a b\c.txt" d:/e/f'),
        (["echo", "a&b", ""], 'echo "a&b" ""'),
        (["prog", 'say "hi"'], r"prog ^" + r'"say \^"hi\^"^"'),
        (["prog", "%PATH%"], 'prog ^"^%^PATH^%^"'),
    ],
)
def test_a_line_is_no_harder_to_read_than_it_must_be(words: list[str], line: str) -> None:
    """Words without signs stay as they are, and `^` is there for quotes and `%` alone."""
    assert windows.join(words) == line


def test_a_command_stands_between_two_quotes_that_cmd_takes_off() -> None:
    """With /s cmd removes the first quote and the last one, and changes nothing in between."""
    command = r'"C:\a b\prog.exe" "x" & echo "done"'
    line = windows.shell_line(r"C:\Windows\System32\cmd.exe", command)
    options = line.removeprefix(r'"C:\Windows\System32\cmd.exe" ').removesuffix(f' "{command}"')
    assert options.split() == ["/d", "/v:off", "/s", "/c"]


# ---- how processes are started

NEW_PROCESS_GROUP, NO_WINDOW, SUSPENDED, DETACHED = 0x200, 0x8000000, 0x4, 0x8


@pytest.mark.parametrize("has_console", [True, False])
def test_a_command_shares_the_console_of_its_worker(has_console: bool) -> None:
    """In a console of its own a Ctrl-Break would not reach it; without any, a window would open."""
    flags = windows.command_flags(has_console=has_console)
    assert flags & NEW_PROCESS_GROUP, "Ctrl-C in the terminal would hit it"
    assert flags & SUSPENDED, "it could start something before it is in its Job Object"
    assert bool(flags & NO_WINDOW) != has_console


def test_a_worker_in_the_background_has_a_console_that_nobody_sees() -> None:
    """With none at all, its commands could not be asked to end; the terminal's would end it."""
    background = windows.worker_flags(windows.BACKGROUND)
    supervised = windows.worker_flags(windows.SUPERVISED)
    assert background & NO_WINDOW
    assert not supervised & NO_WINDOW, "the parent's Ctrl-Break would not reach it"
    for flags in (background, supervised):
        assert flags & NEW_PROCESS_GROUP
        assert not flags & DETACHED


def test_what_a_process_was_started_as_is_not_handed_to_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A `worker-start` that is a job is no part of the worker that runs it."""
    assert not windows.started_as()
    monkeypatch.setenv("QUEUECTL_STARTED_AS", windows.BACKGROUND)
    monkeypatch.setenv("OTHER", "kept")
    assert windows.started_as() == windows.BACKGROUND
    handed_on = windows.environment({"QUEUECTL_DB_PATH": "C:\\q\\queuectl.db"})
    assert "QUEUECTL_STARTED_AS" not in handed_on
    assert handed_on["QUEUECTL_DB_PATH"] == "C:\\q\\queuectl.db"
    assert handed_on["OTHER"] == "kept"


# ---- who uses it


@pytest.mark.skipif(os.name == "nt", reason="there it is used")
def test_nothing_of_it_is_loaded_elsewhere() -> None:
    """Where the system has what it stands in for, the worker neither loads nor uses it."""
    modules = "cli.worker engine.run engine.background engine.supervisor engine.doctor quoting"
    script = "import sys, importlib\n" + "".join(
        f"importlib.import_module('queuectl.{name}')\n" for name in modules.split()
    )
    script += "from queuectl.quoting import join\nassert join(['a b']) == \"'a b'\"\n"
    script += "print('queuectl.windows' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
