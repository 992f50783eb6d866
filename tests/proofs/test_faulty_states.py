"""Random networks with random faults: states hold all that happens, proofs prove no falsehood."""

from __future__ import annotations

import numpy as np
import pytest

from proofs import faulty
from proofs.check import check_proof
from specs.reader.builder import Builder
from tests.proofs.faulty_nets import random_question
from tests.proofs.faulty_states import escapes
from tests.proofs.faulty_trees import Trees, falsehood


def missed(seeds, arithmetic="outward") -> list[str]:
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        question = random_question(rng)
        if question is not None:
            found += escapes(*question, arithmetic, rng)
    return found


def accepted(seeds, arithmetic="outward") -> int:
    found = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        question = random_question(rng)
        if question is not None:
            stated = falsehood(*question, rng)
            for proof in (None, Trees(stated, rng).proof(), Trees(stated, rng).proof()):
                checked = check_proof(stated, proof, arithmetic=arithmetic)
                assert checked.verdict in ("invalid", "valid unsat"), checked.reason
                found += checked.valid
    return found


@pytest.mark.parametrize(("arithmetic", "first"), [("outward", 0), ("exact", 1000)])
def test_no_fault_leaves_a_state(arithmetic, first):
    assert not missed(range(first, first + 4), arithmetic)


@pytest.mark.parametrize(("arithmetic", "first"), [("outward", 2000), ("exact", 3000)])
def test_no_falsehood_is_proved(arithmetic, first):
    assert not accepted(range(first, first + 6), arithmetic)


def test_faults_that_cost_nothing_are_noticed(monkeypatch):
    monkeypatch.setattr(faulty.Bill, "total", lambda bill: bill._sum)
    assert missed(range(3))
    assert accepted(range(2000, 2012))


def test_a_reader_that_looks_through_faulty_nodes_is_noticed(monkeypatch):
    class Forgetful(set):
        def __contains__(self, number) -> bool:
            return False

    plain = Builder.__init__

    def forgetful(self, *given, **named) -> None:
        plain(self, *given, **named)
        self.opaque = Forgetful()

    monkeypatch.setattr(Builder, "__init__", forgetful)
    with pytest.raises(AssertionError, match="in rewritten files"):
        missed([57])
