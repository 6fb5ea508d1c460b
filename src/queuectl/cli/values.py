"""Values that options carry, from the words a user typed. Light: `enqueue` uses it."""

from __future__ import annotations

from queuectl.errors import InvalidInput
from queuectl.text import nearest, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from queuectl.jobs.lifecycle import State

MOST_ROWS = 1_000_000_000
_ENDLESS = 10**18


def whole_number(option: str, value: str) -> int:
    """A whole number, with or without a sign. Raises InvalidInput."""
    digits = value.strip().removeprefix("-").removeprefix("+")
    # int() alone would take 1_000 and the digits of every script.
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidInput(f"{option} must be a whole number, not '{visible(value, 60)}'")
    if len(digits) > 18:  # Out of any range; int() would refuse thousands of digits.
        return -_ENDLESS if value.strip().startswith("-") else _ENDLESS
    return int(value)


def number(option: str, value: str) -> float:
    """A number, with or without decimals. Raises InvalidInput."""
    try:
        if value.isascii() and "_" not in value:
            return int(value) if value.lstrip("+-").isdigit() else float(value)
    except ValueError:
        pass
    raise InvalidInput(f"{option} must be a number, not '{visible(value, 60)}'")


def length(option: str, value: str) -> float:
    """A length of time, in seconds. Raises InvalidInput."""
    from queuectl.jobs.duration import parse

    try:
        return parse(value)
    except InvalidInput as problem:
        raise InvalidInput(f"{option}: {problem.message}", problem.hint) from None


def rows(option: str, value: str) -> int | None:
    """How many rows to show: a number from 1 on; None for `all`. Raises InvalidInput."""
    if value == "all":
        return None
    count = whole_number(option, value)
    if not 1 <= count <= MOST_ROWS:
        raise InvalidInput(
            f"{option} must be from 1 to {MOST_ROWS:,}, or all, not {visible(value, 40)}"
        )
    return count


def choice(option: str, value: str, choices: Sequence[str]) -> str:
    """One of the choices. Raises InvalidInput, with the nearest one."""
    if value in choices:
        return value
    guess = nearest(value, tuple(choices))
    raise InvalidInput(
        f"{option} cannot be '{visible(value, 60)}'",
        hint=f"Did you mean {guess}?" if guess else f"It can be {', '.join(choices)}.",
    )


def states(option: str, values: Sequence[str], allowed: Sequence[State]) -> list[State]:
    """States, each given by itself or several with commas between them. Raises InvalidInput."""
    names = [name.strip() for value in values for name in value.split(",")]
    if "scheduled" in names:
        raise InvalidInput(
            "scheduled is not a state: such a job is pending or failed, and its time is to come",
            hint="See when they run: queuectl list --state pending,failed --sort next_run",
        )
    chosen = {choice(option, name.lower(), [*allowed]) for name in names}
    return [state for state in allowed if state in chosen]
