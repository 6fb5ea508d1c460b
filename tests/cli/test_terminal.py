from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from queuectl.cli.screen import Screen, cut, progress_console, text_width
from queuectl.cli.tables import Column, write_table
from queuectl.config.settings import SETTINGS
from tests.cli.support import FAILED, Cli, Terminal
from tests.support import MAIN, clean_environment

if TYPE_CHECKING:
    from queuectl.cli.tables import Row

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
COLUMNS = (
    Column("ID", least=8, distinct=True),
    Column("N", right=True),
    Column("COMMAND", least=10),
)
ROWS: list[Row] = [
    ("0123456789abcdef", ("1", "red"), "echo " + "x" * 60),
    ("short", "22", "日本語" * 20),
    ("q", "333", "e\u0301" * 50),
]


def _table(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    write_table(Screen(stream), COLUMNS, ROWS)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 21, 25, 40, 80, 300])
def test_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """At any width, also with characters that take two places or none, no line wraps."""
    monkeypatch.setenv("NO_COLOR", "1")
    lines = _table(monkeypatch, width)
    assert len(lines) == 4
    assert max(map(cell_len, lines)) <= width


def test_columns_stay_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers end, and commands begin, at the same place in each line."""
    monkeypatch.setenv("NO_COLOR", "1")
    lines = _table(monkeypatch, 60)
    starts = {
        cell_len(line[: line.index(word)])
        for line, word in zip(lines, ("COMMAND", "echo", "日本", "e\u0301"), strict=True)
    }
    assert len(starts) == 1
    assert lines[1].startswith("0123456789abcdef    1  echo xxx")
    assert lines[1].endswith("x...")


def test_ids_give_way_when_commands_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a narrow terminal an id is cut to a beginning, without dots, which names the job as well."""
    monkeypatch.setenv("NO_COLOR", "1")
    lines = _table(monkeypatch, 25)
    assert lines[1] == "01234567    1  echo xx..."


@pytest.mark.parametrize("width", [40, 50, 59, 70])
def test_narrow_list_keeps_the_command(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """A narrow terminal shows less of the other columns before a command gets under 15 places."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    job_id = cli.enqueue("x" * 80)
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    assert cli("list").status == 0
    heading, line = stream.getvalue().splitlines()
    assert len(line) <= width
    assert len(line) - line.index("xxx") >= 15
    assert job_id.startswith(line.split()[0])
    assert ("PRIORITY" in heading) is (width == 70)


def test_ids_that_begin_alike_stay_different(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the terminal, what is shown of each id names its job and no other."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    ids = ["some-long-identifier-1", "some-long-identifier-2", "some-long-identifier--2", "q"]
    for job_id in ids:
        cli.dead("true", "--id", job_id)
    for words in (["list"], ["dlq", "list"]):
        stream = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", stream)
            assert cli(*words).status == 0
        shown = [line.split()[0] for line in stream.getvalue().splitlines()[1:]]
        assert [cli.done("show", id, "-q").out.strip() for id in shown] == ids[::-1]


@pytest.mark.parametrize("width", [24, 40, 80, 179])
def test_narrow_list_of_settings_keeps_what_they_mean(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Where there is no room for the table, each setting still has its origin and its meaning."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    cli.done("config", "set", "max_retries", "7")
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    assert cli("config", "list").status == 0
    assert max(map(len, stream.getvalue().splitlines())) <= width
    said = " ".join(stream.getvalue().split())
    assert "max_retries = 7 (file; default 3) how often a failed job is run again" in said
    joined = "".join(said.split())  # A word may be longer than the line.
    for setting in SETTINGS:
        assert "".join(f"{setting.help}; {setting.accepts}".split()) in joined


def test_pipe_gets_everything() -> None:
    """In a pipe nothing is cut, and nothing is coloured."""
    with open(os.devnull, "w", encoding="utf-8") as stream:
        screen = Screen(stream)
        assert screen.width is None
        assert screen.fit("x" * 10_000) == "x" * 10_000
        assert screen.paint("x", "red") == "x"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
) -> None:
    """A terminal gets colours, unless NO_COLOR says no or it knows none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    text = "\n".join(_table(monkeypatch, 80))
    assert ("\x1b[31m1\x1b[0m" in text) is coloured
    assert ("\x1b" in text) is coloured


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "ab..."),
        ("abcdef", 3, "abc"),
        ("日本語", 5, "日..."),
        ("日本語", 4, "..."),
        ("", 3, ""),
    ],
)
def test_cut(text: str, width: int, shown: str) -> None:
    """A text is cut to the places there are, never in the middle of a wide character."""
    assert cut(text, width) == shown
    assert text_width(shown) <= width


def test_cut_id_does_not_end_in_a_dash() -> None:
    """The beginning of an id that would end with one of its dashes goes without it."""
    assert cut("0123abcd-4567", 9, dots=False) == "0123abcd"


@pytest.mark.parametrize(("codeset", "encoding"), [("ANSI_X3.4-1968", "ascii"), ("UTF-8", "utf-8")])
def test_progress_bar_keeps_to_the_locale(
    monkeypatch: pytest.MonkeyPatch, codeset: str, encoding: str
) -> None:
    """A bar is ASCII where the locale is, even if Python would write UTF-8."""
    monkeypatch.setattr("locale.nl_langinfo", lambda _: codeset)
    console = progress_console(Terminal())
    assert console.options.encoding == encoding
    assert console.options.ascii_only is (encoding == "ascii")


def test_later_rows_are_written_as_they_are_read() -> None:
    """A table of any length holds only its first rows in memory."""
    stream = Terminal()
    read = 0

    def rows() -> object:
        nonlocal read
        for read in range(1, 2_001):
            yield ("id", str(read), "x")
            assert read < 600 or stream.getvalue().count("\n") > read - 2

    write_table(Screen(stream), COLUMNS, rows())  # type: ignore[arg-type]
    assert read == 2_000


def _at_a_terminal(folder: Path, *words: str, **variables: str) -> str:
    """What the command writes to a real terminal."""
    ours, theirs = pty.openpty()
    environment = {**clean_environment(), "TERM": "xterm", **variables}
    with subprocess.Popen(
        [*MAIN, *words], cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while block := os.read(ours, 65_536):
                written += block
        except OSError:  # Its end, on Linux.
            pass
        os.close(ours)
    assert process.returncode == 0, written
    return written.decode().replace("\r\n", "\n")


def test_real_terminal(cli: Cli) -> None:
    """At a real terminal the table fits, and is coloured; NO_COLOR leaves it plain."""
    cli.dead("printf '\x1b[2J' # " + "x" * 200)
    coloured = _at_a_terminal(cli.folder, "list", COLUMNS="80")
    assert "\x1b[31mdead\x1b[0m" in coloured
    plain = _at_a_terminal(cli.folder, "list", COLUMNS="80", NO_COLOR="1")
    assert plain.splitlines()[1].split()[:2] == COLOUR.sub("", coloured).splitlines()[1].split()[:2]
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    for words in (["show", "@last"], ["status"], ["dlq", "list"], ["config", "list"]):
        shown = _at_a_terminal(cli.folder, *words, COLUMNS="60")
        assert "\x1b[2J" not in shown


def _run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*MAIN, *words],
        cwd=folder,
        env={**clean_environment(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def test_terminal_without_utf8(cli: Cli) -> None:
    """Where the encoding lacks a character its escape is shown, and columns stay aligned."""
    cli.enqueue("echo h\xe9llo 日本", "--id", "accents-é")
    cli.enqueue("echo plain", "--id", "plain")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = _run(cli.folder, "list", **plain)
    assert (ran.returncode, ran.stderr) == (0, b"")
    lines = ran.stdout.decode("ascii").splitlines()
    assert lines[1].index("echo plain") == lines[2].index("echo h\\xe9llo \\u65e5\\u672c")
    assert lines[2].startswith("accents-\\xe9  ")
    assert _run(cli.folder, "show", "acce", **plain).returncode == 0
    assert b"\\xe9" in _run(cli.folder, "list", "-q", **plain).stdout


def test_argument_that_is_not_utf8(cli: Cli) -> None:
    """Bytes that are no text name no job, and are no command."""
    cli.enqueue("true", "--id", "j")
    wrong: tuple[tuple[int, list[str | bytes]], ...] = (
        (3, ["show", b"\xff\xfe\xff\xfe"]),
        (2, ["enqueue", "--command", b"echo \xff"]),
    )
    for status, words in wrong:
        ran = subprocess.run(
            [*MAIN, *words],
            cwd=cli.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout) == (status, "")
        assert ran.stderr.startswith("queuectl: ")
    assert cli.states() == {"j": "pending"}


def test_locale_that_is_not_utf8_is_the_reason(cli: Cli) -> None:
    """Where Python reads arguments in another encoding, the hint says how to start it in UTF-8."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = _run(cli.folder, "enqueue", "--command", "echo \xe9", **plain)
    assert ran.returncode == 2
    assert b"PYTHONUTF8=1, or in a locale such as C.UTF-8" in ran.stderr


@pytest.mark.parametrize("options", [["--limit", "all"], ["--json"], ["-q"]])
def test_reader_that_has_seen_enough(cli: Cli, options: list[str]) -> None:
    """`| head -1` ends a long list early and quietly."""
    (cli.folder / "jobs.jsonl").write_text('{"command": "true"}\n' * 5_000)
    cli.done("enqueue", "--jobs-file", "jobs.jsonl")
    with subprocess.Popen(
        [*MAIN, "list", *options],
        cwd=cli.folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["list"], ["logs", "@last"], ["--help"], ["--version"]])
def test_output_that_cannot_be_written(cli: Cli, words: list[str]) -> None:
    """A full disk behind stdout is an error that says so, not a success and not a traceback."""
    cli.finish(cli.enqueue(), FAILED, b"x" * 100_000)
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [*MAIN, *words],
            cwd=cli.folder,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 5
    assert ran.stderr == b"queuectl: cannot write to stdout: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_job_is_queued_even_if_that_cannot_be_said(cli: Cli) -> None:
    """When its id cannot be written `enqueue` fails, and says that the job is queued all the same."""
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [*MAIN, "enqueue", "--id", "j", "--command", "true"],
            cwd=cli.folder,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 5
    assert b"No space left on device\n  The job is queued all the same: j\n" in ran.stderr
    assert cli.states() == {"j": "pending"}


def test_closed_streams(cli: Cli) -> None:
    """A caller that closed stdin, stdout and stderr still gets the job queued, and the status."""
    command = " ".join(f"'{word}'" for word in [*MAIN, "enqueue", "--id", "j", "--command", "true"])
    ran = subprocess.run(
        f"{command} <&- >&- 2>&-", shell=True, cwd=cli.folder, env=clean_environment(), check=False
    )
    assert ran.returncode == 0
    assert cli.states() == {"j": "pending"}


@pytest.mark.parametrize("width", [30, 60])
def test_what_is_said_is_broken_between_words(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """On a narrow terminal, errors, hints and the status go to the next line at a blank."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    out, err = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert cli("enqueue", "--command", "true", "--priority", "high").status == 2
    assert cli("init").status == 0
    assert cli("status").status == 0
    said = err.getvalue()
    assert "--priority must be a whole number" in " ".join(said.split())
    assert max(map(len, said.splitlines())) <= width
    assert "none alive; start one with: queuectl worker-start" in " ".join(out.getvalue().split())


def test_states_may_be_given_in_any_way(cli: Cli) -> None:
    """Several states: with blanks, with commas, or with the option repeated."""
    for id in ("waits", "off"):
        cli.enqueue("true", "--id", id)
    cli.done("cancel", "off")
    for words in (
        ["pending", "cancelled"],
        ["pending,cancelled"],
        ["pending", "--state", "cancelled"],
    ):
        assert sorted(cli.done("list", "-q", "--state", *words).lines) == ["off", "waits"]
