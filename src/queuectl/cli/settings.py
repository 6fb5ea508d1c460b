"""`config ...`: the settings, and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from queuectl.cli.command import Command, Context, Result
from queuectl.config import Config, find_setting, set_value, show, shown, unset_value
from queuectl.config.settings import SETTINGS
from queuectl.text import counted, visible

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from queuectl.cli.screen import Screen

_TABLE_WIDTH = 180
"""A terminal that is narrower has no room for a table with what the settings mean."""


def _configure_name(parser: ArgumentParser) -> None:
    names = ", ".join(setting.name for setting in SETTINGS)
    parser.add_argument("name", metavar="NAME", help=f"one of {names}")


def _configure_set(parser: ArgumentParser) -> None:
    _configure_name(parser)
    parser.add_argument(
        "value",
        metavar="VALUE",
        help="a number, or a length of time or a size such as 90s or 64MiB; `queuectl config list` shows the range",
    )


def _set(context: Context) -> Result:
    workspace = context.workspace().make_folder()
    name, path = context.args.name, workspace.config
    value = set_value(path, name, context.args.value)
    config = _config(context)
    if config.origin(name) == "environment":
        context.note(
            f"{find_setting(name).variable} in the environment wins over it:"
            f" {visible(show(config.get(name)), 60)}"
        )
    _note_running_workers(context)
    text = f"Set {name} = {show(value)}" if value != "" else f"{name} is empty now"
    if workspace.is_remote:
        text += f", in {visible(path)}: for this machine, not for others"
    return Result(data=_setting(config, name), text=text, ids=[])


def _note_running_workers(context: Context) -> None:
    if not context.workspace().exists:
        return
    from queuectl.processes import living

    with context.queue() as queue:
        alive = living(queue.workers())
    if alive:
        count = counted(len(alive), "worker")
        context.note(f"{count} running now will read it on SIGHUP, or when started again")


def _unset(context: Context) -> Result:
    name = context.args.name
    was_set = unset_value(context.workspace().config, name)
    config = _config(context)
    value = show(config.get(name))
    if config.origin(name) == "environment":
        text = "is no longer set in the file" if was_set else "was not set in the file"
        text = f"{name} {text}; {find_setting(name).variable} in the environment makes it {value}"
    else:
        text = f"{name} = {value} again" if value else f"{name} is empty again"
        text = text if was_set else f"{name} was not set"
    return Result(data=_setting(config, name), text=text, ids=[])


def _get(context: Context) -> Result:
    config, name = _config(context), context.args.name
    value = show(config.get(name))
    return Result(data=_setting(config, name), text=value, ids=[value])


def _list(context: Context) -> Result:
    config = _config(context)

    def text(stream: TextIO) -> None:
        from queuectl.cli.screen import Screen
        from queuectl.cli.tables import Column, write_table

        screen = Screen(stream)
        if screen.width is not None and screen.width < _TABLE_WIDTH:
            _write_narrow(screen, config)
            return
        columns = (
            Column("NAME"),
            Column("VALUE", right=True),
            Column("DEFAULT", right=True),
            Column("FROM"),
            Column("MUST BE", least=10),
            Column("MEANING", least=12),
        )
        rows = (
            (
                setting.name,
                (show(config.get(setting.name)), "bold"),
                show(config.default(setting)),
                config.origin(setting.name),
                setting.accepts,
                setting.help,
            )
            for setting in SETTINGS
        )
        write_table(screen, columns, rows)

    data = [_setting(config, setting.name) for setting in SETTINGS]
    return Result(data=data, text=text, ids=[setting.name for setting in SETTINGS])


def _write_narrow(screen: Screen, config: Config) -> None:
    """The settings one below the other, where a table would have to leave out what they mean."""
    from textwrap import wrap

    for setting in SETTINGS:
        origin = config.origin(setting.name)
        if origin != "default":
            origin += f"; default {show(config.default(setting))}"
        # The name and the value are in one piece where they can be.
        head = f"{setting.name} = {show(config.get(setting.name))} ({origin})"
        for line in wrap(head, screen.width or 0, subsequent_indent="    "):
            screen.write(line)
        for line in wrap(
            f"{setting.help}; {setting.accepts}",
            screen.width or 0,
            initial_indent="  ",
            subsequent_indent="  ",
        ):
            screen.write(line)


def _config(context: Context) -> Config:
    workspace = context.workspace()
    if not workspace.exists and not workspace.is_remote:
        context.note(
            f"There is no queue at {visible(workspace.database)};"
            f" these settings are for one made there ({visible(workspace.config)})"
        )
    return workspace.load_config()


def _setting(config: Config, name: str) -> dict[str, object]:
    return {
        "name": name,
        "value": shown(config.get(name)),
        "default": config.default(find_setting(name)),
        "source": config.origin(name),
        "accepts": find_setting(name).accepts,
        "help": find_setting(name).help,
    }


COMMANDS = {
    "config set": Command(
        "Change a setting, in the file beside the queue. Workers take it over when they start, or get SIGHUP.",
        _set,
        examples="""
queuectl config set max_retries 5
queuectl config set job_timeout 30m
queuectl config set log_max_bytes 16MiB
""",
        configure=_configure_set,
    ),
    "config get": Command(
        "Print the value of a setting.",
        _get,
        examples="""
queuectl config get backoff_base
""",
        configure=_configure_name,
    ),
    "config list": Command(
        "Print all settings, and where each comes from: a default, the file or the environment.",
        _list,
        examples="""
queuectl config list
queuectl config list --json
""",
    ),
    "config unset": Command(
        "Go back to the default of a setting.",
        _unset,
        examples="""
queuectl config unset max_retries
""",
        configure=_configure_name,
    ),
}
