from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("these tests look at processes through /proc", allow_module_level=True)
