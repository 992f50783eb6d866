"""Enclosures of norms of gradients: planes at Relus' derivatives, open signs, chords."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proofs.check import ARITHMETICS
from proofs.frame import Batch
from proofs.partitions import gradient
from proofs.partitions.gradient import Gradients, Hints
from proofs.proof import Side
from specs.lipschitz import NORMS, LipschitzQuestion
from specs.network import Network
from specs.property import Case
from specs.query import ModelFile
from tests.proofs.helpers import BOTH, Net

SMALL = settings(max_examples=8, deadline=None)


def ask(network: Network, low, high, norm="linf", at_most=0, rows=None) -> LipschitzQuestion:
    case = Case(tuple(map(Fraction, low)), tuple(map(Fraction, high)), ())
    rows = np.eye(network.output_size) if rows is None else np.asarray(rows, dtype=float)
    file = ModelFile(None, b"", "0")
    return LipschitzQuestion(file, network, case, norm, rows, Fraction(at_most), "f", "built")


def weights(seed: int, widths: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Matrices and offsets of layers, in eighths."""
    rng = np.random.default_rng(seed)
    return [
        (np.rint(8 * rng.normal(size=(after, before))) / 8, np.rint(8 * rng.normal(size=after)) / 8)
        for before, after in itertools.pairwise(widths)
    ]


def layered(seed: int, *widths: int) -> Network:
    """Fully connected, with Relus between the layers."""
    net, last = Net(widths[0]), 0
    for number, (matrix, offset) in enumerate(weights(seed, widths)):
        last = net.dense(net.relu(last) if number else last, matrix, offset)
    return net.done(last)


def largest_at(seed: int, widths: tuple[int, ...], norm: str, point) -> Fraction:
    """The largest norm of an output's gradient, of "l2" its square, in rational numbers."""
    fractions = np.vectorize(Fraction, otypes=[object])
    layers = [(fractions(m), fractions(offset)) for m, offset in weights(seed, widths)]
    x, jacobian = np.array(point, dtype=object), None
    for number, (matrix, offset) in enumerate(layers):
        if number:
            steps = [Fraction(int(v > 0) + int(v >= 0), 2) for v in x]
            jacobian = np.array(steps, dtype=object)[:, None] * jacobian
            x = np.maximum(x, Fraction(0))
        x = matrix @ x + offset
        jacobian = matrix if jacobian is None else matrix @ jacobian
    sizes = abs(jacobian)
    match norm:
        case "linf":
            return max(sizes.sum(axis=1))
        case "l2":
            return max((sizes**2).sum(axis=1))
    return sizes.max()


def ends(asked: LipschitzQuestion, arithmetic: str) -> tuple[Fraction, Fraction]:
    """What is proved of the whole box."""
    numbers = ARITHMETICS[arithmetic]()
    looked = Gradients(asked, numbers)
    batch = looked.root().batch
    found = looked.below(batch)[0], looked.above(batch)[0]
    low, high = (numbers.fraction(end) for end in found)
    return low, high


def points(asked: LipschitzQuestion, seed: int, count: int) -> list[list[Fraction]]:
    rng = np.random.default_rng(seed)
    sides = list(zip(asked.case.lower, asked.case.upper, strict=True))
    return [
        [
            low + (high - low) * Fraction(int(k), 1024)
            for (low, high), k in zip(sides, row, strict=True)
        ]
        for row in rng.integers(0, 1025, size=(count, len(sides)))
    ]


@pytest.mark.parametrize("arithmetic", BOTH)
@SMALL
@given(st.integers(0, 10**6), st.sampled_from(NORMS), st.sampled_from([1, 8, 64]))
def test_no_gradient_lies_outside(arithmetic, seed, norm, part):
    widths = 3, 5, 4, 2
    asked = ask(layered(seed, *widths), [-1] * 3, [Fraction(2, part) - 1] * 3, norm)
    low, high = ends(asked, arithmetic)
    for point in points(asked, seed, 12):
        assert low <= largest_at(seed, widths, norm, point) <= high


@SMALL
@given(st.integers(0, 10**6), st.sampled_from(NORMS))
def test_both_arithmetics_find_the_same(seed, norm):
    rng, net = np.random.default_rng(seed), Net(2)
    first = net.relu(net.dense(0, rng.normal(size=(4, 2)), rng.normal(size=4)))
    second = net.relu(net.dense(first, rng.normal(size=(3, 4)), rng.normal(size=3)))
    asked = ask(net.done(net.dense(second, rng.normal(size=(1, 3)))), [-1, -1], [1, 1], norm)
    found = [[float(end) for end in ends(asked, name)] for name in BOTH]
    assert np.allclose(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("way", [0.0, 0.3, 1.0, np.nan, np.inf, -7.0], ids=str)
def test_whatever_the_planes_nothing_is_cut_off(arithmetic, way, monkeypatch):
    """Weights and slopes are choices: bounds hold for all of them."""
    monkeypatch.setattr(Hints, "__getitem__", _every(way))
    for seed, norm in enumerate(NORMS):
        asked = ask(layered(seed, 2, 4, 3, 1), [-1, -1], [1, 1], norm)
        low, high = ends(asked, arithmetic)
        for point in points(asked, seed, 12):
            assert low <= largest_at(seed, (2, 4, 3, 1), norm, point) <= high


def _every(way: float):
    known = Hints.__getitem__

    def chosen(self, key):
        return np.full(known(self, key).shape, way)

    return chosen


def gate() -> Network:
    """``Relu(4 Relu(x0) - 1) - Relu(4 Relu(x0) - 3) + Relu(x1)``: slopes 0, 4, 0 along x0."""
    net = Net(2)
    first = net.relu(net.dense(0, np.eye(2)))
    second = net.relu(net.dense(first, [[4.0, 0.0], [4.0, 0.0], [0.0, 1.0]], [-1.0, -3.0, 0.0]))
    return net.done(net.dense(second, [[1.0, -1.0, 1.0]]))


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize(
    ("low", "high", "norm", "largest"),
    [
        ([-1, -1], [1, 1], "linf", 5),
        ([-1, -1], [1, 1], "l2", 17),
        ([-1, -1], [1, 1], "l1", 4),
        ([Fraction(1, 8), 1], [1, 2], "linf", 5),
        ([1, 1], [2, 2], "linf", 1),
        ([-2, -2], [-1, -1], "linf", 0),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_hulls_of_derivatives_of_relus(arithmetic, low, high, norm, largest):
    """Each of the derivatives is in its hull: 4 and -4 are not added up."""
    _, found = ends(ask(gate(), low, high, norm), arithmetic)
    assert largest <= found <= largest + Fraction(1, 10**6)


def test_open_signs_are_tried_both_ways(monkeypatch):
    losses = []
    for seed in range(6):
        asked = ask(layered(seed, 3, 6, 1), [-1] * 3, [1] * 3)
        _, tried = ends(asked, "outward")
        monkeypatch.setattr(gradient, "SIGNS", 0)
        _, chords = ends(asked, "outward")
        monkeypatch.undo()
        at = points(asked, seed, 40)
        largest = max(largest_at(seed, (3, 6, 1), "linf", point) for point in at)
        assert largest <= min(tried, chords)
        losses.append(float(chords / tried))
    assert max(losses) > 1.01


def test_more_open_signs_than_are_tried():
    widths = 8, 6, 1
    asked = ask(layered(3, *widths), [-1] * 8, [1] * 8)
    _, high = ends(asked, "outward")
    assert all(largest_at(3, widths, "linf", at) <= high for at in points(asked, 3, 40))


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@SMALL
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1, max_size=7))
@example([(-1, 2)] * 7)
@example([(0, 0), (-3, 3), (2, 0)])
def test_some_linear_function_is_at_least_the_norm(arithmetic, norm, sides):
    """At every corner, and within."""
    numbers = ARITHMETICS[arithmetic]()
    count = len(sides)
    looked = Gradients(ask(layered(0, count, 2, 1), [0] * count, [1] * count, norm), numbers)
    low = np.array([[a / 4 for a, _ in sides]])
    high = low + np.array([[width / 4 for _, width in sides]])
    bounds = numbers.lift_down(low), numbers.lift_up(high)
    sizes = [looked._size(end, numbers.multiply_up) for end in bounds]
    place, rows, constant = looked._chords(bounds, (sizes[0], sizes[1]))
    assert set(place.tolist()) == {0}
    rng = np.random.default_rng(count)
    shares = np.concatenate([rng.integers(0, 2, (20, count)), rng.integers(0, 9, (20, count)) / 8])
    for share in shares:
        entries = [
            Fraction(a) + (Fraction(b) - Fraction(a)) * Fraction(s)
            for a, b, s in zip(low[0], high[0], share, strict=True)
        ]
        size = sum(abs(e) if norm == "linf" else e**2 for e in entries)
        best = max(
            sum(numbers.fraction(c) * e for c, e in zip(row, entries, strict=True))
            + numbers.fraction(number)
            for row, number in zip(rows, constant, strict=True)
        )
        assert best >= size


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("norm", NORMS)
def test_a_constant_is_at_most_or_over_or_neither(arithmetic, norm):
    inside = [Fraction(3, 8), 1], [Fraction(5, 8), 2]  # gradient (4, 1) everywhere
    size = {"linf": Fraction(5), "l2": Fraction(4123105625618, 10**12), "l1": Fraction(4)}[norm]
    tiny = Fraction(1, 10**9)

    def said(at_most: Fraction, box=inside) -> tuple[bool, bool]:
        looked = Gradients(ask(gate(), *box, norm, at_most), ARITHMETICS[arithmetic]())
        batch = looked.root().batch
        return bool(looked.at_most(batch)[0]), bool(looked.over(batch)[0])

    assert said(size + tiny) == (True, False)
    assert said(size - tiny) == (False, True)
    assert said(size - tiny, ([0, 1], [1, 2])) == (False, False)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_the_largest_of_several_functions_counts(arithmetic):
    asked = ask(gate(), [-1, -1], [1, 1], rows=[[1.0], [-3.0]])
    low, high = ends(asked, arithmetic)
    assert 15 <= high <= Fraction(15001, 1000)
    assert -Fraction(1, 10**9) <= low <= 0
    asked = ask(gate(), [Fraction(3, 8), 1], [Fraction(5, 8), 2], rows=[[1.0], [-3.0]])
    low, high = ends(asked, arithmetic)
    assert Fraction(14999, 1000) <= low <= 15 <= high <= Fraction(15001, 1000)


def test_bounds_that_contradict_prove_nothing():
    looked = Gradients(ask(gate(), [1, 1], [2, 2], at_most=100), ARITHMETICS["outward"]())
    batch = looked.root().batch
    assert looked.at_most(batch).all()
    empty = Batch(batch.lower, batch.upper, batch.bounds, np.ones(1, dtype=bool))
    assert not looked.at_most(empty).any()
    assert not looked.over(empty).any()


def test_hints_are_of_gates_alone():
    looked = Gradients(ask(gate(), [-1, -1], [1, 1]), ARITHMETICS["outward"]())
    batch = looked.root().batch
    hints = looked._hints(batch)
    gates = looked._gates
    assert len(hints) == 4 * len(gates) == len(list(hints))
    assert {tensor for tensor, _ in hints} == {*gates, *gates.values()}
    for product, sign in gates.items():
        assert not hints[sign, Side.LOWER].any()
        weight = hints[product, Side.UPPER]
        assert np.all((weight >= 0) & (weight <= 1) | np.isnan(weight))
    with pytest.raises(KeyError):
        hints[0, Side.LOWER]
    assert not len(Hints(looked.frame, Batch(batch.lower, batch.upper, {}, batch.empty), gates))
