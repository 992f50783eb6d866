"""Searches with squares beside products: proofs, leaves taken back, and what pays."""

from __future__ import annotations

import functools
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from proofs.check import check_proof
from proofs.proof import NodeKind
from specs.query import Query
from tests.proofs.helpers import BOTH, at_least, at_most, box_case, query
from tests.verifier.test_search_squares import network
from verifier import bab
from verifier.bab import Search, Settings
from verifier.bab_input import InputSearch
from verifier.bab_tree import Kind, Sweep
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network


@functools.cache
def asked(kind: str, seed: int, share: float) -> Query:
    """Unsafe: beyond what is sampled by a share of its range, in three disjuncts."""
    source = network(kind, seed)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50000, 4))
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.0, 0.5]).double()] * 4)
    found = evaluate(compile_network(source), torch.cat([torch.tensor(points), corners]))
    low, high = found.min(0).values, found.max(0).values
    below, above = low - share * (high - low), high + share * (high - low)
    unsafe = (
        at_most(0, Fraction(float(below[0]))),
        at_least(0, Fraction(float(above[0]))),
        at_least(1, Fraction(float(above[1]))),
    )
    return query(source, [box_case([-0.5] * 4, [0.5] * 4, *unsafe)])


def closed(stated: Query, **settings) -> Search:
    plan = Settings(**{"method": "inputs", **settings})
    search = Search(stated, deadline=time.monotonic() + 60, settings=plan)
    assert search.run() == "closed"
    return search


def check(stated: Query, search: Search) -> np.ndarray:
    """The kinds of the nodes of a valid proof with squares."""
    proof = search.proof()
    assert [proof.tensors[k] for k in proof.arrays["square_tensor"]] == ["n4"]
    for arithmetic in BOTH:
        assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "valid unsat"
    return proof.arrays["node_kind"]


@pytest.mark.parametrize("steps", [0, 12])
@pytest.mark.parametrize("kind", ["together", "against"])
def test_proofs_have_the_squares(kind: str, steps: int) -> None:
    stated = asked(kind, 1, 0.01)
    kinds = check(stated, closed(stated, leaf_steps=steps))
    assert np.any(kinds == NodeKind.SPLIT_INPUT)


def test_splits_of_neurons_have_the_squares() -> None:
    stated = asked("against", 2, 0.1)
    kinds = check(stated, closed(stated, method="neurons"))
    assert not np.any(kinds == NodeKind.SPLIT_INPUT)


def test_squares_save_leaves(monkeypatch) -> None:
    stated = asked("together", 1, 0.01)
    with_, leaves = closed(stated), []
    monkeypatch.setattr(bab, "moving_together", lambda *_: {})
    without = closed(stated)
    assert without.proof().arrays["square_tensor"].size == 0
    leaves = [search.proof().leaves for search in (with_, without)]
    assert leaves[0] < leaves[1]


def test_squares_are_sought_over_the_cases_that_are_searched(monkeypatch) -> None:
    boxes: list[list[torch.Tensor]] = []
    monkeypatch.setattr(bab, "moving_together", lambda _, *box: boxes.append(box) or {})
    regions = [([k] * 4, [k + 1.0] * 4) for k in range(3)]
    stated = query(network("together", 1), [box_case(*r, at_least(0, 0)) for r in regions])
    for cases in (None, [2], [1, 2]):
        Search(stated, deadline=time.monotonic() + 60, cases=cases)
    assert [(low.tolist(), high.tolist()) for low, high in boxes] == [
        ([[first] * 4], [[3.0] * 4]) for first in (0.0, 2.0, 1.0)
    ]


def roots_only(monkeypatch) -> list[InputSearch]:
    """The first search of an engine ends after the roots."""
    ended: list[InputSearch] = []
    run = InputSearch.run

    def stopped(engine, deadline, round_over):
        if not ended:
            ended.append(engine)
            engine._roots(float("inf"))
            return "timeout"
        return run(engine, deadline, round_over)

    monkeypatch.setattr(InputSearch, "run", stopped)
    return ended


def test_a_search_starts_again_with_other_ratios(monkeypatch) -> None:
    stated = asked("against", 2, 0.01)
    before = closed(stated).proof().arrays["square_scale"]
    ended = roots_only(monkeypatch)
    search = closed(stated)
    check(stated, search)
    assert not np.array_equal(search.proof().arrays["square_scale"], before)
    assert search.evaluated > search._engine.evaluated == search.evaluated - ended[0].evaluated


def test_roots_that_take_longer_than_the_pilot_are_not_lost(monkeypatch) -> None:
    stated = asked("against", 2, 0.01)
    monkeypatch.setattr(bab, "PILOT", 0.0)
    check(stated, closed(stated))


def test_roots_cut_short_by_the_deadline_are_taken_up_again() -> None:
    stated = asked("against", 0, 0.2)
    search = Search(stated, deadline=time.monotonic() - 1.0, settings=Settings(method="inputs"))
    assert search.run() == "timeout"
    assert search.proof().holes == 1
    search.extend(time.monotonic() + 60.0)
    assert search.run() == "closed"
    check(stated, search)


def test_after_the_deadline_what_was_found_is_kept(monkeypatch) -> None:
    stated = asked("against", 2, 0.01)
    roots_only(monkeypatch)
    search = Search(stated, deadline=time.monotonic() - 1.0, settings=Settings(method="inputs"))
    assert search.run() == "timeout"
    assert search.proof().holes > 0


def test_a_root_closed_after_a_clip_is_written_with_it() -> None:
    stated = asked("together", 0, 0.05)
    search = closed(stated)
    assert search._tree.kind == [Kind.CLOSED]
    assert check(stated, search).tolist() == [NodeKind.CLIP, NodeKind.SWEEP, NodeKind.CLOSE]
    bare = closed(stated)
    bare._tree.tightened.clear()
    assert check_proof(stated, bare.proof()).verdict == "invalid"


def reopened(stated: Query, search: Search, positions: list[int]) -> None:
    """Take back leaves: they are open in the next proof, and closed again in a further one."""
    search.proof()
    nodes = [search._tree.written(position) for position in positions]
    search.reopen(positions)
    holes = search.proof()
    assert holes.holes > 0
    assert check_proof(stated, holes).verdict == "incomplete"
    assert all(search._tree.kind[node] != Kind.CLOSED for node in nodes)
    assert search.run() == "closed"
    check(stated, search)


CASES = [("against", 1, 0.01), ("against", 2, 0.01), ("together", 0, 0.05)]


@pytest.mark.parametrize(("kind", "seed", "share"), CASES)
def test_leaves_are_taken_back_after_clips_and_sweeps(kind, seed, share) -> None:
    stated = asked(kind, seed, share)
    search = closed(stated, leaf_steps=0)
    tree = search._tree
    swept = {
        node for node, all_ in tree.tightened.items() if any(isinstance(d, Sweep) for d in all_)
    }
    assert swept
    positions = np.flatnonzero(search.proof().arrays["node_kind"] == NodeKind.CLOSE).tolist()
    below = [
        position
        for position in positions
        if swept
        & {tree.written(position), *(node for node, _ in tree.path(tree.written(position)))}
    ]
    assert below
    for position in (below[0], below[-1]):
        reopened(stated, closed(stated, leaf_steps=0), [position])
    reopened(stated, search, positions)


@pytest.mark.parametrize(("seed", "share", "steps"), [(1, 0.01, 0), (2, 0.1, 12)])
def test_disjuncts_are_taken_back_alone(seed: int, share: float, steps: int) -> None:
    stated = asked("against", seed, share)
    search = closed(stated, leaf_steps=steps)
    tree = search._tree
    positions = np.flatnonzero(search.proof().arrays["node_kind"] == NodeKind.CLOSE).tolist()
    parts = [
        position
        for position in positions
        if any(tree.kind[node] == Kind.DISJUNCT for node, _ in tree.path(tree.written(position)))
    ]
    assert len(parts) >= 3
    for position in parts[:3]:
        reopened(stated, closed(stated, leaf_steps=steps), [position])


def test_a_disjunct_without_a_case_of_its_own_is_taken_back_with_the_others(monkeypatch) -> None:
    from verifier import bounds_spec

    monkeypatch.setattr(bounds_spec, "MOST_APART", 0)
    stated = asked("against", 2, 0.1)
    search = closed(stated)
    (split,) = (node for node, kind in enumerate(search._tree.kind) if kind == Kind.DISJUNCT)
    positions = np.flatnonzero(search.proof().arrays["node_kind"] == NodeKind.CLOSE).tolist()
    child = next(p for p in positions if search._tree.parent[search._tree.written(p)] == split)
    search.reopen([child])
    assert search._tree.kind[split] != Kind.DISJUNCT
    assert search.run() == "closed"
    check(stated, search)
