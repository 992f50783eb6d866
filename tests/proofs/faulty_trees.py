"""Random proofs, of every rule, that some output of a faulty network stays below a number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from proofs.faulty import Shares, parted, whole_budget
from proofs.proof import (
    Fact,
    NodeKind,
    Proof,
    ProofBuilder,
    Side,
    SlopeHint,
    neuron_tensors,
)
from specs.faults.struck import WordFaults
from specs.property import Property
from specs.query import Query
from tests.proofs.faulty_states import runs
from tests.proofs.helpers import at_least, box_case


def falsehood(
    faults: WordFaults, content: bytes, rng: np.random.Generator, strikes: int = 60
) -> Query:
    """That the output stays below what some fault makes of it at some point."""
    size = faults.network.input_size
    low = rng.integers(-3, 3, size) / 2.0
    high = low + rng.integers(0, 2, size) * rng.integers(0, 2) / 2.0
    found = runs(faults, content, (low, high), rng, strikes, 1)
    (output,) = faults.network.outputs
    top = max(centre - radius for run in found for centre, radius in run.values[output])
    return claim(faults, low, high, top)


def claim(faults: WordFaults, low: np.ndarray, high: np.ndarray, bound: Fraction) -> Query:
    cases = (box_case(low, high, at_least(0, bound)),)
    stated = Property(faults.network.input_size, 1, cases)
    return Query(faults.network, stated, (faults.placed.model,), stated.digest, (faults,), "faulty")


class Trees:
    """Writes proofs: a lemma, and a tree that may cite it."""

    def __init__(self, query: Query, rng: np.random.Generator) -> None:
        self.query, self.rng, self.builder = query, rng, ProofBuilder(query)
        network = query.network
        self.words = 1 + max(int(network.nodes[t].error.words[-1]) for t in network.struck)  # type: ignore[union-attr]
        self.neurons = neuron_tensors(query)

    def proof(self, depth: int = 4) -> Proof:
        builder, network = self.builder, self.query.network
        prelude = [(NodeKind.SWEEP, 0), (NodeKind.BOUND, self.step())][: self.rng.integers(3)]
        if not self.neurons:
            prelude = prelude[:1]
        builder.begin_case(0, prelude)
        form = builder.form([(network.inputs[0], 0, 1.0)], float(self.rng.integers(-3, 4) / 2))
        self.shares = whole_budget(network)
        self.lemma = builder.begin_tree([(form, Side(int(self.rng.integers(2))))])
        self.grow(depth - 2, self.shares, False)
        builder.begin_tree()
        builder.split_form(form)
        for _ in range(2):
            if self.rng.integers(2):
                builder.cite(self.lemma)
            else:
                self.grow(depth, self.shares, True)
        return builder.finish()

    def grow(self, depth: int, shares: Shares, cites: bool) -> None:
        builder, rng, network = self.builder, self.rng, self.query.network
        kind = rng.choice(
            ["close", "sweep", "bound", "clip", "input", "neuron", "faults", "faults"]
        )
        if depth <= 0 or kind == "close":
            builder.close(self.hints())
        elif kind in ("sweep", "clip", "bound"):
            if kind == "sweep":
                builder.sweep(bool(rng.integers(2)))
            elif kind == "clip":
                builder.clip(self.hints())
            elif self.neurons:
                builder.bound(self.step())
            self.grow(depth - 1, shares, cites)
        elif kind == "faults" and shares:
            word = int(rng.integers(1, self.words + 1))
            free = [w for w in range(word, word + 3) if all(w != first for first, _ in shares)]
            ways = parted(shares, free[0]) if free else (shares,)
            if free:
                builder.split_faults(free[0], len(ways))
            for below in ways:
                self.grow(depth - 2, below, cites)
        else:
            if kind == "neuron" and self.neurons:
                tensor = int(rng.choice(self.neurons))
                index = int(rng.integers(network.sizes[tensor]))
                builder.split_neuron(tensor, index, float(rng.integers(-2, 3) / 2))
            else:
                builder.split_input(int(rng.integers(network.input_size)))
            for _ in range(2):
                self.grow(depth - 1, shares, cites)

    def step(self) -> int:
        if not self.neurons:
            return 0
        tensor = int(self.rng.choice(self.neurons))
        return self.builder.step(tensor, substitution=self.hints(False))

    def hints(self, unsafe: bool = True) -> int | None:
        network, rng = self.query.network, self.rng
        if rng.integers(3) == 0:
            return None
        slopes = [
            SlopeHint(t, side, rng.integers(0, 9, network.sizes[t]) / 8)
            for t in network.nonlinear
            for side in Side
            if rng.integers(2)
        ]
        facts = []
        if rng.integers(2):
            kinds = [Fact.SPLIT, Fact.UNSAFE]
            if self.neurons:
                kinds += [Fact.LOWER, Fact.UPPER]
            count = sum(network.sizes[t] for t in self.neurons)
            for kind in rng.permutation(np.array(kinds, dtype=object))[:2]:
                most = count if kind in (Fact.LOWER, Fact.UPPER) else 2
                facts.append((kind, int(rng.integers(most)), float(rng.integers(1, 9) / 4)))
        weights = [1.0] if unsafe and rng.integers(2) else []
        return self.builder.substitution(slopes, facts, weights)
