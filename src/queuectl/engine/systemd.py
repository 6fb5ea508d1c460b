"""Telling systemd how the worker is (sd_notify(3)), where it was started by systemd."""

from __future__ import annotations

import os
import sys


def notify(state: str) -> None:
    """Sends READY=1, STOPPING=1 or WATCHDOG=1; does nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    import socket

    if address.startswith("@"):
        address = "\0" + address[1:]
    if sys.platform != "win32":
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.connect(address)
                channel.sendall(state.encode())
        except OSError:
            pass  # Whoever started us is gone, or is not systemd; the work goes on.
