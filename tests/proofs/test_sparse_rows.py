"""Rows kept as entries: the same bounds as dense rows, and every mutant noticed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from proofs import entries, frame, layers, outward, sparse, substitution
from proofs.arithmetic import Arithmetic
from proofs.bounds import propagate, sweep
from proofs.check import ARITHMETICS, check_proof
from proofs.frame import Batch, Frame, Relaxations, Rows
from proofs.proof import Side
from proofs.substitution import substitute
from specs.enclosure import Enclosure
from specs.linear import Gather, Identity, MatMul, Scale, Scatter, Sparse
from tests.proofs.contracts import watched
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    box_case,
    matrix_of,
    member,
    outputs_at,
    query,
)
from tests.proofs.mutants import Mutant, each, notice
from tests.proofs.probes import rounding_is_paid
from tests.proofs.test_bounds_hold import boxes, points_of, wild_network

ALWAYS = 1e9


@pytest.fixture(autouse=True)
def _always_sparse(monkeypatch):
    monkeypatch.setattr(sparse, "FILLED", ALWAYS)


def sparse_map(rng: np.random.Generator, source: int, target: int) -> Sparse:
    count = int(rng.integers(1, 2 * target + 1))
    return Sparse(
        Enclosure(rng.normal(size=count)),
        rng.integers(0, source, size=count),
        rng.integers(0, target, size=count),
        source,
        target,
    )


def maps(rng: np.random.Generator) -> list:
    return [
        Identity(5),
        Gather(rng.integers(-1, 5, size=7), 5),
        Scatter(rng.integers(-1, 4, size=5), 4),
        Scale(Enclosure(rng.normal(size=5))),
        sparse_map(rng, 5, 4),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_entries_are_the_rows_of_the_matrix(seed):
    rng = np.random.default_rng(seed)
    for map_ in maps(rng):
        matrix = matrix_of(map_)
        targets = rng.integers(0, map_.target_size, size=6)
        which, source, place = map_.entries(targets)
        found = [[Fraction(0)] * map_.source_size for _ in targets]
        for k, (row, column) in enumerate(zip(which, source, strict=True)):
            one = Fraction(1) if place is None else Fraction(float(map_.weight.value[place[k]]))
            found[row][column] += one
        assert found == [matrix[t] for t in targets]
    assert MatMul(Enclosure(np.ones((2, 2)))).entries(np.array([0])) is None


def several_readers(rng: np.random.Generator) -> Net:
    """Sparse layers whose tensors are read several times, also by later layers."""
    net = Net(4)
    current = net.linear((0, sparse_map(rng, 4, 6)), offset=rng.normal(size=6))
    for _ in range(int(rng.integers(1, 3))):
        hidden = net.relu(current)
        terms = [(hidden, sparse_map(rng, 6, 6)), (current, Scale(Enclosure(rng.normal(size=6))))]
        if rng.random() < 0.5:
            terms.append((hidden, Gather(rng.permutation(6), 6)))
        current = net.linear(*terms, offset=rng.normal(size=6))
    net.linear((net.relu(current), sparse_map(rng, 6, 2)))
    return net


def sparse_bounds_hold(arithmetic: str) -> None:
    checked = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        low, high = boxes(rng)
        network = several_readers(rng).done() if seed % 2 else wild_network(rng, radii=0.5)
        stated = query(network, [box_case(low, high, at_least(0, 1), at_least(1, 0))])
        real = query(member(rng, network), stated.property.cases)
        with watched(real, list(points_of(rng, low, high, 4))) as watch:
            check_proof(stated, None, arithmetic=arithmetic)
            check_proof(stated, RandomProof(rng, stated).proof(depth=3), arithmetic=arithmetic)
        checked += watch.checked
    assert checked


def domains_are_kept_apart(arithmetic: str) -> None:
    """Three boxes in one batch, swept at once: each one's own bounds hold at its points."""
    numbers = ARITHMETICS[arithmetic]()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        network = several_readers(rng).done()
        state = Frame(network, numbers)
        low = rng.normal(size=(3, 4))
        high = low + rng.random((3, 4))
        around = Batch(low.min(0)[None], high.max(0)[None], {}, np.zeros(1, dtype=bool))
        propagate(state, around, record=True)
        batch = Batch(low, high, {}, np.zeros(3, dtype=bool))
        sweep(state, batch)
        for domain in range(3):
            for point in points_of(rng, low[domain], high[domain], 5):
                values = outputs_at(network, point)
                for tensor, ends in batch.bounds.items():
                    for k, value in enumerate(values[tensor]):
                        assert numbers.fraction(ends[0][domain, k]) <= value
                        assert value <= numbers.fraction(ends[1][domain, k])


def rounding_is_paid_by_entries(arithmetic: str) -> None:
    """Two ways that cancel but for their rounding, which is all that is left."""
    numbers: Arithmetic = ARITHMETICS[arithmetic]()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        first, second = rng.normal(size=(2, 6))
        net = Net(6)
        slow = net.linear((0, Scale(Enclosure(first))))
        slow = net.linear((slow, Scale(Enclosure(second))))
        fast = net.linear((0, Scale(Enclosure(-first * second))))
        net.linear((slow, Identity(6)), (fast, Gather(np.arange(6), 6)))
        network = net.done()
        state = Frame(network, numbers)
        batch = Batch(-np.ones((1, 6)), np.ones((1, 6)), {}, np.zeros(1, dtype=bool))
        propagate(state, batch, record=True)
        one = numbers.lift_down(np.ones(6))
        rows = Rows(
            np.zeros(6, dtype=np.int64),
            numbers.zeros((6,)),
            {len(network.nodes) - 1: (np.arange(6), np.arange(6), one)},
        )
        found = substitute(state, batch, Relaxations(state, batch), rows)
        corners = [[Fraction(s) for s in signs] for signs in np.ndindex(*[2] * 6)]
        values = [outputs_at(network, [2 * s - 1 for s in c])[-1] for c in corners]
        for entry in range(6):
            least = min(v[entry] for v in values)
            bound = numbers.fraction(found[entry])
            assert bound <= least
            assert bound >= least - Fraction(1, 1 << 30)


def entries_meet_dense_rows(arithmetic: str) -> None:
    """A scaled entry meets a dense row that cancels it, so that only its rounding is left."""
    numbers = ARITHMETICS[arithmetic]()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        factor, slope = (float(v) for v in rng.uniform(0.5, 1.0, size=2))
        slope = float(np.rint(slope * 2.0**40) / 2.0**40)
        net = Net(1)
        dense = net.linear((0, MatMul(Enclosure(np.array([[-factor * slope]])))))
        bent = net.relu(0)  # after the dense layer, so that its row is passed on first
        net.linear((bent, Scale(Enclosure(np.array([factor])))), (dense, Identity(1)))
        network = net.done()
        state = Frame(network, numbers)
        batch = Batch(-np.ones((1, 1)), np.ones((1, 1)), {}, np.zeros(1, dtype=bool))
        propagate(state, batch, record=True)
        hints = {(bent, Side.LOWER): np.array([[slope]])}
        one = (np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
        rows = Rows(one[0], numbers.zeros((1,)), {3: (*one, numbers.lift_down(np.ones(1)))})
        found = substitute(state, batch, Relaxations(state, batch, hints), rows)[0]
        # The line below is slope x, so that in rational numbers this much of x is left.
        exact = -abs(Fraction(factor) * Fraction(slope) - Fraction(factor * slope))
        assert numbers.fraction(found) <= exact
        assert numbers.fraction(found) >= exact - Fraction(1, 1 << 40)


def chains_are_bounded_as_one(arithmetic: str) -> None:
    """Two linear layers that cancel: each interval loses, the chain's bounds are the values."""
    numbers = ARITHMETICS[arithmetic]()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        net = Net(2)
        hidden = net.dense(0, rng.normal(size=(5, 2)), rng.normal(size=5))
        last = net.dense(hidden, rng.normal(size=(3, 5)), rng.normal(size=3))
        net.relu(last)
        network = net.done()
        state = Frame(network, numbers)
        low = rng.normal(size=(3, 2))
        high = low + rng.random((3, 2))
        around = Batch(low.min(0)[None], high.max(0)[None], {}, np.zeros(1, dtype=bool))
        propagate(state, around, record=True)
        batch = Batch(low, high, {}, np.zeros(3, dtype=bool))
        sweep(state, batch)
        for domain in range(3):
            ends = list(zip(low[domain], high[domain], strict=True))
            corners = [(Fraction(a), Fraction(b)) for a in ends[0] for b in ends[1]]
            values = [outputs_at(network, corner)[last] for corner in corners]
            for entry in range(3):
                exact = [v[entry] for v in values]
                lower, upper = (numbers.fraction(e[domain, entry]) for e in batch.bounds[last])
                assert lower <= min(exact) <= max(exact) <= upper
                assert min(exact) - lower < Fraction(1, 1 << 40)
                assert upper - max(exact) < Fraction(1, 1 << 40)


PROBES = (
    sparse_bounds_hold,
    domains_are_kept_apart,
    rounding_is_paid,
    rounding_is_paid_by_entries,
    entries_meet_dense_rows,
    chains_are_bounded_as_one,
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.__name__)
def test_the_kernel_passes(probe, arithmetic):
    probe(arithmetic)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_sparse_and_dense_rows_have_the_same_bounds(arithmetic, monkeypatch):
    """But for rounding: the same lines are chosen for the same coefficients."""
    numbers = ARITHMETICS[arithmetic]()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        network = several_readers(rng).done()
        low = rng.normal(size=(1, 4))
        found = []
        for filled in (ALWAYS, 0.0):
            monkeypatch.setattr(sparse, "FILLED", filled)
            state = Frame(network, numbers)
            batch = Batch(low, low + 1.0, {}, np.zeros(1, dtype=bool))
            sweep(state, batch, record=True)
            ends = [e for tensor in sorted(batch.bounds) for e in batch.bounds[tensor]]
            found.append(np.concatenate([numbers.floats_down(e) for e in ends], axis=1))
        assert np.allclose(*found, rtol=0, atol=1e-9)


def first_owner(original):
    def through(frame_, lines, node, here, rows):
        return original(frame_, lines, node, here, replace(rows, owner=rows.owner * 0))

    return through


def other_line(original):
    return lambda self, positive, pick: original(self, ~positive, pick)


def last_of_equal_places(original):
    def combined(self, size):
        made = original(self, size)
        key = dict(zip((self.row * size + self.entry).tolist(), self.value, strict=True))
        value = made.value.copy()
        for k, place in enumerate((made.row * size + made.entry).tolist()):
            value[k] = key[place]
        return made._replace(value=value)

    return combined


def second_reader_only(original):
    return lambda first, second, size: second


def no_offset(original):
    def through(frame_, node, here, count):
        found = original(frame_, node, here, count)
        return found and (found[0], None)

    return through


def no_cost(original):
    return lambda self, *args: original(self, *args) * 0


def dense_rows_forgotten(original):
    def accumulate(self, tensor, rows):
        self._coefficients[tensor] = rows

    return accumulate


def upper_from_lower(original):
    def interval(*args):
        lower, upper = original(*args)
        return lower, upper - 2.0**-20 if upper.dtype != object else upper - (1 << 100)

    return interval


MUTANTS = (
    Mutant("owners mixed", domains_are_kept_apart, sparse, "_through_lines", first_owner),
    Mutant("lines exchanged", sparse_bounds_hold, frame.Lines, "chosen", other_line),
    Mutant("places lost", sparse_bounds_hold, entries.Entries, "combined", last_of_equal_places),
    Mutant("readers forgotten", sparse_bounds_hold, sparse, "_united", second_reader_only),
    Mutant("offsets dropped", sparse_bounds_hold, sparse, "_through_linear", no_offset),
    Mutant(
        "free of charge",
        rounding_is_paid_by_entries,
        outward.Outward,
        "entries_cost",
        no_cost,
        ("outward",),
    ),
    Mutant(
        "dense rows forgotten",
        entries_meet_dense_rows,
        substitution.Backward,
        "_accumulate",
        dense_rows_forgotten,
    ),
    Mutant("chain too tight", chains_are_bounded_as_one, layers, "interval", upper_from_lower),
)


@each(MUTANTS)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)


def test_layers_whose_intervals_are_exact_are_known():
    """Shifts, scalings and reorderings of the input lose nothing; readers of both do."""
    net = Net(3)
    scaled = net.linear((0, Scale(Enclosure(np.array([2.0, -1.0, 0.5])))), offset=np.ones(3))
    turned = net.linear((scaled, Gather(np.array([2, 0, 1]), 3)))
    twice = net.linear((scaled, Gather(np.array([0, 0, 1]), 3)))
    plain, doubled = (net.dense(t, np.ones((2, 3))) for t in (turned, twice))
    shifted = net.linear((plain, Identity(2)), offset=np.ones(2))
    both = net.linear((plain, Identity(2)), (doubled, Identity(2)))
    same = net.linear((0, Identity(3)), (scaled, Identity(3)))
    layers_ = (turned, plain, doubled, shifted, both, same)
    for tensor in layers_:
        net.relu(tensor)
    state = Frame(net.done(), ARITHMETICS["outward"]())
    wanted = (True, True, False, True, False, False)
    assert state.first_layers == dict(zip(layers_, wanted, strict=True))


def test_functions_end_first_layers():
    net = Net(2)
    chain = net.dense(net.dense(0, np.ones((2, 2))), np.ones((2, 2)))
    net.relu(net.dense(net.relu(chain), np.ones((2, 2))))
    network = net.done()
    assert set(Frame(network, ARITHMETICS["outward"]()).first_layers) == {chain}
