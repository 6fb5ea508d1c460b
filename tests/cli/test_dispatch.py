from __future__ import annotations

import json
import subprocess
import sys

import pytest

from queuectl import __version__
from queuectl.cli import COMMANDS
from queuectl.cli import help as help_text
from queuectl.cli.wrapping import fitted
from queuectl.config.settings import SETTINGS
from tests.cli.support import Cli
from tests.support import ROOT, clean_environment


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_what_it_does_and_examples(cli: Cli, name: str) -> None:
    """Each command's help says what it is for, then shows it in use, before any option."""
    ran = cli.done(*name.split(), "--help")
    summary, _, options = ran.out.partition("\n\n")
    heading, example, *rest = options.splitlines()
    assert summary.endswith(".")
    assert heading == "Examples:"
    assert example.startswith(f"  queuectl {name}")
    assert any(line.startswith("Usage: queuectl") for line in rest)
    assert any(line.startswith("Options for every command:") for line in rest)
    assert "positional" not in ran.out
    assert ran.err == ""


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("name", ["", "dlq", *COMMANDS])
def test_help_fits_the_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, width: int
) -> None:
    """No line of any help is broken by the terminal, in the middle of a word."""
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, cli.done(*name.split(), "--help").lines)) <= width


def test_help_breaks_between_words_and_keeps_its_columns() -> None:
    """What stands in a second column stays there, or goes below where the first takes the room."""
    lines = [
        "  show    one two three four five six seven",
        "  show this and that one    what it is",
    ]
    assert _fitted(lines, 30) == [
        "  show    one two three four",
        "          five six seven",
        "  show this and that one",
        "      what it is",
    ]


def _fitted(lines: list[str], width: int) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        return fitted(lines).splitlines()


def test_overview_names_every_command(cli: Cli) -> None:
    """`--help` alone lists all commands, and begins with examples."""
    ran = cli.done("--help")
    assert ran.lines[2] == "Examples:"
    listed = {line[2:].split("  ")[0] for line in ran.lines if line.startswith("  ")}
    assert listed >= set(COMMANDS)
    assert max(map(len, ran.lines)) <= 80


def test_overview_is_what_nothing_at_all_gets(cli: Cli) -> None:
    """Without a command the overview is an error's text: it goes to stderr, with status 2."""
    ran = cli()
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.strip() == help_text.overview(COMMANDS)


@pytest.mark.parametrize("group", ["dlq", "config"])
def test_group_lists_its_commands(cli: Cli, group: str) -> None:
    """The name of a group alone is an incomplete command; with --help it is a question."""
    alone, asked = cli(group), cli(group, "--help")
    assert (alone.status, alone.out) == (2, "")
    assert (asked.status, asked.err) == (0, "")
    assert alone.err == asked.out
    assert asked.out.startswith(f"Examples:\n  queuectl {group} ")
    assert all(name in asked.out for name in COMMANDS if name.startswith(group + " "))


def test_help_is_a_command_too(cli: Cli) -> None:
    """`help` before a command means `--help` behind it."""
    assert cli.done("help", "list") == cli.done("list", "--help")
    assert cli.done("help") == cli.done("--help")
    assert cli.done("help", "dlq", "retry") == cli.done("dlq", "retry", "-h")


def test_version(cli: Cli) -> None:
    """--version prints the name and the version, and nothing else."""
    assert cli.done("--version").out == f"queuectl {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "Did you mean `queuectl list`?"),
        (["enqueu", "--command", "true"], "Did you mean `queuectl enqueue`?"),
        (["worker", "start"], "Did you mean `queuectl worker-start`?"),
        (["dlq", "rtry"], "Did you mean `queuectl dlq retry`?"),
        (["dql"], "Did you mean `queuectl dlq`?"),
        (["xyzzy"], "See all commands: queuectl --help"),
        (["list", "--stat", "dead"], "Did you mean --state?"),
        (["enqueue", "--comand=x"], "Did you mean --command?"),
        (["--jsn", "list"], "Did you mean --json?"),
        (["--verson"], "Did you mean --version?"),
        (["list", "--zzz"], "See: queuectl list --help"),
        (["list", "--sort", "creatd"], "Did you mean created?"),
        (["list", "--state", "complete"], "Did you mean completed?"),
        (["enqueue", "sleep", "2"], "queuectl enqueue -- WORD ..."),
        (["enqueue", "--command", "-x"], "--option=VALUE"),
        (["enqueue", "--delay"], "--delay needs a value"),
        (["dlq", "retry", "--all=x"], "--all takes no value"),
        (["enqueue", "ls", "-la"], "queuectl enqueue -- WORD ..."),
        (["start"], "Did you mean `queuectl worker-start`?"),
        (["purge"], "Did you mean `queuectl dlq purge`?"),
        (["show", "--jsno"], "there is no option '--jsno' here\n  Did you mean --json?"),
        (["show", "-x"], "there is no option '-x' here"),
        (["prune", "--stte", "dead"], "Did you mean --state?"),
        (["wait", "a", "--timeout", "2", "--jsno", "b"], "Did you mean --json?"),
        (["cancel", "a", "--no-wiat", "--", "b"], "Did you mean --no-wait?"),
        (["dlq", "--jsno"], "there is no option '--jsno' here\n  Did you mean --json?"),
        (["dlq", "--jsno", "list"], "Did you mean --json?"),
        (["dlq", "-q", "lst"], "Did you mean `queuectl dlq list`?"),
    ],
)
def test_unknown_word_names_the_nearest(cli: Cli, words: list[str], said: str) -> None:
    """A mistyped command, option or value is refused with what was probably meant."""
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("queuectl: ")
    assert said in ran.err


def test_common_options_stand_before_or_behind_the_command(cli: Cli) -> None:
    """--db, --json and -q mean the same in front of the command and behind it."""
    database = str(cli.folder / "other.db")
    job_id = cli.done("-q", "--db", database, "enqueue", "--command", "true").out.strip()
    assert cli.done("--db=" + database, "show", job_id, "--json").json["id"] == job_id
    assert cli.done("--json", "show", job_id, "--db", database).json["id"] == job_id
    assert cli.states() == {}


def test_common_options_stand_within_the_name_of_a_command(cli: Cli) -> None:
    """Between the two words of a command's name the same options mean the same."""
    job_id = cli.dead()
    database = str(cli.database)
    assert [job["id"] for job in cli.done("dlq", "--json", "list").json] == [job_id]
    assert cli.done("dlq", "-q", "--db", database, "list").lines == [job_id]
    assert cli.done("config", "--json", "get", "max_retries").json["value"] == 3
    assert cli.done("dlq", "--help", "list") == cli.done("dlq", "--help")


@pytest.mark.parametrize(
    "words",
    [
        ["cancel", "a", "--no-wait", "b"],
        ["cancel", "a", "--no-wait", "--", "b"],
        ["cancel", "--no-wait", "a", "--json", "b", "-q"],
        ["delete", "a", "--yes", "b"],
        ["wait", "a", "--timeout", "0", "b"],
    ],
)
def test_options_stand_between_ids(cli: Cli, words: list[str]) -> None:
    """Where several jobs are named, an option between them does not end their row."""
    cli.enqueue("true", "--id", "a")
    cli.enqueue("true", "--id", "b")
    ran = cli(*words)
    assert "unexpected argument" not in ran.err
    if words[0] == "wait":
        assert "job a and 1 more had not ended" in ran.err
    else:
        assert ran.status == 0
        assert set(cli.states().values()) <= {"cancelled"}


def test_options_behind_dashes_belong_to_the_command_that_is_queued(cli: Cli) -> None:
    """What stands behind -- is never taken for an option of queuectl."""
    cli.done("enqueue", "--id", "words", "--", "grep", "--json", "-q", "--", "it's")
    assert cli.job("words").command == "grep --json -q -- 'it'\"'\"'s'"


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["doctor"],
        ["backup", "copy.db"],
        ["prune", "--older-than", "0", "--yes"],
        ["dlq", "purge", "--yes"],
        ["dlq", "retry", "--all"],
        ["init"],
        ["worker-list"],
        ["config", "set", "max_retries", "2"],
        ["config", "unset", "max_retries"],
    ],
)
def test_quiet_prints_ids_alone(cli: Cli, words: list[str]) -> None:
    """-q leaves nothing to print for a command whose result is not one or more ids."""
    cli.dead()
    assert cli.done(*words, "-q") == (0, "", "")


def test_quiet_still_prints_what_a_setting_is(cli: Cli) -> None:
    """`config get -q` prints the value: nothing else was asked for."""
    assert cli.done("config", "get", "max_retries", "-q").out == "3\n"


def test_quiet_leaves_the_names_of_the_settings(cli: Cli) -> None:
    """`config list -q` is a name a line, for a loop over all settings."""
    assert cli.done("config", "list", "-q").lines == [setting.name for setting in SETTINGS]


def test_quiet_errors_are_said(cli: Cli) -> None:
    """-q silences remarks, never what went wrong."""
    cli.done("init")
    ran = cli("show", "nothing", "-q")
    assert (ran.status, ran.out) == (3, "")
    assert "there is no job 'nothing'" in ran.err


def test_module_is_the_program(cli: Cli) -> None:
    """`python -m queuectl` is the program under another name, and passes its status on."""
    ran = subprocess.run(
        [sys.executable, "-m", "queuectl", "lst"],
        cwd=cli.folder,
        env={**clean_environment(), "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Did you mean `queuectl list`?" in ran.stderr


def test_errors_as_json(cli: Cli) -> None:
    """With --json an error is one object on stderr, in the shape that scripts rely on."""
    ran = cli("list", "--json")
    assert (ran.status, ran.out) == (3, "")
    assert json.loads(ran.err) == {
        "error": {
            "code": "queue_not_found",
            "message": f"there is no queue at {cli.database}",
            "hint": "Make one with `queuectl init`, or queue a first job with `queuectl enqueue`.",
            "exit": 3,
        }
    }


def test_interrupt_is_status_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command without a word and with the status that shells give it."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("queuectl.cli._run", interrupted)
    assert cli("list") == (130, "", "")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("boom"), 1, "queuectl: unexpected RuntimeError: boom\n  This is a defect"),
        (OSError(28, "No space left on device"), 5, "queuectl: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/x"), 5, "queuectl: Permission denied: /x\n"),
    ],
)
def test_unforeseen_error_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, said: str
) -> None:
    """Even an error that nobody foresaw gives no traceback."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("queuectl.cli._run", fail)
    ran = cli("list")
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.startswith(said)
    assert "Traceback" not in ran.err


def test_program_ends_with_the_status_and_all_it_wrote(cli: Cli) -> None:
    """The program that `queuectl` is ends at once, and loses neither output nor status in that."""
    for words, status in ((["--help"], 0), (["lst"], 2), (["status"], 3)):
        inside = cli(*words)
        ran = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:] = {sys.path!r}\nfrom queuectl.cli import program; program()",
                *words,
            ],
            cwd=cli.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == inside
        assert ran.returncode == status


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["ls"], "`queuectl list`"),
        (["workers"], "`queuectl worker-list`"),
        (["worker"], "`queuectl worker-start`, `queuectl worker-stop` or `queuectl worker-list`"),
        (["LIST"], "`queuectl list`"),
        (["dlq", "purg"], "`queuectl dlq purge`"),
        (["enqueue", "--cmd", "true"], "--command"),
        (["enqueue", "--max", "3"], "--max-retries or --max-losses"),
        (["worker-start", "--daemon"], "--background"),
    ],
)
def test_a_slip_names_what_was_meant(cli: Cli, words: list[str], meant: str) -> None:
    """A word of another tool, a beginning, or a typing error is answered with what there is here."""
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert f"Did you mean {meant}?" in ran.err


@pytest.mark.parametrize("words", [["--json"], ["dlq", "--json"]])
def test_json_without_a_command_is_an_error_in_json(cli: Cli, words: list[str]) -> None:
    """Where JSON was asked for, it is no help text that comes."""
    ran = cli(*words)
    assert (ran.status, ran.out) == (2, "")
    assert json.loads(ran.err)["error"]["message"] == "no command was given"


def test_version_as_json(cli: Cli) -> None:
    """`--version --json` is JSON, too."""
    assert cli.done("--version", "--json").json == {"version": __version__}


@pytest.mark.parametrize("words", [["show", "--", "slow", "-q"], ["list", "--", "-q"]])
def test_nothing_behind_dashes_is_an_option(cli: Cli, words: list[str]) -> None:
    """What stands behind `--` is not taken for an option, and so not for an unknown one."""
    assert "unexpected argument '-q'" in cli(*words).err


@pytest.mark.parametrize("form", [["--db", "my q.db"], ["--db=my q.db"]])
def test_hints_can_be_pasted_where_a_database_was_named(cli: Cli, form: list[str]) -> None:
    """A command that a hint or a remark proposes is about the same queue as this one."""
    cli.done("enqueue", "--command", "true", "--id", "a", *form)
    assert "queuectl --db 'my q.db' list" in cli("show", "nope", *form).err
    assert "queuectl --db 'my q.db' worker-start" in cli.done("status", *form).out
    hint = json.loads(cli("show", "nope", "--json", *form).err)["error"]["hint"]
    assert "queuectl --db 'my q.db' list" in hint
