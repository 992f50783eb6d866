"""Products in the kernel: planes enclose, bounds hold, and wrong planes are noticed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import products
from proofs.arithmetic import Arithmetic
from proofs.bounds import propagate, sweep
from proofs.check import ARITHMETICS, check_proof, check_witness
from proofs.evaluate import evaluate
from proofs.frame import Batch, Frame
from proofs.proof import Side, SlopeHint
from proofs.witness import Witness
from specs.errors import EvidenceError
from tests.proofs.helpers import BOTH, Net, at_least, at_most, box_case, builder, query

SIZES = (0.0, 5e-324, 1e-300, 1e-16, 0.3, 1.0, 7.0, 1e6, 1e25)


def boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    centre = rng.choice(SIZES, count) * rng.choice([-1.0, 1.0], count)
    width = rng.choice(SIZES, count)
    return centre - width, centre + width


def check_planes(numbers: Arithmetic, rng: np.random.Generator) -> None:
    (a, b), (c, d) = boxes(rng, 40), boxes(rng, 40)
    left = numbers.lift_down(a), numbers.lift_up(b)
    right = numbers.lift_down(c), numbers.lift_up(d)
    weights = [rng.choice([np.nan, -3.0, 0.0, 0.3, 0.5, 1.0, 9.0], 40) for _ in range(2)]
    under, floor, over, ceiling = products.planes(numbers, left, right, *weights)
    low, high = products.product_image(numbers, left, right)
    exact = numbers.fraction
    for k in range(40):
        xs = [Fraction(a[k]) + Fraction(t, 3) * (Fraction(b[k]) - Fraction(a[k])) for t in range(4)]
        ys = [Fraction(c[k]) + Fraction(t, 3) * (Fraction(d[k]) - Fraction(c[k])) for t in range(4)]
        for x in xs:
            for y in ys:
                below = exact(under[0][k]) * x + exact(under[1][k]) * y + exact(floor[k])
                above = exact(over[0][k]) * x + exact(over[1][k]) * y + exact(ceiling[k])
                assert below <= x * y <= above
                assert exact(low[k]) <= x * y <= exact(high[k])


def check_tightness(numbers: Arithmetic, rng: np.random.Generator) -> None:
    """Planes touch the product at a corner, and leave no more than a box's area between."""
    a, c = rng.normal(size=30), rng.normal(size=30)
    b, d = a + rng.random(30), c + rng.random(30)
    left = numbers.lift_down(a), numbers.lift_up(b)
    right = numbers.lift_down(c), numbers.lift_up(d)
    weights = [rng.random(30) for _ in range(2)]
    under, floor, over, ceiling = products.planes(numbers, left, right, *weights)
    for slopes, intercept in ((under, floor), (over, ceiling)):
        p, q = (numbers.floats_down(s) for s in slopes)
        t = numbers.floats_down(intercept)
        gaps = np.stack([np.abs(x * y - p * x - q * y - t) for x in (a, b) for y in (c, d)])
        assert np.all(gaps.min(axis=0) < 1e-12)
        assert np.all(gaps.max(axis=0) <= (b - a) * (d - c) + 1e-12)


PROBES = {"planes": check_planes, "tightness": check_tightness}


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES)
def test_products_are_enclosed(probe: str, arithmetic: str) -> None:
    for seed in range(5):
        PROBES[probe](ARITHMETICS[arithmetic](), np.random.default_rng(seed))


def exchanged(original):
    def planes(*args):
        under, floor, over, ceiling = original(*args)
        return over, ceiling, under, floor

    return planes


def without_a_corner(original):
    def extreme(numbers, slopes, left, right):
        return original(numbers, slopes, (left[0], left[0]), right)

    return extreme


def rounded_up(original):
    def extreme(numbers, slopes, left, right):
        class Inverted:
            multiply_down = numbers.multiply_up
            add_down = numbers.add_up

        return original(Inverted, slopes, left, right)

    return extreme


def far_too_low(original):
    def extreme(numbers, *args):
        return original(numbers, *args) - numbers.lift_down(np.ones(1))

    return extreme


def two_corners(original):
    def image(numbers, left, right):
        return original(numbers, left, (right[0], right[0]))

    return image


MUTANTS = (
    ("planes exchanged", "planes", "planes", exchanged),
    ("a corner forgotten", "planes", "_extreme", without_a_corner),
    ("rounded inwards", "planes", "_extreme", rounded_up),
    ("useless intercepts", "tightness", "_extreme", far_too_low),
    ("image of one side", "planes", "product_image", two_corners),
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("name", [name for name, *_ in MUTANTS])
def test_a_wrong_rule_is_noticed(name: str, arithmetic: str, monkeypatch) -> None:
    _, probe, place, change = next(mutant for mutant in MUTANTS if mutant[0] == name)
    monkeypatch.setattr(products, place, change(getattr(products, place)))
    with pytest.raises(AssertionError):
        test_products_are_enclosed(probe, arithmetic)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_infinite_factors_have_infinite_products(arithmetic: str) -> None:
    numbers = ARITHMETICS[arithmetic]()
    one = numbers.lift_down(np.ones(3))
    low, high = one * 0, one.copy()
    wild_low, wild_high = (
        end.astype(object) if end.dtype == object else end for end in (low, high)
    )
    wild_low, wild_high = wild_low.copy(), wild_high.copy()
    wild_low[0], wild_high[1] = -np.inf, np.inf
    for left, right in (((wild_low, wild_high), (low, high)), ((low, high), (wild_low, wild_high))):
        image = products.product_image(numbers, left, right)
        under, floor, over, ceiling = products.planes(numbers, left, right, None, None)
        assert all(image[0][k] == -np.inf and image[1][k] == np.inf for k in (0, 1))
        assert all(floor[k] == -np.inf and ceiling[k] == np.inf for k in (0, 1))
        assert image[0][2] == 0
        assert numbers.fraction(image[1][2]) == 1
        assert np.isfinite(float(floor[2]))
        assert not any(x != x for part in (*under, *over, floor, ceiling) for x in part)


def bilinear(rng: np.random.Generator):
    """Products of linear forms and of Relus, products of products, a factor used twice."""
    net = Net(3)
    first = net.dense(0, rng.normal(size=(4, 3)), rng.normal(size=4))
    second = net.relu(net.dense(0, rng.normal(size=(4, 3))))
    third = net.product(first, second)
    fourth = net.product(third, first)
    net.dense(net.add(fourth, net.product(first, first)), rng.normal(size=(2, 4)))
    return net.done()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(BOTH))
def test_bounds_of_bilinear_networks_hold(seed: int, arithmetic: str) -> None:
    rng = np.random.default_rng(seed)
    network = bilinear(rng)
    state, low = Frame(network, ARITHMETICS[arithmetic]()), rng.normal(size=(2, 3))
    batch = Batch(low, low + rng.random((2, 3)), {}, np.zeros(2, dtype=bool))
    with np.errstate(all="ignore"):
        hull = Batch(low.min(0)[None], low.max(0)[None] + 1.0, {}, np.zeros(1, dtype=bool))
        propagate(state, hull, record=True)
        wide = {t: [e.copy() for e in ends] for t, ends in hull.bounds.items()}
        sweep(state, batch)
    exact = state.arithmetic.fraction
    for domain in range(2):
        for _ in range(5):
            point = low[domain] + rng.random(3) * (batch.upper[domain] - low[domain])
            tensors = every_tensor(network, point)
            for tensor, (lower, upper) in batch.bounds.items():
                for k, value in enumerate(tensors[tensor]):
                    assert exact(lower[domain][k]) <= value <= exact(upper[domain][k])
                    assert lower[domain][k] >= wide[tensor][0][0][k]


def every_tensor(network, point) -> list[list[Fraction]]:
    """Each tensor as an output of its own, exactly."""
    found = []
    for tensor in range(len(network.nodes)):
        cut = type(network)(network.nodes, (tensor,))
        found.append([value for value, _ in evaluate(cut, [Fraction(x) for x in point])])
    return found


@pytest.mark.parametrize("arithmetic", BOTH)
def test_the_empty_proof_bounds_a_product(arithmetic: str) -> None:
    """Over [-1, 2] x [-1, 2] it is ``(x + y) / 2 - 5 / 2`` that lies below the product."""
    for threshold, verdict in ((Fraction(-36, 10), "valid unsat"), (Fraction(-34, 10), "invalid")):
        found = check_proof(asked(threshold), None, arithmetic=arithmetic)
        assert found.verdict == verdict


def asked(threshold: Fraction):
    net = Net(2)
    left, right = net.dense(0, [[1.0, 0.0]]), net.dense(0, [[0.0, 1.0]])
    net.dense(net.product(left, right), [[1.0]])
    return query(net.done(), [box_case([-1, -1], [2, 2], at_most(0, threshold))])


@pytest.mark.parametrize("arithmetic", BOTH)
def test_smaller_boxes_close_what_the_root_leaves_open(arithmetic) -> None:
    """``x y + x + y`` over [-3/2, 1/2] squared: -11/4 by default, -7/4 after splits."""
    net = Net(2)
    left, right = net.dense(0, [[1.0, 0.0]]), net.dense(0, [[0.0, 1.0]])
    net.linear(*((t, net_identity()) for t in (net.product(left, right), left, right)))
    stated = query(net.done(), [box_case([-1.5] * 2, [0.5] * 2, at_most(0, Fraction(-9, 5)))])
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == "invalid"
    made = builder(stated)
    made.begin_tree()
    made.split_input(0)
    for _ in range(2):
        made.split_input(1)
        for _ in range(2):
            made.sweep()
            made.close()
    assert check_proof(stated, made.finish(), arithmetic=arithmetic).verdict == "valid unsat"


def net_identity():
    from specs.linear import Identity

    return Identity(1)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_weight_picks_the_plane(arithmetic: str) -> None:
    """``x y - x`` over [0, 1] x [1, 2] is at least 0 by the plane ``x + 0 y``, not by default."""
    net = Net(2)
    left, right = net.dense(0, [[1.0, 0.0]]), net.dense(0, [[0.0, 1.0]])
    product = net.product(left, right)
    net.linear((product, net_identity()), (left, minus()))
    stated = query(net.done(), [box_case([0, 1], [1, 2], at_most(0, Fraction(-1, 100)))])
    assert check_proof(stated, None, arithmetic=arithmetic).verdict == "invalid"
    for weight, verdict in ((1.0, "valid unsat"), (0.0, "invalid")):
        made = builder(stated)
        made.begin_tree()
        made.close(made.substitution([SlopeHint(product, Side.LOWER, np.array([weight]))]))
        assert check_proof(stated, made.finish(), arithmetic=arithmetic).verdict == verdict


def minus():
    from specs.enclosure import Enclosure
    from specs.linear import Scale

    return Scale(Enclosure(np.array([-1.0])))


def test_witnesses_multiply_exactly() -> None:
    stated = asked(Fraction(-2))
    edge = Witness(stated.digest, 0, 0, (Fraction(-1), Fraction(2)))
    assert check_witness(stated, edge).verdict == "valid sat"
    near = Witness(stated.digest, 0, 0, (Fraction(-1), Fraction(2) - Fraction(1, 10**30)))
    assert check_witness(stated, near).verdict == "invalid"
    third = Witness(stated.digest, 0, 0, (Fraction(-1, 3), Fraction(1, 7)))
    assert check_witness(stated, third).verdict == "invalid"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.fractions(max_denominator=50), min_size=3, max_size=3))
def test_evaluation_encloses_products_of_any_rationals(point) -> None:
    net = Net(3)
    parts = [net.dense(0, [np.eye(3)[k] * (k + 0.5)]) for k in range(3)]
    net.product(net.product(parts[0], parts[1]), net.product(parts[2], parts[2]))
    ((centre, radius),) = evaluate(net.done(), point)
    true = (point[0] / 2) * (point[1] * Fraction(3, 2)) * (point[2] * Fraction(5, 2)) ** 2
    assert abs(centre - true) <= radius <= (1 + abs(true)) / (1 << 300)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_network_that_grows_without_bounds_is_not_decided(arithmetic: str) -> None:
    """Squares of squares leave every bound that rounding is paid for."""
    net = Net(1)
    tensor = net.dense(0, [[4.0]])
    for _ in range(9):
        tensor = net.product(tensor, tensor)
    net.dense(tensor, [[1.0]])
    stated = query(net.done(), [box_case([0], [1], at_least(0, 2**20))])
    found = check_proof(stated, None, arithmetic=arithmetic)
    assert found.verdict == "invalid"


def test_a_magnitude_beyond_the_limit_is_refused() -> None:
    net = Net(1)
    net.product(0, 0)
    state = Frame(net.done(), ARITHMETICS["outward"]())
    propagate(
        state,
        Batch(np.zeros((1, 1)), np.full((1, 1), 2.0**60), {}, np.zeros(1, dtype=bool)),
        record=True,
    )
    assert state.passes([0])
    assert not state.passes([1])
    with pytest.raises(EvidenceError, match="2\\*\\*100"):
        state.magnitude(1)
