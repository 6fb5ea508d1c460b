"""Words as a line for the shell that will run them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def join(words: Sequence[str]) -> str:
    """The line that the shell splits into exactly these words again."""
    if os.name == "nt":
        from queuectl import windows

        return windows.join(words)
    import shlex

    return shlex.join(words)
