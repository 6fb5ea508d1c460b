"""The copy of a real log that a command writes, empties or outgrows."""

from __future__ import annotations

import os
import zlib

import pytest

from queuectl.job_logs import JobLogs, OpenLog, cutting
from queuectl.job_logs.copying import OutputCopy
from tests.unit.job_logs.support import begin, end, refuse_to_punch, whole


class Copied:
    """An `OutputCopy` with a place for what it gives."""

    def __init__(self, log: OpenLog) -> None:
        self.log = log
        self.copy = OutputCopy(log)
        self.blocks: dict[int, bytes] = {}

    def go_on(self, keep: int | None = None) -> bytes:
        """Copies until there is nothing more; returns all that is there."""
        while (found := self.copy.next(self.log.fd, keep, 2)) is not None:
            step, blocks = found
            self.blocks |= {number: zlib.decompress(data) for number, _, data in blocks}
            for low, high in step.dropped:
                self.blocks = {n: d for n, d in self.blocks.items() if not low <= n < high}
            self.copy.took(step)
        return b"".join(self.blocks[number] for number in sorted(self.blocks))


@pytest.fixture
def log(logs: JobLogs) -> OpenLog:
    """A second attempt's part, behind a first one."""
    first = begin(logs)
    os.write(first.fd, b"of the first\n")
    end(first)
    return begin(logs, attempt=2, max_bytes=64 * 1024)


def test_output_is_copied_as_it_comes(log: OpenLog) -> None:
    """Any bytes, without the lines of queuectl and what an earlier attempt wrote."""
    copied = Copied(log)
    assert copied.go_on() == b""
    os.write(log.fd, b"\x00\xff[queuectl] attempt 2 ended\n")
    assert copied.go_on() == b"\x00\xff[queuectl] attempt 2 ended\n"
    os.write(log.fd, b"no end")
    assert copied.go_on() == b"\x00\xff[queuectl] attempt 2 ended\nno end"
    end(log)


@pytest.mark.parametrize("before", [b"", b"12345", b"1234567890" * 20_000])
@pytest.mark.parametrize("after", [b"", b"abcde", b"1234567890x" * 15_000])
def test_a_log_that_is_emptied_begins_anew(log: OpenLog, before: bytes, after: bytes) -> None:
    """What a command writes after it emptied its log is the copy then, also when it is as long."""
    log.max_bytes = 0
    copied = Copied(log)
    for text in (before, after, before):
        os.truncate(log.fd, 0)
        os.write(log.fd, text)
        content = copied.go_on()
        assert content == text or not text
    end(log)


@pytest.mark.parametrize("punches", [True, False])
def test_a_log_that_is_cut_is_cut_in_the_copy(
    logs: JobLogs, log: OpenLog, monkeypatch: pytest.MonkeyPatch, punches: bool
) -> None:
    """The copy of what outgrew its limit is what is in the log in the end, with the line that says so."""
    if not punches:
        monkeypatch.setattr(cutting, "punch_hole", refuse_to_punch)
    copied = Copied(log)
    line = b"".join(b"%d\n" % n for n in range(30_000))
    for _ in range(5):
        os.write(log.fd, line)
        copied.go_on()
        log.shorten()
        copied.go_on()
    os.write(log.fd, b"the end\n")
    log.shorten()
    content = copied.go_on()
    assert content.count(b"bytes were cut here") == 1
    assert content.endswith(b"the end\n")
    end(log)
    assert content in whole(logs)
    assert len(content) < 100 * 1024
