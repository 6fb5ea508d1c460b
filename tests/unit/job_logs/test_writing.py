from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from queuectl.errors import EnvironmentFault
from queuectl.job_logs import JobLogs
from tests.unit.job_logs.support import begin, end, whole


def test_an_attempt_is_a_header_the_output_and_a_closing_line(logs: JobLogs) -> None:
    """The lines say what ran, where, when and how it ended, and the offsets enclose them."""
    log = begin(logs, command="echo hello")
    subprocess.run(["echo", "hello"], stdout=log.fd, check=True)
    after = end(log)
    assert whole(logs) == (
        b"[queuectl] attempt 1 of 4 started 2026-11-24T04:00:00.123456Z by worker w1 in /srv:"
        b" echo hello\n"
        b"hello\n"
        b"[queuectl] attempt 1 ended 2026-11-24T04:00:00.135456Z after 0.012s:"
        b" succeeded, exit status 0\n"
    )
    assert (log.start, after) == (0, len(whole(logs)))


def test_logs_are_private(logs: JobLogs) -> None:
    """The folder and the files are the user's alone."""
    end(begin(logs))
    assert stat.S_IMODE(os.stat(logs.folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(logs.path("a")).st_mode) == 0o600


def test_every_line_of_ours_is_on_a_line_of_its_own(logs: JobLogs) -> None:
    """Output that does not end its last line is kept apart from what follows it."""
    first = begin(logs)
    os.write(first.fd, b"no newline")
    first_end = end(first)
    with open(logs.path("a"), "ab") as log_file:
        log_file.write(b"left behind")
    second = begin(logs, attempt=2)
    second_end = end(second)
    text = whole(logs)
    assert text[first.start : first_end].splitlines()[1] == b"no newline"
    assert text[first_end : second.start] == b"left behind\n"
    assert text[second.start : second_end].startswith(b"[queuectl] attempt 2 of 4 started ")
    assert len(text.splitlines()) == 6


def test_control_characters_and_long_commands_stay_on_the_header_line(logs: JobLogs) -> None:
    """A command of many lines, escapes or megabytes is one short visible header line."""
    end(begin(logs, command="\x1b[2J\nrm \udcff" + "x" * 10_000_000))
    line = whole(logs).splitlines()[0]
    assert b"\\x1b[2J\\nrm \\udcff" in line
    assert len(line) < 400


def test_an_attempt_beyond_the_allowed_ones_says_no_total(logs: JobLogs) -> None:
    """A run that makes up for a lost worker is not "5 of 4"."""
    end(begin(logs, attempt=5))
    assert whole(logs).startswith(b"[queuectl] attempt 5 started ")


def test_the_descriptor_is_not_inherited_by_other_commands(logs: JobLogs) -> None:
    """A log is open in the command that writes it and in no other."""
    log = begin(logs)
    assert not os.get_inheritable(log.fd)
    end(log)


def test_a_missing_folder_is_an_error_to_the_caller(logs: JobLogs) -> None:
    """When the folder has gone, no attempt begins, and ensure_folder puts it right."""
    os.rmdir(logs.folder)
    with pytest.raises(FileNotFoundError):
        begin(logs)
    logs.ensure_folder()
    end(begin(logs))


def test_a_symbolic_link_is_not_written_through(logs: JobLogs, tmp_path: Path) -> None:
    """A link in the place of a log is refused, and what it points to stays as it is."""
    os.symlink(tmp_path / "victim", logs.path("a"))
    with pytest.raises(OSError, match="symbolic links"):
        begin(logs)
    assert not (tmp_path / "victim").exists()


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    """The folder cannot be made over a file; the error names it."""
    (tmp_path / "job_logs").touch()
    with pytest.raises(EnvironmentFault, match="job_logs, cannot be made"):
        JobLogs(str(tmp_path / "job_logs")).ensure_folder()


def full_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the disk full after `count` more bytes."""
    write = os.write

    def limited(fd: int, data: bytes) -> int:
        nonlocal count
        if data and not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[:count])
        count -= written
        return written

    monkeypatch.setattr(os, "write", limited)


@pytest.mark.parametrize("room", [0, 10])
def test_an_attempt_does_not_begin_on_a_full_disk(
    logs: JobLogs, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for the header the caller is told, and no descriptor stays open."""
    before = os.listdir("/dev/fd")
    full_after(room, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        begin(logs)
    assert os.listdir("/dev/fd") == before


@pytest.mark.parametrize("room", [0, 10])
def test_a_full_disk_costs_the_closing_line_only(
    logs: JobLogs, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing on a full disk is no error, leaks nothing, and the next attempt is readable."""
    before = os.listdir("/dev/fd")
    log = begin(logs)
    with monkeypatch.context() as patch:
        full_after(room, patch)
        assert end(log) <= os.path.getsize(logs.path("a"))
    assert os.listdir("/dev/fd") == before
    end(begin(logs, attempt=2))
    assert re.search(rb"^\[queuectl\] attempt 2 of 4 started", whole(logs), re.MULTILINE)


def test_a_command_may_empty_its_log(logs: JobLogs) -> None:
    """`> /dev/stdout` empties the file; the attempt's part then begins at 0."""
    end(begin(logs))
    log = begin(logs, attempt=2, max_bytes=100_000)
    os.truncate(logs.path("a"), 0)
    os.write(log.fd, b"new\n")
    after = end(log)
    assert log.start == 0
    assert whole(logs)[:after].startswith(b"new\n[queuectl] attempt 2 ended")


def test_an_attempt_that_was_not_begun_leaves_no_line(logs: JobLogs) -> None:
    """Discarding takes the header back, keeps what was there before, and closes the file."""
    end(begin(logs))
    before, descriptors = whole(logs), os.listdir("/dev/fd")
    begin(logs, attempt=2).discard()
    assert whole(logs) == before
    assert os.listdir("/dev/fd") == descriptors


STARTED = b"[queuectl] attempt 1 of 4 started\n"
ENDED = b"[queuectl] attempt 1 ended 2026-11-24T04:00:00.135456Z after 0.012s: exit status 1\n"
LOST = b"[queuectl] attempt 1 ended 2026-11-24T04:00:00.135456Z: worker lost\n"
NOT_STARTED = b"[queuectl] attempt 1 was not started\n"


@pytest.mark.parametrize(
    ("text", "attempt", "begun", "is_closed"),
    [
        (None, 1, False, False),
        (b"", 1, True, True),
        (STARTED, 1, True, True),
        (STARTED + b"output", 1, True, True),
        (STARTED + ENDED, 1, True, False),
        (STARTED + LOST, 1, True, False),
        (STARTED + NOT_STARTED, 1, False, False),
        (STARTED + ENDED, 2, False, False),
        (STARTED + LOST, 2, False, False),
        (STARTED + NOT_STARTED, 2, False, False),
        (STARTED + ENDED + b"left behind\n", 2, True, True),
        (STARTED + ENDED[:-1], 2, True, True),
        (STARTED + ENDED[:20], 2, True, True),
        (STARTED + b"said " + ENDED, 2, True, True),
        (STARTED + b"x" * 100_000 + b"\n" + ENDED, 2, False, False),
        (ENDED, 12, False, False),
        (ENDED + b"[queuectl] attempt 2 of 4 started\n", 2, True, True),
    ],
)
def test_a_lost_attempt_is_closed_once_if_it_had_begun(
    logs: JobLogs, text: bytes | None, attempt: int, begun: bool, is_closed: bool
) -> None:
    """Its closing line is written where one is missing. A log that is not there, or ends with another
    attempt's closing line, shows that it had not begun, and stays as it is.
    """
    path = Path(logs.path("a"))
    if text is not None:
        path.write_bytes(text)
    before = os.listdir("/dev/fd")
    assert logs.close_lost("a", attempt, 1_795_492_800_135_456) == begun
    assert os.listdir("/dev/fd") == before
    if text is None:
        assert not path.exists()
        return
    line = LOST.replace(b" 1 ", b" %d " % attempt)
    if text and not text.endswith(b"\n"):
        line = b"\n" + line
    assert path.read_bytes() == text + (line if is_closed else b"")
    assert logs.close_lost("a", attempt, 1_795_492_800_135_457) == begun
    assert path.read_bytes() == text + (line if is_closed else b"")


def test_a_log_that_cannot_be_read_says_nothing_against_a_beginning(logs: JobLogs) -> None:
    """What may have run is taken to have run."""
    os.mkdir(logs.path("a"))
    os.symlink("elsewhere", logs.path("b"))
    assert logs.close_lost("a", 1, 0)
    assert logs.close_lost("b", 1, 0)
