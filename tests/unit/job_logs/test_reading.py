from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from queuectl.job_logs import JobLogs, LogNotFound, files
from tests.unit.job_logs.support import begin, end, whole


def test_a_log_that_is_not_there_is_reported(logs: JobLogs) -> None:
    """Every way to read a log says clearly that there is none."""
    uses: list[Callable[[], object]] = [
        lambda: whole(logs),
        lambda: logs.read_tail("a", 10),
        lambda: logs.follow("a", io.BytesIO(), lambda: True),
    ]
    for use in uses:
        with pytest.raises(LogNotFound, match="job a has no log") as caught:
            use()
        assert "queuectl show" in caught.value.hint


def test_copy_gives_the_bytes_of_one_part(logs: JobLogs) -> None:
    """Any bytes, zeros too, come out as they went in, for the part that is asked for."""
    output = bytes(range(256)) * 10_000 + bytes(100_000)
    end(begin(logs))
    log = begin(logs, attempt=2)
    os.write(log.fd, output)
    after = end(log)
    end(begin(logs, attempt=3))
    out = io.BytesIO()
    logs.copy("a", out, log.start, after)
    lines = out.getvalue().split(b"\n", 1)
    assert lines[0].startswith(b"[queuectl] attempt 2 of 4")
    assert lines[1].startswith(output + b"\n[queuectl] attempt 2 ended")
    assert lines[1].count(b"[queuectl]") == 1


@pytest.mark.parametrize("ending", [b"", b"\n"])
@pytest.mark.parametrize("count", [0, 1, 3, 5, 2999, 3000, 3001, 9999])
def test_tail_gives_the_last_lines(logs: JobLogs, count: int, ending: bytes) -> None:
    """The last lines are those of the whole text, across blocks, and with or without a last newline."""
    lines = [b"%d %s" % (n, b"x" * (n % 60)) for n in range(3000)]
    Path(logs.path("a")).write_bytes(b"\n".join(lines) + ending)
    expected = b"\n".join(lines[len(lines) - min(count, 3000) :])
    assert logs.read_tail("a", count) == expected + (ending if count else b"")


def test_tail_of_one_part(logs: JobLogs) -> None:
    """The last lines of a part are looked for in that part alone."""
    Path(logs.path("a")).write_bytes(b"a\nb\nc\nd\ne\n")
    assert logs.tail_start("a", 2, start=2, end=8) == 4
    assert logs.tail_start("a", 9, start=2, end=8) == 2
    assert logs.tail_start("a", 9, start=2, end=999) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system with holes")
def test_tail_of_a_huge_file_reads_a_little_of_it(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten lines at the end of a terabyte, beyond a hole, cost a few small reads."""
    with open(logs.path("a"), "wb") as log_file:
        log_file.write(b"the beginning\n")
        log_file.seek(2**40)
        log_file.write(b"".join(b"line %d\n" % n for n in range(5)))
    read: list[int] = []
    read_at = files.read_at

    def counting(fd: int, count: int, offset: int) -> bytes:
        data = read_at(fd, count, offset)
        read.append(len(data))
        return data

    monkeypatch.setattr(files, "read_at", counting)
    assert logs.read_tail("a", 2) == b"line 3\nline 4\n"
    assert sum(read) < 200_000
    assert logs.read_tail("a", 6).endswith(b"\nline 0\nline 1\nline 2\nline 3\nline 4\n")
    assert sum(read) < 3_000_000
