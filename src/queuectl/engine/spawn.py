"""Starting a process without stopping the rest of the worker.

`os.posix_spawn` keeps Python's global lock until the new program has begun, and with it every
other thread of the worker: a fifth of the machine is idle meanwhile. Called through ctypes, the
very same function of the C library lets the others run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

# There, `windows` starts the commands.
assert sys.platform != "win32"  # noqa: S101 - in these words a type checker understands it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Spawn = Callable[[bytes, Sequence[bytes], Sequence[bytes], bytes, int, int], int]
    """(program, words, more of the environment, folder, stdin, stdout and stderr) -> pid.

    The new process leads a process group of its own. A program without a slash is looked up on
    this process's PATH. Raises OSError: ENOENT and its like may also be about the folder.
    """

_CATCHABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}

# Room for the C library's own structures, whatever its version: glibc needs 80, 336 and 128 bytes.
_ROOM = 1024

_MOST_KNOWN = 512
"""How many ways of starting a process are kept, 2 KiB each."""

_POSIX_SPAWN_SETPGROUP = 0x02
_POSIX_SPAWN_SETSIGDEF = 0x04
_POSIX_SPAWN_SETSIGMASK = 0x08


def make_spawn(environ: Sequence[bytes]) -> Spawn:
    """The quickest way to start a process that this system has.

    `environ` holds what all processes share, as NAME=VALUE. They begin with no signal blocked and
    none ignored, whatever this process was started with: a command has to hear that it is to end,
    and `yes | head` must not complain of a broken pipe, which Python ignores.
    """
    if os.uname().sysname == "Linux":
        try:
            return _through_ctypes(environ)
        except (ImportError, OSError, AttributeError):
            pass  # An old or unusual C library.
    return _through_python(environ)


def _through_ctypes(shared: Sequence[bytes]) -> Spawn:
    from ctypes import (
        CDLL,
        PyDLL,
        byref,
        c_char_p,
        c_int,
        c_short,
        create_string_buffer,
    )

    # CDLL lets other threads run during a call, PyDLL does not: quicker where there is no waiting.
    slow, quick = CDLL(None), PyDLL(None)
    spawn = slow.posix_spawn
    spawn_on_path = slow.posix_spawnp
    begin = quick.posix_spawn_file_actions_init
    change_folder = quick.posix_spawn_file_actions_addchdir_np
    duplicate = quick.posix_spawn_file_actions_adddup2
    destroy = quick.posix_spawn_file_actions_destroy

    attributes = create_string_buffer(_ROOM)
    flags = _POSIX_SPAWN_SETPGROUP | _POSIX_SPAWN_SETSIGDEF | _POSIX_SPAWN_SETSIGMASK
    defaults, none = create_string_buffer(_ROOM), create_string_buffer(_ROOM)
    # All of them: for each one not named here, the C library asks how it is handled now.
    quick.sigfillset(defaults)
    quick.sigemptyset(none)
    quick.posix_spawnattr_init(attributes)
    quick.posix_spawnattr_setflags(attributes, c_short(flags))
    quick.posix_spawnattr_setpgroup(attributes, 0)
    quick.posix_spawnattr_setsigdefault(attributes, defaults)
    quick.posix_spawnattr_setsigmask(attributes, none)

    class Actions:
        """What a new process does before it becomes its program."""

        __slots__ = ("_destroy", "room")

        def __init__(self, folder: bytes, stdin: int, output: int) -> None:
            self.room = create_string_buffer(_ROOM)
            self._destroy = destroy
            begin(self.room)
            duplicate(self.room, stdin, 0)
            duplicate(self.room, output, 1)
            duplicate(self.room, output, 2)
            # Last: a folder can keep it waiting for long, and until it has become its program it is
            # known as the job's by its output alone.
            change_folder(self.room, folder)

        def __del__(self) -> None:
            self._destroy(self.room)

    # Jobs of a folder have the same few numbers for their output again and again. The C library
    # only reads them, so that all threads can share them.
    known: dict[tuple[bytes, int, int], Actions] = {}

    def actions_for(place: tuple[bytes, int, int]) -> Actions:
        if len(known) >= _MOST_KNOWN:
            known.clear()  # What is in use is kept by those who use it.
        actions = known[place] = Actions(*place)
        return actions

    class Room(threading.local):
        """What each thread needs, made once: of the environment only the last few places change."""

        def __init__(self) -> None:
            self.pid = c_int()
            self.environ = (c_char_p * 0)()

    room = Room()

    def start(
        program: bytes,
        words: Sequence[bytes],
        more: Sequence[bytes],
        folder: bytes,
        stdin: int,
        output: int,
    ) -> int:
        pid, environ = room.pid, room.environ
        if len(environ) != len(shared) + len(more) + 1:
            environ = room.environ = (c_char_p * (len(shared) + len(more) + 1))(*shared)
        for position, variable in enumerate(more, len(shared)):
            environ[position] = variable
        place = (folder, stdin, output)
        actions = known.get(place) or actions_for(place)
        error = (spawn if b"/" in program else spawn_on_path)(
            byref(pid),
            program,
            actions.room,
            attributes,
            (c_char_p * (len(words) + 1))(*words),
            environ,
        )
        if error:
            raise OSError(error, os.strerror(error))
        return pid.value

    return start


def _through_python(shared: Sequence[bytes]) -> Spawn:
    one_at_a_time = threading.Lock()  # A process has one current folder, for all its threads.

    def start(
        program: bytes,
        words: Sequence[bytes],
        more: Sequence[bytes],
        folder: bytes,
        stdin: int,
        output: int,
    ) -> int:
        spawn = os.posix_spawn if b"/" in program else os.posix_spawnp
        with one_at_a_time:
            os.chdir(folder)
            return spawn(
                program,
                list(words),
                dict(variable.split(b"=", 1) for variable in (*shared, *more)),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_CATCHABLE,
            )

    return start
