"""Many inputs at once: a plain evaluation, with one bound of its error for all of them.

The network is evaluated in float64 at one point of each of many tiny boxes.  How far an entry
computed is from the true one, at any input of the tiny box, is bounded beforehand: layer by layer
from the largest width of such a box and the magnitudes of the tensors over the whole region, as in
Higham, *Accuracy and Stability of Numerical Algorithms*, chapter 3, for every order of summation.
So a sample costs what an evaluation costs.  Networks of linear nodes and Relus only, in the outward
arithmetic; ``None`` stands for all others, whose samples are bounded one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proofs.domain import Path
from proofs.frame import Batch, Frame, IndexArray
from proofs.outward import SLACK, TINY, UNIT, Outward
from proofs.partitions.prover import BoolArray, Prover
from specs.enclosure import FloatArray
from specs.linear import LinearMap
from specs.network import Input, Linear, Univariate

LARGEST = 2.0**500
"""Of magnitudes: what is computed from them does not overflow."""

ENTRIES = 1 << 17
"""Of an array, so that it stays in cache."""


@dataclass(frozen=True, eq=False)
class Points:
    """Looks at tiny boxes of a question by their points.

    Attributes:
        prover: of the question.
        entries: ``(row, entry, coefficient)`` of every row over the unsafe sets, by tensor.
        constant: ``(R,)`` of the rows.
        error: ``(R,)`` by how much a row that is computed may be above the true one.
        disjunct, strict: ``(R,)`` whose row it is, and whether a violation has it below 0.
    """

    prover: Prover
    entries: tuple[tuple[int, IndexArray, IndexArray, FloatArray], ...]
    constant: FloatArray
    error: FloatArray
    disjunct: IndexArray
    strict: BoolArray

    @classmethod
    def of(cls, prover: Prover, root: Batch, radius: FloatArray) -> Points | None:
        """``None`` where the network has other nodes, or the arithmetic is the exact one.

        Args:
            root: the whole box; magnitudes were recorded from it.
            radius: ``(inputs,)`` how far an input of a tiny box is from its point, at most.
        """
        frame = prover.frame
        payable = frame.passes(range(len(frame.network.nodes)))
        if not isinstance(frame.arithmetic, Outward) or not payable or root.empty.any():
            return None
        errors = _errors(frame, radius)
        if errors is None:
            return None
        numbers = tuple(range(len(prover.sides.query.property.cases[0].unsafe)))
        (group,) = prover.unsafe_rows.groups([Path(0, numbers)], [None], root)
        rows = group.rows
        count = len(rows.constant)
        size, spread, terms = np.abs(rows.constant), np.zeros(count), np.ones(count)
        for tensor, (row, entry, value) in rows.entries.items():
            error = errors[tensor][entry]
            np.add.at(size, row, np.abs(value) * (frame.magnitude(tensor)[entry] + error))
            np.add.at(spread, row, np.abs(value) * error)
            np.add.at(terms, row, 1.0)
        total = (spread + (terms + 4.0) * UNIT * size + TINY) * SLACK
        if not (np.all(total < LARGEST) and np.all(size < LARGEST)):
            return None
        entries = tuple((tensor, *parts) for tensor, parts in rows.entries.items())
        return cls(prover, entries, rows.constant, total, group.disjunct, group.strict)

    @property
    def width(self) -> int:
        """How many points are looked at together."""
        return max(1, min(4096, ENTRIES // max(self.prover.frame.network.sizes)))

    def look(self, x: FloatArray) -> tuple[BoolArray, BoolArray]:
        """``(B,)``: all inputs are safe near a point, proved; and all are unsafe, proved."""
        values = _values(self.prover.frame, x)
        found = self.constant[:, None] + np.zeros(len(x))
        for tensor, row, entry, value in self.entries:
            columns = values[tensor]
            for r, e, v in zip(row.tolist(), entry.tolist(), value.tolist(), strict=True):
                found[r] += v * columns[:, e]
        error = self.error[:, None]
        above = np.where(self.strict[:, None], found >= error, found > error)
        sides = self.prover.sides
        refuted = [
            above[self.disjunct == number].any(axis=0)
            for number in range(len(sides.query.property.cases[0].unsafe))
        ]
        every = np.ones(len(x), dtype=bool)
        safe, unsafe = every, ~every
        for number, own in zip(sides.unsafe, sides.negations, strict=True):
            safe = safe & refuted[number]
            unsafe = unsafe | np.all([every, *(refuted[k] for k in own)], axis=0)
        return safe, unsafe


def _errors(frame: Frame, radius: FloatArray) -> list[FloatArray] | None:
    """How far the entries of each tensor may be off; ``None``: there is no rule.

    Of non-negative numbers, rounding included: each sum has far fewer than ``2 ** 40`` terms, so
    that ``SLACK`` pays for what is lost in computing the bound itself.
    """
    errors: list[FloatArray] = []
    for tensor, node in enumerate(frame.network.nodes):
        if isinstance(node, Input):
            errors.append(radius[frame.box_columns(tensor)])
        elif isinstance(node, Univariate) and node.function == "relu":
            errors.append(errors[node.source])  # exact, and of Lipschitz constant 1
        elif isinstance(node, Linear):
            wide = 0.0 if node.offset.radius is None else node.offset.radius
            size = np.abs(node.offset.value) + wide
            spread = np.zeros_like(size) + wide
            for term in node.terms:
                own = frame.magnitude(term.source) + errors[term.source]
                parts = _term_errors(term.map, own, errors[term.source])
                if parts is None:
                    return None
                size, spread = size + parts[0], spread + parts[1]
            spread = (spread + (len(node.terms) + 4.0) * UNIT * size + TINY) * SLACK
            if not np.all(size < LARGEST):
                return None
            errors.append(spread)
        else:
            return None
    return errors


def _term_errors(
    term: LinearMap, size: FloatArray, error: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Of a linear map: the magnitude of what it computes, and how far that may be off."""
    share = (term.fan_in + 4.0) * UNIT
    if not share < 2.0**-10:
        return None
    weight = None if term.weight is None else np.abs(term.weight.value)
    reach = term.forward(size[None], weight, np.matmul)[0]
    spread = term.forward(error[None], weight, np.matmul)[0] + share * reach
    if term.weight is not None and term.weight.radius is not None:
        spread = spread + term.forward(size[None], term.weight.radius, np.matmul)[0]
    return reach * SLACK, spread


def _values(frame: Frame, x: FloatArray) -> list[FloatArray]:
    """All tensors at points, in plain float64."""
    values: list[FloatArray] = []
    for tensor, node in enumerate(frame.network.nodes):
        if isinstance(node, Input):
            values.append(x[:, frame.box_columns(tensor)])
        elif isinstance(node, Linear):
            total = np.zeros((len(x), 1))
            for term in node.terms:
                weight = None if term.map.weight is None else term.map.weight.value
                total = total + term.map.forward(values[term.source], weight, np.matmul)
            values.append(total + node.offset.value)
        else:  # a Relu: ``_errors`` knows no other
            values.append(np.maximum(values[node.sources[0]], 0.0))
    return values
