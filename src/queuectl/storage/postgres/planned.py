"""Statements that a worker sends again and again, and that the server plans once for each session.

To plan the three of an exchange takes a millisecond, twice as long as to run them for a few jobs; and
hundreds of workers may ask at the same moment. A pooler that hands our transactions to different
sessions cannot have them: there the text itself is sent.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = re.compile(r"%\((\w+)\)s")


class Planned:
    """A statement called `name`, whose parameters are of these `types`."""

    __slots__ = ("name", "query", "types")

    def __init__(self, name: str, query: str, types: Mapping[str, str]) -> None:
        self.name = name
        self.query = query
        self.types = types

    @property
    def definition(self) -> str:
        """What makes it known to a session."""
        names = self._parameters()
        body = _PLACE.sub(lambda place: f"${names.index(place[1]) + 1}", self.query)
        types = ", ".join(self.types[name] for name in names)
        return f"PREPARE {self.name} ({types}) AS {body}"

    @property
    def call(self) -> str:
        """What runs it in a session that knows it, with the same parameters as `query`."""
        return f"EXECUTE {self.name} ({', '.join(f'%({name})s' for name in self._parameters())})"

    def _parameters(self) -> list[str]:
        return list(dict.fromkeys(_PLACE.findall(self.query)))
