"""Clipped bounds of the search hold at every violation, and its proofs check."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.proof import NodeKind
from tests.verifier.test_bounds import FAR, boxes, network, query, samples
from verifier.bab import Search, Settings
from verifier.bounds import Domains, evaluate
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh, sweep
from verifier.clip import clip, first_layers


def clipped(seed: int) -> tuple[Domains, Domains, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four boxes before and after, points of them, and which points each cut keeps."""
    net = compile_network(network(seed))
    low, high = boxes(seed, 4, 3)
    before = sweep(net, fresh(net, low, high)).domains
    random = np.random.default_rng(seed)
    cut = torch.tensor(random.normal(size=(4, 3)) * random.choice([0.0, 1.0, 1e3], size=(4, 3)))
    points = samples(low, high, 200)
    constant = -(cut * points[0]).sum(-1)  # at least one point is kept
    after = clip(first_layers(net), cut, constant, before)
    kept = (cut * points).sum(-1) + constant <= 0
    return before, after, points, kept, cut


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_no_kept_point_leaves_the_clipped_bounds(seed: int) -> None:
    before, after, points, kept, _ = clipped(seed)
    net = compile_network(network(seed))
    (where,) = (s for t, s in net.neurons.items() if t in net.exact)
    matrix, offset, _ = first_layers(net).parts[where.start, where.stop]
    values = points @ matrix.T + offset
    assert bool(kept[0].all())
    for low, high, value in (
        (after.low, after.high, points),
        (after.lower[:, where], after.upper[:, where], values),
    ):
        assert bool(((value >= low - 1e-9).all(-1) | ~kept).all())
        assert bool(((value <= high + 1e-9).all(-1) | ~kept).all())
    assert bool((after.lower >= before.lower).all() & (after.upper <= before.upper).all())


def test_clipping_shrinks_what_it_can() -> None:
    """Most cuts through a box tighten some end, and some entry of the first layer."""
    ends = entries = 0
    for seed in range(20):
        before, after, _, _, _ = clipped(seed)
        ends += int(((after.low > before.low) | (after.high < before.high)).any(-1).sum())
        entries += int(((after.lower > before.lower) | (after.upper < before.upper)).any(-1).sum())
    assert ends > 20
    assert entries > 20


def test_neuron_splits_with_clips_have_valid_proofs_and_need_fewer_leaves() -> None:
    source = network(3, (6, 24, 2))
    net = compile_network(source)
    grid = torch.tensor(np.random.default_rng(0).uniform(-1, 1, size=(50000, 6)))
    outputs = evaluate(net, grid)
    least = float((outputs[:, 0] - outputs[:, 1]).min())
    stated = query(source, -(least - 0.7))
    leaves = []
    for clips in (0, 2):
        search = Search(
            stated, deadline=FAR, settings=Settings(method="neurons", clips=clips, steps=5)
        )
        assert search.run() == "closed"
        proof = search.proof()
        assert bool(np.any(proof.arrays["node_kind"] == NodeKind.CLIP)) == (clips > 0)
        for arithmetic in ("outward", "exact"):
            checked = check_proof(stated, proof, arithmetic=arithmetic)
            assert checked.verdict == "valid unsat", checked.reason
        leaves.append(checked.leaves)
    assert leaves[1] < leaves[0]
