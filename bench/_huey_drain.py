"""A worker of huey that runs `true` through the shell: started by `_peers` where huey is installed.

python _huey_drain.py DATABASE COUNT fill | SLOTS
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading

from huey import SqliteHuey  # type: ignore[import-not-found,unused-ignore]

_PATH, _COUNT, _WHAT = sys.argv[1], int(sys.argv[2]), sys.argv[3]
_HUEY = SqliteHuey(filename=_PATH, fsync=True, results=False)
_DONE = threading.Event()
_NUMBERS = itertools.count(1)


@_HUEY.task()  # type: ignore[untyped-decorator,unused-ignore]
def run_command(command: str) -> None:
    """The job."""
    subprocess.run(command, shell=True, check=True)
    if next(_NUMBERS) == _COUNT:
        _DONE.set()


if _WHAT == "fill":
    for _ in range(_COUNT):
        run_command("true")
else:
    consumer = _HUEY.create_consumer(workers=int(_WHAT), periodic=False, initial_delay=0.01)
    consumer.start()
    _DONE.wait()
    consumer.stop(graceful=True)
