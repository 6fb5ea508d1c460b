"""Statements that a worker sends again and again, and that the server plans once for each session.

To plan the three of an exchange takes a millisecond, twice as long as to run them for a few jobs; and
hundreds of workers may ask at the same moment. A pooler that hands our transactions to different
sessions cannot have them: there the text itself is sent.
"""

from __future__ import annotations

import re
from functools import cached_property

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = r"%\((\w+)\)s"


class Planned:
    """A statement called `name`, whose parameters are of these `types`.

    What follows from its text is worked out when it is first sent: an enqueue sends none of them.
    """

    def __init__(self, name: str, query: str, types: Mapping[str, str]) -> None:
        self.name = name
        self.query = query
        self.types = types

    @cached_property
    def definition(self) -> str:
        """What makes it known to a session."""
        names = self._parameters
        body = re.sub(_PLACE, lambda place: f"${names.index(place[1]) + 1}", self.query)
        types = ", ".join(self.types[name] for name in names)
        return f"PREPARE {self.name} ({types}) AS {body}"

    @cached_property
    def call(self) -> str:
        """What runs it in a session that knows it, with the same parameters as `query`."""
        return f"EXECUTE {self.name} ({', '.join(f'%({name})s' for name in self._parameters)})"

    @cached_property
    def _parameters(self) -> list[str]:
        return list(dict.fromkeys(re.findall(_PLACE, self.query)))
