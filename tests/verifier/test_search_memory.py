"""Where memory is short, batches shrink; where it is short for one domain, the search says so."""

from __future__ import annotations

import pytest
import torch

from proofs.check import check_proof
from tests.verifier.test_bounds import FAR, network, query
from verifier import bab_input, bab_neuron
from verifier.bab import Search, Settings
from verifier.bounds import evaluate
from verifier.bounds_compile import compile_network

MOST = 2


def limited(original, size, most: int, refused: list[int]):
    """A function that needs more memory than there is for more than so many domains."""

    def call(*arguments, **named):
        if size(*arguments) > most:
            refused.append(size(*arguments))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return original(*arguments, **named)

    return call


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Let no more than so many domains be bounded at once; receives what was refused."""
    refused: list[int] = []
    for module, name, size in (
        (bab_input, "evaluate_boxes", lambda net, table, domains, *more: len(domains)),
        (bab_input, "attempt", lambda nets, table, domains, *more: len(domains)),
        (bab_neuron, "bounded", lambda problem, *more: len(problem)),
        (bab_neuron, "optimise", lambda problem, *more: len(problem)),
    ):
        monkeypatch.setattr(module, name, limited(getattr(module, name), size, most, refused))
    return refused


@pytest.mark.parametrize("method", ["inputs", "neurons"])
@pytest.mark.parametrize("seed", [0, 2])
def test_smaller_batches_decide_the_same(
    seed: int, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = network(seed, (3, 10, 10, 2))
    axis = torch.linspace(-1, 1, 21, dtype=torch.float64)
    outputs = evaluate(compile_network(source), torch.cartesian_prod(axis, axis, axis))
    asked = query(source, 0.1 - float((outputs[:, 0] - outputs[:, 1]).min()))
    refused = short_of_memory(monkeypatch, MOST)
    plan = Settings(method=method, stars="never", neuron_lookahead=1, feeds=0, root_feeds=0)
    search = Search(asked, deadline=FAR, settings=plan)
    assert search.run() == "closed"
    assert check_proof(asked, search.proof()).verdict == "valid unsat"
    assert refused, "no batch was too large"


@pytest.mark.parametrize("method", ["inputs", "neurons"])
def test_memory_too_short_for_one_domain(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = query(network(0), 0.0)
    short_of_memory(monkeypatch, 0)
    search = Search(asked, deadline=FAR, settings=Settings(method=method))
    assert search.run() == "memory"
    assert check_proof(asked, search.proof()).verdict != "valid unsat"


@pytest.mark.parametrize("method", ["inputs", "neurons"])
def test_other_errors_are_not_hidden(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments, **named):
        raise RuntimeError("something else")

    monkeypatch.setattr(bab_input, "evaluate_boxes", broken)
    monkeypatch.setattr(bab_neuron, "bounded", broken)
    with pytest.raises(RuntimeError, match="something else"):
        Search(query(network(0), 0.0), deadline=FAR, settings=Settings(method=method)).run()
