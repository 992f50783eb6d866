"""Whatever fault strikes, the outputs lie within what the kernel finds: by enumeration."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.faults.formats import FixedFormat
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, StuckAt, WeightBox, Where
from tests.proofs.faulty import (
    bounds,
    boxed_networks,
    every_fault,
    faults_in,
    holds,
    outputs,
    tiny_conv,
    tiny_dense,
)
from tests.proofs.helpers import BOTH

FEW = settings(max_examples=4, deadline=None)
MODELS = {
    "one flip": BitFlips(1, Quantised(4)),
    "two flips": BitFlips(2, Quantised(3)),
    "two in a word": BitFlips(2, Quantised(4), per_word=True),
    "stuck": StuckAt(2, Quantised(3)),
    "stuck at 0": StuckAt(1, FixedFormat(2, 2), reads=0),
    "fractions of floats": BitFlips(1, None, Where(bits=(20, 21, 22, 31))),
}


def points(low: np.ndarray, high: np.ndarray, rng: np.random.Generator, count: int):
    shares = [np.zeros(low.size), np.ones(low.size), *rng.random((count, low.size)).round()]
    return [tuple(map(Fraction, low + s * (high - low))) for s in shares]


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("name", MODELS)
@FEW
@given(seed=st.integers(0, 10**6))
def test_dense_networks(arithmetic, name, seed):
    rng = np.random.default_rng(seed)
    faults = faults_in(tiny_dense(seed), MODELS[name])
    low = rng.integers(-4, 3, 2) / 2.0
    high = low + rng.integers(0, 3, 2) / 2.0
    found = bounds(arithmetic, faults.network, low, high)
    chosen = points(low, high, rng, 2)
    strikes = list(every_fault(faults))
    for place in rng.permutation(len(strikes))[:400]:
        for point in chosen:
            assert holds(found, strikes[place].network, point), strikes[place].cells


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("name", ["one flip", "two in a word", "stuck at 0"])
@FEW
@given(seed=st.integers(0, 10**6))
def test_convolutions_with_batch_normalisation(arithmetic, name, seed):
    """Taps are shared by positions, and one word stands in two nodes."""
    rng = np.random.default_rng(seed)
    faults = faults_in(tiny_conv(seed), MODELS[name])
    low = rng.integers(-2, 2, 4) / 2.0
    high = low + rng.integers(0, 2, 4) / 4.0
    found = bounds(arithmetic, faults.network, low, high)
    chosen = points(low, high, rng, 1)
    strikes = list(every_fault(faults))
    for place in rng.permutation(len(strikes))[:150]:
        for point in chosen:
            assert holds(found, strikes[place].network, point), strikes[place].cells


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("make", [tiny_dense, tiny_conv])
@FEW
@given(seed=st.integers(0, 10**6))
def test_boxes_of_weights(arithmetic, make, seed):
    rng = np.random.default_rng(seed)
    faults = faults_in(make(seed), WeightBox(Fraction(1, 16), Fraction(1, 100)))
    size = faults.network.input_size
    low = rng.integers(-2, 2, size) / 2.0
    high = low + rng.integers(0, 2, size) / 4.0
    found = bounds(arithmetic, faults.network, low, high)
    for network in boxed_networks(faults, rng, 30):
        for point in points(low, high, rng, 1):
            assert holds(found, network, point)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_one_layer_at_a_point_is_bounded_exactly(arithmetic):
    """Of one layer and one input nothing is lost: the worst fault is the bound."""
    for seed in range(6):
        for model in (BitFlips(2, Quantised(3)), BitFlips(2, Quantised(4), per_word=True)):
            faults = faults_in(tiny_dense(seed, (2, 2)), model)
            x = np.array([1.5, -0.5])
            found = bounds(arithmetic, faults.network, x, x)
            values = [outputs(s.network, tuple(map(Fraction, x))) for s in every_fault(faults)]
            for entry in range(2):
                least = min(v[entry][0] for v in values)
                most = max(v[entry][1] for v in values)
                for lower, upper in found.all:
                    assert 0 <= least - lower[entry] < 1e-9, (seed, model.text)
                    assert 0 <= upper[entry] - most < 1e-9, (seed, model.text)
