"""Domains: the state on a path of a tree, and the rule Split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from proofs.arithmetic import Interval, Numbers
from proofs.forms import Form, Place
from proofs.frame import Batch, Frame
from proofs.proof import Side
from specs.enclosure import FloatArray
from specs.network import Input


@dataclass(frozen=True)
class Literal:
    """One side of a split: ``form <= point`` (LOWER side) or ``form >= point`` (UPPER)."""

    weights: tuple[tuple[Place, float], ...]
    point: float
    side: Side

    def fact(self) -> Form:
        """The literal as a fact, ``<= 0``."""
        sign = 1 if self.side is Side.LOWER else -1
        weights: dict[Place, Fraction] = {}
        for place, weight in self.weights:
            weights[place] = weights.get(place, Fraction(0)) + sign * Fraction(weight)
        return Form(weights, -sign * Fraction(self.point))

    def entails(self, other: Literal) -> bool:
        """Whether every point that satisfies this literal satisfies ``other``."""
        if self.weights != other.weights or self.side is not other.side:
            return False
        if self.side is Side.LOWER:
            return self.point <= other.point
        return self.point >= other.point


@dataclass(frozen=True)
class Trail:
    """The splits on a path, newest first."""

    literal: Literal
    before: Trail | None
    length: int

    @staticmethod
    def extend(before: Trail | None, literal: Literal) -> Trail:
        """The path with one more split."""
        return Trail(literal, before, 1 if before is None else before.length + 1)


def literals(trail: Trail | None) -> list[Literal]:
    """The splits of a path, oldest first."""
    found = []
    while trail is not None:
        found.append(trail.literal)
        trail = trail.before
    return found[::-1]


@dataclass(frozen=True, eq=False)
class Domain:
    """The state at a node of a tree.

    Attributes:
        case: number of the property's case.
        lower, upper: the box, ``(input_size,)``.
        bounds: of each pre-activation tensor, ``(n,)`` below and above.  They hold for
            every point of the case that satisfies the path; children inherit them,
            nothing flows up or sideways.
        disjuncts: disjuncts of the unsafe set that remain to be refuted.
        trail: the splits on the path.
        empty: bounds contradict each other: no point satisfies the path.
    """

    case: int
    lower: FloatArray
    upper: FloatArray
    bounds: dict[int, Interval]
    disjuncts: tuple[int, ...]
    trail: Trail | None = None
    empty: bool = False


def stack(domains: Sequence[Domain]) -> Batch:
    """A batch of the domains' bounds."""
    bounds = {
        tensor: (
            np.stack([d.bounds[tensor][0] for d in domains]),
            np.stack([d.bounds[tensor][1] for d in domains]),
        )
        for tensor in domains[0].bounds
    }
    return Batch(
        np.stack([d.lower for d in domains]),
        np.stack([d.upper for d in domains]),
        bounds,
        np.array([d.empty for d in domains], dtype=bool),
    )


def unstack(domains: Sequence[Domain], batch: Batch) -> list[Domain]:
    """The domains with the boxes and bounds of a batch."""
    return [
        replace(
            domain,
            lower=batch.lower[k],
            upper=batch.upper[k],
            bounds={t: (low[k], high[k]) for t, (low, high) in batch.bounds.items()},
            empty=bool(batch.empty[k]),
        )
        for k, domain in enumerate(domains)
    ]


def middle(domain: Domain, entry: int) -> float:
    """Where a split of an input entry without a point falls: the middle of its bounds."""
    low, high = float(domain.lower[entry]), float(domain.upper[entry])
    return 0.5 * low + 0.5 * high


def assume(frame: Frame, domain: Domain, literal: Literal) -> Domain:
    """The child of a split on one side: both sides together cover the domain.

    A split of a single input entry cuts the box, one of a single neuron its stored bounds;
    every split is kept as a fact.  Points are finite and the same in both halves.
    """
    domain = replace(domain, trail=Trail.extend(domain.trail, literal))
    if len(literal.weights) != 1 or literal.weights[0][1] != 1.0:
        return domain
    (tensor, index), _ = literal.weights[0]
    if isinstance(frame.network.nodes[tensor], Input):
        domain = _cut_box(domain, int(frame.box_columns(tensor)[index]), literal)
    if tensor in domain.bounds:
        domain = _cut_bounds(frame, domain, tensor, index, literal)
    return domain


def _cut_box(domain: Domain, entry: int, literal: Literal) -> Domain:
    lower, upper = domain.lower, domain.upper
    if literal.side is Side.LOWER:
        upper = upper.copy()
        upper[entry] = min(upper[entry], literal.point)
    else:
        lower = lower.copy()
        lower[entry] = max(lower[entry], literal.point)
    empty = domain.empty or bool(lower[entry] > upper[entry])
    return replace(domain, lower=lower, upper=upper, empty=empty)


def _cut_bounds(frame: Frame, domain: Domain, tensor: int, index: int, literal: Literal) -> Domain:
    lower, upper = domain.bounds[tensor]
    point = np.array([literal.point])
    if literal.side is Side.LOWER:
        upper = _with(upper, index, min(upper[index], frame.arithmetic.lift_up(point)[0]))
    else:
        lower = _with(lower, index, max(lower[index], frame.arithmetic.lift_down(point)[0]))
    empty = domain.empty or bool(lower[index] > upper[index])
    return replace(domain, bounds={**domain.bounds, tensor: (lower, upper)}, empty=empty)


def _with(numbers: Numbers, index: int, value: object) -> Numbers:
    out = numbers.copy()
    out[index] = value
    return out
