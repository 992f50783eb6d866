"""Closing boxes with stars: few neurons are unstable, and these are split exactly.

Where a box is small the network is almost affine there, but where an unsafe output comes near
along an edge between two affine pieces no box is small enough.  A star is: it takes one piece
or the other.  Linear programs over the triangles of the neurons that are left open say which
neuron to split, and their duals are the multipliers of the leaves (Tran et al., *Star-based
reachability analysis of deep neural networks*, 2019; Bak, *nnenum*, 2021, splits as late).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proofs.proof import Fact
from verifier.alpha import Multipliers, Problem, bounded, initial
from verifier.bab_root import Nets, Stated, leaf_hints
from verifier.bab_settings import Candidates, Settings
from verifier.bab_tree import Kind, LeafHint, Tree
from verifier.bounds import Domains
from verifier.bounds_spec import Table, whole_goal
from verifier.stars.corners import FloatArray
from verifier.stars.images import images, relaxed, take_slopes
from verifier.stars.triangle import Least, Triangles

IDLE = 1e-9
"""A value after a Relu that lies no further above it is its own."""

MOST_ENTRIES = 3e7
"""Coefficients of a linear program beyond which it is not built."""


@dataclass(eq=False)
class Counts:
    """What stars did.

    Attributes:
        boxes: that were tried; ``closed``: with success.
        programs: linear programs solved; ``leaves``: that came of them.
        weak: leaves whose multipliers, rounded as a proof stores them, prove too little.
    """

    boxes: int = 0
    closed: int = 0
    programs: int = 0
    leaves: int = 0
    weak: int = 0


@dataclass(eq=False)
class _Star:
    """A star: a node of a tree of them.

    Attributes:
        signs: ``(n,)`` of the box's unstable neurons; see :class:`Triangles`.
        neuron: that is split, -1: none; ``parts``: the stars below and above 0.
        least: the optimum over it.
    """

    signs: npt.NDArray[np.int8]
    neuron: int = -1
    parts: list[_Star] = field(default_factory=list)
    least: Least | None = None

    def split(self, neuron: int) -> list[_Star]:
        """The two parts."""
        self.neuron = neuron
        for sign in (1, -1):
            signs = self.signs.copy()
            signs[neuron] = sign
            self.parts.append(_Star(signs))
        return self.parts

    def leaves(self) -> list[_Star]:
        """From the left to the right."""
        found, stack = [], [self]
        while stack:
            star = stack.pop()
            if star.neuron < 0:
                found.append(star)
            stack += star.parts[::-1]
        return found


class Stars:
    """Closes boxes of branch and bound on inputs.

    Args:
        candidates: takes the points where linear programs have their optima.

    Attributes:
        counts: what was done so far.
        margin: a leaf counts as refuted only where its bound is above this.
    """

    def __init__(
        self, nets: Nets, table: Table, tree: Tree, settings: Settings, candidates: Candidates
    ) -> None:
        self.net, self.table, self.tree = nets.sure, table, tree
        self.settings, self.candidates = settings, candidates
        self.counts = Counts()
        self.margin = settings.margin

    def close(
        self,
        domains: Domains,
        case: Tensor,
        node: Tensor,
        programs: Sequence[int],
        deadline: float,
        go_on: Callable[[bool, float], bool],
    ) -> Tensor:
        """Close the nodes of boxes as far as that succeeds.

        Args:
            domains: ``B`` boxes with bounds; ``case``: ``(B,)``; ``node``: ``(B,)`` in the tree.
            programs: ``(B,)`` linear programs for each of a box's disjuncts, at most.
            deadline: in ``time.monotonic()`` seconds.
            go_on: told after a box whether it was closed, and the seconds that took; whether
                to try another.

        Returns:
            By box 1 where it was closed, -1 where that failed, 0 where it was not tried.
        """
        done = torch.zeros(len(case), dtype=torch.long, device=case.device)
        unstable = ((domains.lower < 0) & (domains.upper > 0)).sum(-1)
        for box in unstable.argsort(stable=True).tolist():
            count = int(unstable[box])
            entries = 3 * count * (domains.low.shape[1] + count)
            if count > self.settings.star_neurons or entries > MOST_ENTRIES:
                break
            begun, at = time.monotonic(), slice(box, box + 1)
            made = _Box(self, domains.take(at), case[at])
            closed = made.close(int(node[box]), programs[box], deadline)
            if time.monotonic() < deadline or closed:
                done[box] = 1 if closed else -1
            self.counts.boxes += 1
            self.counts.closed += closed
            if self.candidates.found or not go_on(closed, time.monotonic() - begun):
                break
        return done


class _Box:
    """A single box while it is being closed."""

    def __init__(self, stars: Stars, domains: Domains, case: Tensor) -> None:
        self._stars, self._case, self._net = stars, case, stars.net
        table = stars.table
        goal = whole_goal(table, case)
        self._count = len(goal.slot_disjunct)
        if not self._count:
            return
        forms, lengths, exponents = table.forms(self._net, goal.slot_disjunct)
        own = goal.slot_owner
        self._refutable = int(lengths.min()) > 0
        self._problem = Problem(
            self._net,
            forms,
            domains.low[own],
            domains.high[own],
            domains.lower[own],
            domains.upper[own],
            region=table.regions(case[own]),
        )
        self._stated = Stated.of(table, case[own], lengths, exponents)
        seen = images(self._net, domains.lower[0], domains.upper[0])
        self._unstable = seen.unstable
        self._program = Triangles(relaxed(seen, domains, forms, table.regions(case)))

    def close(self, node: int, programs: int, deadline: float) -> bool:
        """Close the box's node with trees of stars, by so many linear programs each."""
        if not self._count or not self._refutable:
            return False
        trees, rows = [], []
        for disjunct in range(self._count):
            root = _Star(np.zeros(len(self._unstable), dtype=np.int8))
            made = self._grown(root, disjunct, programs, deadline)
            if made is None:
                return False
            trees.append(root)
            rows.append(made)
        self._record(node, trees, rows)
        return True

    def _grown(
        self, root: _Star, disjunct: int, programs: int, deadline: float
    ) -> tuple[Problem, Multipliers] | None:
        """Split a star until all leaves are refuted, and the multipliers of the leaves.

        ``None``: it stays open.
        """
        counts, stack, left = self._stars.counts, [root], programs
        while True:
            while stack and left:
                star, left = stack.pop(), left - 1
                counts.programs += 1
                star.least = self._program.solve(star.signs, disjunct)
                if star.least is None or time.monotonic() > deadline:
                    return None
                if star.least.value <= self._stars.margin:
                    neuron = _chosen(star.least)
                    if neuron < 0:  # the network is as low there
                        self._offer(star.least.point)
                        return None
                    stack += star.split(neuron)[::-1]
            if stack:
                return None
            leaves = root.leaves()
            below, exact = self._multipliers(disjunct, leaves)
            stored = _in_few_bits(below, exact, self._stars.margin)
            sure = bounded(below, stored).bound > self._stars.margin
            counts.leaves += len(leaves)
            counts.weak += int((~sure).sum())
            for place in (~sure).nonzero()[:, 0].tolist():  # rounding took too much
                least = leaves[place].least
                neuron = -1 if least is None else _chosen(least)
                if neuron < 0:
                    return None
                stack += leaves[place].split(neuron)
            if not stack:
                return below, stored

    def _offer(self, point: FloatArray) -> None:
        given = torch.tensor(point[None], device=self._case.device).to(self._problem.low)
        self._stars.candidates.offer(given, self._case)

    def _record(
        self, node: int, trees: Sequence[_Star], rows: Sequence[tuple[Problem, Multipliers]]
    ) -> None:
        """Write trees of stars below a node of the search's tree."""
        tree, count = self._stars.tree, len(trees)
        first = node if count == 1 else tree.split(node, Kind.DISJUNCT, count, count)
        neurons, entries = self._unstable.tolist(), self._entries()
        for disjunct, (below, stored) in enumerate(rows):
            leaves = _planted(tree, trees[disjunct], first + disjunct, neurons)
            splits = []
            for leaf in leaves:
                path = [n for n, _ in tree.path(leaf) if tree.kind[n] != Kind.DISJUNCT]
                splits.append([tree.arg[n] if tree.kind[n] == Kind.NEURON else -1 for n in path])
            stated = self._stated.take(torch.full((len(leaves),), disjunct))
            hints = leaf_hints(below, stored, stated, range(len(leaves)), splits)
            for leaf, hint, bounds in zip(leaves, hints, _bounds(below, stored), strict=True):
                tree.close(leaf, replace(_short(hint, entries), bounds=bounds))

    def _multipliers(self, disjunct: int, leaves: Sequence[_Star]) -> tuple[Problem, Multipliers]:
        """The problem of leaves, a row each, and their multipliers."""
        found = [leaf.least for leaf in leaves if leaf.least is not None]
        problem = self._problem.take(torch.full((len(leaves),), disjunct))
        plain = problem.lower.expand(len(leaves), -1)

        def wide(rows: Sequence[FloatArray], rest: float) -> Tensor:
            full = torch.full_like(plain, rest)
            full[:, self._unstable] = torch.tensor(np.array(rows), device=plain.device).to(plain)
            return full

        signs = wide([leaf.signs for leaf in leaves], 0.0)
        most, least = (wide([getattr(o, side) for o in found], 0.0) for side in ("upper", "lower"))
        # A bound of an open neuron counts like a split at its end.
        held = torch.where(most > least, 1.0, -1.0) * (most + least > 0)
        points = torch.where(held > 0, problem.upper, problem.lower) * held.abs()
        below = replace(
            problem,
            lower=plain.where(signs >= 0, plain.clamp(min=0.0)),
            upper=problem.upper.where(signs <= 0, problem.upper.clamp(max=0.0)),
            signs=signs + held,
            points=points,
        )
        start = initial(below)
        slopes = wide([o.slopes for o in found], -1.0)
        slopes[:, self._unstable] = slopes[:, self._unstable].clamp(min=0.0)
        take_slopes(self._net, start.alpha, slopes)

        def dense(rows: Sequence[FloatArray]) -> Tensor:
            return torch.tensor(np.array(rows), device=plain.device).to(plain)

        beta = wide([o.beta for o in found], 0.0) + torch.maximum(most, least)
        made = replace(start, beta=beta)
        if start.weights is not None:
            made = replace(made, weights=dense([o.weights for o in found]))
        if start.region is not None:
            made = replace(made, region=dense([o.region for o in found]))
        return below, made

    def _entries(self) -> dict[int, np.ndarray]:
        """By nonlinear tensor the entries that are unstable."""
        found, unstable = {}, self._unstable
        for number in self._net.nonlinear:
            where = self._net.neurons[self._net.function(number).sources[0]]
            inside = unstable[(unstable >= where.start) & (unstable < where.stop)]
            found[number] = (inside - where.start).cpu().numpy()
        return found


def _planted(tree: Tree, root: _Star, node: int, neurons: Sequence[int]) -> list[int]:
    """Split a node as a tree of stars is split, whose neurons have these numbers: its leaves."""
    leaves = []
    stack = [(root, node)]
    while stack:
        star, place = stack.pop()
        if star.neuron < 0:
            leaves.append(place)
            continue
        child = tree.split(place, Kind.NEURON, neurons[star.neuron])
        stack += [(star.parts[1], child + 1), (star.parts[0], child)]
    return leaves


def _chosen(least: Least) -> int:
    """The neuron to split; -1: none is relaxed where the optimum is."""
    if not least.gap.max(initial=0.0) > IDLE:
        return -1
    lost = least.gap * least.chord
    return int(np.argmax(lost if lost.max() > IDLE else least.gap))


def _in_few_bits(problem: Problem, exact: Multipliers, margin: float) -> Multipliers:
    """Multipliers as a proof stores them, of each row in as few bits as still prove enough."""
    stored, coarse = exact.rounded(), exact.coarse()
    good = bounded(problem, coarse).bound > margin
    for part, short in zip(stored.parts(), coarse.parts(), strict=True):
        if part is not None and short is not None:
            part[good] = short[good]
    return stored


def _bounds(problem: Problem, stored: Multipliers) -> list[list[tuple[Fact, int, float]]]:
    """By row of a problem of leaves the multipliers of stored bounds."""
    found: list[list[tuple[Fact, int, float]]] = [[] for _ in range(len(problem))]
    if problem.points is None or problem.signs is None or stored.beta is None:
        return found
    rows, neurons = ((problem.points != 0) & (stored.beta > 0)).nonzero(as_tuple=True)
    signs, values = problem.signs[rows, neurons], stored.beta[rows, neurons]
    parts = (rows.tolist(), neurons.tolist(), signs.tolist(), values.tolist())
    for row, neuron, sign, value in zip(*parts, strict=True):
        found[row].append((Fact.UPPER if sign > 0 else Fact.LOWER, neuron, value))
    return found


def _short(hint: LeafHint, entries: dict[int, np.ndarray]) -> LeafHint:
    """A hint without the slopes of stable neurons."""
    slopes = []
    for block in hint.slopes:
        kept = entries[block.tensor]
        if len(kept):
            slopes.append(replace(block, values=block.values[kept], indices=kept))
    return replace(hint, slopes=slopes)
