"""Proofs about published queries whose witness is known: none is accepted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from proofs.check import check_proof
from proofs.proof import Fact, ProofBuilder, Side, SlopeHint, neuron_tensors
from specs.query import Query
from specs.question import load_question
from tests.proofs.helpers import RandomProof, mutated


def violated(vnncomp: Path, benchmark: str, count: int) -> list[Query]:
    with open(vnncomp / "instances.csv", newline="") as stream:
        listed = [
            row
            for row in csv.DictReader(stream)
            if row["benchmark"] == benchmark
            and row["expected"] == "sat"
            and "cex checked" in row["grounds"]
        ]
    folder = vnncomp / benchmark
    if not listed or not folder.is_dir():
        pytest.skip(f"no violated query of {benchmark} at hand")
    return [load_question(folder / r["onnx"], folder / r["vnnlib"]) for r in listed[:count]]


@pytest.mark.parametrize(("benchmark", "queries", "proofs"), [("safenlp", 4, 25), ("acasxu", 2, 6)])
def test_nothing_proves_a_published_query_with_a_witness(vnncomp, benchmark, queries, proofs):
    rng = np.random.default_rng(0)
    for stated in violated(vnncomp, benchmark, queries):
        assert not check_proof(stated, None).valid
        for number in range(proofs):
            proof = RandomProof(rng, stated, wild=0.3 * (number % 2)).proof(depth=4)
            assert check_proof(stated, proof).verdict == "invalid"
            checked = check_proof(stated, mutated(rng, proof))
            assert checked.verdict in ("invalid", "unreadable", "incomplete")


def test_optimised_hints_prove_no_published_query_with_a_witness(vnncomp):
    """Climbs with slopes and stored bounds until the shortfall no longer moves."""
    rng = np.random.default_rng(1)
    for stated in violated(vnncomp, "safenlp", 3):
        network = stated.network
        sizes = [(t, side, network.sizes[t]) for t in network.nonlinear for side in Side]
        neurons = sum(network.sizes[t] for t in neuron_tensors(stated))

        def attempt(x, picked, stated=stated, sizes=sizes):
            made = ProofBuilder(stated, 12)
            hints, start = [], 0
            for tensor, side, size in sizes:
                hints.append(SlopeHint(tensor, side, x[start : start + size]))
                start += size
            facts = [(Fact(1 + k % 2), k // 2, float(v)) for k, v in picked]
            facts.append((Fact.UNSAFE, 0, 0.5))
            made.begin_case(0)
            made.begin_tree()
            made.close(made.substitution(hints, facts))
            checked = check_proof(stated, made.finish())
            assert checked.verdict == "invalid"
            return max(r.shortfall for r in checked.rejected if r.shortfall is not None)

        position = rng.random(sum(size for _, _, size in sizes))
        best = attempt(position, [])
        for _ in range(60):
            moved = position + rng.normal(size=position.size) * rng.choice([0.01, 0.1, 1.0])
            picked = [(int(rng.integers(0, 2 * neurons)), rng.exponential()) for _ in range(3)]
            found = attempt(moved, picked if rng.random() < 0.5 else [])
            if found < best:
                best, position = found, moved
