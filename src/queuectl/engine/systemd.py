"""Telling systemd how the worker is (sd_notify(3)), where it was started by systemd."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queuectl.clock import Clock

_PAT_SECONDS = 1.0
"""How often systemd hears that all is well, at the least; more often where it waits for less."""


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


def watchdog_seconds() -> float | None:
    """How often systemd is to hear that all is well: three times in the time after which it gives a
    service up. None where it does not ask for that.
    """
    asked = os.environ.get("WATCHDOG_USEC", "")
    if not os.environ.get("NOTIFY_SOCKET") or not asked.isdecimal() or not int(asked):
        return None
    return min(_PAT_SECONDS, int(asked) / 3e6)


class Watchdog:
    """Systemd's watchdog, to be patted at least every `seconds` (None: it does not watch)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._patted_ticks = 0
        self.seconds = watchdog_seconds()

    def pat(self) -> None:
        """All is well. To be called at least every `seconds`; systemd hears of it that often."""
        if self.seconds is None:
            return
        ticks = self._clock.ticks()
        if ticks - self._patted_ticks >= self.seconds * 1e6:
            self._patted_ticks = ticks
            notify("WATCHDOG=1")
