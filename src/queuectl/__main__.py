"""`python -m queuectl ...` does what `queuectl ...` does."""

from __future__ import annotations

from queuectl.cli import program

program()
