"""What of the output of commands a storage keeps, and when it lets go of it."""

from __future__ import annotations

import zlib

import pytest

from queuectl.jobs.claim import Claim
from queuectl.jobs.lifecycle import FINISHED
from queuectl.jobs.outcome import SUCCEEDED
from queuectl.storage.records import OutputPart
from tests.contract.support import FAILED, Pair


@pytest.fixture
def keeping(pair: Pair) -> Pair:
    """A pair with a worker, on a storage that keeps output; on others there is nothing to see."""
    pair.register("w")
    if not pair.work.keeps_output:
        pair.enqueue("a")
        claim = pair.claim_one("w")
        assert not pair.jobs.keeps_output
        assert pair.work.keep_output("w", [part(claim, (0, b"x"))]) == []
        pair.settle("w", claim)
        assert pair.jobs.attempts("a")[0].run is None
        assert pair.jobs.output("a", None) is None
        assert pair.jobs.output_blocks("a", None, 0, 9) == []
        pytest.skip("this storage keeps no output")
    return pair


def part(
    claim: Claim,
    *blocks: tuple[int, bytes],
    dropped: tuple[tuple[int, int], ...] = (),
    begins: int = 0,
    length: int = 100,
) -> OutputPart:
    """A piece of a copy, from a log on a machine called there."""
    packed = [(number, len(data), zlib.compress(data)) for number, data in blocks]
    return OutputPart(claim, "there", "/logs", begins, length, list(dropped), packed)


def kept(pair: Pair, id: str, at: int = -1) -> list[tuple[int, bytes]]:
    """The blocks of one of the job's attempts."""
    run = pair.jobs.attempts(id)[at].run
    return [(n, zlib.decompress(data)) for n, data in pair.jobs.output_blocks(id, run, 0, 99)]


def test_blocks_are_kept_replaced_and_dropped(keeping: Pair) -> None:
    """A block takes the place of one with its number; the copy of each run is its own, and can be
    read from any block on.
    """
    keeping.enqueue("a", "b")
    a, b = keeping.claim("w", 2)
    assert keeping.work.keep_output("w", [part(a, (0, b"x"), (1, b"y")), part(b, (0, b""))]) == []
    assert keeping.work.keep_output("w", [part(a, (1, b"yy"), (5, b"\0\xff"), length=7)]) == []
    assert kept(keeping, "a") == [(0, b"x"), (1, b"yy"), (5, b"\0\xff")]
    assert kept(keeping, "b") == [(0, b"")]
    keeping.work.keep_output("w", [part(a, (6, b"z"), dropped=((0, 1), (2, 6)), begins=1)])
    assert kept(keeping, "a") == [(1, b"yy"), (6, b"z")]
    run = keeping.jobs.attempts("a")[0].run
    assert keeping.jobs.output("a", run) == ("there", "/logs", 1, 100, [(1, 2), (6, 1)])
    assert [n for n, _ in keeping.jobs.output_blocks("a", run, 2, 9)] == [6]
    assert [n for n, _ in keeping.jobs.output_blocks("a", run, 0, 1)] == [1]
    assert keeping.jobs.output("none", run) is None


def test_the_rest_comes_with_the_outcome(keeping: Pair) -> None:
    """What a settlement brings along is there when the outcome is; that of a late one is not."""
    keeping.enqueue("a", "b")
    a, b = keeping.claim("w", 2)
    keeping.work.give_back("w", [b])
    settlements = [
        keeping.settlement(claim)._replace(output=part(claim, (0, b"out"))) for claim in (a, b)
    ]
    assert keeping.work.exchange("w", settlements, 0).refused == [b]
    assert kept(keeping, "a") == [(0, b"out")]
    again = keeping.claim_one("w")
    assert kept(keeping, "b") == []
    keeping.settle("w", again)
    assert kept(keeping, "b") == []


def test_each_run_keeps_its_own(keeping: Pair) -> None:
    """Runs that have the same number, before and after a requeue, have copies of their own."""
    keeping.enqueue("a")
    for text in (b"one", b"two"):
        claim = keeping.claim_one("w")
        keeping.work.keep_output("w", [part(claim, (0, text))])
        keeping.settle("w", claim)
        keeping.jobs.requeue(["a"], keeping.clock.now(), FINISHED)
    assert [kept(keeping, "a", at) for at in (0, 1)] == [[(0, b"one")], [(0, b"two")]]


@pytest.mark.parametrize("how", ["settled", "given back", "rescued", "another worker"])
def test_a_late_piece_changes_nothing(keeping: Pair, how: str) -> None:
    """What no longer holds the claim is told so; what the others keep is not lost by that."""
    keeping.enqueue("a", "b")
    a, b = keeping.claim("w", 2)
    keeping.register("v")
    worker = "w"
    if how == "settled":
        keeping.settle("w", a)
    elif how == "given back":
        keeping.work.give_back("w", [a])
    elif how == "rescued":
        keeping.work.fence("w")
        keeping.work.rescue("w", lambda claim: (SUCCEEDED, keeping.settlement(claim).verdict))
    else:
        worker = "v"
    refused = keeping.work.keep_output(worker, [part(a, (0, b"x")), part(b, (0, b"y"))])
    assert refused == ([a] if how in ("settled", "given back") else [a, b])


@pytest.mark.parametrize("how", ["delete", "prune"])
def test_output_goes_with_its_job(keeping: Pair, how: str) -> None:
    """A new job with the old id has nothing of it."""
    keeping.enqueue("a")
    claim = keeping.claim_one("w")
    keeping.work.keep_output("w", [part(claim, (0, b"x"))])
    keeping.settle("w", claim)
    run = keeping.jobs.attempts("a")[0].run
    assert keeping.jobs.output("a", run) is not None
    if how == "delete":
        keeping.jobs.delete(["a"], FINISHED)
    else:
        assert keeping.jobs.prune(FINISHED, None, 10) == ["a"]
    keeping.enqueue("a")
    assert keeping.jobs.output("a", run) is None


def test_a_heartbeat_waits_for_no_output(keeping: Pair) -> None:
    """While a piece is on its way, the lease is renewed and other jobs are settled."""
    keeping.enqueue("a", "b")
    a, b = keeping.claim("w", 2)
    copying = keeping.database.open_work(keeping.clock)
    db = copying._db  # type: ignore[attr-defined]
    with db.transaction():
        db.fetch("SELECT 1 FROM workers WHERE id = 'w' FOR KEY SHARE")
        assert copying._keep("w", [part(a, (0, b"x"))])  # type: ignore[attr-defined]
        keeping.work.heartbeat("w", 30)
        assert keeping.settle("w", b, FAILED) == []
        assert keeping.work.give_up("w", 0) is False
    assert kept(keeping, "a") == [(0, b"x")]
