from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("commands are started otherwise", allow_module_level=True)

from queuectl.engine.spawn import make_spawn


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is named as Linux alone names it")
def test_a_command_has_its_output_before_it_enters_its_folder(tmp_path: Path) -> None:
    """A folder that keeps it waiting, on a machine that is gone, keeps it from nothing by which it is
    found. The folder here is one that there is only once its descriptors are in place.
    """
    folder = os.open(tmp_path, os.O_RDONLY)
    output = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)
    try:
        spawn = make_spawn([])
        pid = spawn(b"/bin/sh", [b"sh", b"-c", b"pwd -P"], [], b"/proc/self/fd/0", folder, output)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        os.close(folder)
        os.close(output)
    assert (tmp_path / "output").read_bytes() == os.fsencode(tmp_path.resolve()) + b"\n"
