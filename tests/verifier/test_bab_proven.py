"""Multipliers that closed one box, tried on others."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from proofs.check import check_proof
from proofs.proof import NodeKind
from specs.query import Query
from tests.proofs.helpers import BOTH, Net, at_least, at_most, box_case, query
from verifier import bab_input
from verifier.alpha import COARSE_GRID, Multipliers
from verifier.bab import Search, Settings
from verifier.bab_proven import KEPT, Proven, Row, stacked
from verifier.bab_tree import LeafHint
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network


def row(value: float, weights: tuple[float, ...] = (1.0,)) -> Row:
    alpha = torch.full((3,), value, dtype=torch.float64)
    return Row(alpha, torch.tensor(weights, dtype=torch.float64), None, LeafHint((), np.zeros(0)))


def test_the_latest_rows_of_a_disjunct_come_first():
    proven = Proven()
    assert proven.of([1, 2], 0) == [None, None]
    rows = [row(float(k)) for k in range(KEPT + 2)]
    for each in rows:
        proven.add(1, each)
    assert proven.of([1, 2, 1], 0) == [rows[-1], None, rows[-1]]
    assert proven.of([1], KEPT - 1) == [rows[2]]
    assert proven.of([1], KEPT) == [None]


def test_weights_fit_the_width_of_a_problem():
    found = stacked([row(0.5), row(0.25, (0.5, 2.0))], 3)
    assert found.alpha[:, 0].tolist() == [0.5, 0.25]
    assert found.weights is not None
    assert found.weights.tolist() == [[1.0, 0.0, 0.0], [0.5, 2.0, 0.0]]
    assert found.region is None
    assert stacked([row(0.5)], 1).weights is None


def test_repeated_constraints_are_counted_with_the_last_one():
    alpha = torch.zeros((1, 2), dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.5, 0.25, 0.125]], dtype=torch.float64)
    region = torch.tensor([[3.0]], dtype=torch.float64)
    hint = LeafHint((), np.zeros(0))
    found = Row.of(Multipliers(alpha, None, weights, region), 0, 2, hint)
    assert found.weights.tolist() == [1.0, 0.875]
    assert found.region is not None
    assert found.region.tolist() == [3.0]
    assert weights[0, 1] == 0.5
    assert Row.of(Multipliers(alpha), 0, 1, hint).weights.tolist() == [1.0]


def test_coarse_multipliers_are_near_and_not_negative():
    torch.manual_seed(1)
    exact = Multipliers(torch.rand((3, 5)).double(), None, torch.rand((3, 2)).double() + 0.01)
    coarse = exact.coarse()
    assert torch.equal(coarse.alpha * COARSE_GRID, (coarse.alpha * COARSE_GRID).round())
    assert float((coarse.alpha - exact.alpha).abs().max()) <= 0.5 / COARSE_GRID
    assert coarse.weights is not None
    assert exact.weights is not None
    assert float((coarse.weights / exact.weights - 1).abs().max()) <= 2.0**-3
    assert bool((coarse.weights > 0).all())
    whole = coarse.weights.ldexp(4 - torch.frexp(coarse.weights).exponent)
    assert torch.equal(whole, whole.round())
    assert coarse.region is None


def asked(seed: int) -> Query:
    """Random layers, whose outputs stay below what is unsafe."""
    rng, net = np.random.default_rng(seed), Net(3)
    hidden = 0
    for width in (10, 10, 10, 10):
        weight = rng.normal(size=(width, net.size(hidden)))
        hidden = net.relu(net.dense(hidden, weight, rng.normal(size=width)))
    net.dense(hidden, rng.normal(size=(2, 10)))
    network = net.done()
    points = torch.rand((20_000, 3), dtype=torch.float64) * 2 - 1
    found = evaluate(compile_network(network), points)
    low, high = found.min(0).values, found.max(0).values
    room = 0.1 * (high - low)
    unsafe = (
        at_least(0, Fraction(float(high[0] + room[0]))),
        at_most(1, Fraction(float(low[1] - room[1]))),
    )
    return query(network, [box_case([-1] * 3, [1] * 3, *unsafe)])


@pytest.mark.parametrize("seed", [1, 2])
def test_leaves_share_hints_and_their_proofs_are_valid(monkeypatch, seed: int):
    stated, proofs = asked(seed), {}
    monkeypatch.setattr(bab_input.Pays, "worthwhile", lambda _: True)
    for shared in (True, False):
        if not shared:
            monkeypatch.setattr(bab_input, "Proven", lambda: None)
        settings = Settings(method="inputs", stars="never")
        search = Search(stated, deadline=time.monotonic() + 60, settings=settings)
        assert search.run() == "closed"
        proofs[shared] = search.proof()
        for arithmetic in BOTH:
            checked = check_proof(stated, proofs[shared], arithmetic=arithmetic)
            assert checked.verdict == "valid unsat"
    counts = {}
    for shared, proof in proofs.items():
        leaves = proof.arrays["node_kind"] == NodeKind.CLOSE
        used = proof.arrays["node_arg"][leaves]
        counts[shared] = np.count_nonzero(used), np.unique(used[used > 0]).size
    assert counts[True][1] < counts[True][0]
    assert counts[True][1] < counts[False][1]
