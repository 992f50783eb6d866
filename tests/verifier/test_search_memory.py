"""Where memory is short, batches shrink; where it is short for one domain, the search says so."""

from __future__ import annotations

import pytest

from proofs.check import check_proof
from tests.verifier.test_bounds import FAR, network, query
from verifier import bab_input, bab_neuron
from verifier.bab import Search, Settings

MOST = 4


def limited(original, size, most: int):
    """A function that needs more memory than there is for more than so many domains."""

    def call(*arguments, **named):
        if size(*arguments) > most:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
            )
        return original(*arguments, **named)

    return call


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    boxes = limited(bab_input.evaluate_boxes, lambda net, table, domains, *more: len(domains), most)
    monkeypatch.setattr(bab_input, "evaluate_boxes", boxes)
    rows = limited(bab_neuron.bounded, lambda problem, *more: len(problem), most)
    monkeypatch.setattr(bab_neuron, "bounded", rows)
    steps = limited(bab_neuron.optimise, lambda problem, *more: len(problem), most)
    monkeypatch.setattr(bab_neuron, "optimise", steps)


@pytest.mark.parametrize("method", ["inputs", "neurons"])
@pytest.mark.parametrize("seed", range(3))
def test_smaller_batches_decide_the_same(
    seed: int, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = query(network(seed), 2.0)
    settings = Settings(method=method, leaf_steps=0)
    plenty = Search(asked, deadline=FAR, settings=settings)
    expected = plenty.run()
    short_of_memory(monkeypatch, MOST)
    search = Search(asked, deadline=FAR, settings=settings)
    assert search.run() == expected
    if expected == "closed":
        assert check_proof(asked, search.proof()).verdict == "valid unsat"
        assert search.evaluated >= 1


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
