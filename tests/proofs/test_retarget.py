"""An old proof on another question: what is matched, what is dropped, and what never happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.draft import Draft
from proofs.format import read_evidence, write_proof
from proofs.proof import NEURONS, SIZES, Fact, NodeKind, Proof, ProofBuilder, Side, SlopeHint
from proofs.retarget import reused
from proofs.tables import Substitution
from specs.errors import EvidenceError
from specs.network import Network
from specs.property import constraint
from specs.query import Query
from tests.proofs.helpers import (
    RandomProof,
    at_least,
    box_case,
    extremes,
    mutated,
    query,
    random_network,
    reached,
)
from tests.verifier.small import mlp


def layered(*sizes: int, cases: int = 1, disjuncts: int = 1, names: str = "") -> Query:
    """A network of dense layers; its property is not what these tests are about."""
    rng = np.random.default_rng(5)
    pairs = pairwise(sizes)
    weights = [rng.normal(size=pair) for pair in pairs]
    network, _ = mlp(weights, [rng.normal(size=w.shape[1]) for w in weights])
    if names:
        nodes = tuple(replace(node, name=names + node.name) for node in network.nodes)
        network = Network(nodes, network.outputs)
    unsafe = [at_least(0, 100 + k) for k in range(disjuncts)]
    return query(network, [box_case([-1] * sizes[0], [1] * sizes[0], *unsafe)] * cases)


def built(asked: Query, write: Callable[[ProofBuilder], object], cases: int = 1) -> Proof:
    """A proof with the same tree for every case."""
    builder = ProofBuilder(asked)
    for case in range(cases):
        builder.begin_case(case)
        write(builder)
    return builder.finish()


def kinds(draft: Draft) -> list[NodeKind]:
    return [node.kind for node in draft.nodes()]


def tensor(asked: Query, name: str) -> int:
    return asked.network.tensors[name]


def test_the_same_question_keeps_everything() -> None:
    rng = np.random.default_rng(1)
    for seed in range(30):
        asked = query(random_network(rng, 1), [box_case([-1], [1], at_least(0, 3))] * 2)
        proof = RandomProof(np.random.default_rng(seed), asked).proof(depth=4)
        again = reused(asked, proof)
        assert again.dropped == {}
        assert kinds(again.draft) == [NodeKind(k) for k in proof.arrays["node_kind"]]
        assert again.leaves == proof.leaves + 2 - len(proof.arrays["case_number"])
        old, new = check_proof(asked, proof), check_proof(asked, again.proof)
        assert (old.verdict, old.leaves) == (new.verdict, new.leaves)


def test_what_files_remember_is_enough(tmp_path: Any) -> None:
    asked = layered(2, 3, 1)
    proof = built(asked, lambda b: (b.begin_tree(), b.split_neuron(1, 2), b.close(), b.close()))
    write_proof(tmp_path / "p", proof)
    again = read_evidence(tmp_path / "p")
    assert isinstance(again, Proof)
    assert (again.manifest[SIZES], again.manifest[NEURONS]) == ([], [["z0", 3]])
    assert "splits" not in reused(asked, again).dropped
    assert reused(layered(2, 2, 1), again).dropped == {"splits": 1}


def pruned_tree(builder: ProofBuilder) -> None:
    """Splits of neurons 2 and 0 of the first layer, and of the second layer's neuron 1."""
    builder.begin_tree()
    builder.split_neuron(1, 2)
    for _ in range(2):
        builder.split_neuron(1, 0)
        builder.split_neuron(3, 1)
        facts = [(Fact.SPLIT, 0, 1.0), (Fact.SPLIT, 1, 2.0), (Fact.SPLIT, 2, 3.0)]
        facts += [(Fact.LOWER, 2, 4.0), (Fact.UPPER, 4, 5.0)]
        builder.close(builder.substitution([SlopeHint(2, Side.LOWER, [0.5, 0.25, 0.75])], facts))
        builder.close()
        builder.close()


def test_a_pruned_neuron_takes_its_split_and_its_hints_with_it() -> None:
    proof = built(layered(2, 3, 2, 1), pruned_tree)
    again = reused(layered(2, 2, 2, 1), proof)
    assert kinds(again.draft) == [NodeKind.SPLIT_NEURON] * 2 + [NodeKind.CLOSE] * 3
    assert (again.leaves, again.draft.cases[0].refutation().root.arg) == (6, (1, 0))
    assert again.dropped == {"splits": 1, "multipliers": 2}
    split = again.draft.cases[0].refutation().root.children[0]
    assert split.arg == (3, 1)  # though its number has changed
    hints = split.children[0].arg
    assert isinstance(hints, Substitution)
    # The neuron whose number was 4 is now 3; the first split is gone, the others move up.
    assert hints.multipliers == ((Fact.SPLIT, 0, 2.0), (Fact.SPLIT, 1, 3.0), (Fact.UPPER, 3, 5.0))
    (block,) = hints.blocks
    assert block.slopes.tolist() == [[0.5, 0.25]]
    assert check_proof(layered(2, 2, 2, 1), again.proof).valid


def test_a_proof_without_sizes_fits_the_same_layers_only() -> None:
    proof = replace(built(layered(2, 3, 2, 1), pruned_tree), manifest={})
    assert reused(layered(2, 3, 2, 1), proof).dropped == {}
    with pytest.raises(EvidenceError):
        reused(layered(2, 2, 2, 1), proof)


def test_with_other_names_no_hint_has_a_place() -> None:
    asked = layered(2, 3, 2, 1, names="other/")
    again = reused(asked, built(layered(2, 3, 2, 1), pruned_tree))
    assert kinds(again.draft) == [NodeKind.CLOSE]
    assert again.dropped["splits"] == 3  # one after the other, each with its other side
    assert again.dropped["blocks of slopes"] == 1


def test_steps_and_stops_of_missing_entries_are_left_out() -> None:
    def write(builder: ProofBuilder) -> None:
        builder.begin_tree()
        builder.bound(builder.step(1, np.array([0, 2])))
        builder.bound(builder.step(1, np.array([0, 1])))
        builder.clip(builder.substitution(stop=1, keep=np.array([1, 2])))
        builder.close(builder.substitution(stop=2))

    proof = built(layered(2, 3, 1), write)
    again = reused(layered(2, 2, 1), proof)
    assert again.dropped == {"bound steps": 1}
    assert kinds(again.draft) == [NodeKind.BOUND, NodeKind.CLIP, NodeKind.CLOSE]
    clip = list(again.draft.nodes())[1].arg
    assert isinstance(clip, Substitution)
    assert clip.stop is not None
    assert clip.stop.kept.tolist() == [1]
    gone = reused(layered(2, 3, 1, names="other/"), proof)
    assert kinds(gone.draft) == [NodeKind.CLIP, NodeKind.CLOSE]
    assert gone.dropped == {"bound steps": 2, "stops": 2}


@pytest.mark.parametrize(("now", "holes"), [(1, 0), (2, 0), (3, 0), (5, 2)])
def test_disjuncts_are_matched_by_number(now: int, holes: int) -> None:
    def write(builder: ProofBuilder) -> None:
        builder.begin_tree()
        builder.split_disjunct(3)
        for _ in range(3):
            builder.close()

    proof = built(layered(1, 2, 1, disjuncts=3), write)
    asked = layered(1, 2, 1, disjuncts=now)
    again = reused(asked, proof)
    assert kinds(again.draft)[1:] == [NodeKind.CLOSE] * min(3, now) + [NodeKind.HOLE] * holes
    assert again.dropped == ({"disjuncts": 3 - now} if now < 3 else {})
    wanted = "incomplete" if holes else "valid unsat"
    assert check_proof(asked, again.proof).verdict == wanted


@pytest.mark.parametrize("now", [1, 2, 4])
def test_cases_are_matched_by_number(now: int) -> None:
    def write(builder: ProofBuilder) -> None:
        builder.begin_tree()
        builder.split_input(0)
        builder.close()
        builder.close()

    again = reused(layered(1, 2, 1, cases=now), built(layered(1, 2, 1, cases=2), write, 2))
    assert [case.number for case in again.draft.cases] == list(range(min(now, 2)))
    assert again.dropped == ({"cases": 1} if now == 1 else {})
    assert check_proof(layered(1, 2, 1, cases=now), again.proof).valid


def with_lemma(builder: ProofBuilder) -> None:
    """A lemma about neuron 2, and a tree that cites it."""
    form = builder.form([(1, 2, 1.0)], 0.0)
    lemma = builder.begin_tree([(form, Side.LOWER)])
    builder.close()
    builder.begin_tree()
    builder.split_neuron(1, 2)
    builder.cite(lemma)
    builder.close()


def test_lemmas_move_along_and_what_cites_a_lost_one_is_open() -> None:
    proof = built(layered(2, 3, 1), with_lemma)
    assert check_proof(layered(2, 3, 1), reused(layered(2, 3, 1), proof).proof).valid
    fewer = reused(layered(2, 2, 1), proof)
    assert kinds(fewer.draft) == [NodeKind.HOLE]
    assert fewer.dropped == {"lemmas": 1, "splits": 1}
    assert check_proof(layered(2, 2, 1), fewer.proof).verdict == "incomplete"


def test_inputs_that_there_are_not_are_not_split() -> None:
    def write(builder: ProofBuilder) -> None:
        builder.begin_tree()
        builder.split_input(2)
        builder.close()
        builder.split_input(1, 0.25)
        builder.close()
        builder.close()

    again = reused(layered(2, 2, 1), built(layered(3, 2, 1), write))
    assert kinds(again.draft) == [NodeKind.CLOSE]
    assert again.dropped == {"splits": 1}


def test_no_property_that_fails_is_proved() -> None:
    """Proofs of what holds, on networks with other weights where it does not."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        before, after = random_network(rng, 1), random_network(rng, 1)
        case = box_case([-1], [1], at_least(0, 0))
        top = extremes(after, case)[1]
        asked = query(after, [box_case([-1], [1], at_least(0, top))])
        assert reached(asked)
        old = query(before, [box_case([-1], [1], at_least(0, top))])
        proof = RandomProof(rng, old).proof(depth=4)
        assert not check_proof(asked, reused(asked, proof).proof).valid


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6))
def test_damaged_proofs_are_refused_or_prove_nothing_false(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = query(random_network(rng, 1), [box_case([-1], [1], at_least(0, 3))])
    top = extremes(asked.network, asked.property.cases[0])[1]
    asked = query(asked.network, [box_case([-1], [1], at_least(0, top))])
    proof = mutated(rng, RandomProof(rng, asked).proof(depth=3))
    if rng.random() < 0.5:
        proof = replace(proof, manifest={})
    try:
        again = reused(asked, proof)
    except EvidenceError:
        return
    assert not check_proof(asked, again.proof).valid


@pytest.mark.parametrize(
    "noted",
    [
        {SIZES: [3]},
        {SIZES: 3},
        {NEURONS: {}},
        {NEURONS: [["z0"]]},
        {NEURONS: [["z0", 3], ["z0", 3]]},
        {NEURONS: [["z0", 4]], SIZES: [3, 3]},
        {NEURONS: [["z0", -3]], SIZES: [-3, 3]},
        {NEURONS: [["z0", True]]},
        {NEURONS: [["z0", 1 << 40]], SIZES: [1 << 40, 3]},
        {NEURONS: [[0, 3]]},
    ],
)
def test_a_manifest_that_remembers_nonsense_is_refused(noted: dict[str, Any]) -> None:
    asked = layered(2, 3, 1)

    def write(builder: ProofBuilder) -> None:
        builder.begin_tree()
        builder.bound(builder.step(1, np.array([0])))
        builder.close(builder.substitution([SlopeHint(2, Side.LOWER, [0.5] * 3)]))

    proof = built(asked, write)
    assert proof.manifest[SIZES] == [3, 3]
    with pytest.raises(EvidenceError, match="manifest"):
        reused(asked, replace(proof, manifest={**proof.manifest, **noted}))


def test_a_case_that_has_nothing_unsafe_any_more_needs_no_tree() -> None:
    proof = built(layered(1, 2, 1), lambda b: (b.begin_tree(), b.close()))
    asked = layered(1, 2, 1, disjuncts=0)
    again = reused(asked, proof)
    assert again.draft.cases == []
    assert check_proof(asked, again.proof).valid


def test_weights_of_another_number_of_constraints_are_hints_like_any() -> None:
    case = box_case([-1], [1], (*at_least(0, 100), constraint({}, {0: Fraction(1)}, Fraction(100))))
    old = query(layered(1, 2, 1).network, [case])
    proof = built(old, lambda b: (b.begin_tree(), b.close(b.substitution(weights=[1.0, 0.0]))))
    asked = layered(1, 2, 1)
    assert check_proof(asked, reused(asked, proof).proof).valid
