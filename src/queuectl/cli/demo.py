"""`demo`: a guided tour in a scratch folder. It types the real commands, and shows what they print."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from queuectl.cli import main
from queuectl.cli.command import Command, Context, Result
from queuectl.errors import CouldNotDo
from queuectl.job_queue import JobQueue
from queuectl.quoting import join
from queuectl.text import visible

if sys.platform == "win32":
    from queuectl import windows

if TYPE_CHECKING:
    from queuectl.cli.demo_progress import Progress

PACKAGES = (
    "asyncio collections concurrent ctypes email encodings html http importlib json logging"
    " multiprocessing re sqlite3 tomllib unittest urllib wsgiref xml zoneinfo"
).split()
"""Packages of the standard library whose files the jobs work on; each is there in every Python."""

JOBS_FILE = "jobs.jsonl"
_CHECKSUM_SCRIPT = "checksum.py"
_CHECKSUM_SOURCE = '''\
"""Writes the SHA-256 of each module in a folder to a file: checksum.py FOLDER FILE"""

import hashlib
import pathlib
import sys

folder, target = sys.argv[1:]
modules = sorted(pathlib.Path(folder).rglob("*.py"))
with open(target, "w", encoding="utf-8") as out:
    for module in modules:
        print(hashlib.sha256(module.read_bytes()).hexdigest(), module, sep="  ", file=out)
print(len(modules), "modules")
'''

_MISSING = "report.csv"

# The third run works: a service that was away for a moment, in one line of shell.
if sys.platform == "win32":
    _FLAKY = "echo run %QUEUECTL_ATTEMPT%& if %QUEUECTL_ATTEMPT% LSS 3 exit 1"
    _COUNT_LINES = ("find", "/c", "/v", "", _MISSING)
    _OWN_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _FLAKY = 'echo "run $QUEUECTL_ATTEMPT"; test "$QUEUECTL_ATTEMPT" -ge 3'
    _COUNT_LINES = ("wc", "-l", _MISSING)
    _OWN_GROUP = 0

_LONGEST_SECONDS = 300.0
_PATIENCE_SECONDS = 10.0

# The child imports from where this process does, however that was set up (a checkout, an
# installation), and leaves no trace of it in the environment that the jobs get.
_WORKER_SOURCE = (
    "import sys; sys.path[:] = {path!r}; from queuectl.cli import main; sys.exit(main())"
)


def _run(context: Context) -> Result:
    call = _how_it_was_called()
    folder = tempfile.mkdtemp(prefix="queuectl-demo-")
    try:
        with _on_stage(context, folder):
            try:
                return _tour(folder, call)
            except KeyboardInterrupt:
                print(f"\nStopped; nothing is left running. Clear up with: rm -r {join([folder])}")
                raise
    except BaseException:
        if context.args.quiet and not context.args.json:
            shutil.rmtree(folder, ignore_errors=True)  # Nobody was told of it.
        raise


def _tour(folder: str, call: str) -> Result:
    print(f"A tour in a folder of its own, {folder}\n")
    _write_files()
    print("Queue a command that fails twice before it works, and one that cannot work yet.")
    _type("enqueue", "--id", "flaky", "--backoff-base", "1.5", "--command", _FLAKY)
    _type("enqueue", "--id", "count-lines", "--max-retries", "1", "--", *_COUNT_LINES)
    print("\nQueue many at once: archives and checksums of Python's own library.")
    _type("enqueue", "--jobs-file", JOBS_FILE)
    print("\nRun it all, two at a time, until nothing is left to do.")
    with JobQueue.open(create=False) as queue:
        _work(queue)
        counts = {state.value: count for state, count in queue.counts().items()}
    print()
    _type("status")
    print("\nWhat used up its runs waits in the dead letter queue for a decision.")
    _type("dlq", "list")
    print("\nEach job has one log, with its runs one after the other.")
    _type("logs", "flaky")
    print(_farewell(folder, call), flush=True)
    return Result(data={"folder": folder, "jobs": counts}, ids=[folder])


def _farewell(folder: str, call: str) -> str:
    place = join([folder])
    steps = [f"cd {place}"]
    if call != "queuectl":
        # On Windows, these steps are for PowerShell.
        as_function = f"function queuectl {{ & {call} @args }}"
        steps.append(as_function if os.name == "nt" else f"alias queuectl={join([call])}")
    steps += [
        "queuectl show count-lines",
        f"ls > {_MISSING}",
        "queuectl dlq retry count-lines",
        "queuectl worker-start --drain",
        "queuectl logs count-lines",
        "queuectl --help",
    ]
    lines = "\n".join(f"  {step}" for step in steps)
    return (
        f"\nNothing is left running. To go on by hand, give {_MISSING} to the job that lacks it:\n\n"
        f"{lines}\n\nWhen you are done with it: rm -r {place}"
    )


@contextmanager
def _on_stage(context: Context, folder: str) -> Iterator[None]:
    """In the folder, without settings from outside, and out of the way of `--json` and `-q`."""
    strangers = {
        name: os.environ.pop(name) for name in [*os.environ] if name.startswith("QUEUECTL_")
    }
    with ExitStack() as stack:
        stack.callback(os.environ.update, strangers)
        stack.enter_context(chdir(folder))
        if context.args.json:
            stack.enter_context(redirect_stdout(sys.stderr))
        elif context.args.quiet:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        # Ended from outside, it cleans up as on Ctrl-C.
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        yield


def _write_files() -> None:
    with open(_CHECKSUM_SCRIPT, "w", encoding="utf-8") as script:
        script.write(_CHECKSUM_SOURCE)
    library = sysconfig.get_path("stdlib")
    with open(JOBS_FILE, "w", encoding="utf-8") as file:
        for name in PACKAGES:
            package = os.path.join(library, name)
            if not os.path.isdir(package):
                continue
            archive = ["-m", "tarfile", "-v", "-c", f"{name}.tar.gz", package]
            checksum = [_CHECKSUM_SCRIPT, package, f"{name}.sha256"]
            for id, words in ((f"archive-{name}", archive), (f"checksum-{name}", checksum)):
                command = join([sys.executable, *words])
                file.write(json.dumps({"id": id, "command": command}) + "\n")


def _type(*words: str) -> None:
    """Shows a command line and runs it."""
    _show(words)
    status = main(words)
    if status == 130:
        raise KeyboardInterrupt
    if status == 141:
        raise BrokenPipeError
    if status:
        raise CouldNotDo(f"the tour ended early: `queuectl {words[0]}` ended with status {status}")


def _show(words: tuple[str, ...]) -> None:
    from queuectl.cli.screen import Screen

    line = f"$ queuectl {join(words)}"
    print(Screen(sys.stdout).paint(line, "bold"), flush=True)


def _work(queue: JobQueue) -> None:
    """Runs a real worker until all is done, and shows how it goes."""
    from queuectl.cli.demo_progress import new_progress

    words = ("worker-start", "--count", "2", "--drain")
    _show(words)
    with new_progress(sys.stdout) as progress, _worker(words) as worker:
        _follow(queue, worker, progress)
        remarks = worker.communicate(timeout=_PATIENCE_SECONDS)[1]
    if worker.returncode:
        raise CouldNotDo(
            f"the worker ended with status {worker.returncode}: {visible(' '.join(remarks.split()))}"
        )
    print(remarks.splitlines()[-1])


def _follow(queue: JobQueue, worker: subprocess.Popen[str], progress: Progress) -> None:
    """Shows the progress until every job has ended, or the worker has."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    while True:
        is_last = worker.poll() is not None  # Asked first, so that what it did last is shown.
        if not progress.show(list(queue.list())) or is_last:
            return
        if time.monotonic() > deadline:
            raise CouldNotDo(f"the jobs had not ended after {_LONGEST_SECONDS:g} s")
        time.sleep(0.05)


@contextmanager
def _worker(words: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, which is gone afterwards, whatever happens."""
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER_SOURCE.format(path=sys.path), *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for this process, which then ends the worker.
        creationflags=_OWN_GROUP,
    )
    try:
        yield worker
    finally:
        _end(worker)


def _end(worker: subprocess.Popen[str]) -> None:
    """Ends a worker, which ends its commands, without waiting for any of them to finish."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while worker.poll() is None:
        if time.monotonic() > deadline:
            worker.kill()
        else:
            # More than once: the first interrupt lets the commands finish, the second does not.
            _interrupt(worker)
        try:
            worker.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue


def _interrupt(worker: subprocess.Popen[str]) -> None:
    if sys.platform != "win32":
        worker.send_signal(signal.SIGINT)
    elif not windows.ask_to_stop(worker.pid):
        worker.kill()  # Its commands end with it.


def _how_it_was_called() -> str:
    """What a user has to type for `queuectl` in another folder."""
    entry = os.path.abspath(sys.argv[0])
    found = shutil.which("queuectl")
    if found is not None and os.path.exists(entry) and os.path.samefile(found, entry):
        return "queuectl"
    words = [sys.executable, entry] if entry.endswith(".py") else [entry]
    return join(words)


COMMANDS = {
    "demo": Command(
        "See it all work, on real files, in a scratch folder that stays for you to look around.",
        _run,
        examples="queuectl demo",
        has_queue=False,
    )
}
