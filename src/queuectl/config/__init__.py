"""The settings: what there is, what each may be, and which value is in force and why.

The environment (`QUEUECTL_<NAME>`) goes before the file, the file before the default. Flags go
before all of them, and are the business of the command that has them.
"""

from __future__ import annotations

import os

from queuectl.config.settings import SETTINGS, Setting
from queuectl.errors import InvalidInput
from queuectl.text import is_url, nearest, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from queuectl.config.file import Contents
    from queuectl.config.settings import Value
    from queuectl.jobs.outcome import Policy

_BY_NAME = {setting.name: setting for setting in SETTINGS}


class Config:
    """The settings in force. Read them as attributes, or by name with `get`."""

    max_retries: int
    backoff_base: float
    job_timeout: float
    lease_seconds: float
    max_losses: int
    on_lost: str
    kill_grace_seconds: float
    stop_timeout_seconds: float
    log_max_bytes: int
    log_store: str
    log_tail_bytes: int
    poll_interval_seconds: float
    host_tags: str
    database_url: str

    __slots__ = (*_BY_NAME, "_origins", "is_remote", "path")

    def __init__(
        self,
        path: str = "",
        *,
        file: Mapping[str, Value] | None = None,
        environment: Mapping[str, Value] | None = None,
        is_remote: bool = False,
    ) -> None:
        self.path = path
        self.is_remote = is_remote
        self._origins = dict.fromkeys(_BY_NAME, "default")
        for setting in SETTINGS:
            setattr(self, setting.name, self.default(setting))
        for origin, values in (("file", file), ("environment", environment)):
            for name, value in (values or {}).items():
                setattr(self, name, value)
                self._origins[name] = origin

    @classmethod
    def load(cls, path: str, environ: Mapping[str, str], *, is_remote: bool = False) -> Config:
        """The settings from the file at `path`, if there is one, and from `environ`; `is_remote` says
        that the queue is on a server.

        Raises InvalidInput for a file that is broken (with its path, line and column) or a
        variable that is (with its name), and EnvironmentFault for a file that cannot be read.
        """
        return cls(
            path,
            file=_from_file(path),
            environment=_from_environment(environ),
            is_remote=is_remote,
        )

    def default(self, setting: Setting) -> Value:
        """The value of a setting that nobody has set."""
        return setting.remote_default if self.is_remote else setting.default

    def get(self, name: str) -> Value:
        """The value of one setting; raises InvalidInput when there is no such setting."""
        value: Value = getattr(self, find_setting(name).name)
        return value

    def policy(self) -> Policy:
        """What these settings decide for a job that leaves it open."""
        from queuectl.jobs.outcome import Policy

        return Policy(backoff_base=self.backoff_base, max_losses=self.max_losses)

    def origin(self, name: str) -> str:
        """Where its value comes from: "default", "file" or "environment"."""
        return self._origins[find_setting(name).name]


def find_setting(name: str, source: str = "") -> Setting:
    """The setting of that name; raises InvalidInput, with the nearest one, when there is none.

    `source` says where the name came from, and begins the message.
    """
    setting = _BY_NAME.get(name)
    if setting is not None:
        return setting
    close = nearest(name.lower(), tuple(_BY_NAME))
    prefix = f"{source}: " if source else ""
    raise InvalidInput(
        f"{prefix}there is no setting '{visible(name, 60)}'",
        hint=f"Did you mean {close}?" if close else f"There are {', '.join(_BY_NAME)}.",
    )


def parse(name: str, text: str) -> Value:
    """The value `text` stands for. Raises InvalidInput when it is none this setting may have."""
    setting = find_setting(name)
    value = setting.check_text(text)
    if value is None:
        raise setting.refuse(f"'{text}'")
    return value


def show(value: Value) -> str:
    """A value as people write it: 2.0 is 2. A URL is shown without its password."""
    return str(shown(value))


def shown(value: Value) -> Value:
    """A value as a program may be told it."""
    if not isinstance(value, str) or not is_url(value):
        return _plain(value)
    from queuectl.location import identity

    return identity(value)


def set_value(path: str, name: str, text: str) -> Value:
    """Write one setting to the file at `path`, made if need be (mode 0600), and return its value.

    On disk, whole or not at all, when this returns. Raises InvalidInput, having changed nothing,
    when the setting, the value, or what is in the file already, is refused; EnvironmentFault when
    the file cannot be read or written.
    """
    from queuectl.config import file

    value = parse(name, text)
    with file.locked(path):
        old = _checked(file.read(path))
        file.write(path, {**old, name: _plain(value)})
    return value


def unset_value(path: str, name: str) -> bool:
    """Take one setting out of the file at `path`; whether it was there. Raises as `set_value`."""
    from queuectl.config import file

    find_setting(name)
    with file.locked(path):
        old = _checked(file.read(path))
        if name not in old:
            return False
        file.write(path, {key: value for key, value in old.items() if key != name})
    return True


def in_file(path: str) -> dict[str, object]:
    """The settings in the file at `path`, as they stand there; raises as `Config.load`."""
    from queuectl.config import file

    return _checked(file.read(path))


def check_all(values: Mapping[str, object], source: str) -> None:
    """Raises InvalidInput, which begins with `source`, when one of these is no setting, or may not
    be what it is.
    """
    for name, value in values.items():
        setting = find_setting(name, source)
        if setting.check(value) is None:
            raise setting.refuse(visible(str(value), 60), source)


def add_missing(path: str, values: Mapping[str, object]) -> None:
    """Write settings to the file at `path`, but for those that it has. Raises as `set_value`."""
    from queuectl.config import file

    with file.locked(path):
        old = _checked(file.read(path))
        if values.keys() - old.keys():
            file.write(path, {**values, **old})


def _from_file(path: str) -> dict[str, Value]:
    try:
        os.stat(path)
    except FileNotFoundError:
        return {}  # before `json` is loaded, which every enqueue would have to wait for
    except OSError:
        pass  # reading it says what is wrong
    from queuectl.config import file

    contents = file.read(path)
    return {
        name: checked
        for name, value in _checked(contents).items()
        if (checked := _BY_NAME[name].check(value)) is not None
    }


def _checked(contents: Contents) -> dict[str, object]:
    """The values as they stand in the file, every one of which is known and allowed."""
    for name, value in contents.values.items():
        setting = find_setting(name, contents.where(name))
        if setting.check(value) is None:
            raise setting.refuse(contents.as_written(name), contents.where(name))
    return contents.values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for setting in SETTINGS:
        # Empty is unset, as shells and container files leave variables they have no value for.
        text = environ.get(setting.variable)
        if not text:
            continue
        if setting.name == "max_retries" and "QUEUECTL_JOB_ID" in environ:
            # Inside a job this variable tells the command about its own job; were it a setting,
            # every job that a job enqueues would inherit it.
            continue
        value = setting.check_text(text)
        if value is None:
            raise setting.refuse(f"'{text}'", f"environment variable {setting.variable}")
        values[setting.name] = value
    return values


def _plain(value: Value) -> Value:
    return int(value) if isinstance(value, float) and value.is_integer() else value
