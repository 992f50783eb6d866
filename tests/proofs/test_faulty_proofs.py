"""Proofs about faulty networks: none of a falsehood is accepted, splits of budgets help."""

from __future__ import annotations

import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import tree as trees
from proofs.check import check_proof
from proofs.draft import draft_of, written
from proofs.faulty import parted, whole_budget
from proofs.format import read_evidence, write_proof
from proofs.minimise import minimise
from proofs.proof import NodeKind, ProofBuilder, Side, SlopeHint
from specs.errors import EvidenceError, QuestionError
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, Pruning, StuckAt, WeightBox
from specs.faults.struck import WordFaults, faults_of
from tests.proofs.faulty import (
    bounds,
    every_fault,
    faults_in,
    faulty_query,
    outputs,
    tiny_conv,
    tiny_dense,
)
from tests.proofs.helpers import BOTH, at_least, box_case

TWO = BitFlips(2, Quantised(3))
MODELS = {
    "flip": BitFlips(1, Quantised(4)),
    "two": TWO,
    "word": BitFlips(2, Quantised(3), per_word=True),
    "stuck": StuckAt(1, Quantised(3), reads=1),
    "pruning": Pruning(2),
}


def words(faults: WordFaults) -> int:
    return sum(faults.placed.parameters[name].size for name in faults.parameters)


def worst(faults: WordFaults, points, entry: int = 0) -> Fraction:
    """The largest output that some fault attains at one of some points."""
    return max(outputs(s.network, x)[entry][0] for s in every_fault(faults) for x in points)


class Grower:
    """Writes random trees, some of whose splits are of fault budgets."""

    def __init__(self, query, rng, words):
        self.builder = ProofBuilder(query)
        self.query, self.rng, self.words = query, rng, words

    def proof(self, depth=4):
        self.builder.begin_case(0)
        self.builder.begin_tree()
        self.grow(depth, whole_budget(self.query.network))
        return self.builder.finish()

    def grow(self, depth, shares):
        network, builder, rng = self.query.network, self.builder, self.rng
        kind = rng.choice(["close", "sweep", "input", "neuron", "faults", "faults"])
        if depth == 0 or kind == "close":
            builder.close(self.hints())
        elif kind == "sweep":
            builder.sweep(bool(rng.integers(2)))
            self.grow(depth - 1, shares)
        elif kind == "faults":
            ways = None
            while ways is None:
                word = int(rng.integers(1, self.words))
                if all(word != first for first, _ in shares):
                    ways = parted(shares, word)
            builder.split_faults(word, len(ways))
            for below in ways:
                self.grow(depth - 1, below)
        else:
            if kind == "input":
                builder.split_input(int(rng.integers(network.input_size)))
            else:
                tensor = int(rng.choice(network.preactivations))
                builder.split_neuron(tensor, int(rng.integers(network.sizes[tensor])))
            for _ in range(2):
                self.grow(depth - 1, shares)

    def hints(self):
        network, rng = self.query.network, self.rng
        if rng.integers(2):
            return None
        slopes = [
            SlopeHint(t, side, rng.random(network.sizes[t]))
            for t in network.nonlinear
            for side in Side
        ]
        return self.builder.substitution(slopes, weights=[1.0])


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_proof_of_a_falsehood_is_accepted(arithmetic, name, seed):
    rng = np.random.default_rng(seed)
    content, model = tiny_dense(seed), MODELS[name]
    low = rng.integers(-3, 3, 2) / 2.0
    high = low + rng.integers(0, 2, 2) / 2.0
    corners = [tuple(map(Fraction, x)) for x in ((*low,), (*high,), (low[0], high[1]))]
    faults = faults_in(content, model)
    top = worst(faults, corners)
    stated = faulty_query(content, model, [box_case(low, high, at_least(0, top))])
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == "invalid"
    for _ in range(4):
        proof = Grower(stated, rng, words(faults)).proof()
        assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "invalid"
    strict = faulty_query(content, model, [box_case(low, high, at_least(0, top, strict=True))])
    checked = check_proof(strict, None, arithmetic=arithmetic)
    assert checked.verdict in ("valid unsat", "invalid")


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("make", [tiny_dense, tiny_conv])
@pytest.mark.parametrize("model", [*MODELS.values(), WeightBox(Fraction(1, 8))], ids=str)
def test_what_is_above_all_bounds_is_proved(arithmetic, make, model):
    content = make(5)
    network = faults_in(content, model).network
    low, high = np.zeros(network.input_size), np.full(network.input_size, 0.5)
    found = bounds(arithmetic, network, low, high)
    limit = min(found.rows[1][0], found.intervals[1][0]) + Fraction(1, 2**20)
    stated = faulty_query(content, model, [box_case(low, high, at_least(0, limit))])
    checked = check_proof(stated, None, arithmetic=arithmetic)
    assert checked.verdict == "valid unsat", checked.reason
    if isinstance(model, WeightBox):
        return
    rng = np.random.default_rng(0)
    for _ in range(3):
        proof = Grower(stated, rng, words(faults_in(content, model))).proof(3)
        found_ = check_proof(stated, proof, arithmetic=arithmetic)
        assert found_.verdict in ("valid unsat", "invalid")


def split_everywhere(query, count):
    """Faults split before every word, the rest closed at once."""
    builder = ProofBuilder(query)
    builder.begin_case(0)
    builder.begin_tree()

    def part(shares, word):
        builder.sweep()
        if word == count:
            builder.close()
            return
        ways = parted(shares, word)
        builder.split_faults(word, len(ways))
        for below in ways:
            part(below, word + 1)

    part(whole_budget(query.network), 1)
    return builder.finish()


def a_split_that_helps(arithmetic):
    """A question of one flip that needs its words apart, with its proof."""
    content, model = tiny_dense(16), BitFlips(1, Quantised(3))
    faults = faults_in(content, model)
    count = words(faults)
    x = np.array([0.5, 1.0])
    alone = [
        bounds("outward", faults.network, x, x, ((0, 0), (word, 1), (word + 1, 0)))
        for word in range(1, count)
    ]
    alone.append(bounds("outward", faults.network, x, x, ((0, 1), (1, 0))))
    together = bounds("outward", faults.network, x, x).rows[1][0]
    apart = max(found.rows[1][0] for found in alone)
    assert worst(faults, [tuple(map(Fraction, x))]) <= apart < together
    stated = faulty_query(content, model, [box_case(x, x, at_least(0, (apart + together) / 2))])
    return stated, split_everywhere(stated, count), count


@pytest.mark.parametrize("arithmetic", BOTH)
def test_splits_of_budgets_prove_more(arithmetic, tmp_path):
    """With one word at a time in question, less is left open."""
    stated, proof, _ = a_split_that_helps(arithmetic)
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == "invalid"
    checked = check_proof(stated, proof, arithmetic=arithmetic)
    assert checked.verdict == "valid unsat", checked.reason
    for pack in (False, True):
        write_proof(tmp_path / "p", proof, pack=pack)
        read = read_evidence(tmp_path / "p")
        assert check_proof(stated, read, arithmetic=arithmetic).verdict == "valid unsat"
    again, _ = written(draft_of(stated, proof))
    assert check_proof(stated, again, arithmetic=arithmetic).verdict == "valid unsat"


def test_a_split_that_does_not_cover_is_noticed(monkeypatch):
    """Partitions of places do not cover two faults: a mutant of the rule accepts a falsehood."""

    def partition(shares, word):
        return tuple(way for way in parted(shares, word) if 0 in [most for _, most in way])

    escaped = 0
    for seed in range(12):
        content = tiny_dense(seed, (2, 2))
        faults, x = faults_in(content, TWO), np.array([0.5, 1.0])
        top = worst(faults, [tuple(map(Fraction, x))])
        stated = faulty_query(content, TWO, [box_case(x, x, at_least(0, top))])
        for word in range(1, words(faults)):
            for rule, count in ((parted, 3), (partition, 2)):
                monkeypatch.setattr(trees, "parted", rule)
                builder = ProofBuilder(stated)
                builder.begin_case(0)
                builder.begin_tree()
                builder.split_faults(word, count)
                for _ in range(count):
                    builder.sweep()
                    builder.close()
                verdict = check_proof(stated, builder.finish()).verdict
                assert rule is partition or verdict == "invalid"
                escaped += verdict == "valid unsat"
    assert escaped


def changed(proof, **arrays):
    made = {name: np.asarray(v, dtype=proof.arrays[name].dtype) for name, v in arrays.items()}
    return replace(proof, arrays={**proof.arrays, **made})


@pytest.mark.parametrize("arithmetic", BOTH)
def test_tampered_proofs_are_refused(arithmetic):
    stated, proof, count = a_split_that_helps(arithmetic)
    given = proof.arrays
    for others in (
        {"fault_word": given["fault_word"] * 0},  # nothing before it
        {"fault_word": given["fault_word"][::-1]},
        {"fault_word": given["fault_word"][:-1]},
        {"fault_children": given["fault_children"][:-1]},
        {"fault_children": given["fault_children"] - 1},
        {"fault_children": given["fault_children"] * 0},
        {"fault_children": given["fault_children"] + 1},
        {"fault_word": [], "fault_children": []},
    ):
        verdict = check_proof(stated, changed(proof, **others), arithmetic=arithmetic).verdict
        assert verdict in ("invalid", "unreadable"), others
    assert count > 2


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_child_too_few_is_no_cover(arithmetic):
    """The arrays agree with each other; the kernel knows how many children there must be."""
    stated, _, _ = a_split_that_helps(arithmetic)
    for children in (1, 3):
        builder = ProofBuilder(stated)
        builder.begin_case(0)
        builder.begin_tree()
        builder.split_faults(3, children)
        for _ in range(children):
            builder.close()
        checked = check_proof(stated, builder.finish(), arithmetic=arithmetic)
        assert checked.verdict == "invalid"
        assert "does not list every number of faults" in checked.reason


@pytest.mark.parametrize("model", [None, WeightBox(Fraction(1, 8))], ids=str)
def test_a_split_without_a_budget_is_refused(model):
    content = tiny_dense(1)
    case = box_case([0, 0], [1, 1], at_least(0, 10**6))
    stated = faulty_query(content, model or TWO, [case])
    if model is None:
        intact = faults_in(content, TWO).intact
        stated = replace(stated, network=intact, perturbations=())
    builder = ProofBuilder(stated)
    builder.begin_case(0)
    builder.begin_tree()
    builder.split_faults(3, 3)
    for _ in range(3):
        builder.close()
    checked = check_proof(stated, builder.finish())
    assert checked.verdict == "invalid"
    assert "leaves nothing on one side" in checked.reason
    with pytest.raises(EvidenceError, match="leaves nothing"):
        parted(((0, 2),), 0)


def test_a_proof_is_of_its_own_fault_model():
    content = tiny_dense(3)
    case = box_case([0, 0], [1, 1], at_least(0, 10**6))
    queries = [faulty_query(content, model, [case]) for model in MODELS.values()]
    assert len({query.digest for query in queries}) == len(queries)
    proof = ProofBuilder(queries[0]).finish()
    assert check_proof(queries[0], proof).verdict == "valid unsat"
    for other in queries[1:]:
        assert check_proof(other, proof).verdict == "unreadable"


def test_a_faulty_query_goes_to_other_processes_whole():
    query = faulty_query(tiny_conv(3), TWO, [box_case([0] * 4, [1] * 4, at_least(0, 100))])
    again = pickle.loads(pickle.dumps(query))
    assert again.digest == query.digest
    assert again.network.struck == query.network.struck
    assert check_proof(again, None).verdict == check_proof(query, None).verdict


def test_a_query_states_the_faults_of_its_network():
    query = faulty_query(tiny_dense(3), TWO, [box_case([0, 0], [1, 1], at_least(0, 10**6))])
    for others in ({"perturbations": ()}, {"network": faults_of(query).intact}):
        with pytest.raises(QuestionError, match="the network's faults"):
            replace(query, **others)
    with pytest.raises(QuestionError, match="k = 65: proofs speak of at most 64"):
        faults_in(tiny_dense(3), BitFlips(65))
    assert faults_in(tiny_dense(3), BitFlips(65, per_word=True)).network.struck


def test_a_lemma_is_refuted_under_the_whole_budget():
    """A leaf with a smaller budget may cite it; a lemma has no share of its own."""
    stated, proof, _ = a_split_that_helps("outward")
    builder = ProofBuilder(stated)
    builder.begin_case(0)
    lemma = builder.begin_tree()
    builder.close()
    builder.begin_tree()
    builder.split_faults(3, 2)
    builder.cite(lemma)
    builder.cite(lemma)
    checked = check_proof(stated, builder.finish())
    assert checked.verdict == "invalid"
    assert {r.node for r in checked.rejected} == {0}
    assert proof.arrays["node_kind"][1] == NodeKind.SPLIT_FAULTS


def test_a_proof_with_fault_splits_is_made_smaller():
    stated, proof, _ = a_split_that_helps("outward")
    found = minimise(stated, proof, effort="default")
    assert check_proof(stated, found.proof).verdict == "valid unsat"
    assert found.proof.leaves <= proof.leaves
