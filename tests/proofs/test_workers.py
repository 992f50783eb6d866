"""Several processes find what one finds."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace

import pytest

from proofs import tree, workers
from proofs.check import check_proof
from proofs.domain import Literal, Path, Trail, literals
from proofs.proof import Proof, Side
from specs.errors import FarkasError
from specs.query import Query
from tests.proofs.helpers import BOTH, Net, at_least, box_case, builder, query

DEPTH = 11
LEAVES = 1 << DEPTH


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """A tree of a few thousand nodes is cut into parts, which other processes take."""
    monkeypatch.setattr(tree, "WORTH", -1.0)
    monkeypatch.setattr(tree, "FILLED", 1)
    monkeypatch.setattr(tree, "EACH", 2)


def stated(threshold: float) -> Query:
    """Whether a sum of three Relus, at most 2, stays below a threshold on a square."""
    net = Net(2)
    hidden = net.relu(net.dense(0, [[1, 1], [1, -1], [-1, 0.5]]))
    network = net.dense(hidden, [[1, 1, 1]])
    return query(net.done(network), [box_case([-1, -1], [1, 1], at_least(0, threshold))])


def proof_of(asked: Query, holes: frozenset[int] = frozenset()) -> Proof:
    """A full tree over the inputs; some leaves, numbered in order, are left open."""
    made, number = builder(asked), 0
    made.begin_tree()

    def grow(depth: int) -> None:
        nonlocal number
        if depth:
            made.split_input(depth % 2)
            grow(depth - 1)
            grow(depth - 1)
            return
        made.sweep()
        made.hole() if number in holes else made.close()
        number += 1

    grow(DEPTH)
    return made.finish()


def found(asked: Query, proof: Proof, processes: int, arithmetic: str = "outward"):
    checked = check_proof(asked, proof, arithmetic=arithmetic, processes=processes)
    return replace(checked, cpu_seconds=0.0)


@pytest.fixture
def counted(monkeypatch):
    """How many parcels went to other processes."""
    sent: list[int] = []

    def answers(setting, parcels, count):
        sent.append(len(parcels))
        return workers.answers(setting, parcels, count)

    monkeypatch.setattr(tree, "answers", answers)
    return sent


@pytest.mark.parametrize("threshold", [3.5, 1.9, 1.0])
def test_the_number_of_processes_changes_nothing(threshold, counted):
    asked = stated(threshold)
    proof = proof_of(asked)
    alone = found(asked, proof, 1)
    assert not counted
    assert found(asked, proof, 2) == found(asked, proof, 3) == alone
    assert len(counted) == 2
    assert min(counted) > 1
    assert alone.leaves == LEAVES
    assert alone.verdict == ("valid unsat" if threshold == 3.5 else "invalid")
    assert bool(alone.rejected) == (threshold != 3.5)


def test_exact_numbers_travel_too(counted):
    asked = stated(1.9)
    proof = proof_of(asked)
    assert found(asked, proof, 2, "exact") == found(asked, proof, 1, "exact")
    assert counted


@pytest.mark.parametrize("holes", [{0}, {LEAVES - 1}, {5, 700, 1999}])
def test_a_hole_anywhere_is_reported(holes, counted):
    asked = stated(3.5)
    proof = proof_of(asked, frozenset(holes))
    checked = found(asked, proof, 2)
    assert counted
    assert checked.verdict == "incomplete"
    assert len(checked.rejected) == len(holes)
    assert checked == found(asked, proof, 1)


@pytest.mark.parametrize(
    "start",
    ["raise SystemExit", "import sys; sys.stdin.buffer.read(99)", "import os; os.write(1, b'yes')"],
)
def test_a_process_that_does_not_answer_is_an_error(start, monkeypatch):
    asked = stated(3.5)
    proof = proof_of(asked)
    monkeypatch.setattr(workers, "START", start)
    with pytest.raises(FarkasError, match="ended early"):
        check_proof(asked, proof, processes=2)


def test_one_that_ends_does_not_keep_others_waiting(monkeypatch, counted):
    """More parts than processes, and all of these end at the first."""
    monkeypatch.setattr(tree, "FILLED", 0.2)
    monkeypatch.setattr(workers, "START", "import sys; sys.stdin.buffer.read(99)")
    asked = stated(3.5)
    with pytest.raises(FarkasError, match="ended early"):
        check_proof(asked, proof_of(asked), processes=2)
    assert counted[0] > 4


def test_memory_that_runs_short_elsewhere_is_no_other_error(monkeypatch, counted):
    short = "from proofs.tree import Walker; Walker.finish = lambda *_: bytes(1 << 60); serve()"
    monkeypatch.setattr(workers, "START", workers.START.replace("serve()", short))
    asked = stated(3.5)
    with pytest.raises(MemoryError):
        check_proof(asked, proof_of(asked), processes=2)
    assert counted


def test_what_a_process_raises_is_raised(monkeypatch, counted):
    asked = stated(3.5)
    proof = proof_of(asked)
    original = tree.Walker.setting
    late = lambda walker: replace(original(walker), seconds=-1.0)  # noqa: E731
    monkeypatch.setattr(tree.Walker, "setting", late)
    checked = check_proof(asked, proof, processes=2, deadline=time.monotonic() + 600)
    assert counted
    assert checked.verdict == "incomplete"
    assert "time limit" in checked.reason


def test_time_of_other_processes_counts(counted):
    asked = stated(3.5)
    proof, before = proof_of(asked), time.process_time()
    checked = check_proof(asked, proof, processes=2)
    assert counted
    assert checked.cpu_seconds > time.process_time() - before


def test_long_paths_travel():
    trail: Trail | None = None
    for number in range(20_000):
        trail = Trail.extend(trail, Literal((((0, number), 1.0),), 0.5, Side.UPPER))
    path = Path(3, (1, 2), trail)
    sent = pickle.loads(pickle.dumps(path))
    assert (sent.case, sent.disjuncts) == (3, (1, 2))
    assert literals(sent.trail) == literals(trail)
    assert sent.trail.length == 20_000


def test_little_waits_where_domains_are_large(monkeypatch):
    """A tree is walked depth first where only one domain fits."""
    asked, most = stated(3.5), 0
    original, put = tree.Walker.__init__, tree._Waiting.put

    def large(self, *args, **options):
        original(self, *args, **options)
        self._room = self._width = 1
        self._held = 8

    def watched(self, key, domains):
        nonlocal most
        put(self, key, domains)
        most = max(most, self.count)

    monkeypatch.setattr(tree.Walker, "__init__", large)
    monkeypatch.setattr(tree._Waiting, "put", watched)
    assert found(asked, proof_of(asked), 1).verdict == "valid unsat"
    assert 1 < most <= DEPTH


@pytest.mark.parametrize("arithmetic", BOTH)
def test_few_nodes_stay_in_one_part(arithmetic, monkeypatch, counted):
    monkeypatch.setattr(tree, "FILLED", 1 << 20)
    asked = stated(3.5)
    assert found(asked, proof_of(asked), 2, arithmetic).verdict == "valid unsat"
    assert not counted
