"""Other programs that run `true` many times: xargs, and the queues that happen to be installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

from bench._side_by_side import Contestant, environment, run

_HUEY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_huey_drain.py")


def xargs(count: int, slots: int, command: str = "true") -> Contestant:
    """Remembers nothing."""
    words = ["xargs", "-P", str(slots), "-n", "1", "sh", "-c", command]
    return Contestant(
        f"xargs -P {slots} sh -c '{command}'",
        lambda folder: run(words, cwd=folder, stdin=_numbers(folder, count)),
        count,
    )


def xargs_with_logs(count: int, slots: int) -> Contestant:
    """Keeps the output, in a file a job."""
    words = ["xargs", "-P", str(slots), "-n", "1", "sh", "-c", 'true > "$0.log" 2>&1']
    return Contestant(
        "the same with a log file a job",
        lambda folder: run(words, cwd=folder, stdin=_numbers(folder, count)),
        count,
    )


def installed(count: int, slots: int) -> list[Contestant]:
    """Those that are there. They are slower, so that `count` is best a smaller one."""
    found = []
    if shutil.which("parallel"):
        found.append(
            Contestant("GNU parallel", lambda folder: _parallel(folder, count, slots), count)
        )
        found.append(
            Contestant(
                "GNU parallel --joblog",
                lambda folder: _parallel(folder, count, slots, "--joblog", "jobs.log"),
                count,
            )
        )
    if shutil.which("tsp"):
        found.append(
            Contestant("task-spooler", lambda folder: _spooler(folder, count, slots), count)
        )
    if shutil.which("nq"):
        found.append(
            Contestant(f"nq, {slots} folders", lambda folder: _nq(folder, count, slots), count)
        )
    if importlib.util.find_spec("huey"):
        found.append(
            Contestant("huey on SQLite", lambda folder: _huey(folder, count, slots), count)
        )
    return found


def missing() -> list[str]:
    """The names of those that are not there."""
    programs = {"parallel": "GNU parallel", "tsp": "task-spooler", "nq": "nq"}
    names = [name for program, name in programs.items() if not shutil.which(program)]
    return names if importlib.util.find_spec("huey") else [*names, "huey"]


def _numbers(folder: str, count: int) -> str:
    path = os.path.join(folder, "numbers")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{number}\n" for number in range(count))
    return path


def _parallel(folder: str, count: int, slots: int, *options: str) -> float:
    words = ["parallel", "--will-cite", "-j", str(slots), *options, "true #"]
    env = {**environment(), "PARALLEL_HOME": folder}
    return run(words, cwd=folder, env=env, stdin=_numbers(folder, count))


def _spooler(folder: str, count: int, slots: int) -> float:
    """Queueing included: it starts with the first job."""
    env = {**environment(), "TS_SOCKET": os.path.join(folder, "tsp"), "TMPDIR": folder}
    env["TS_MAXFINISHED"] = str(count)
    run(["tsp", "-S", str(slots)], cwd=folder, env=env)
    script = f"for i in $(seq {count}); do tsp true; done; for i in $(seq {slots}); do tsp -w; done"
    seconds = run(["sh", "-c", script], cwd=folder, env=env)
    run(["tsp", "-K"], cwd=folder, env=env)
    return seconds


def _nq(folder: str, count: int, slots: int) -> float:
    """One job at a time in each folder; queueing included."""
    script = "\n".join(
        [
            f"for i in $(seq {count // slots}); do",
            *[f"  NQDIR={slot} nq -q true" for slot in range(slots)],
            "done",
            *[f"NQDIR={slot} nq -w" for slot in range(slots)],
        ]
    )
    for slot in range(slots):
        os.mkdir(os.path.join(folder, str(slot)))
    return run(["sh", "-c", script], cwd=folder)


def _huey(folder: str, count: int, slots: int) -> float:
    words = [sys.executable, _HUEY, os.path.join(folder, "huey.db"), str(count)]
    run([*words, "fill"], cwd=folder)
    return run([*words, str(slots)], cwd=folder)
