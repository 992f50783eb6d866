"""Several neurons split at once: nested splits in the tree, all their parts searched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proofs.check import check_proof
from proofs.proof import NodeKind
from tests.verifier.test_bounds import FAR, network, query
from verifier.bab import Search, Settings
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network

SOURCE = network(2, (3, 10, 10, 2))


def asked():
    axis = torch.linspace(-1, 1, 21, dtype=torch.float64)
    outputs = evaluate(compile_network(SOURCE), torch.cartesian_prod(axis, axis, axis))
    return query(SOURCE, 0.05 - float((outputs[:, 0] - outputs[:, 1]).min()))


def searched(fill: int, lookahead: int = 10) -> Search:
    plan = Settings(
        method="neurons",
        neuron_fill=fill,
        neuron_lookahead=lookahead,
        refine_steps=0,
        root_steps=0,
        feeds=0,
        root_feeds=0,
        clips=0,
    )
    search = Search(asked(), deadline=FAR, settings=plan)
    assert search.run() == "closed"
    return search


@pytest.mark.parametrize("lookahead", [1, 10])
@pytest.mark.parametrize("fill", [1, 4, 64])
def test_the_proof_is_valid(fill: int, lookahead: int) -> None:
    proof = searched(fill, lookahead).proof()
    assert check_proof(asked(), proof).verdict == "valid unsat"


def test_more_parts_in_fewer_rounds() -> None:
    """A full batch at once: the first split is followed by others on both sides."""
    kinds = searched(64).proof().arrays["node_kind"]
    splits = kinds == NodeKind.SPLIT_NEURON
    first = int(np.argmax(splits))
    assert splits[first : first + 4].all()
    rounds = []
    for fill in (1, 64):
        search, count = searched(fill), 0
        search = Search(asked(), deadline=FAR, settings=search._settings)

        def note(_: object) -> bool:
            nonlocal count
            count += 1
            return False

        search._on_round = note
        assert search.run() == "closed"
        rounds.append(count)
    assert rounds[1] < rounds[0]


def test_no_neuron_is_split_twice_on_a_path() -> None:
    search = searched(64)
    tree = search._tree
    for node, kind in enumerate(tree.kind):
        if kind == 1:
            split = [tree.arg[above] for above, _ in tree.path(node)]
            assert len(set(split)) == len(split)
