"""A command's output alone: a log as it is passed on without the lines that queuectl wrote in it."""

from __future__ import annotations

from queuectl.job_logs import own_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from queuectl.jobs.job_view import Attempt


class CommandOutput:
    """Passes a log on without the lines that queuectl wrote in it; tells how each attempt ended.

    A command can write lines that look the same, so their place decides. A header line is
    queuectl's where an attempt's part begins. A closing line is where an attempt ended, as the
    database says a moment after the line is in the log. Until then it is held back, unless more
    comes behind it: then it is the command's, if the database does not say otherwise by now.

    `position` says where in the log the block begins that is being written; `attempts` asks the
    database for all attempts of the job, in their order. Whatever `out` raises, `write`, `flush`,
    `ask` and `end` raise.
    """

    def __init__(
        self,
        out: BinaryIO,
        tell: Callable[[str], None],
        *,
        position: Callable[[], int],
        attempts: Callable[[], Sequence[Attempt]],
    ) -> None:
        self._out = out
        self._tell = tell
        self._position = position
        self._attempts = attempts
        self._ended: Sequence[Attempt] = ()
        """The attempts that have ended, as far as their closing lines were not seen yet."""
        self._seen = 0
        """How many came before those."""
        self._has_asked = False
        """Whether the database was asked for them since the last block came."""
        self._next = 0
        """The offset at which the log goes on."""
        self._held = b""
        """The beginning of a line, or more, that may turn out to be queuectl's own."""
        self._passed: tuple[bytes, int] | None = None
        """The last closing line that was passed on, as more came behind it, and where it ended."""
        self._in_line = False
        """Whether what was passed on so far ends in the middle of a line."""
        self._in_part = False
        """Whether an attempt's part has begun, and not ended."""

    @property
    def is_in_doubt(self) -> bool:
        """Whether it takes the database to tell whose a line is."""
        return b"\n" in self._held or self._passed is not None

    def write(self, data: bytes) -> int:
        """Take the next block of the log; returns its length."""
        position = self._position()
        if position != self._next:
            # The log was cut, or emptied: what is held has no end in it any more.
            self._release()
            if position == 0:
                self._in_line = self._in_part = False
                self._passed = None
        self._next = position + len(data)
        self._has_asked = False
        self._take(self._held + data)
        return len(data)

    def flush(self) -> None:
        """Let what was passed on be seen."""
        self._out.flush()

    def ask(self) -> bool:
        """Ask the database whose the lines in doubt are; says whether the job is running."""
        is_running = self._load()
        if self._passed is not None and self._is_an_end(*self._passed):
            self._close(self._passed[0])
        if b"\n" in self._held:
            self._take(self._held)
        return is_running

    def end(self) -> None:
        """Pass on what was held back, now that there is no more to come."""
        if self.is_in_doubt:
            self.ask()
        self._release()
        self.flush()

    def _load(self) -> bool:
        attempts = self._attempts()
        self._ended = [a for a in attempts[self._seen :] if a.finished_at is not None]
        self._has_asked = True
        return bool(attempts) and attempts[-1].finished_at is None

    def _take(self, text: bytes) -> None:
        """Passes on what is the command's in what was held and has come."""
        offset = self._next - len(text)
        self._held = b""
        if offset == 0 and not own_lines.may_begin_started(text, 0):
            self._in_part = True  # The command emptied the log before its header line was seen.
        done = 0
        for start, end, is_started in own_lines.whole_lines(text):
            if start == 0 and self._in_line:
                continue
            is_own = self._is_header() if is_started else self._is_closing(text, start, end, offset)
            if is_own is None:
                self._pass_on(text[done:start])
                self._held = text[start:]
                return
            if is_own:
                self._pass_on(text[done:start])
                done = end
                if is_started:
                    self._in_part = True
                else:
                    self._close(text[start:end])
        last = max(text.rfind(b"\n") + 1, done)
        if (last or not self._in_line) and self._may_become_own(text[last:]):
            self._held = text[last:]
            text = text[:last]
        self._pass_on(text[done:])

    def _may_become_own(self, line: bytes) -> bool:
        """Whether a line that begins like this may turn out to be queuectl's, here."""
        return own_lines.may_become_ended(line) or (
            not self._in_part and own_lines.may_become_started(line)
        )

    def _is_header(self) -> bool:
        """Whether what looks like a header line is one: no part that has begun is still open."""
        if self._in_part and self._passed is not None:
            # A process that the command left behind may have written behind its closing line.
            if not self._has_asked:
                self._load()
            if self._is_an_end(*self._passed):
                self._close(self._passed[0])
        return not self._in_part

    def _is_closing(self, text: bytes, start: int, end: int, offset: int) -> bool | None:
        """Whether what looks like a closing line is one; None when that is not known yet."""
        line, ends_at = text[start:end], offset + end
        may_be_last = end == len(text) or own_lines.may_begin_started(text, end)
        if self._is_an_end(line, ends_at, may_be_last=may_be_last):
            return True
        if may_be_last and b"\n" not in text[end:]:
            return None
        # The next attempt is begun only when the database has the end of this one.
        if not self._has_asked:
            self._load()
            if self._is_an_end(line, ends_at, may_be_last=may_be_last):
                return True
        self._passed = (line, ends_at)
        return False

    def _is_an_end(self, line: bytes, ends_at: int, *, may_be_last: bool = False) -> bool:
        """Whether one of the attempts that have ended has this closing line, which ends there."""
        for n, attempt in enumerate(self._ended):
            if attempt.log_end is None:
                # Its worker was lost: nobody wrote down where the line is that says so.
                fits, moment = may_be_last and attempt.outcome == "lost", None
            else:
                fits, moment = attempt.log_end == ends_at, attempt.finished_at
            if fits and own_lines.is_end_of(line, attempt.attempt, moment):
                self._ended = self._ended[n + 1 :]
                self._seen += n + 1
                return True
        return False

    def _close(self, line: bytes) -> None:
        """Tells how the attempt ended whose closing line this is."""
        self._in_part = False
        self._passed = None
        self._out.flush()
        self._tell(own_lines.told(line))

    def _release(self) -> None:
        text, self._held = self._held, b""
        self._pass_on(text)

    def _pass_on(self, text: bytes) -> None:
        if text:
            self._out.write(text)
            self._in_line = not text.endswith(b"\n")
