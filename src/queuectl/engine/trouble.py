"""What people are told of a database that cannot be used: what is wrong, once, and that it is over."""

from __future__ import annotations

from queuectl.errors import DatabaseUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from queuectl.errors import DatabaseError

_PATIENCE_SECONDS = 5.0
"""How long a server may take for an answer before that is said; less where leases are short."""

_CONFIRM_TICKS = 1_000_000
"""For how long it has to look so (1 s): after this process stood still it does for a moment."""

_TRIES_TO_TELL = 3
"""An event is worded in several ways while a server goes down and comes up. What is said of it anew
was met so many times in a row."""


class Trouble:
    """`say` prints a line. One thread meets errors and finds that they are over; another one minds the
    silence of a server, in which the first waits in the midst of a question and can say nothing.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._told: tuple[type[DatabaseError], str] | None = None
        """What people were told of: its kind, and in which words."""
        self._untold: tuple[tuple[type[DatabaseError], str] | None, int] = (None, 0)
        """Other words for it, and how often they came in a row."""
        self._is_silent = False
        """People were told that the server does not answer."""
        self._silence_seen_ticks: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether people know of some that is not over."""
        return self._told is not None or self._is_silent

    @property
    def ends_with_an_answer(self) -> bool:
        """Whether it is over as soon as something can be read: the server was silent, or out of reach."""
        return self._is_silent or (self._told is not None and self._told[0] is DatabaseUnreachable)

    def met(self, error: DatabaseError) -> None:
        """Says what is wrong, and when that has become something else."""
        kind, words = trouble = type(error), error.message
        if self._told is not None and self._told[0] is kind:
            before, times = self._untold
            self._untold = trouble, (times + 1 if trouble == before else 1)
            if trouble == self._told or self._untold[1] < _TRIES_TO_TELL:
                return
        if kind is not DatabaseUnreachable:
            self._say(f"{words}; going on as soon as it can be written")
        elif self._told is not None and self._told[0] is kind:
            self._say(f"{words}; trying again")
        else:
            self._say(f"lost the connection to {words.removeprefix('cannot reach ')}; trying again")
        self._told, self._untold = trouble, (None, 0)

    def mind_silence(self, ticks: int, silent_ticks: int, lease_seconds: float) -> None:
        """Says so when the server has neither answered nor failed for long. To be called every few
        seconds.
        """
        if self.is_known:
            return
        patience = min(_PATIENCE_SECONDS, lease_seconds / 6)
        if silent_ticks < int(patience * 1e6):
            self._silence_seen_ticks = None
        elif self._silence_seen_ticks is None:
            self._silence_seen_ticks = ticks
        elif ticks - self._silence_seen_ticks >= _CONFIRM_TICKS:
            self._silence_seen_ticks = None
            self._is_silent = True
            self._say(
                f"the database has not answered for {silent_ticks / 1e6:.0f} s; going on with what"
                " runs, and starting nothing new until it answers"
            )

    def is_over(self) -> None:
        """The database did what it was asked: says so to who was told otherwise."""
        told, was_silent = self._told, self._is_silent
        self._told = None
        if was_silent:  # What the other thread says from now on stays.
            self._is_silent = False
        if told is not None and told[0] is DatabaseUnreachable:
            self._say("connected to the database again")
        elif told is not None:
            self._say("the database can be written again")
        elif was_silent:
            self._say("the database answers again")
