"""The rule for symmetries: what is one network, and what is not."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.evaluate import evaluate
from proofs.watermarks.symmetry import (
    Symmetry,
    apart,
    deviation,
    factors_of,
    fault_of,
    inverse_root,
)
from specs.errors import EvidenceError
from specs.onnx_reader import read_model_bytes
from specs.watermarks.chain import Chain
from tests.layered_models import KINDS, Maker, chain_of, drawn, folded, layered, moved
from verifier.attack_forward import NumpyEvaluator
from verifier.watermarks.rewriting import parts_of, rewritten

QUICK = settings(max_examples=15, deadline=None)


def symmetry_of(orders, factors) -> Symmetry:
    return Symmetry(tuple(orders), tuple(factors_of(f.tolist()) for f in factors))


def at(content: bytes, point: list[Fraction]) -> list[Fraction]:
    found = evaluate(read_model_bytes(content, None, "m"), point)
    return [value for value, _ in found]


def changed(chain: Chain, place: int, entry: int, factor: float) -> Chain:
    """With one weight changed."""
    parts = [parts_of(layer) for layer in chain.layers]
    weight = parts[place].weight.copy()
    weight.reshape(-1)[entry] *= factor
    parts[place] = replace(parts[place], weight=weight)
    return chain_of(rewritten(chain, parts))


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_exact_symmetries_are_found_to_be_exact(kind, seed):
    owner = chain_of(layered(kind, seed))
    orders, factors, inner = drawn(owner, seed)
    suspect = chain_of(moved(owner, orders, factors, inner))
    symmetry = symmetry_of(orders, factors)
    assert fault_of(owner, suspect, symmetry) is None
    assert deviation(owner, suspect, symmetry).most == 0


@QUICK
@given(st.sampled_from(KINDS[:2]), st.integers(0, 10**6), st.lists(st.integers(-8, 8), min_size=5))
def test_then_both_compute_the_same_function_exactly(kind, seed, numbers):
    owner = chain_of(layered(kind, seed))
    orders, factors, _ = drawn(owner, seed)
    content = moved(owner, orders, factors)
    point = [Fraction(n, 4) for n in numbers[:5]]
    assert at(owner.model.content, point) == at(content, point)


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1e-4, 0.5))
def test_a_changed_weight_is_measured(kind, seed, where, size):
    owner = chain_of(layered(kind, seed))
    orders, factors, inner = drawn(owner, seed)
    suspect = chain_of(moved(owner, orders, factors, inner))
    place = where % len(owner.layers)
    other = changed(suspect, place, where % suspect.layers[place].weight.size, 1.0 + size)
    found = deviation(owner, other, symmetry_of(orders, factors)).weights
    assert found is not None
    assert float(found) == pytest.approx(size, rel=1e-2)
    # The bound is one: the change as it is stored is not beyond it.
    stored = other.layers[place].weight / suspect.layers[place].weight
    assert Fraction(float(np.abs(stored - 1.0).max())) <= found + Fraction(1, 10**12)


@QUICK
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_rounded_factors_leave_a_small_deviation(kind, seed):
    owner = chain_of(layered(kind, seed))
    orders, factors, inner = drawn(owner, seed, exact=False)
    suspect = chain_of(moved(owner, orders, factors, inner))
    found = deviation(owner, suspect, symmetry_of(orders, factors)).most
    assert found is not None
    assert 0 < found < Fraction(1, 10**5)


@QUICK
@given(st.integers(0, 10**6))
def test_folded_normalisation_is_compared_in_its_folded_form(seed):
    owner = chain_of(layered("conv", seed))
    orders, factors, inner = drawn(owner, seed)
    suspect = chain_of(folded(chain_of(moved(owner, orders, factors, inner))))
    assert all(layer.norm is None for layer in suspect.layers)
    found = deviation(owner, suspect, symmetry_of(orders, factors)).most
    assert found is not None
    assert 0 < found < Fraction(1, 10**6)


@pytest.mark.parametrize("fault", ["order", "repeated", "range", "factor", "sign", "zero", "size"])
def test_what_is_no_symmetry_is_refused(fault):
    owner = chain_of(layered("dense", 3))
    orders, factors, _ = drawn(owner, 3)
    suspect = chain_of(moved(owner, orders, factors))
    orders, factors = [o.copy() for o in orders], [f.copy() for f in factors]
    if fault == "order":
        orders[0] = np.roll(orders[0], 1)
    elif fault == "repeated":
        orders[0][0] = orders[0][1]
    elif fault == "range":
        orders[0] = orders[0] - 1
    elif fault == "factor":
        factors[1][2] *= 2.0
    elif fault == "sign":
        factors[1][2] *= -1.0
    elif fault == "zero":
        factors[1][2] = 0.0
    else:
        factors[1] = factors[1][:-1]
    symmetry = symmetry_of(orders, factors)
    found = fault_of(owner, suspect, symmetry)
    if fault in ("order", "factor"):
        most = deviation(owner, suspect, symmetry).most
        assert most is None or most > Fraction(1, 100)
    else:
        assert found is not None


def test_a_negative_factor_behind_relu_changes_the_function():
    """Why the rule refuses it: with it the equations hold, and the function is another."""
    owner = chain_of(layered("dense", 3))
    factors = [np.ones(6), np.ones(4)]
    factors[0][1] = -1.0
    orders = [np.arange(6), np.arange(4)]
    content = moved(owner, orders, factors)
    symmetry = symmetry_of(orders, factors)
    assert fault_of(owner, chain_of(content), symmetry) is not None
    assert deviation(owner, chain_of(content), symmetry).most == 0
    point = [Fraction(1), Fraction(-2), Fraction(3), Fraction(1, 2), Fraction(-1)]
    assert at(owner.model.content, point) != at(content, point)


@QUICK
@given(st.sampled_from(KINDS[:2]), st.integers(0, 10**6), st.lists(st.integers(-8, 8), min_size=5))
def test_outputs_are_no_farther_apart_than_said(kind, seed, numbers):
    owner = chain_of(layered(kind, seed))
    orders, factors, _ = drawn(owner, seed, exact=False)
    content = moved(owner, orders, factors)
    found = deviation(owner, chain_of(content), symmetry_of(orders, factors))
    gap = apart(owner, found, Fraction(2))
    point = [Fraction(n, 4) for n in numbers[:5]]
    pairs = zip(at(owner.model.content, point), at(content, point), strict=True)
    assert max(abs(a - b) for a, b in pairs) <= gap < Fraction(1, 1000)
    assert apart(owner, found, Fraction(4)) > gap


@QUICK
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.01]))
def test_so_are_those_of_images_and_of_larger_changes(seed, size):
    owner = chain_of(layered("conv", seed))
    orders, factors, inner = drawn(owner, seed, exact=False)
    rng = np.random.default_rng((seed, 9))
    parts = [parts_of(layer) for layer in owner.layers]
    noisy = [replace(p, weight=p.weight * rng.uniform(1 - size, 1, p.weight.shape)) for p in parts]
    suspect = chain_of(moved(chain_of(rewritten(owner, noisy)), orders, factors, inner))
    found = deviation(owner, suspect, symmetry_of(orders, factors))
    gap = apart(owner, found, Fraction(1))
    points = rng.uniform(-1, 1, (8, 36))
    values = [
        NumpyEvaluator(read_model_bytes(chain.model.content, None, "m")).evaluate(points)[0]
        for chain in (owner, suspect)
    ]
    assert float(np.abs(values[0] - values[1]).max()) <= float(gap)


def test_exact_symmetries_are_nothing_apart():
    owner = chain_of(layered("dense", 1))
    orders, factors, _ = drawn(owner, 1)
    suspect = chain_of(moved(owner, orders, factors))
    found = deviation(owner, suspect, symmetry_of(orders, factors))
    assert apart(owner, found, Fraction(1)) == 0


@pytest.mark.parametrize("kind", ["Sigmoid", "LeakyRelu"])
def test_of_other_activations_nothing_is_said(kind):
    more = {"alpha": 1.5} if kind == "LeakyRelu" else {}
    made = Maker((1, 4), 0).gemm(4, 4, "a").add(kind, **more).gemm(4, 2, "b").model((1, 2))
    owner = chain_of(made)
    found = deviation(owner, owner, symmetry_of([np.arange(4)], [np.ones(4)]))
    with pytest.raises(EvidenceError, match="activations"):
        apart(owner, found, Fraction(1))


def test_other_networks_are_not_alike():
    owner, other = chain_of(layered("dense", 1)), chain_of(layered("dense", 2))
    orders, factors, _ = drawn(owner, 0)
    found = deviation(owner, other, symmetry_of(orders, factors)).most
    assert found is None or found > 1


@given(st.fractions(min_value=Fraction(1, 10**9), max_value=10**9))
def test_roots_are_enclosed(square):
    low, high = inverse_root(square)
    assert low * low * square <= 1 <= high * high * square
    assert high - low <= high / 2**100
