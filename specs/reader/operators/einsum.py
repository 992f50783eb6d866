"""Einstein summation, two operands at a time, as matrix products."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator, same_kind
from specs.reader.operands import Operand, require_real
from specs.reader.operators.dense import product
from specs.reader.operators.reduce import summed

_EQUATION = re.compile(r"(?:[A-Za-z]|\.\.\.|,)*(?:->(?:[A-Za-z]|\.\.\.)*)?")
ELLIPSIS = "..."


@dataclass(frozen=True, eq=False)
class Labelled:
    """An operand whose axes have distinct names."""

    operand: Operand
    labels: tuple[str, ...]

    @property
    def extents(self) -> dict[str, int]:
        return dict(zip(self.labels, self.operand.shape, strict=True))


@operator("Einsum")
def einsum(call: Call) -> Operand:
    builder, operands = call.builder, call.operands()
    for operand in operands:
        require_real(operand)
    same_kind(*operands)
    terms, wanted = _parsed(call.text("equation", ""), [len(o.shape) for o in operands])
    waiting = [
        _diagonal(builder, operand, labels) for operand, labels in zip(operands, terms, strict=True)
    ]
    extents: dict[str, int] = {}
    for term in waiting:
        for label, extent in term.extents.items():
            if extents.setdefault(label, extent) != extent:
                raise ModelError(f"index '{label}' has extents {extents[label]} and {extent}")
    if unknown := sorted(set(wanted) - set(extents)):
        raise ModelError(f"index '{unknown[0]}' of the result is in no operand")
    whole = _reduced(builder, waiting[0], _needed(waiting[1:], wanted))
    for position in range(1, len(waiting)):
        needed = _needed(waiting[position + 1 :], wanted)
        whole = _joined(builder, whole, waiting[position], needed)
    return _ordered(builder, whole, wanted).operand


def _parsed(equation: str, ranks: list[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The labels of the operands' axes, and those of the result's."""
    text = equation.replace(" ", "")
    if not _EQUATION.fullmatch(text):
        raise ModelError(f"equation '{equation}'")
    left, arrow, right = text.partition("->")
    written = [re.findall(r"[A-Za-z]|\.\.\.", part) for part in left.split(",")]
    if len(written) != len(ranks):
        raise ModelError(f"equation '{equation}' for {len(ranks)} operands")
    terms: list[tuple[str, ...]] = []
    hidden: tuple[str, ...] = ()
    counts: set[int] = set()
    for labels, rank in zip(written, ranks, strict=True):
        spare = rank - len(labels) + (ELLIPSIS in labels)
        if labels.count(ELLIPSIS) > 1 or spare < 0 or (spare and ELLIPSIS not in labels):
            raise ModelError(f"equation '{equation}' does not fit an operand of rank {rank}")
        if ELLIPSIS in labels:
            counts.add(spare)
        # Axes under the dots are counted from the last, as broadcasting does.
        dots = tuple(f"{ELLIPSIS}{place}" for place in range(spare, 0, -1))
        hidden = max(hidden, dots, key=len)
        terms.append(_expanded(labels, dots))
    if len(counts) > 1:
        raise UnsupportedOperatorError("dots for different numbers of axes have no rule")
    if arrow:
        result = re.findall(r"[A-Za-z]|\.\.\.", right)
    else:
        every = [label for labels in written for label in labels if label != ELLIPSIS]
        result = [ELLIPSIS, *sorted(label for label in set(every) if every.count(label) == 1)]
    wanted = _expanded(result, hidden)
    if len(set(wanted)) != len(wanted):
        raise ModelError(f"equation '{equation}' names an axis of its result twice")
    return terms, wanted


def _expanded(labels: list[str], dots: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for label in labels:
        found += dots if label == ELLIPSIS else (label,)
    return tuple(found)


def _diagonal(builder: Builder, operand: Operand, labels: tuple[str, ...]) -> Labelled:
    """An operand whose repeated axes are replaced by their diagonal."""
    distinct = tuple(dict.fromkeys(labels))
    if len(distinct) == len(labels):
        return Labelled(operand, labels)
    for label in distinct:
        axes = [axis for axis, name in enumerate(labels) if name == label]
        if len({operand.shape[axis] for axis in axes}) > 1:
            raise ModelError(f"index '{label}' has different extents in shape {operand.shape}")
    shape = [operand.shape[labels.index(label)] for label in distinct]
    grids = dict(zip(distinct, np.indices(builder.claim(shape), sparse=True), strict=True))
    picked = tuple(grids[label] for label in labels)
    return Labelled(builder.view(operand, lambda array, _: array[picked]), distinct)


def _needed(later: list[Labelled], wanted: tuple[str, ...]) -> set[str]:
    return set(wanted).union(*(term.labels for term in later))


def _reduced(builder: Builder, term: Labelled, needed: set[str]) -> Labelled:
    """A term summed over the axes that nothing reads."""
    axes = tuple(a for a, label in enumerate(term.labels) if label not in needed)
    kept = tuple(label for label in term.labels if label in needed)
    shape = tuple(term.extents[label] for label in kept)
    return Labelled(summed(builder, term.operand, axes, shape), kept) if axes else term


def _joined(builder: Builder, left: Labelled, right: Labelled, needed: set[str]) -> Labelled:
    """The product of two terms, summed over what nothing later reads."""
    left = _reduced(builder, left, needed | set(right.labels))
    right = _reduced(builder, right, needed | set(left.labels))
    both = [label for label in left.labels if label in right.labels]
    batch = tuple(label for label in both if label in needed)
    inner = tuple(label for label in both if label not in needed)
    rows = tuple(label for label in left.labels if label not in both)
    columns = tuple(label for label in right.labels if label not in both)
    extents = {**left.extents, **right.extents}

    def size(labels: tuple[str, ...]) -> int:
        return math.prod(extents[label] for label in labels)

    first = _ordered(builder, left, (*batch, *rows, *inner)).operand
    second = _ordered(builder, right, (*batch, *inner, *columns)).operand
    made = product(
        builder,
        builder.reshape(first, (size(batch), size(rows), size(inner))),
        builder.reshape(second, (size(batch), size(inner), size(columns))),
    )
    labels = (*batch, *rows, *columns)
    return Labelled(builder.reshape(made, [extents[label] for label in labels]), labels)


def _ordered(builder: Builder, term: Labelled, labels: tuple[str, ...]) -> Labelled:
    """A term with its axes in another order."""
    order = [term.labels.index(label) for label in labels]
    return Labelled(builder.view(term.operand, lambda array, _: array.transpose(order)), labels)
