from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.acceptance.support import Prompt
from tests.support import Sandbox


@pytest.fixture
def prompt(sandbox: Sandbox) -> Prompt:
    """A prompt in an empty folder, where `python` is the one that runs the tests."""
    folder = str(Path(sys.executable).parent)
    sandbox.environ["PATH"] = os.pathsep.join([folder, sandbox.environ["PATH"]])
    return Prompt(sandbox)
