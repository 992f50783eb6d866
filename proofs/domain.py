"""Domains: the state on a path of a tree, and the rule Split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Interval, Numbers
from proofs.forms import Form, Place, exactly
from proofs.frame import Batch, Frame, IndexArray
from proofs.proof import Side
from specs.enclosure import FloatArray
from specs.network import Input


@dataclass(frozen=True)
class Literal:
    """One side of a split: ``form <= point`` (LOWER side) or ``form >= point`` (UPPER)."""

    weights: tuple[tuple[Place, float], ...]
    point: float
    side: Side

    @cached_property
    def fact(self) -> Form:
        """The literal as a fact, ``<= 0``."""
        sign = 1.0 if self.side is Side.LOWER else -1.0
        weights: dict[Place, Fraction] = {}
        for place, weight in self.weights:
            own = exactly(sign * weight)
            weights[place] = weights[place] + own if place in weights else own
        return Form(weights, exactly(-sign * self.point))

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


@dataclass(frozen=True)
class Path:
    """What is assumed at a node of a tree.

    Attributes:
        case: number of the property's case.
        disjuncts: disjuncts of the unsafe set that remain to be refuted.
        trail: the splits on the path.
    """

    case: int
    disjuncts: tuple[int, ...]
    trail: Trail | None = None

    def __reduce__(self) -> tuple[Callable[..., Path], tuple[object, ...]]:
        """Pickled without recursion over the trail."""
        return _path, (self.case, self.disjuncts, literals(self.trail))


def _path(case: int, disjuncts: tuple[int, ...], splits: Sequence[Literal]) -> Path:
    trail: Trail | None = None
    for literal in splits:
        trail = Trail.extend(trail, literal)
    return Path(case, disjuncts, trail)


NO_NODE, TO_CLOSE = -1, -2
"""In place of the next node, where a domain has the empty proof: sweep, then close; close."""


@dataclass(frozen=True, eq=False)
class Domains:
    """The states at ``B`` nodes of trees.

    Attributes:
        nodes: ``(B,)`` the node of the proof that comes next, ``NO_NODE`` or ``TO_CLOSE``.
        paths: what is assumed there.
        batch: boxes and bounds that hold for every point of the case that satisfies the
            path; children inherit them, nothing flows up or sideways.
    """

    nodes: IndexArray
    paths: Sequence[Path]
    batch: Batch

    def __len__(self) -> int:
        return len(self.paths)

    @staticmethod
    def root(case: int, lower: FloatArray, upper: FloatArray, disjuncts: int) -> Domains:
        """A case with nothing assumed and nothing known but its box, ``(input_size,)``."""
        path = Path(case, tuple(range(disjuncts)))
        empty = np.array([bool(np.any(lower > upper))])
        batch = Batch(lower[None], upper[None], {}, empty)
        return Domains(np.array([NO_NODE]), [path], batch)

    @staticmethod
    def joined(parts: Sequence[Domains]) -> Domains:
        """Several one after the other; all store bounds of the same tensors."""
        if len(parts) == 1:
            return parts[0]
        batches = [part.batch for part in parts]
        bounds = {
            tensor: (
                np.concatenate([batch.bounds[tensor][0] for batch in batches]),
                np.concatenate([batch.bounds[tensor][1] for batch in batches]),
            )
            for tensor in batches[0].bounds
        }
        batch = Batch(
            np.concatenate([batch.lower for batch in batches]),
            np.concatenate([batch.upper for batch in batches]),
            bounds,
            np.concatenate([batch.empty for batch in batches]),
            tuple(own for batch in batches for own in batch.shares or ((),) * len(batch.empty)),
        )
        nodes = np.concatenate([part.nodes for part in parts])
        return Domains(nodes, [path for part in parts for path in part.paths], batch)

    def pick(self, places: IndexArray) -> Domains:
        """The domains at some places; their arrays are copies."""
        paths = [self.paths[k] for k in places.tolist()]
        return Domains(self.nodes[places], paths, self.batch.pick(places))


def middle(batch: Batch, place: int, entry: int) -> float:
    """Where a split of an input entry without a point falls: the middle of its bounds."""
    return 0.5 * float(batch.lower[place, entry]) + 0.5 * float(batch.upper[place, entry])


def assume(frame: Frame, domains: Domains, made: Sequence[Literal | None]) -> Domains:
    """Domains on whose paths come literals, one each; ``None``: nothing is assumed.

    A split of a single input entry cuts the box, one of a single neuron its stored bounds;
    every split is kept as a fact.  Points are finite and the same in both halves.
    """
    paths = [
        path
        if literal is None
        else Path(path.case, path.disjuncts, Trail.extend(path.trail, literal))
        for path, literal in zip(domains.paths, made, strict=True)
    ]
    cuts: dict[tuple[int, Side], list[tuple[int, int, float]]] = {}
    for place, literal in enumerate(made):
        if literal is not None and len(literal.weights) == 1 and literal.weights[0][1] == 1.0:
            (tensor, index), _ = literal.weights[0]
            cuts.setdefault((tensor, literal.side), []).append((place, index, literal.point))
    old = domains.batch
    batch = Batch(old.lower, old.upper, dict(old.bounds), old.empty, old.shares)
    for (tensor, side), listed in cuts.items():
        columns = zip(*listed, strict=True)
        places, entries, points = (np.array(column) for column in columns)
        if isinstance(frame.network.nodes[tensor], Input):
            at = frame.box_columns(tensor)[entries]
            ends = _cut((batch.lower, batch.upper), places, at, side, points)
            batch.lower, batch.upper = ends
            _note_empty(batch, places, ends[0][places, at] > ends[1][places, at])
        if tensor in batch.bounds:
            lift = frame.arithmetic.lift_up if side is Side.LOWER else frame.arithmetic.lift_down
            ends = _cut(batch.bounds[tensor], places, entries, side, lift(points))
            batch.bounds[tensor] = ends
            _note_empty(batch, places, ends[0][places, entries] > ends[1][places, entries])
    return Domains(domains.nodes, paths, batch)


def _cut(
    ends: Interval, places: IndexArray, entries: IndexArray, side: Side, points: Numbers
) -> Interval:
    """Bounds of which one entry at each place, ``(P,)``, is cut on one side."""
    lower, upper = ends
    if side is Side.LOWER:
        upper, held = upper.copy(), upper[places, entries]
        upper[places, entries] = np.where(points < held, points, held)
    else:
        lower, held = lower.copy(), lower[places, entries]
        lower[places, entries] = np.where(points > held, points, held)
    return lower, upper


def _note_empty(batch: Batch, places: IndexArray, empty: npt.NDArray[np.bool_]) -> None:
    batch.empty = batch.empty.copy()
    batch.empty[places] |= np.asarray(empty, dtype=bool)
