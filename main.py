"""queuectl from a checkout: `python main.py ...` does what the installed `queuectl ...` does."""

from __future__ import annotations

import os
import sys


def _require_environment() -> None:
    """Ends with one clear line where queuectl cannot run, in place of a traceback later."""
    if sys.version_info < (3, 11):
        running = sys.version.split()[0]
        sys.stderr.write(f"queuectl: Python 3.11 or newer is needed; this is {running}\n")
        sys.exit(5)
    # Looked for, not imported: some commands do without it. All packages are installed together.
    if not any(finder.find_spec("apsw", None) for finder in sys.meta_path):
        requirements = os.path.join(os.path.dirname(sys.argv[0]), "requirements.txt")
        sys.stderr.write(
            f"queuectl: its packages are not installed for {sys.executable}; "
            f"run: pip install -r {requirements}\n"
        )
        sys.exit(5)


if __name__ == "__main__":
    _require_environment()
    # First on the path, so that this checkout runs, not another queuectl that is installed.
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "src"))
    from queuectl.cli import program

    program()
