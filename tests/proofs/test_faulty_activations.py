"""Activations, or whole channels, that become any values of a range."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import faulty
from proofs.check import check_proof, check_witness
from proofs.proof import ProofBuilder
from proofs.statement import statement
from proofs.witness import Witness
from specs.faults.exact import WordFault, faulted_network
from specs.faults.models import CHANNEL, ActivationFaults, Where
from tests.proofs.faulty import (
    bounds,
    faults_in,
    faulty_query,
    holds,
    outputs,
    replaced,
    tiny_conv,
    tiny_dense,
)
from tests.proofs.helpers import BOTH, at_least, box_case
from tests.proofs.test_faulty_bounds import points

F = Fraction
ONE = ActivationFaults(1, F(-1), F(3))
TWO = ActivationFaults(2, F(0), F(3, 8))
MODELS = {
    "one": (tiny_dense, ONE),
    "two": (tiny_dense, TWO),
    "sums too": (tiny_dense, ActivationFaults(2, F(-1), F(1), Where(("h0", "y")))),
    "channels": (tiny_conv, ActivationFaults(1, F(0), F(2), unit=CHANNEL)),
    "sums of channels": (tiny_conv, ActivationFaults(2, F(-1), F(2), Where(("a", "h")), CHANNEL)),
}


def escapes(make, model, arithmetic, seed) -> int:
    rng = np.random.default_rng(seed)
    faults = faults_in(make(seed), model)
    size = faults.network.input_size
    low = rng.integers(-2, 2, size) / 2.0
    high = low + rng.integers(0, 2, size) / 2.0
    found = bounds(arithmetic, faults.network, low, high)
    networks = [faulted_network(faults, listed) for listed in replaced(faults, rng, 60)]
    return sum(
        not holds(found, network, point)
        for network in networks
        for point in points(low, high, rng, 1)
    )


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_fault_leaves_the_bounds(arithmetic, name, seed):
    assert not escapes(*MODELS[name], arithmetic, seed)


def nothing_moves_down(patch):
    whole = faulty._moves

    def half(*given):
        least, most = whole(*given)
        return least * 0, most

    patch.setattr(faulty, "_moves", half)


def rows_pay_for_one_less(patch):
    whole = faulty.totals
    patch.setattr(
        faulty, "totals", lambda *given: np.concatenate([(t := whole(*given))[:1], t[:-1]])
    )


def entries_alone_in_channels(patch):
    whole = faulty.replacements

    def largest(arithmetic, error, rows, before):
        return whole(arithmetic, error, rows * 0, before)

    patch.setattr(faulty, "replacements", largest)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize(
    "mutant", [nothing_moves_down, rows_pay_for_one_less, entries_alone_in_channels]
)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    mutant(monkeypatch)
    assert sum(escapes(tiny_dense, ONE, arithmetic, seed) for seed in range(6))


@pytest.mark.parametrize("arithmetic", BOTH)
def test_no_proof_of_a_falsehood_and_one_of_the_truth(arithmetic):
    content, x = tiny_dense(5, (2, 3, 2)), (F(1, 2), F(1))
    faults = faults_in(content, ONE)
    listed = [
        tuple([] if entry < 0 else [WordFault("h0", entry, (), value)])
        for entry in range(-1, 3)
        for value in (ONE.lower, ONE.upper)
    ]
    worth = [outputs(faulted_network(faults, each), x)[0][0] for each in listed]
    top, worst = max(zip(worth, listed, strict=True))
    query = faulty_query(content, ONE, [box_case(x, x, at_least(0, top))])
    witness = Witness(query.digest, 0, 0, x, worst)
    assert check_witness(query, witness).verdict == "valid sat"
    for word in (1, 2):
        builder = ProofBuilder(query)
        builder.begin_case(0)
        builder.begin_tree()
        builder.split_faults(word, 2)
        builder.sweep()
        builder.close()
        builder.sweep()
        builder.close()
        assert check_proof(query, builder.finish(), arithmetic=arithmetic).verdict == "invalid"
    above = faulty_query(content, ONE, [box_case(x, x, at_least(0, top + F(1, 2**20)))])
    assert check_proof(query, None, arithmetic=arithmetic).verdict == "invalid"
    # One layer at one point: nothing is lost.
    assert check_proof(above, None, arithmetic=arithmetic).verdict == "valid unsat"
    assert any("h0" in line for line in statement(query))


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ([WordFault("h0", 5, (), F(0))], "may not be faulty"),
        ([WordFault("h0", -1, (), F(0))], "may not be faulty"),
        ([WordFault("y", 0, (), F(0))], "may not be faulty"),
        ([WordFault("none", 0, (), F(0))], "may not be faulty"),
        ([WordFault("h0", 0, (), F(2))], "a value of the range"),
        ([WordFault("h0", 0, (3,))], "a value of the range"),
        ([WordFault("h0", 0, (), F(1, 3))], "no number of 64 bits"),
        ([WordFault("h0", 0, (), F(0)), WordFault("h0", 0, (), F(0))], "named twice"),
        ([WordFault("h0", e, (), F(0)) for e in range(2)], "2 faults, of at most 1"),
    ],
)
def test_faults_that_are_not_allowed(listed, why):
    model = ActivationFaults(1, F(-1), F(1))
    query = faulty_query(tiny_dense(5), model, [box_case([0, 0], [1, 1], at_least(0, -(10**6)))])
    checked = check_witness(query, Witness(query.digest, 0, 0, (F(0), F(0)), tuple(listed)))
    assert why in checked.reason


def test_a_faulty_channel_is_named_whole():
    model = ActivationFaults(1, F(-1), F(1), Where(("h",)), CHANNEL)
    query = faulty_query(tiny_conv(5), model, [box_case([0] * 4, [1] * 4, at_least(0, -(10**6)))])
    whole = [WordFault("h", entry, (), F(1)) for entry in range(4)]
    for listed, valid in ((whole, True), (whole[:3], False), ([], True)):
        checked = check_witness(query, Witness(query.digest, 0, 0, (F(0),) * 4, tuple(listed)))
        assert checked.valid == valid, checked.reason
