"""What has to be done in another way on Windows; all of it is here.

Imported there alone, for what POSIX has and Windows lacks: a shell's quoting, ending a command with
all it started, locks, waiting for a wake-up, processes that go on without their parent.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# ---- the command line


def join(words: Sequence[str]) -> str:
    """The line that cmd.exe, and then the program it starts, take for exactly these words.

    Out of reach: a `%` in the program's own name, a line break in a word, a variable whose name
    begins with `^`, and readers with rules of their own: batch files, which cmd reads a second
    time, cmd's built-in commands, programs that do not leave the splitting to the C library.
    """
    program = [_quoted(word, is_program=True) for word in words[:1]]
    return " ".join(program + [_quoted(word, is_program=False) for word in words[1:]])


# To cmd, `bin/tool` is `bin` with an option, and an `@` in front is not a part of the name.
_PLAIN_PROGRAM: Callable[[str], object] = re.compile(r"[A-Za-z0-9_.:\\~+#$-]+").fullmatch
_PLAIN: Callable[[str], object] = re.compile(r"[A-Za-z0-9_.:\\~+#$/@-]+").fullmatch


def _quoted(word: str, *, is_program: bool) -> str:
    if (_PLAIN_PROGRAM if is_program else _PLAIN)(word):
        return word
    # To the program, a backslash is one, unless a quote comes behind it.
    text = re.sub(r'(\\*)"', r'\1\1\\"', word)
    text = '"' + re.sub(r"(\\+)$", r"\1\1", text) + '"'
    if '"' not in word and (is_program or "%" not in word):
        return text  # Cmd sees nothing between two quotes but `%`.
    # Cmd would take the word's own quotes for the ends of a quoted part. So it gets to see none:
    # what has a meaning to it stands behind a `^`, and so does what follows a `%`, for no variable
    # has such a name.
    return re.sub(r'[()%!^"<>&|]|(?<=%).', r"^\g<0>", text)


def shell_line(shell: str, command: str) -> str:
    """The command line with which cmd.exe, at `shell`, runs `command` as if it had been typed."""
    # /d: without the user's start-up commands. /v:off: `!` is an ordinary character. /s: the first
    # and the last quote are ours, and what is between them is the command.
    return f'"{shell}" /d /v:off /s /c "{command}"'


# ---- how processes are started

BACKGROUND = "background"
SUPERVISED = "supervised"

_ROLE = "QUEUECTL_STARTED_AS"

_SUSPENDED = 0x4
_NEW_GROUP = 0x200
_HIDDEN_CONSOLE = 0x8000000


def command_flags(*, has_console: bool) -> int:
    """How a command is started: stopped at first, to be put into its Job Object before it does
    anything; as a group of its own, so that Ctrl-C in the terminal does not hit it.

    It shares the worker's console, if there is one: only then can it be sent a Ctrl-Break.
    """
    return _SUSPENDED | _NEW_GROUP | (0 if has_console else _HIDDEN_CONSOLE)


def worker_flags(role: str) -> int:
    """How another process of queuectl is started. One in the background gets a console that nobody
    sees, in place of none at all: its commands share that.
    """
    return _NEW_GROUP | (_HIDDEN_CONSOLE if role == BACKGROUND else 0)


def started_as() -> str:
    """What another process of queuectl started this one as: BACKGROUND, SUPERVISED, or nothing."""
    return os.environ.get(_ROLE, "")


def environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    """What a worker hands on to all its commands, with `variables`; without those that are None."""
    kept = {n: value for n, value in os.environ.items() if n != _ROLE and n not in variables}
    return {**kept, **{n: value for n, value in variables.items() if value is not None}}


if sys.platform == "win32":
    import ctypes
    import msvcrt
    import select
    import signal
    import socket
    import time
    from ctypes import wintypes

    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.CreateFileW.restype = wintypes.HANDLE
    _kernel32.CreateJobObjectW.restype = wintypes.HANDLE
    _kernel32.OpenProcess.restype = wintypes.HANDLE

    def _check(success: object) -> None:
        if not success:
            raise ctypes.WinError(ctypes.get_last_error())

    def ask_to_stop(group: int) -> bool:
        """Sends a Ctrl-Break to a process that was started as a group, and to what it started; false
        when that cannot be done.
        """
        # Not `os.kill`: where it cannot do it, Python 3.11 ends the process instead.
        return bool(_kernel32.GenerateConsoleCtrlEvent(signal.CTRL_BREAK_EVENT, group))

    # ---- commands

    # Names, layouts and numbers are those of winnt.h.
    _JobObjectBasicAccountingInformation = 1
    _JobObjectExtendedLimitInformation = 9
    _JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE = 0x2000
    _PROCESS_TERMINATE_AND_SET_QUOTA = 0x101

    class _Accounting(ctypes.Structure):
        _fields_ = (
            ("times", ctypes.c_int64 * 4),
            ("TotalPageFaultCount", wintypes.DWORD),
            ("TotalProcesses", wintypes.DWORD),
            ("ActiveProcesses", wintypes.DWORD),
            ("TotalTerminatedProcesses", wintypes.DWORD),
        )

    class _Limits(ctypes.Structure):
        _fields_ = (
            ("times", ctypes.c_int64 * 2),
            ("LimitFlags", wintypes.DWORD),
            ("working_set", ctypes.c_size_t * 2),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("priorities", wintypes.DWORD * 2),
            ("io", ctypes.c_uint64 * 6),
            ("memory", ctypes.c_size_t * 4),
        )

    class _Job:
        """A Job Object: a process in it, and for ever all that it starts, and what that starts.

        When its last handle is closed, also by the death of this process, they all end.
        """

        def __init__(self) -> None:
            handle = _kernel32.CreateJobObjectW(None, None)
            _check(handle)
            self._handle = wintypes.HANDLE(handle)
            self._limit(_JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE)

        def _limit(self, flags: int) -> None:
            kind, limits = _JobObjectExtendedLimitInformation, _Limits(LimitFlags=flags)
            size = ctypes.sizeof(limits)
            _check(
                _kernel32.SetInformationJobObject(self._handle, kind, ctypes.byref(limits), size)
            )

        def add(self, pid: int) -> None:
            """Takes in a process that was just started."""
            process = wintypes.HANDLE(
                _kernel32.OpenProcess(_PROCESS_TERMINATE_AND_SET_QUOTA, False, pid)
            )
            _check(process)
            try:
                _check(_kernel32.AssignProcessToJobObject(self._handle, process))
            finally:
                _kernel32.CloseHandle(process)

        def is_empty(self) -> bool:
            """Whether nothing in it runs any more."""
            kind, facts = _JobObjectBasicAccountingInformation, _Accounting()
            size = ctypes.sizeof(facts)
            _check(
                _kernel32.QueryInformationJobObject(
                    self._handle, kind, ctypes.byref(facts), size, None
                )
            )
            return not facts.ActiveProcesses

        def terminate(self) -> None:
            """Ends all that is in it."""
            _kernel32.TerminateJobObject(self._handle, 1)

        def release(self) -> None:
            """Closes it. What is still in it goes on."""
            self._limit(0)
            self.close()

        def close(self) -> None:
            """Closes it, and ends what is in it."""
            _kernel32.CloseHandle(self._handle)

    def _has_console() -> bool:
        return bool(_kernel32.GetConsoleProcessList((wintypes.DWORD * 1)(), 1))

    OUT_OF_RESOURCES = (4, 8, 14, 1450, 1455)
    """Errors of CreateProcess that say that the machine has no room: for files, memory, others."""

    # A process id is not given to another process while there is a handle to the first one, and
    # `Popen` keeps one.
    _commands: dict[int, tuple[subprocess.Popen[bytes], _Job]] = {}

    def start_command(command: str, environ: Mapping[str, str], folder: str, output: int) -> int:
        """Starts `command` in cmd.exe with its output to the file descriptor `output`, of which
        nothing else inherits anything; returns its process id.

        Raises OSError.
        """
        import psutil

        shell = os.environ.get("COMSPEC") or os.path.join(
            os.environ["SYSTEMROOT"], "System32", "cmd.exe"
        )
        job = _Job()
        try:
            process = subprocess.Popen(
                shell_line(shell, command),
                executable=shell,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environ,
                creationflags=command_flags(has_console=_has_console()),
            )
        except BaseException:
            job.close()
            raise
        try:
            job.add(process.pid)
            psutil.Process(process.pid).resume()
        except (OSError, psutil.Error) as error:
            process.kill()
            process.wait()
            job.close()
            raise OSError(0, str(error)) from error
        _commands[process.pid] = (process, job)
        return process.pid

    def wait_for_command(pid: int) -> None:
        """Returns when the command's first process has ended."""
        _commands[pid][0].wait()

    def is_gone(pid: int) -> bool:
        """Whether nothing that the command started runs any more."""
        return _commands[pid][1].is_empty()

    def end_command(pid: int, *, politely: bool) -> None:
        """Ends a command with everything it started; `politely` by a Ctrl-Break, which it may take
        as it likes.
        """
        # Without a console there is no way to ask.
        if not politely or not ask_to_stop(pid):
            _commands[pid][1].terminate()

    def forget_command(pid: int) -> int:
        """Gives the exit status of a command that has ended, in the form of `os.waitpid`. What it
        left behind may go on.
        """
        process, job = _commands.pop(pid)
        job.release()
        return (process.wait() & 0xFFFFFFFF) << 8

    # ---- files

    _FILE_APPEND_AND_READ = 0x12019D
    """FILE_GENERIC_READ and FILE_GENERIC_WRITE without FILE_WRITE_DATA."""
    _FILE_SHARE_ALL = 7
    _OPEN_ALWAYS = 4

    def open_append(path: str) -> int:
        """A file descriptor whose writes go to the end of the file, wherever that is by then, also
        those of the processes that inherit it: O_APPEND is a matter of each process's own C
        library, and theirs know nothing of it. The file is made if there is none, and may be
        removed while it is open. Raises OSError.
        """
        handle = _kernel32.CreateFileW(
            path, _FILE_APPEND_AND_READ, _FILE_SHARE_ALL, None, _OPEN_ALWAYS, 0, None
        )
        _check(handle != wintypes.HANDLE(-1).value)
        return msvcrt.open_osfhandle(handle, os.O_RDWR | os.O_APPEND | os.O_NOINHERIT)

    # What is locked cannot be read by others: so it is a byte far behind what is in the file.
    _LOCKED_BYTE = 0x7FFF0000

    def try_lock(fd: int) -> bool:
        """Locks the file until `unlock`, or until this process ends; false when another has it."""
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Frees the lock, which closing the file does only by and by."""
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

    # ---- waiting

    class Bell:
        """Wakes a thread that waits, from other threads and from signal handlers.

        A pair of sockets, not a pipe: nothing else can be waited for with `select`, and Ctrl-C
        does not end a wait for a lock.
        """

        def __init__(self) -> None:
            self._out, self._in = socket.socketpair()
            self._out.setblocking(False)
            self._in.setblocking(False)

        @property
        def descriptor(self) -> int:
            """What `signal.set_wakeup_fd` wants."""
            return self._in.fileno()

        def listen(self, descriptor: int) -> None:
            """There is nothing else to wait for here."""

        def forget(self, descriptor: int) -> None:
            """Nothing else was waited for."""

        def ring(self) -> None:
            """Ends the wait, or the next one. Never blocks."""
            try:
                self._in.send(b".")
            except BlockingIOError:
                pass  # It has been rung many times over.

        def wait(self, seconds: float | None) -> bool:
            """Waits until it is rung; false when it was not within `seconds` (None: no limit)."""
            if not select.select([self._out], [], [], seconds)[0]:
                return False
            try:
                self._out.recv(65536)
            except BlockingIOError:
                pass
            return True

        def close(self) -> None:
            """Gives the sockets back."""
            self._out.close()
            self._in.close()

    # ---- processes of our own

    _workers: dict[int, subprocess.Popen[bytes]] = {}

    def start_again(role: str) -> tuple[int, bytes]:
        """Runs this process's own command line in another process, which learns from `started_as`
        what it is; returns its process id and the first line that it writes to its stdout.

        That is empty when it ended without one.
        """
        process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, _ROLE: role},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # Else a pipe that our own stderr may be would stay open for as long as it lives.
            stderr=subprocess.DEVNULL if role == BACKGROUND else 2,
            creationflags=worker_flags(role),
        )
        _workers[process.pid] = process
        # A line, not all there is: what it starts may keep the other end open.
        return process.pid, process.stdout.readline() if process.stdout else b""

    def wait_for_one() -> tuple[int, int]:
        """Waits until a process that `start_again` started has ended; returns its process id and its
        exit status, and does not know it any more.
        """
        while True:
            for pid, process in _workers.items():
                status = process.poll()
                if status is not None:
                    del _workers[pid]
                    return pid, status
            time.sleep(0.1)
