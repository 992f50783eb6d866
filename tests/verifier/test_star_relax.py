"""Relaxed stars contain what the network computes, whatever the function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("highspy")
pytest.importorskip("torch")

from proofs.functions import KNOWN
from specs.errors import QuestionError
from specs.network import Network, Univariate
from specs.property import Case
from tests.networks import FUNCTIONS, evaluate
from tests.proofs.helpers import Net, box_case, random_network
from tests.verifier.starry import holds_output, stars_of
from verifier.stars import relax
from verifier.stars.corners import FloatArray
from verifier.stars.relax import Enclosed
from verifier.stars.sets import Solver, zonotope
from verifier.stars.walk import OUTPUT, Budget, Open, first_star, hull

SEEDS = st.integers(0, 2**32 - 1)
PARAMETERS = {
    "power": [(2.0,), (3.0,), (-1.0,), (0.5,)],
    "elu": [(1.0,), (0.3,)],
    "selu": [(1.67, 1.05)],
}
POSITIVE = {"log", "reciprocal", "sqrt"}
OVER = Budget(0, 8)
ROUNDING = 1e-9


def enclosed_faults(enclosed: Enclosed, inputs: list[FloatArray], outputs: FloatArray) -> list[str]:
    """Values ``(k, n)`` that an enclosure does not contain."""
    tolerance = ROUNDING * (1 + np.abs(outputs).max())
    error = outputs - sum(s * x for s, x in zip(enclosed.slopes, inputs, strict=True))
    found = []
    if np.any(error < enclosed.least - tolerance) or np.any(error > enclosed.most + tolerance):
        found.append("an error beyond its bounds")
    for line in enclosed.lines:
        height = sum(a * x for a, x in zip(line.slopes, inputs, strict=True)) + line.intercept
        known = np.broadcast_to(np.isfinite(line.intercept), height.shape)
        gap = (outputs - height if line.above else height - outputs)[known]
        if np.any(gap < -tolerance):
            found.append("an output on the wrong side of a line")
    return found


@pytest.mark.parametrize("function", sorted(set(KNOWN) & set(FUNCTIONS)))
def test_every_function_is_enclosed(function: str) -> None:
    @settings(deadline=None, max_examples=20)
    @given(SEEDS)
    def check(seed: int) -> None:
        rng = np.random.default_rng(seed)
        choices = PARAMETERS.get(function, [()])
        parameters = choices[int(rng.integers(len(choices)))]
        low = rng.normal(size=6) * 3
        if function in POSITIVE or parameters in ((-1.0,), (0.5,)):
            low = np.abs(low) + 0.05
        high = low + rng.random(6) * rng.choice([1e-3, 1.0, 4.0], 6)
        node = Univariate("f", (6,), 0, function, parameters)
        x = np.linspace(low, high, 101)
        y = FUNCTIONS[function](x, *parameters)
        enclosed = relax.univariate(node, low, high)
        assert enclosed_faults(enclosed, [x], y) == []
        # Not just anything: no wider than the function's own range and its slope's.
        spread = np.ptp(y, axis=0) + np.abs(enclosed.slopes[0]) * (high - low)
        assert np.all(enclosed.most - enclosed.least <= 1.01 * spread + 1e-6)

    check()


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.booleans())
def test_products_are_enclosed(seed: int, same: bool) -> None:
    rng = np.random.default_rng(seed)
    left = np.sort(rng.normal(size=(2, 5)) * 3, axis=0)
    right = left if same else np.sort(rng.normal(size=(2, 5)), axis=0)
    enclosed = relax.product((left[0], left[1]), (right[0], right[1]), same)
    x = rng.uniform(left[0], left[1], (200, 5))
    y = x if same else rng.uniform(right[0], right[1], (200, 5))
    inputs = [x] if same else [x, y]
    assert enclosed_faults(enclosed, inputs, x * y) == []


@pytest.mark.parametrize("mutant", ["least", "most", "intercept", "slope"])
def test_a_wrong_enclosure_is_noticed(mutant: str) -> None:
    low, high = np.array([-1.0, -0.5]), np.array([2.0, 1.0])
    right = relax.relu(low, high)
    line = right.lines[1]
    wrong = {
        "least": replace(right, least=right.least + 0.01),
        "most": replace(right, most=right.most - 0.01),
        "intercept": replace(right, lines=(replace(line, intercept=line.intercept + 0.01),)),
        "slope": replace(right, lines=(replace(line, slopes=(line.slopes[0] * 1.1,)),)),
    }[mutant]
    x = np.linspace(low, high, 61)
    assert enclosed_faults(right, [x], np.maximum(x, 0)) == []
    assert enclosed_faults(wrong, [x], np.maximum(x, 0))


def test_a_relu_is_the_triangle() -> None:
    """With its three corners, and nothing beside it."""
    net = Net(1)
    net.linear(
        (0, net_map(1.0)),
        offset=[0.0],
    )
    network = net.done(0, net.relu(1))
    (star,) = stars_of(network, box_case([-1], [2]), OVER)
    for inside in ([-1, 0], [0, 0], [2, 2], [0, 0.6]):
        assert holds_output(star, np.array(inside, dtype=float))
    for outside in ([-1, 0.1], [0, -0.1], [1, 0.9], [0, 0.7], [2, 1.9]):
        assert not holds_output(star, np.array(outside, dtype=float))


def net_map(factor: float):
    from specs.enclosure import Enclosure
    from specs.linear import Scale

    return Scale(Enclosure(np.array([factor])))


def smooth(seed: int) -> tuple[Network, Case]:
    rng = np.random.default_rng(seed)
    net = Net(2)
    hidden = net.dense(0, rng.normal(size=(3, 2)), rng.normal(size=3) / 4)
    net.nodes.append(Univariate("s", (3,), hidden, str(rng.choice(["sigmoid", "tanh", "sin"]))))
    product = net.product(hidden, hidden + 1)
    bent = net.relu(net.dense(product, rng.normal(size=(3, 3))))
    total = net.add(bent, hidden)
    return net.done(net.dense(total, rng.normal(size=(2, 3)))), box_case([-1, -1], [1, 1])


@pytest.mark.parametrize("made", ["relu", "smooth"])
def test_sampled_outputs_lie_in_the_star(made: str) -> None:
    @settings(deadline=None, max_examples=12)
    @given(SEEDS)
    def check(seed: int) -> None:
        rng = np.random.default_rng(seed)
        network, case = smooth(seed)
        if made == "relu":
            network, case = random_network(rng, 2), box_case([-1, -1], [1, 1])
        (star,) = stars_of(network, case, OVER)
        outputs = evaluate(network, rng.uniform(-1, 1, (12, 2)))
        for output in outputs:
            assert holds_output(star, output)
        low, high = zonotope(star.images[OUTPUT], star.predicates)
        far = high + 0.01 * (1 + high - low)
        assert not holds_output(star, far)
        # The box that covers what time leaves open contains them, too.
        start = first_star(network, case, Solver())
        assert start is not None
        boxed = hull(network, Open(start, 0))
        low, high = zonotope(boxed.images[OUTPUT], boxed.predicates)
        assert np.all(low - 1e-9 <= outputs)
        assert np.all(outputs <= high + 1e-9)
        # Members that are carried along stay members.
        points = star.predicates.points
        gap = points @ star.predicates.rows.T - star.predicates.limits
        assert gap.max(initial=0.0) <= 1e-7

    check()


def test_linear_programs_tighten_the_star() -> None:
    rng = np.random.default_rng(1)
    net = Net(4)
    tensor = 0
    for size in (12, 12, 3):
        tensor = net.dense(tensor, rng.normal(size=(size, net.size(tensor))) / 2)
        tensor = net.relu(tensor) if size > 3 else tensor
    network, case = net.done(), box_case([-1] * 4, [1] * 4)
    widths = []
    for programs in (0, 4, 100):
        (star,) = stars_of(network, case, Budget(0, programs))
        low, high = zonotope(star.images[OUTPUT], star.predicates)
        widths.append(float((high - low).sum()))
    assert widths[2] < widths[0]
    assert widths[2] <= widths[1] + 1e-9 <= widths[0] + 2e-9


@pytest.mark.parametrize(
    ("function", "low", "high"), [("log", -1, 1), ("reciprocal", -1, 1), ("exp", 0, 1000)]
)
def test_functions_without_bounds_are_refused(function: str, low: float, high: float) -> None:
    net = Net(1)
    net.nodes.append(Univariate("f", (1,), 0, function))
    with pytest.raises(QuestionError, match="no finite bounds"):
        stars_of(net.done(), box_case([low], [high]), OVER)
