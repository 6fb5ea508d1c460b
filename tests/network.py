"""Machines of the tests' own, joined by cables to one switch: namespaces of the Linux kernel.

A machine has a network, a name, processes and a boot id of its own, and shares the file system with
the others. The switch is one more namespace, so that nothing of the network of this machine is touched.
Each lives as long as the pipe that this process holds: should the tests be killed, the kernel clears
all of it away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support import PATIENCE_SECONDS, Sandbox, WorkerProcess

SWITCH_ADDRESS = "10.77.0.1"
NETWORK = "10.77.0.0/24"

_READY = b"ready\n"


class NoNetwork(Exception):
    """Why no machines can be made here."""


class _Holder:
    """A process that keeps namespaces there, and ends with its pipe."""

    def __init__(self, kinds: list[str], script: str) -> None:
        self._process = subprocess.Popen(
            ["unshare", *kinds, "sh", "-c", f"set -e\n{script}\necho ready\nexec cat > /dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != _READY:
            _, said = self._process.communicate(timeout=PATIENCE_SECONDS)
            raise NoNetwork(said.decode(errors="replace").strip())
        self.pid = next((child.pid for child in _children(self._process.pid)), self._process.pid)

    def close(self) -> None:
        """Ends it, and with it what runs in processes of its own numbering."""
        self._process.communicate(timeout=PATIENCE_SECONDS)


class Machine:
    """One of the machines. `folder` is where it keeps what is its alone."""

    def __init__(self, network: Network, number: int, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.name = f"machine{number}"
        self.folder = folder
        self._network = network
        self._cable = f"cable{number}"
        self._holder = _Holder(
            [*("--net", "--uts", "--mount", "--pid", "--mount-proc"), "--fork", "--kill-child"],
            f"""hostname {self.name}
            mount --bind '{folder}/boot_id' /proc/sys/kernel/random/boot_id""",
        )
        self._words = ["nsenter", "--target", str(self._holder.pid)]
        self._words += ["--net", "--uts", "--mount", "--pid"]
        network.run(f"ip link add {self._cable} type veth peer name eth0 netns {self._holder.pid}")
        network.run(f"ip link set {self._cable} master switch")
        self.run(f"ip address add 10.77.0.{number + 10}/24 dev eth0")
        self.run("ip link set eth0 up; ip link set lo up")
        self.join()

    def cut_off(self) -> None:
        """Pulls the plug: what is sent is lost, and nobody is told."""
        self._network.run(f"ip link set {self._cable} down")

    def join(self) -> None:
        """Puts it in again."""
        self._network.run(f"ip link set {self._cable} up")

    def run(self, script: str) -> str:
        """Runs a few lines of shell on it; what they print."""
        return _run(self._words, script)

    def words(self, folder: Path) -> list[str]:
        """What before a command makes it run here, in this folder."""
        return [*self._words, "sh", "-c", 'cd "$0"; exec "$@"', str(folder)]

    def start_worker(
        self, sandbox: Sandbox, *options: str, env: Mapping[str, str]
    ) -> WorkerProcess:
        """Starts a worker of the sandbox's queue here."""
        return sandbox.start_worker(
            *options,
            program=[*self.words(sandbox.folder), *sandbox.command_line("worker-start")],
            env={"QUEUECTL_HOME": str(self.folder), **env},
        )

    def close(self) -> None:
        self._holder.close()


class Network:
    """A switch with an address of its own, and the machines at it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._holder = _Holder(
            ["--net"],
            f"""ip link add switch type bridge
            ip address add {SWITCH_ADDRESS}/24 dev switch
            ip link set switch up; ip link set lo up""",
        )
        self.machines: list[Machine] = []

    @property
    def words(self) -> list[str]:
        """What before a command makes it run at the switch."""
        return ["nsenter", "--target", str(self._holder.pid), "--net"]

    def run(self, script: str) -> str:
        """Runs a few lines of shell at the switch; what they print."""
        return _run(self.words, script)

    def add(self) -> Machine:
        """One more machine."""
        number = len(self.machines) + 1
        machine = Machine(self, number, self._folder / f"machine{number}")
        self.machines.append(machine)
        return machine

    def close(self) -> None:
        for machine in self.machines:
            machine.close()
        self._holder.close()


def worker_of(process: WorkerProcess) -> int:
    """The process of a worker on a machine, as numbered here: what was started only went there."""
    (child,) = _children(process.pid)
    return child.pid


def _children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


def _run(words: list[str], script: str) -> str:
    done = subprocess.run(
        [*words, "sh", "-ec", script], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoNetwork(done.stderr.strip())
    return done.stdout


@contextmanager
def new_network(folder: Path) -> Iterator[Network]:
    """A network of which nothing is left afterwards. The test is skipped where none can be made."""
    why = ""
    if sys.platform != "linux" or os.geteuid() != 0:
        why = "it takes root on Linux"
    elif missing := [
        name for name in ("ip", "unshare", "nsenter", "setpriv") if not shutil.which(name)
    ]:
        why = f"{' and '.join(missing)} is missing"
    if why:
        pytest.skip(f"no machines could be made for this test: {why}")
    try:
        network = Network(folder)
    except NoNetwork as error:
        pytest.skip(f"no machines could be made for this test: {error}")
    try:
        yield network
    finally:
        network.close()
