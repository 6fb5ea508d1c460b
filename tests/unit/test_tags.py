from __future__ import annotations

import pytest

from queuectl.errors import InvalidInput
from queuectl.jobs.tags import LONGEST_TAG, MOST_TAGS, beyond, by_requirement, checked, unpacked


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ("gpu", ("gpu",)),
        ("linux, gpu,linux", ("gpu", "linux")),
        (["py3.11", "x86_64", "a-b"], ("a-b", "py3.11", "x86_64")),
        ((), ()),
        ([], ()),
        ("a" * LONGEST_TAG, ("a" * LONGEST_TAG,)),
        ([f"t{n}" for n in range(MOST_TAGS)], tuple(sorted(f"t{n}" for n in range(MOST_TAGS)))),
    ],
)
def test_tags_are_kept_in_one_order(given: object, tags: tuple[str, ...]) -> None:
    """Text and lists give the same tags, each once, whatever order they came in."""
    assert checked("x", given) == tags
    assert unpacked(",".join(tags)) == tags


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "x must be tags such as gpu, not nothing"),
        ("gpu,", "not nothing"),
        ("GPU", "not 'GPU'"),
        ("-gpu", "not '-gpu'"),
        ("g pu", "not 'g pu'"),
        ("gpü", "not 'gpü'"),
        ("gpu\n\x1b", "not 'gpu\\n\\x1b'"),
        ("a" * (LONGEST_TAG + 1), "not 'aaaa"),
        (["a,b"], "not 'a,b'"),
        (["a", None], "text, or a list of texts"),
        (7, "text, or a list of texts"),
        ([f"t{n}" for n in range(MOST_TAGS + 1)], "x has 17 tags, more than 16"),
    ],
)
def test_what_is_no_tag_is_refused(given: object, said: str) -> None:
    """One line names the tag that is wrong, and begins with where it was given."""
    with pytest.raises(InvalidInput) as told:
        checked("x", given)
    assert said in told.value.message
    assert told.value.message.startswith("x ")


def test_requirements_that_nobody_meets() -> None:
    """A worker meets what is among its tags; several workers do not add up to one."""
    counts = by_requirement([("gpu", 2), ("gpu,linux", 3), ("gpu", 1)])
    assert counts == {("gpu",): 3, ("gpu", "linux"): 3}
    assert beyond(counts, []) == counts
    assert beyond(counts, [("gpu",), ("linux",)]) == {("gpu", "linux"): 3}
    assert beyond(counts, [("gpu", "linux", "x")]) == {}
