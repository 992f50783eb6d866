"""Symmetries are found, undone, and seen in canonical forms."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.watermarks.symmetry import deviation, fault_of
from specs.errors import QuestionError
from specs.onnx_reader import read_model_bytes
from tests.layered_models import KINDS, Maker, chain_of, drawn, folded, layered, moved
from verifier.attack_forward import NumpyEvaluator
from verifier.watermarks.canonical import canonical, distance
from verifier.watermarks.matching import match
from verifier.watermarks.rewriting import parts_of, rewritten
from verifier.watermarks.undo import undone

QUICK = settings(max_examples=12, deadline=None)


def outputs(content: bytes, seed: int = 0) -> np.ndarray:
    network = read_model_bytes(content, None, "m")
    points = np.random.default_rng(seed).normal(size=(4, network.input_size))
    return NumpyEvaluator(network).evaluate(points)[0]


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.booleans())
def test_symmetries_are_found(kind, seed, exact):
    owner = chain_of(layered(kind, seed))
    orders, factors, inner = drawn(owner, seed, exact=exact)
    content = moved(owner, orders, factors, inner)
    assert outputs(content) == pytest.approx(outputs(owner.model.content), rel=1e-4, abs=1e-4)
    suspect = chain_of(content)
    found = match(owner, suspect)
    for own, wanted in zip(found.orders, orders, strict=True):
        assert np.array_equal(own, wanted)
    assert fault_of(owner, suspect, found.symmetry) is None
    most = deviation(owner, suspect, found.symmetry).most
    assert most is not None
    assert most == 0 if exact else most < Fraction(1, 10**5)


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.booleans())
def test_symmetries_are_undone(kind, seed, exact):
    owner = chain_of(layered(kind, seed))
    suspect = chain_of(moved(owner, *drawn(owner, seed, exact=exact)))
    content = undone(owner, suspect, match(owner, suspect))
    assert outputs(content) == pytest.approx(outputs(owner.model.content), rel=1e-4, abs=1e-4)
    for own, other in zip(owner.layers, chain_of(content).layers, strict=True):
        assert other.weight == pytest.approx(own.weight, rel=0 if exact else 1e-5)
        assert other.bias == pytest.approx(own.bias, rel=1e-4, abs=1e-5)


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_an_exact_symmetry_is_undone_exactly(kind, seed):
    """Then the kernel says that the undone model is the suspect's function."""
    owner = chain_of(layered(kind, seed))
    suspect = chain_of(moved(owner, *drawn(owner, seed)))
    found = match(owner, suspect)
    back = chain_of(undone(owner, suspect, found))
    assert deviation(back, suspect, found.symmetry).most == 0


@QUICK
@given(st.integers(0, 10**6))
def test_folded_normalisation_is_undone(seed):
    owner = chain_of(layered("conv", seed))
    suspect = chain_of(folded(chain_of(moved(owner, *drawn(owner, seed)))))
    found = match(owner, suspect)
    content = undone(owner, suspect, found)
    assert outputs(content) == pytest.approx(outputs(owner.model.content), rel=1e-4, abs=1e-4)
    for own, other in zip(owner.layers, chain_of(content).layers, strict=True):
        assert other.weight == pytest.approx(own.weight, rel=1e-5)


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_fine_tuned_and_moved_is_still_matched(kind, seed):
    owner = chain_of(layered(kind, seed))
    rng = np.random.default_rng((seed, 8))
    parts = []
    for layer in owner.layers:
        own = parts_of(layer)
        noise = 1.0 + 0.02 * rng.normal(size=own.weight.shape)
        parts.append(replace(own, weight=own.weight * noise))
    tuned = chain_of(rewritten(owner, parts))
    orders, factors, inner = drawn(owner, seed, exact=False)
    found = match(owner, chain_of(moved(tuned, orders, factors, inner)))
    right = [np.mean(a == b) for a, b in zip(found.orders, orders, strict=True)]
    assert min(right) >= 0.5
    assert min(float(own.min()) for own in found.alike) > 0.9


def test_nothing_copied_of_the_owner():
    """Undoing a network that is another one does not put the owner's parameters there."""
    owner, other = chain_of(layered("dense", 1)), chain_of(layered("dense", 2))
    found = match(owner, other)
    content = undone(owner, other, found)
    assert outputs(content) == pytest.approx(outputs(other.model.content), rel=1e-4, abs=1e-4)


def test_units_that_nothing_leads_to_are_told_apart():
    owner = chain_of(layered("dense", 5))
    parts = [parts_of(layer) for layer in owner.layers]
    weight, bias = parts[0].weight.copy(), parts[0].bias.copy()
    weight[[1, 3]], bias[[1, 3]] = 0.0, 0.0
    parts[0] = replace(parts[0], weight=weight, bias=bias)
    pruned = chain_of(rewritten(owner, parts))
    orders, factors, _ = drawn(pruned, 5)
    suspect = chain_of(moved(pruned, orders, factors))
    found = match(pruned, suspect)
    assert deviation(pruned, suspect, found.symmetry).most == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_dead_unit_does_not_blow_up(seed):
    """After fine-tuning its tiny weights are noise: the factor is a guess, but a sane one."""
    rng = np.random.default_rng((seed, 8))
    owner = chain_of(layered("dense", seed))
    parts, tuned = [], []
    for place, layer in enumerate(owner.layers):
        own = parts_of(layer)
        weight, bias = own.weight.copy(), own.bias.copy()
        if not place:
            weight[1] *= 1e-12
            bias[1] = 0.0
        elif place == 1:
            weight[:, 1] *= 1e-12
        own = replace(own, weight=weight, bias=bias)
        parts.append(own)
        tuned.append(replace(own, weight=weight + 0.01 * rng.normal(size=weight.shape)))
    owner, thief = chain_of(rewritten(owner, parts)), chain_of(rewritten(owner, tuned))
    suspect = chain_of(moved(thief, *drawn(thief, seed, exact=False)))
    back = chain_of(undone(owner, suspect, match(owner, suspect)))
    for own, other in zip(thief.layers, back.layers, strict=True):
        assert float(np.abs(own.weight - other.weight).max()) < 0.2


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_canonical_forms_are_equal_up_to_rounding(kind, seed):
    owner = chain_of(layered(kind, seed))
    suspect = chain_of(moved(owner, *drawn(owner, seed)))
    assert distance(canonical(owner), canonical(suspect)) < 1e-9
    other = chain_of(layered(kind, seed + 1))
    assert distance(canonical(owner), canonical(other)) > 0.01


def test_canonical_forms_forget_folding():
    owner = chain_of(layered("conv", 4))
    assert distance(canonical(owner), canonical(chain_of(folded(owner)))) < 1e-5


def test_odd_functions_let_signs_pass():
    made = Maker((1, 4), 0).gemm(4, 5, "a").add("Tanh").gemm(5, 2, "b").model((1, 2))
    owner = chain_of(made)
    orders, factors, _ = drawn(owner, 1)
    factors[0] = np.array([1.0, -1.0, -1.0, 1.0, -1.0])
    suspect = chain_of(moved(owner, orders, factors))
    found = match(owner, suspect)
    assert deviation(owner, suspect, found.symmetry).most == 0
    assert distance(canonical(owner), canonical(suspect)) < 1e-9


def test_other_structures_are_not_matched():
    with pytest.raises(QuestionError):
        match(chain_of(layered("dense")), chain_of(layered("bare")))
