"""The rule Clip: violations survive it, and what it cuts is really used."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import clip
from proofs.bounds import propagate
from proofs.check import ARITHMETICS, check_proof
from proofs.clip import Clipper, Duals
from proofs.frame import Affine, Batch, Frame
from specs.enclosure import Enclosure
from specs.linear import Identity, MatMul
from specs.network import Network
from specs.property import Conjunction, constraint
from tests.proofs.contracts import watched
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    box_case,
    builder,
    outputs_at,
    query,
    random_network,
)
from tests.proofs.mutants import Mutant, each, notice, refused
from tests.proofs.test_bounds_hold import points_of


def proof_of(stated, *operations: str):
    made = builder(stated)
    made.begin_tree()
    for operation in operations:
        hints = (made.substitution(),) if operation == "clip" else ()
        getattr(made, operation.removesuffix(" box"))(*hints)
    made.close()
    return made.finish()


def shallow(rng: np.random.Generator) -> Network:
    net = Net(2)
    hidden = net.relu(net.dense(0, rng.normal(size=(4, 2)), 0.3 * rng.normal(size=4)))
    net.dense(hidden, rng.normal(size=(1, 4)))
    return net.done()


def violations_survive(arithmetic: str) -> None:
    """Random networks and proofs; some points violate, some of them only just."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        network = shallow(rng) if seed % 2 else random_network(rng, 2)
        scale = float(rng.choice([1.0, 1e-3, 1e6]))
        low, high = -scale * np.ones(2), scale * np.ones(2)
        points = list(points_of(rng, low, high, 6))
        values = sorted(outputs_at(network, p)[network.outputs[0]][0] for p in points)
        half_space = constraint({0: Fraction(1)}, {}, Fraction(0))
        unsafe = (
            at_least(0, values[3]),
            (half_space, constraint({}, {0: Fraction(-1)}, values[1])),
        )
        stated = query(network, [box_case(low, high, *unsafe)])
        with watched(stated, points) as watch:
            for _ in range(3):
                proof = RandomProof(rng, stated, wild=0.2).proof(depth=5)
                check_proof(stated, proof, arithmetic=arithmetic)
        assert watch.checked


def violations_on_the_edge_survive(arithmetic: str) -> None:
    """Linear in one input: the violation lies exactly where the cut is, but for rounding."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        net = Net(1)
        hidden = net.relu(net.dense(0, rng.normal(size=(3, 1)), 4.0 + rng.random(3)))
        kink = net.relu(net.dense(0, rng.normal(size=(2, 1)), 0.1 * rng.normal(size=2)))
        network_ = net.dense(hidden, rng.normal(size=(1, 3)) * float(rng.choice([1, 1e-8, 1e9])))
        net.linear((kink, MatMul(Enclosure(np.zeros((2, 1))))), (network_, Identity(1)))
        network = net.done()
        point = (Fraction(float(rng.uniform(-1, 1))),)
        value = outputs_at(network, point)[-1][0]
        for unsafe in (at_least(0, value), at_most(value)):
            stated = query(network, [box_case([-1], [1], unsafe)])
            for operations in (
                ("clip",),
                ("clip box", "clip"),
                ("clip box",),
                ("sweep", "clip", "sweep"),
            ):
                with watched(stated, [point]) as watch:
                    refused(stated, proof_of(stated, *operations), arithmetic)
                assert watch.checked


def at_most(value: Fraction) -> Conjunction:
    return (constraint({}, {0: Fraction(1)}, -value),)


def plane() -> Network:
    net = Net(2)
    net.relu(net.dense(0, [[1, 1], [1, -1]]))
    return net.done()


def clipped_bounds_refute(arithmetic: str) -> None:
    """Relu(x + y) <= 1/2, x >= 3/4 and y >= 0: clipping leaves no point."""
    small = constraint({}, {0: Fraction(1)}, Fraction(-1, 2))
    right = constraint({0: Fraction(-1)}, {}, Fraction(3, 4))
    above = constraint({1: Fraction(-1)}, {}, Fraction(0))
    empty = (small, right, above)
    stated = query(plane(), [box_case([-1, -1], [1, 1], empty)])
    refused(stated, proof_of(stated), arithmetic)
    proof = proof_of(stated, "clip", "sweep")
    assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "valid unsat"


def the_hull_of_disjuncts_remains(arithmetic: str) -> None:
    """The same beside a disjunct that holds somewhere, or has nothing to refute it with."""
    small = constraint({}, {0: Fraction(1)}, Fraction(-1, 2))
    right = constraint({0: Fraction(-1)}, {}, Fraction(3, 4))
    above = constraint({1: Fraction(-1)}, {}, Fraction(0))
    empty = (small, right, above)
    left = (constraint({0: Fraction(1)}, {}, Fraction(0)), constraint({}, {0: Fraction(1)}, -1))
    for other in (left, ()):
        for unsafe in ((empty, other), (other, empty)):
            stated = query(plane(), [box_case([-1, -1], [1, 1], *unsafe)])
            for kind in ("clip", "clip box"):
                refused(stated, proof_of(stated, kind, "sweep", kind), arithmetic)


def multiples_are_paid_for(arithmetic: str) -> None:
    """An entry that is nearly parallel to the cut: what the sum loses is all that is left."""
    numbers = ARITHMETICS[arithmetic]()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        size = 48
        net = Net(size)
        net.relu(net.dense(0, np.ones((1, size))))
        frame = Frame(net.done(), numbers)
        point = np.repeat([1.0, -1.0], size // 2)
        cut = 1.0 + np.repeat(rng.integers(0, 1 << 15, size=2), size // 2) * 2.0**-40
        entry = -cut * (1.0 + rng.integers(1, 1 << 20) * 2.0**-20)
        exact = [[Fraction(v) for v in part.tolist()] for part in (cut, entry, point)]
        constant = -sum(a * x for a, x in zip(exact[0], exact[2], strict=True))
        value = sum(w * x for w, x in zip(exact[1], exact[2], strict=True))
        batch = Batch(-np.ones((1, size)), np.ones((1, size)), {}, np.zeros(1, dtype=bool))
        propagate(frame, batch, record=True)
        zero = np.zeros(1, dtype=np.int64)
        group = SimpleNamespace(batch=batch, rows=SimpleNamespace(owner=zero))
        low = numbers.zeros((1,))
        low[0] = numbers.fraction_down(constant)
        affine = Affine(numbers.lift_down(cut[None]), low)
        clipper = Clipper(frame, None, lambda: None)  # type: ignore[arg-type]
        layer = clipper._made(Affine(numbers.lift_down(entry[None]), numbers.zeros((1,))))
        multiple = clipper._duals(group, affine).best(layer.floats, zero)
        cost = clipper._cost(affine.matrix)
        found = clipper._entries(group, affine, cost, layer, zero, zero, multiple)
        assert numbers.fraction(found[0]) <= value, "a violation is outside its bounds"
        assert numbers.fraction(found[0]) >= value - Fraction(2) ** -38


def clips_apply_below_only(arithmetic: str) -> None:
    """What one half of a split is clipped by says nothing about the other half."""
    net = Net(1)
    net.relu(net.dense(0, [[1]]))
    unsafe = (constraint({0: Fraction(-1)}, {}, Fraction(1, 2)), *at_most(Fraction(3, 4)))
    stated = query(net.done(), [box_case([-1], [1], unsafe)])
    made = builder(stated)
    made.begin_tree()
    made.split_input(0)
    for _ in range(2):
        made.clip(made.substitution())
        made.close()
    refused(stated, made.finish(), arithmetic)


PROBES = (
    violations_survive,
    violations_on_the_edge_survive,
    clipped_bounds_refute,
    the_hull_of_disjuncts_remains,
    multiples_are_paid_for,
    clips_apply_below_only,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_rule_keeps_what_it_must(probe, arithmetic):
    probe(arithmetic)


def nothing(original):
    return lambda *args: None


def hull_of_the_first(original):
    def around(self, alive, lower, upper):
        low = np.maximum.reduceat(lower[self.rows], self.disjuncts, axis=0)
        high = np.minimum.reduceat(upper[self.rows], self.disjuncts, axis=0)
        return low[self.domains], high[self.domains]

    return around


def ignores_uncut_disjuncts(original):
    def of(group, domains):
        class One:
            disjuncts = (0,)

        return original(group, [One() for _ in domains])

    return staticmethod(of)


def cut_moved(original):
    def entries(self, group, affine, *more):
        number = self._arithmetic.lift_up(np.array([2.0**-20]))
        return original(self, group, replace(affine, constant=affine.constant + number), *more)

    return entries


def box_clipped_too_much(original):
    def box(self, group, affine):
        lower, upper = original(self, group, affine)
        owner = group.rows.owner
        low, high = group.batch.lower[owner], group.batch.upper[owner]
        step = 2.0**-40 * (high - low)
        return (
            np.where(lower > low, lower + step, lower),
            np.where(upper < high, upper - step, upper),
        )

    return box


def free_of_charge(original):
    return lambda self, *args: original(self, *args) * 0


MUTANTS = (
    Mutant("clips nothing", clipped_bounds_refute, clip.Clipper, "clip", nothing),
    Mutant(
        "first disjunct", the_hull_of_disjuncts_remains, clip._Hull, "around", hull_of_the_first
    ),
    Mutant(
        "disjunct without rows",
        the_hull_of_disjuncts_remains,
        clip._Hull,
        "of",
        ignores_uncut_disjuncts,
    ),
    Mutant("cut moved", violations_on_the_edge_survive, clip.Clipper, "_entries", cut_moved),
    Mutant("too much", violations_on_the_edge_survive, clip.Clipper, "_box", box_clipped_too_much),
    Mutant(
        "for free",
        multiples_are_paid_for,
        clip.Clipper,
        "_price",
        free_of_charge,
        ("outward",),
    ),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)


@pytest.mark.parametrize("arithmetic", BOTH)
@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_multiple_keeps_what_satisfies_the_cut(arithmetic, seed):
    """Against the least of ``entry + t (cut x + constant)`` over the box, in rationals."""
    numbers, rng = ARITHMETICS[arithmetic](), np.random.default_rng(seed)
    size, scale = int(rng.integers(1, 9)), float(rng.choice([1.0, 1e-200, 1e-310, 1e20]))
    low, high = np.sort(rng.normal(size=(2, 1, size)) * scale, axis=0)
    cut = rng.normal(size=(1, size)) * float(rng.choice([1.0, 1e-12, 1e200, 5e-324]))
    entry = rng.normal(size=(1, size))
    if rng.random() < 0.5:  # nearly parallel: the sum cancels
        entry = -cut * (1.0 + rng.integers(0, 1 << 20, size=(1, 1)) * 2.0**-40)
    constant = -(cut * low).sum(axis=1) - (cut * (high - low) * rng.random(size)).sum(axis=1)
    net = Net(size)
    net.relu(net.dense(0, np.ones((1, size))))
    frame = Frame(net.done(), numbers)
    batch = Batch(low, high, {}, np.zeros(1, dtype=bool))
    propagate(frame, batch, record=True)
    zero = np.zeros(1, dtype=np.int64)
    group = SimpleNamespace(batch=batch, rows=SimpleNamespace(owner=zero))
    cuts = Affine(numbers.lift_down(cut), numbers.lift_down(constant))
    clipper = Clipper(frame, None, lambda: None)  # type: ignore[arg-type]
    with np.errstate(all="ignore"):
        layer = clipper._made(Affine(numbers.lift_down(entry), numbers.zeros((1,))))
        best = clipper._duals(group, cuts).best(layer.floats, zero)
    real = np.vectorize(numbers.fraction, otypes=[object])
    a, b = real(layer.affine.matrix)[0], real(cuts.matrix)[0]
    ends = [list(map(Fraction, end)) for end in zip(low[0], high[0], strict=True)]

    def least(row: np.ndarray) -> Fraction:
        return sum((min(x * u for u in box) for x, box in zip(row, ends, strict=True)), Fraction(0))

    for multiple in (best, np.array([float(rng.random())]), np.array([5e-324]), np.array([1e30])):
        with np.errstate(all="ignore"):
            cost = clipper._cost(cuts.matrix)
            found = clipper._entries(group, cuts, cost, layer, zero, zero, multiple)[0]
        t = numbers.fraction(numbers.lift_down(multiple)[0])
        value = least(a + t * b) + t * numbers.fraction(cuts.constant[0])
        assert not found > -np.inf or numbers.fraction(found) <= value


@given(st.integers(0, 1 << 30))
@settings(max_examples=300, deadline=None)
def test_the_multiple_is_the_best(seed):
    """Against no multiple and every bend, within float32."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 6))
    entry, cut = rng.integers(-3, 4, size=(2, 1, size)).astype(float)
    low = rng.normal(size=(1, size))
    high = low + rng.random((1, size))
    constant = np.array([rng.normal()])

    def value(t: float) -> float:
        row = entry + t * cut
        return float(np.where(row > 0, row * low, row * high).sum() + t * constant[0])

    duals = Duals.of(cut, constant, low, high)
    with np.errstate(all="ignore"):
        best = float(duals.best(entry.astype(np.float32), np.zeros(1, dtype=np.int64))[0])
    assert best >= 0
    bends = [-e / c for e, c in zip(entry[0], cut[0], strict=True) if c * e < 0]
    unbounded = value(1e6) > value(1e5) + 1e-3  # nothing satisfies the cut
    assert unbounded or all(value(best) >= value(t) - 1e-4 for t in (0.0, *bends))
