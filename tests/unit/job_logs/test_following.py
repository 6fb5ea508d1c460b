from __future__ import annotations

import io
import os
import threading

import pytest

from queuectl.job_logs import JobLogs, cutting, following, reading
from tests.support import wait_until
from tests.unit.job_logs.support import begin, end, refuse_to_punch, whole

LIMIT = 200_000


class Reader:
    """A follower in a thread, and what it has written so far."""

    def __init__(self, logs: JobLogs, *, start: int = 0) -> None:
        self.out = io.BytesIO()
        self.finished = threading.Event()
        self.error: BaseException | None = None
        self._logs = logs
        self._start = start
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._logs.follow("a", self.out, self.finished.is_set, start=self._start)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def wait_for(self, text: bytes) -> None:
        """Wait until it has written this."""
        wait_until(lambda: text in self.out.getvalue())

    def end(self) -> bytes:
        """Say that the job has finished, and return all it wrote."""
        self.finished.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        assert self.error is None
        return self.out.getvalue()


def test_following_shows_output_as_it_comes(logs: JobLogs) -> None:
    """A reader that begins before the log does gets every byte, live, over two attempts."""
    reader = Reader(logs)
    log = begin(logs)
    os.write(log.fd, b"one\ntw")
    reader.wait_for(b"one\ntw")
    os.write(log.fd, b"o\n")
    reader.wait_for(b"\ntwo\n")
    end(log)
    log = begin(logs, attempt=2)
    reader.wait_for(b"attempt 2 of 4")
    end(log)
    assert reader.end() == whole(logs)


def test_following_begins_where_it_is_told(logs: JobLogs) -> None:
    """What comes before the start is not written again."""
    end(begin(logs))
    start = logs.tail_start("a", 1)
    assert Reader(logs, start=start).end() == whole(logs)[start:]


def test_following_goes_on_when_the_log_is_emptied(logs: JobLogs) -> None:
    """What a command writes after `> /dev/stdout` is written too."""
    log = begin(logs)
    reader = Reader(logs)
    os.write(log.fd, b"before\n" * 100)
    reader.wait_for(b"before\n" * 100)
    os.truncate(logs.path("a"), 0)
    os.write(log.fd, b"after\n")
    reader.wait_for(b"after\n")
    end(log)
    assert reader.end().endswith(whole(logs))


def test_following_goes_on_when_the_log_is_removed_and_begun_again(logs: JobLogs) -> None:
    """A reader of a job that was deleted and enqueued again gets the new log, from its beginning."""
    log = begin(logs)
    reader = Reader(logs)
    reader.wait_for(b"attempt 1 of 4")
    logs.remove(["a"])
    end(log)
    reader.wait_for(b"attempt 1 ended")
    end(begin(logs, attempt=2))
    assert reader.end().endswith(whole(logs))


@pytest.mark.parametrize("can_punch", [True, False])
def test_following_a_log_that_is_cut_repeats_and_drops_nothing(
    logs: JobLogs, can_punch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that keeps up gets the whole output, though its middle is cut out of the file."""
    if not can_punch:
        monkeypatch.setattr(cutting, "punch_hole", refuse_to_punch)
    noticed: list[int] = []

    def last_cut(fd: int) -> tuple[int, int, int] | None:
        found = reading.last_cut(fd)
        noticed.append(fd)
        return found

    monkeypatch.setattr(following, "last_cut", last_cut)
    log = begin(logs, max_bytes=LIMIT)
    cutter = log._cutter = log._new_cutter(lambda: True)  # not started: it cuts when it is told to
    reader = Reader(logs)

    def write_and_cut(first: int) -> None:
        os.write(log.fd, b"".join(b"%011d\n" % i for i in range(first, first + 5000)))
        reader.wait_for(b"%011d\n" % (first + 4999))
        size, before = os.fstat(log.fd).st_size, len(noticed)
        cutter._shorten()
        if os.fstat(log.fd).st_size < size:
            wait_until(lambda: len(noticed) > before)

    for n in range(0, 40_000, 5000):
        write_and_cut(n)
    assert len(noticed) == 0 if can_punch else len(noticed) > 1
    assert b"bytes were cut here" in whole(logs)
    end(log)
    reader.wait_for(b"attempt 1 ended")
    log = begin(logs, attempt=2)
    os.write(log.fd, b"again\n")
    end(log)
    text = reader.end()
    assert b"".join(b"%011d\n" % i for i in range(40_000)) in text
    assert text.count(b"attempt 1 ended") == 1
    assert text.endswith(b"again\n" + whole(logs).splitlines(keepends=True)[-1])
    assert b"bytes were cut" not in text


def test_an_error_of_the_output_ends_following(logs: JobLogs) -> None:
    """A closed pipe is the caller's business, and no descriptor stays open."""

    class Closed(io.BytesIO):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    end(begin(logs))
    before = os.listdir("/dev/fd")
    with pytest.raises(BrokenPipeError):
        logs.follow("a", Closed(), lambda: False)
    assert os.listdir("/dev/fd") == before
