"""queuectl on another machine, as far as it can tell: one with the name that QUEUE_OF_A_TEST_HOST says."""

from __future__ import annotations

import os
import sys

from queuectl import processes
from queuectl.cli import main

if __name__ == "__main__":
    _name = os.environ["QUEUE_OF_A_TEST_HOST"]
    processes.host_name = lambda: _name
    processes.boot_id = lambda: f"boot of {_name}"
    sys.exit(main())
