"""What is done when a checkout is installed in place (`pip install -e .`).

An ordinary installation comes with byte code; one in place gets it from the first run, unless the
environment forbids that (PYTHONDONTWRITEBYTECODE, common in container images). Every start would
then compile all of queuectl again, which takes as long as the rest of it.
"""

from __future__ import annotations

import compileall
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ByteCode(BuildHookInterface[Any]):
    """Compiles the package where it lies."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "standard" or "editable"."""
        del build_data
        if version == "editable":
            compileall.compile_dir(str(Path(self.root, "src")), quiet=1)
