"""Tags: what a worker has, and what a job may require of the worker that runs it."""

from __future__ import annotations

from queuectl.errors import InvalidInput
from queuectl.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_TAGS = 16
LONGEST_TAG = 32

# Lower case alone: GPU and gpu would be two tags that people take for one.
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_SIGNS = _LETTERS | frozenset("._-")

_HINT = (
    f"A tag has up to {LONGEST_TAG} of a-z, 0-9 and . _ - and begins with a letter or a digit;"
    " several go with commas between them."
)


def checked(name: str, given: object) -> tuple[str, ...]:
    """The tags in text with commas between them, or in a list: in ascending order, each once.

    Raises InvalidInput that begins with `name` for what is no tag, and for more than `MOST_TAGS`.
    """
    tags = set()
    for tag in given.split(",") if isinstance(given, str) else _listed(name, given):
        word = tag.strip()
        if not (0 < len(word) <= LONGEST_TAG and word[0] in _LETTERS and _SIGNS.issuperset(word)):
            what = f"'{visible(word, 40)}'" if word else "nothing"
            raise InvalidInput(f"{name} must be tags such as gpu, not {what}", hint=_HINT)
        tags.add(word)
    if len(tags) > MOST_TAGS:
        raise InvalidInput(f"{name} has {len(tags)} tags, more than {MOST_TAGS}")
    return tuple(sorted(tags))


def _listed(name: str, given: object) -> list[str]:
    if isinstance(given, (list, tuple, set, frozenset)):
        words = list(given)
        if all(isinstance(word, str) for word in words):
            return words
    raise InvalidInput(f"{name} must be text, or a list of texts", hint=_HINT)


def unpacked(text: str) -> tuple[str, ...]:
    """Tags as the databases hold them, with commas between them."""
    return tuple(text.split(",")) if text else ()


def by_requirement(rows: Iterable[tuple[str, int]]) -> dict[tuple[str, ...], int]:
    """Counts of jobs, added up for each set of tags that they require."""
    counts: dict[tuple[str, ...], int] = {}
    for text, count in rows:
        required = unpacked(text)
        counts[required] = counts.get(required, 0) + count
    return counts


def beyond(
    requirements: Mapping[tuple[str, ...], int], workers: Iterable[Iterable[str]]
) -> dict[tuple[str, ...], int]:
    """Of the requirements those that none of the workers, each given by its tags, meets."""
    having = [frozenset(tags) for tags in workers]
    return {
        required: count
        for required, count in requirements.items()
        if not any(tags.issuperset(required) for tags in having)
    }


def shown(requirements: Iterable[tuple[str, ...]]) -> str:
    """Sets of tags, for people: `gpu, or gpu and linux`."""
    return ", or ".join(" and ".join(required) for required in sorted(requirements))
