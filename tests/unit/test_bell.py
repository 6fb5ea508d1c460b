from __future__ import annotations

import os
from pathlib import Path

from queuectl.bell import Bell


def test_a_closed_bell_rings_nowhere(tmp_path: Path) -> None:
    """A signal may come as the last things are closed: what rings then disturbs nothing, also not the
    file that has got the number by now.
    """
    bell = Bell()
    bell.ring()
    assert bell.wait(0)
    bell.close()
    files = [os.open(tmp_path / name, os.O_CREAT | os.O_RDWR) for name in "abc"]
    bell.ring()
    assert [os.fstat(file).st_size for file in files] == [0, 0, 0]
    for file in files:
        os.close(file)
