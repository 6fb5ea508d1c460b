from __future__ import annotations

import sys

# They look at processes through /proc.
collect_ignore_glob = [] if sys.platform == "linux" else ["*"]
