"""Branch and bound for any question about faults: where they strike, and neurons.

A domain is a budget of faults for each of some ranges of words, sides of neurons, and halves of
inputs.  Where bounds do not prove it without faults, inputs are halved if few of them vary, or
neurons split; elsewhere ranges are split while they hold words of several channels, then neurons,
then ranges down to single words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from proofs.check import Checked, check_proof
from proofs.draft import Node
from proofs.faulty import Shares, parted
from proofs.frame import Batch
from proofs.proof import NodeKind, Proof, Side
from proofs.tables import Step, Substitution
from proofs.tree import DeadlineError
from specs.enclosure import FloatArray
from specs.faults.models import ActivationFaults, WeightBox
from specs.faults.struck import WordFaults
from specs.network import Faulty, Perturbed, Replaced
from specs.query import Query
from verifier.faults.bounding import Cut, Half, Kernel
from verifier.faults.closing import MARGIN, Closer
from verifier.faults.sensitivity import sensitivities
from verifier.faults.written import one_case

TOGETHER = 128
"""Domains that are bounded at a time."""

NEURONS = 6
"""Neurons that are split on a path before ranges are split into single words."""


FEW = 20
"""Inputs that vary up to which they are halved."""


@dataclass(frozen=True)
class Proved:
    """What a search came to.

    Attributes:
        proof: a valid one, and ``checked``: what the kernel said; ``None``: there is none.
        closed, open: domains.
        reason: why there is none.
    """

    proof: Proof | None
    checked: Checked | None
    closed: int
    open: int
    reason: str = ""


@dataclass(eq=False)
class _Domain:
    """A leaf of the tree: ``node`` is to be filled in."""

    node: Node
    shares: Shares
    cuts: tuple[Cut, ...] = ()
    halves: tuple[Half, ...] = ()


def prove(
    query: Query,
    faults: WordFaults,
    deadline: float,
    leaves: int = 20_000,
    progress: Callable[[int, int], None] = lambda closed, open_: None,
) -> Proved:
    """Search for a proof of a question of one case.

    Args:
        query: the question.
        faults: of it.
        deadline: in ``time.monotonic()`` seconds.
        leaves: at most so many, closed and open together.
        progress: called with how many are closed, and how many open.

    Raises:
        UnsupportedOperatorError: the network has a function without a form in the search.
    """
    return _Search(query, faults, deadline, leaves, progress).run()


class _Search:
    def __init__(
        self,
        query: Query,
        faults: WordFaults,
        deadline: float,
        leaves: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._query, self._faults, self._deadline = query, faults, deadline
        self._leaves, self._progress = leaves, progress
        count = max((int(e.words.max(initial=-1)) + 1 for e in _errors(query)), default=0)
        self._kernel = Kernel.of(query, 0, count, deadline)
        self._bounds = np.array(channel_bounds(faults, count))
        self._closed = 0
        self._steps: dict[int, Step] = {}  # that equal ones are written once
        self._boxed = isinstance(faults.model, WeightBox)  # which no domain is without
        self._intact: dict[tuple[tuple[Cut, ...], tuple[Half, ...]], bool] = {}
        root = self._kernel.root
        width = (root.upper - root.lower)[0]
        self._few = int(np.count_nonzero(width)) <= FEW
        self._widths = np.where(width > 0, width, np.inf)

    def run(self) -> Proved:
        root = Node(NodeKind.HOLE, 0)
        self._open = [_Domain(root, self._kernel.frame.shares)]
        try:
            self._closer = Closer(self._faults, self._query.property.cases[0], self._deadline)
            self._closer.prepare(self._kernel)
            self._weights = self._importance()
            while self._open:
                self._progress(self._closed, len(self._open))
                if self._closed + len(self._open) > self._leaves:
                    return self._left(f"more than {self._leaves} domains")
                some = self._open[-TOGETHER:]
                if not self._advance(some):
                    return self._left("what is open cannot be split further")
        except DeadlineError:
            return self._left("the time limit")
        proof, _ = one_case(self._query, root)
        checked = check_proof(self._query, proof, processes=1)
        if checked.verdict != "valid unsat":
            return Proved(None, checked, self._closed, 0, f"the kernel: {checked.reason}")
        return Proved(proof, checked, self._closed, 0)

    def _left(self, reason: str) -> Proved:
        return Proved(None, None, self._closed, len(self._open), reason)

    def _advance(self, some: Sequence[_Domain]) -> bool:
        """Close or split domains; whether all of them could be."""
        batch = self._cut(some, [own.shares for own in some])
        margins, hints = self._closer.closed(self._kernel, batch)
        self._look_without_faults(
            [own for own, m in zip(some, margins, strict=True) if m <= MARGIN]
        )
        del self._open[-len(some) :]
        stuck = []
        for place, own in enumerate(some):
            if margins[place] > MARGIN:
                own.node.become(self._leaf(hints[place]))
                self._closed += 1
                continue
            ends = {t: (a[place], b[place]) for t, (a, b) in batch.bounds.items()}
            children = self._split(own, ends, (batch.lower[place], batch.upper[place]))
            stuck += [] if children else [own]
            self._open += children
        self._open += stuck
        if time.monotonic() > self._deadline:
            raise DeadlineError("the time limit")
        return not stuck

    def _cut(self, some: Sequence[_Domain], shares: Sequence[Shares]) -> Batch:
        cuts, halves = [own.cuts for own in some], [own.halves for own in some]
        return self._kernel.cut(shares, cuts, self._closer.steps, halves)

    def _look_without_faults(self, some: Sequence[_Domain]) -> None:
        """Learn of which splits of inputs and neurons bounds prove the intact network."""
        if self._boxed:
            return
        new = {(own.cuts, own.halves): own for own in some}
        left = [own for key, own in new.items() if key not in self._intact]
        if left:
            batch = self._cut(left, [((0, 0),)] * len(left))
            margins, _ = self._closer.closed(self._kernel, batch)
            for own, margin in zip(left, margins.tolist(), strict=True):
                self._intact[own.cuts, own.halves] = margin > MARGIN

    def _leaf(self, given: Sequence[Substitution | None]) -> Node:
        numbers = self._kernel.numbers
        hints = [numbers.hints(own) for own in given]
        if len(hints) == 1:
            node = Node(NodeKind.CLOSE, hints[0])
        else:
            node = Node(NodeKind.SPLIT_DISJUNCT, 0, [Node(NodeKind.CLOSE, own) for own in hints])
        for step in reversed(self._closer.steps):
            node = Node(NodeKind.BOUND, self._step(step), [node])
        return Node(NodeKind.SWEEP, 1, [node])

    def _step(self, step: Step) -> Step:
        if id(step) not in self._steps:
            self._steps[id(step)] = self._kernel.numbers.step(step)
        return self._steps[id(step)]

    def _split(
        self,
        own: _Domain,
        ends: dict[int, tuple[FloatArray, FloatArray]],
        box: tuple[FloatArray, FloatArray],
    ) -> list[_Domain]:
        widest = int(np.argmax((box[1] - box[0]) / self._widths))
        if not self._intact.get((own.cuts, own.halves), True):
            if self._few:
                return self._at_input(own, widest)
            neuron = self._neuron(own, ends)
            return [] if neuron is None else self._at_neuron(own, *neuron)
        word = self._between_channels(own.shares)
        if word is None and len(own.cuts) < NEURONS:
            neuron = self._neuron(own, ends)
            if neuron is not None:
                return self._at_neuron(own, *neuron)
        if word is None:
            word = self._middle(own.shares)
        if word is not None:
            ways = parted(own.shares, word)
            children = [
                _Domain(Node(NodeKind.HOLE, 0), shares, own.cuts, own.halves) for shares in ways
            ]
            nodes = [child.node for child in children]
            own.node.become(Node(NodeKind.SPLIT_FAULTS, (word, len(ways)), nodes))
            return children
        neuron = self._neuron(own, ends)
        if neuron is not None:
            return self._at_neuron(own, *neuron)
        return self._at_input(own, widest) if self._few else []

    def _at_input(self, own: _Domain, entry: int) -> list[_Domain]:
        children = [
            _Domain(Node(NodeKind.HOLE, 0), own.shares, own.cuts, (*own.halves, (entry, side)))
            for side in Side
        ]
        nodes = [child.node for child in children]
        own.node.become(Node(NodeKind.SPLIT_INPUT, entry, nodes))
        return children

    def _at_neuron(self, own: _Domain, tensor: int, index: int) -> list[_Domain]:
        children = [
            _Domain(
                Node(NodeKind.HOLE, 0), own.shares, (*own.cuts, (tensor, index, side)), own.halves
            )
            for side in Side
        ]
        nodes = [child.node for child in children]
        own.node.become(Node(NodeKind.SPLIT_NEURON, (tensor, index), nodes))
        return children

    def _ranges(self, shares: Shares) -> list[tuple[int, int]]:
        """Ranges that faults may strike, the longest first."""
        ends = [*(first for first, _ in shares), self._kernel.words][1:]
        found = [(a, b) for (a, most), b in zip(shares, ends, strict=True) if most and b - a > 1]
        return sorted(found, key=lambda pair: (pair[0] - pair[1], pair[0]))

    def _between_channels(self, shares: Shares) -> int | None:
        """A word at which a channel begins, near the middle of a range that holds several."""
        for first, last in self._ranges(shares):
            inside = self._bounds[(self._bounds > first) & (self._bounds < last)]
            if inside.size:
                return int(inside[np.argmin(np.abs(2 * inside - first - last))])
        return None

    def _middle(self, shares: Shares) -> int | None:
        return next(((a + b) // 2 for a, b in self._ranges(shares)), None)

    def _neuron(
        self, own: _Domain, ends: dict[int, tuple[FloatArray, FloatArray]]
    ) -> tuple[int, int] | None:
        """The unstable Relu that loses most, as a guess."""
        best, found = 0.0, None
        for tensor, weight in self._weights.items():
            low, high = ends[tensor]
            with np.errstate(all="ignore"):
                loss = np.where((low < 0) & (high > 0), -low * high / (high - low), 0.0) * weight
            index = int(np.argmax(loss))
            if loss[index] > best and np.isfinite(loss[index]):
                best, found = float(loss[index]), (tensor, index)
        return found

    def _importance(self) -> dict[int, FloatArray]:
        """By pre-activation of Relus, how much outputs depend on its entries at most."""
        intact = self._faults.intact
        parts = [sensitivities(intact, label) for label in range(min(2, intact.output_size))]
        found = {}
        for tensor in intact.preactivations:
            readers = [intact.nodes[n] for n in intact.readers[tensor]]
            if any(getattr(node, "function", "relu") != "relu" for node in readers):
                continue
            rows = [part[tensor] for part in parts if part and tensor in part]
            sizes = [own.max(axis=0) for own in rows if len(own)]  # one output has no rivals
            weight = np.max(sizes, axis=0) if sizes else np.ones(intact.sizes[tensor])
            found[self._kernel.numbers.place[tensor]] = weight
        return found


def channel_bounds(faults: WordFaults, words: int) -> list[int]:
    """The first words of channels, 0 and the number of words included."""
    if isinstance(faults.model, ActivationFaults):
        firsts = [int(e.words[0]) for e in _faulty(faults) if e.words.size]
        return sorted({0, *firsts, words})
    found = [0]
    for name, first in faults.first_words.items():
        size = faults.placed.parameters[name].size
        channel = faults.placed.channels(name)
        ends = np.flatnonzero(np.diff(channel)) + 1
        if ends.size > size // 2:  # channels vary fastest: rows hold one word of each
            row = (faults.placed.parameters[name].shape or (1,))[-1]
            ends = np.arange(row, size, row)
        found += [first + int(end) for end in ends] + [first + size]
    return sorted({*found, words})


def _errors(query: Query) -> list[Faulty]:
    nodes = (query.network.nodes[tensor] for tensor in query.network.struck)
    return [n.error for n in nodes if isinstance(n, Perturbed) and isinstance(n.error, Faulty)]


def _faulty(faults: WordFaults) -> list[Replaced]:
    nodes = (faults.network.nodes[tensor] for tensor in faults.network.struck)
    return [n.error for n in nodes if isinstance(n, Perturbed) and isinstance(n.error, Replaced)]
