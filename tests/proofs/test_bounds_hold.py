"""Whatever is computed for a network holds at every point: all maps, scales and hints."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.linear import Gather, Identity, MatMul, Scale, Scatter
from specs.network import Network
from tests.proofs.contracts import watched
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    box_case,
    enclosed,
    member,
    query,
)

SCALES = (1.0, 1.0, 1.0, 1e-30, 1e25, 5e-324, 1e-310)


def wild_weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    kind = rng.integers(0, 4)
    if kind == 0:
        return np.rint(rng.normal(size=shape) * 2)
    if kind == 1:  # what cancels almost
        return rng.choice([1.0, -1.0, 1.0 + 2.0**-52, -1.0 - 2.0**-52], size=shape) * 1e6
    return rng.normal(size=shape) * float(rng.choice(SCALES))


def wild_network(rng: np.random.Generator, radii: float) -> Network:
    """Four inputs, every kind of linear map, a few Relus."""
    net = Net(4) if rng.random() < 0.6 else Net(2, 2)
    current = 0
    if len(net.nodes) == 2:
        current = net.linear(
            (0, Gather(np.array([0, 1, -1, -1]), 2)), (1, Gather(np.array([-1, -1, 1, 0]), 2))
        )

    def weight(*shape: int) -> Enclosure:
        return enclosed(rng, wild_weights(rng, *shape), radii)

    for _ in range(int(rng.integers(2, 6))):
        size = net.size(current)
        kinds = ["dense", "scale", "gather", "scatter", "several", "relu", "relu", "residual"]
        if size == 4:
            kinds += ["rows", "conv", "transposed", "grouped", "dilated"]
        kind = rng.choice(kinds)
        if kind == "relu":
            current = net.relu(current)
            continue
        if kind == "residual":
            inner = net.relu(current)
            current = net.add(inner, current, inner)
            continue
        if kind == "several":
            terms = [(current, MatMul(weight(size, 4))) for _ in range(2)]
            current = net.linear(*terms, offset=weight(4))
            continue
        map_ = {
            "dense": lambda n=size: MatMul(weight(n, 4)),
            "scale": lambda n=size: Scale(weight(n)),
            "gather": lambda n=size: Gather(rng.integers(-1, n, size=4), n),
            "scatter": lambda n=size: Scatter(rng.integers(-1, 4, size=n), 4),
            "rows": lambda: MatMul(weight(2, 2), rows=2),
            "conv": lambda: Conv(
                weight(2, 1, 2, 2), (1, 1, 2, 2), (1, 2, 2, 1), (1, 1), (1, 0), (1, 1)
            ),
            "transposed": lambda: Conv(
                weight(4, 1, 2), (1, 1, 3), (1, 4, 1), (2,), (0,), (1,), 1, True
            ),
            "grouped": lambda: Conv(
                weight(2, 1, 2), (1, 2, 2), (1, 2, 2), (1,), (1,), (1,), groups=2
            ),
            "dilated": lambda: Conv(weight(1, 1, 2), (1, 1, 4), (1, 1, 4), (1,), (2,), (3,)),
        }[str(kind)]()
        current = net.linear((current, map_), offset=weight(map_.target_size))
    if not any(hasattr(node, "function") for node in net.nodes):
        current = net.relu(current)
    net.linear((current, Identity(net.size(current))))
    return net.done()


def points_of(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, count: int):
    """Corners, and points inside."""
    for _ in range(count):
        share = rng.choice([0.0, 1.0, 0.5, rng.random()], size=low.shape)
        yield tuple(
            Fraction(float(a)) + Fraction(float(s)) * (Fraction(float(b)) - Fraction(float(a)))
            for a, b, s in zip(low, high, share, strict=True)
        )


def boxes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    low = rng.normal(size=4) * float(rng.choice([1.0, 1.0, 1e-320, 1e6]))
    width = rng.choice([0.0, 1.0, 1e-16, 1e-3], size=4)
    return low, low + width * np.maximum(np.abs(low), 1e-300)


@pytest.mark.parametrize("arithmetic", BOTH)
@given(seed=st.integers(0, 2**32))
@example(seed=6000000)  # a path split at a linear form, with points beyond it in the box
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_bound_holds_at_every_point(arithmetic, seed):
    rng = np.random.default_rng(seed)
    network = wild_network(rng, radii=0.3)
    low, high = boxes(rng)
    stated = query(network, [box_case(low, high, at_least(0, 1), at_least(1, 0))])
    points = list(points_of(rng, low, high, 4))
    real = query(member(rng, network), stated.property.cases)
    with watched(real, points) as watch:
        check_proof(stated, None, arithmetic=arithmetic)
        for _ in range(2):
            proof = RandomProof(rng, stated).proof(depth=3)
            checked = check_proof(stated, proof, arithmetic=arithmetic)
            assert checked.verdict != "unreadable", checked.reason
    assert watch.checked or checked.verdict == "invalid"


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_intervals_hold_for_tensors_that_are_no_preactivations(seed):
    from proofs.bounds import propagate
    from proofs.check import ARITHMETICS
    from proofs.frame import Batch, Frame
    from specs.errors import EvidenceError
    from tests.proofs.helpers import outputs_at

    rng = np.random.default_rng(seed)
    network = wild_network(rng, radii=0.5)
    low, high = boxes(rng)
    real = member(rng, network)
    for name in BOTH:
        arithmetic = ARITHMETICS[name]()
        frame = Frame(network, arithmetic)
        batch = Batch(low[None], high[None], {}, np.zeros(1, dtype=bool))
        propagate(frame, batch, record=True)
        for point in points_of(rng, low, high, 3):
            for tensor, values in enumerate(outputs_at(real, point)):
                if not frame.passes([tensor]):
                    with pytest.raises(EvidenceError, match=r"2\*\*100"):
                        _ = [frame.magnitude(t) for t in range(tensor + 1)]
                    continue
                for size, value in zip(frame.magnitude(tensor), values, strict=True):
                    assert abs(value) <= arithmetic.fraction(size)
