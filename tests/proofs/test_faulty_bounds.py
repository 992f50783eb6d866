"""Whatever fault strikes, the outputs lie within what the kernel finds: by enumeration."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.bounds import bound_rows, propagate, sweep
from proofs.check import check_proof
from proofs.faulty import parted
from proofs.frame import Batch, Frame, Relaxations
from proofs.outward import Outward
from proofs.proof import Side
from specs.errors import QuestionError
from specs.faults.formats import FixedFormat
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, StuckAt, WeightBox, Where
from tests.faulty_models import graph_bytes, node, quantised_model
from tests.proofs.faulty import (
    bounds,
    boxed_networks,
    every_fault,
    faults_in,
    faulty_query,
    holds,
    outputs,
    tiny_conv,
    tiny_dense,
    two_words,
)
from tests.proofs.helpers import BOTH, at_least, box_case

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


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("k", [1, 2])
def test_integers_with_a_scale_for_each_channel(arithmetic, k):
    """``DequantizeLinear``, a transposition, and factors of a Gemm stand behind the words."""
    faults = faults_in(quantised_model(3), BitFlips(k, None, Where(("q",), bits=(0, 6, 7))))
    low, high = np.full(4, -0.5), np.array([0.5, -0.5, 0.25, -0.5])
    found = bounds(arithmetic, faults.network, low, high)
    rng = np.random.default_rng(k)
    strikes = list(every_fault(faults))
    for place in rng.permutation(len(strikes))[:200]:
        for point in points(low, high, rng, 2):
            assert holds(found, strikes[place].network, point), strikes[place].cells


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("k", [1, 3])
def test_flips_of_exponents_prove_nothing_and_break_nothing(arithmetic, k):
    content, model = tiny_dense(3, (2, 3, 3, 2)), BitFlips(k)
    stated = faulty_query(content, model, [box_case([0, 0], [1, 1], at_least(0, 10**9))])
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == "invalid"


@pytest.mark.parametrize("arithmetic", BOTH)
def test_variances_without_a_root_are_a_class_of_their_own(arithmetic):
    """The sign bit takes the root away; the other faults of the word are covered."""
    model = BitFlips(2, None, Where(("var",), bits=(22, 23, 31)))
    faults = faults_in(tiny_conv(4), model)
    low, high = np.full(4, -0.5), np.full(4, 0.25)
    found = bounds(arithmetic, faults.network, low, high)
    strikes = list(every_fault(faults))
    assert any(not any(bit == 31 for *_, bit in strike.cells) for strike in strikes)
    for strike in strikes:
        for point in points(low, high, np.random.default_rng(0), 2):
            assert holds(found, strike.network, point), strike.cells


def test_a_box_of_variances_without_roots_is_refused():
    with pytest.raises(QuestionError, match="'var' may take values for which the network is not"):
        _ = faults_in(tiny_conv(4), WeightBox(Fraction(1), where=Where(("var",)))).network


def test_several_domains_have_bounds_of_their_own():
    """Rows of a batch see the bounds and budgets of their own domain."""
    faults = faults_in(tiny_dense(6, (2, 3, 2)), BitFlips(2, Quantised(3)))
    lows, highs = np.array([[0.0, 0.0], [-1.0, 0.5]]), np.array([[0.5, 1.0], [-0.5, 2.0]])
    shares = (((0, 2),), ((0, 0), (4, 1), (9, 1)))
    frame = Frame(faults.network, Outward())
    around = Batch(lows.min(0)[None], highs.max(0)[None], {}, np.zeros(1, dtype=bool))
    propagate(frame, around, record=True)
    batch = Batch(lows, highs, {}, np.zeros(2, dtype=bool), shares)
    propagate(frame, batch)
    sweep(frame, batch)
    (output,) = faults.network.outputs
    owner, entry = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    both = bound_rows(frame, Relaxations(frame, batch), output, owner, entry)
    for place in range(2):
        own = Batch(
            lows[place][None], highs[place][None], {}, np.zeros(1, bool), shares[place:][:1]
        )
        propagate(frame, own)
        sweep(frame, own)
        alone = bound_rows(frame, Relaxations(frame, own), output, np.zeros(2, int), entry[:2])
        for side in Side:
            assert np.allclose(both[side][owner == place], alone[side], rtol=0, atol=1e-9)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("k", [1, 2])
def test_one_budget_pays_for_all_layers(arithmetic, k):
    """A fault in one of two nodes is not paid for in both; words used twice are, which is loose."""
    faults = faults_in(two_words(0), BitFlips(k, Quantised(3)))
    x = np.array([0.5])
    found = bounds(arithmetic, faults.network, x, x)
    values = [outputs(s.network, (Fraction(1, 2),))[0] for s in every_fault(faults)]
    least, most = min(low for low, _ in values), max(high for _, high in values)
    assert 0 <= least - found.rows[0][0] < 1e-9
    assert 0 <= found.rows[1][0] - most < 1e-9


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("k", [1, 2])
def test_a_word_that_is_weight_and_offset_of_one_node(arithmetic, k):
    """``y = w x + w``: what it does to an entry is added up before anything else."""
    stored = {"w": np.array([1.0, -2.0], dtype=np.float32), "s": np.array([1, 2])}
    nodes = [node("Reshape", "w s", "m"), node("Gemm", "x m w", "y", alpha=0.3)]
    content = graph_bytes(nodes, (1, 1), stored)
    faults = faults_in(content, BitFlips(k, Quantised(4), Where(("w",))))
    (struck,) = (faults.network.nodes[t] for t in faults.network.struck)
    assert struck.error.target.tolist() == [0, 1]
    x = np.array([-2.5])
    found = bounds(arithmetic, faults.network, x, x)
    values = [outputs(s.network, (Fraction(-5, 2),)) for s in every_fault(faults)]
    for entry in range(2):
        least, most = min(v[entry][0] for v in values), max(v[entry][1] for v in values)
        for lower, upper in found.all:
            assert -1e-9 < least - lower[entry] < 1e-9
            assert -1e-9 < upper[entry] - most < 1e-9


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("make", [tiny_dense, tiny_conv])
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_parts_of_a_budget(arithmetic, make, seed):
    """Every fault belongs to one of the children of a split, and lies within its bounds there."""
    rng = np.random.default_rng(seed)
    model = BitFlips(2, Quantised(3), Where(bits=(1, 2)))
    faults = faults_in(make(seed), model)
    size = faults.network.input_size
    low = rng.integers(-2, 2, size) / 2.0
    high = low + rng.integers(0, 2, size) / 4.0
    count = sum(faults.placed.parameters[name].size for name in faults.parameters)
    first, second = sorted(rng.choice(np.arange(1, count), 2, replace=False).tolist())
    leaves = [last for part in parted(((0, 2),), second) for last in parted(part, first)]
    assert len(leaves) == 6
    found = [bounds(arithmetic, faults.network, low, high, leaf) for leaf in leaves]
    strikes = list(every_fault(faults))
    chosen = points(low, high, rng, 0)
    for place in rng.permutation(len(strikes))[:100]:
        cells = [faults.first_words[name] + entry for name, entry, _ in strikes[place].cells]
        numbers = np.searchsorted([first, second], cells, side="right")
        inside = [
            all(np.sum(numbers == part) <= most for part, (_, most) in enumerate(leaf))
            for leaf in leaves
        ]
        assert any(inside)
        for held, own in zip(inside, found, strict=True):
            if held:
                assert all(holds(own, strikes[place].network, point) for point in chosen)
