"""Integer programs: what a quantised network computes once its roundings are thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from verifier.quantised.settings import LimitError, Settings

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Input:
    """Any integer of an interval."""

    low: int
    high: int


@dataclass(frozen=True)
class Sum:
    """``sum(weights[i] * sources[i]) + constant``."""

    sources: tuple[int, ...]
    weights: tuple[int, ...]
    constant: int


@dataclass(frozen=True, eq=False)
class Staircase:
    """``start`` plus the number of thresholds that are at most the argument.

    Attributes:
        start: value below the first threshold.
        at: the thresholds in ascending order; several may be equal.
    """

    start: int
    at: IntArray

    @property
    def end(self) -> int:
        """Value from the last threshold on."""
        return self.start + len(self.at)

    def __call__(self, keys: IntArray) -> IntArray:
        """The values at integers."""
        return self.start + np.searchsorted(self.at, keys, side="right").astype(np.int64)


@dataclass(frozen=True, eq=False)
class Steps:
    """An integer between two staircases of ``sign * source``; one and the same, if exact."""

    source: int
    sign: int
    below: Staircase
    above: Staircase

    @property
    def exact(self) -> bool:
        """Whether the value is determined."""
        return self.below is self.above


@dataclass(frozen=True)
class Largest:
    """The maximum of several."""

    sources: tuple[int, ...]


Node = Input | Sum | Steps | Largest


@dataclass(frozen=True, eq=False)
class Program:
    """A list of nodes, each of which refers to earlier ones.

    Attributes:
        nodes: in order of evaluation.
        low, high: what intervals say of each node's value.
    """

    nodes: tuple[Node, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The nodes that are inputs, in order."""
        return tuple(n for n, node in enumerate(self.nodes) if isinstance(node, Input))

    @cached_property
    def exact(self) -> bool:
        """Whether the inputs determine every value."""
        return all(node.exact for node in self.nodes if isinstance(node, Steps))

    def evaluate(self, inputs: IntArray) -> IntArray:
        """All values ``(batch, nodes)`` at inputs ``(batch, len(self.inputs))``.

        Where a value is not determined, it is its least one.
        """
        values = np.empty((len(inputs), len(self.nodes)), dtype=np.int64)
        given = 0
        for n, node in enumerate(self.nodes):
            if isinstance(node, Input):
                values[:, n] = inputs[:, given]
                given += 1
            elif isinstance(node, Sum):
                weights = np.array(node.weights, dtype=np.int64)
                values[:, n] = values[:, list(node.sources)] @ weights + node.constant
            elif isinstance(node, Steps):
                values[:, n] = node.below(node.sign * values[:, node.source])
            else:
                values[:, n] = values[:, list(node.sources)].max(axis=1)
        return values


class ProgramBuilder:
    """Appends nodes with their intervals, within limits.

    Raises:
        LimitError: in every method, when a limit is passed.
    """

    def __init__(self, limits: Settings) -> None:
        self.limits = limits
        self.nodes: list[Node] = []
        self.low: list[int] = []
        self.high: list[int] = []

    def _append(self, node: Node, low: int, high: int) -> int:
        if len(self.nodes) >= self.limits.nodes:
            raise LimitError(f"more than {self.limits.nodes} nodes (quantised.nodes)")
        self.nodes.append(node)
        self.low.append(low)
        self.high.append(high)
        return len(self.nodes) - 1

    def input(self, low: int, high: int) -> int:
        """An input between two integers."""
        return self._append(Input(low, high), low, high)

    def sum(self, sources: Sequence[int], weights: Sequence[int], constant: int) -> int:
        """A sum; terms of one source are put together."""
        terms: dict[int, int] = {}
        for source, weight in zip(sources, weights, strict=True):
            terms[source] = terms.get(source, 0) + weight
        kept = {source: weight for source, weight in terms.items() if weight}
        if not constant and list(kept.values()) == [1]:
            return next(iter(kept))
        ends = [(w * self.low[s], w * self.high[s]) for s, w in kept.items()]
        low, high = constant + sum(map(min, ends)), constant + sum(map(max, ends))
        bits = max(low.bit_length(), high.bit_length()) + 1
        if bits > self.limits.bits:
            raise LimitError(
                f"a sum may need {bits} bits, more than {self.limits.bits} (quantised.bits)"
            )
        return self._append(Sum(tuple(kept), tuple(kept.values()), constant), low, high)

    def steps(self, source: int, sign: int, below: Staircase, above: Staircase) -> int:
        """An integer between two staircases."""
        count = max(len(below.at), len(above.at))
        if count > self.limits.levels:
            raise LimitError(
                f"a staircase of {count} steps, more than {self.limits.levels} (quantised.levels)"
            )
        if below.start == above.end:
            return self._append(Sum((), (), below.start), below.start, below.start)
        return self._append(Steps(source, sign, below, above), below.start, above.end)

    def largest(self, sources: Sequence[int]) -> int:
        """A maximum; of a single source the source itself."""
        kept = tuple(dict.fromkeys(sources))
        if len(kept) == 1:
            return kept[0]
        low, high = max(self.low[s] for s in kept), max(self.high[s] for s in kept)
        return self._append(Largest(kept), low, high)

    def finish(self) -> Program:
        """The program."""
        return Program(tuple(self.nodes), tuple(self.low), tuple(self.high))
