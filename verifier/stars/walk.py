"""Stars on their way through a network, depth first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from specs.errors import QuestionError
from specs.network import Input, Linear, Network, Perturbed, Product, Univariate
from specs.property import Case
from verifier.stars import exact, relax
from verifier.stars.corners import FloatArray
from verifier.stars.exact import PIECEWISE, Pending
from verifier.stars.lp import Infeasible, SolverError, SolverTimeoutError
from verifier.stars.sets import Origin, Solver, Star, Why, box, zonotope

OUTPUT = -1
"""The tensor number under which the outputs stand together in a finished star."""


@dataclass(frozen=True)
class Budget:
    """What is split and what is relaxed.

    Attributes:
        splits: splits on a path; beyond them neurons are relaxed.  ``None``: no limit, and
            a function that is not piecewise linear is refused.
        programs: neurons of a layer whose bounds linear programs improve before they are
            relaxed, the widest ones.
    """

    splits: int | None = None
    programs: int = 64


@dataclass(frozen=True, eq=False)
class Open:
    """A star that has not reached the outputs.

    Attributes:
        star: with the tensors that are still read.
        number: the node that is next, or in the middle of which the star is.
        pending: the layer being split, if one is.
        splits: on the path so far.
    """

    star: Star
    number: int
    pending: Pending | None = None
    splits: int = 0


@dataclass(eq=False)
class Walker:
    """Takes stars from the inputs to the outputs of a network.

    Attributes:
        network: without perturbations.
        budget: what is split.
        solver: for linear programs.
        splits, relaxed: neurons split and relaxed so far.
        troubled: stars that ended as a box since a linear program had no answer.
    """

    network: Network
    budget: Budget
    solver: Solver = field(default_factory=Solver)
    splits: int = 0
    relaxed: int = 0
    troubled: int = 0

    def __post_init__(self) -> None:
        self._most = math.inf if self.budget.splits is None else self.budget.splits
        last = {number: number for number in range(len(self.network.nodes))}
        for number, node in enumerate(self.network.nodes):
            for source in node.sources:
                last[source] = number
        self._dead: list[list[int]] = [[] for _ in self.network.nodes]
        for tensor, number in last.items():
            if tensor not in self.network.outputs:
                self._dead[number].append(tensor)

    def run(
        self,
        start: Sequence[Open],
        finished: Callable[[Star], None],
        deadline: float | None = None,
        most: int | None = None,
    ) -> list[Open]:
        """Take stars to the outputs.

        Args:
            start: where to begin.
            finished: is given each star that has reached the outputs, as tensor ``OUTPUT``.
            deadline: when to stop, by the monotonic clock.
            most: stop when so many stars are open, and take the widest first until then.

        Returns:
            What is still open.

        Raises:
            QuestionError: a function has no bounds over the region.
            KeyboardInterrupt: with nothing lost: what is open is its only argument.
        """
        waiting = list(start)
        current: Open | None = None
        try:
            while waiting:
                if deadline is not None and time.monotonic() > deadline:
                    break
                if most is not None and len(waiting) >= most:
                    break
                current = waiting.pop() if most is None else waiting.pop(0)
                found: Star | list[Open]
                try:
                    found = self.step(current)
                except SolverTimeoutError:
                    waiting.append(current)
                    break
                except SolverError:
                    self.troubled += 1
                    found = hull(self.network, current)
                if isinstance(found, Star):
                    finished(found)
                else:
                    waiting += found
                current = None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(waiting if current is None else [*waiting, current]) from None
        return waiting

    def step(self, item: Open) -> Star | list[Open]:
        """Take a star to its next split, or to the outputs.

        Returns:
            The finished star, or the parts that it falls into.

        Raises:
            QuestionError: a function has no bounds over the region.
            SolverError: a linear program has no answer.
        """
        star, pending, splits = item.star, item.pending, item.splits
        if pending is not None and splits >= self._most:
            return [self.settle(item)]
        if pending is not None:
            node = self.network.nodes[item.number]
            if not isinstance(node, Univariate):
                raise TypeError("only univariate nodes are split")
            pieces = PIECEWISE[node.function]
            parts = exact.split(pending, node.source, pieces, self.solver)
            self.splits += 1
            return [self._settled(item.number, part, splits + 1) for part in parts]
        for number in range(item.number, len(self.network.nodes)):
            node = self.network.nodes[number]
            if isinstance(node, Input):
                continue
            if isinstance(node, Linear):
                pairs = [(term.source, term.map) for term in node.terms]
                star = self._with(star, number, star.affine(pairs, node.offset))
                continue
            if isinstance(node, Univariate) and self._splits(node):
                pieces = PIECEWISE[node.function]
                parts = exact.begin(star, node.source, pieces, self.solver)
                opened = [self._settled(number, part, splits) for part in parts]
                if len(opened) == 1 and opened[0].pending is None:
                    star = opened[0].star
                    continue
                return opened
            star = self._relaxed(star, number)
        return self._finish(star)

    def settle(self, item: Open) -> Open:
        """A star in the middle of a layer, with what is left of the layer relaxed."""
        if item.pending is None:
            return item
        star = self._relaxed(item.pending.star, item.number, item.pending)
        return Open(star, item.number + 1, None, item.splits)

    def _splits(self, node: Univariate) -> bool:
        return node.function in PIECEWISE and self._most > 0

    def _settled(self, number: int, pending: Pending, splits: int) -> Open:
        """A star after a decision: at the next node if its layer is done."""
        if not pending.entries.size:
            star = self._with(pending.star, number, pending.image)
            return Open(star, number + 1, None, splits)
        if splits >= self._most:
            return self.settle(Open(pending.star, number, pending, splits))
        return Open(pending.star, number, pending, splits)

    def _relaxed(self, star: Star, number: int, pending: Pending | None = None) -> Star:
        node = self.network.nodes[number]
        if not isinstance(node, Univariate | Product):
            raise TypeError(f"node '{node.name}' is not relaxed")
        before = star.predicates.size
        star, image = relax.relaxed(
            star,
            number,
            node,
            self.solver,
            self.budget.programs,
            None if pending is None else pending.entries,
            None if pending is None else pending.image,
        )
        self.relaxed += star.predicates.size - before
        return self._with(star, number, image)

    def _with(self, star: Star, number: int, image: FloatArray) -> Star:
        return star.with_image(number, image, self._dead[number])

    def _finish(self, star: Star) -> Star:
        images = [star.image(output) for output in self.network.outputs]
        whole = np.concatenate(images, axis=1)
        return replace(star, images={OUTPUT: whole})


def first_star(network: Network, case: Case, solver: Solver) -> Star | None:
    """The star of a case's region, or ``None`` where it is empty.

    A predicate is an input that is not constant, from -1 at its lower end to 1.

    Raises:
        QuestionError: the region is not bounded in floats.
    """
    low, high = case.box()
    if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))):
        raise QuestionError("a bound of the region is beyond the range of float64")
    centre, radius = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
    free = np.flatnonzero(radius > 0)
    columns = tuple(Origin(Why.REGION, 0, int(k)) for k in free)
    predicates = box(-np.ones(free.size), np.ones(free.size), columns)
    image = np.zeros((1 + free.size, low.size))
    image[0] = centre
    image[1 + np.arange(free.size), free] = radius[free]
    for number, constraint in enumerate(case.constraints):
        row, limit = np.zeros(low.size), -float(constraint.constant)
        for k, coefficient in constraint.inputs:
            row[k] = float(coefficient)
        values = image @ row
        origin = Origin(Why.REGION, 0, number)
        cut = predicates.cut(values[1:], limit - float(values[0]), origin)
        if cut is None:
            cut = predicates.on(values[1:], limit - float(values[0]), origin)
        predicates = cut
    if not len(predicates.points):
        found = solver.feasible(predicates)
        if isinstance(found, Infeasible):
            return None
        predicates = predicates.with_points(found.point[None])
    if case.constraints and not predicates.cornered:
        predicates = solver.contracted(predicates)
    images, start = {}, 0
    for tensor in network.inputs:
        size = network.sizes[tensor]
        images[tensor] = image[:, start : start + size]
        start += size
    return Star(predicates, images)


def hull(network: Network, item: Open) -> Star:
    """A box of outputs that contains those of an open star, without linear programs.

    Raises:
        QuestionError: a function has no bounds over the region.
    """
    walker = Walker(network, Budget(splits=0, programs=0))
    found = walker.step(walker.settle(item))
    if not isinstance(found, Star):
        raise TypeError("nothing is split where everything is relaxed")
    image = found.images[OUTPUT]
    low, high = zonotope(image, found.predicates)
    centre, radius = 0.5 * (low + high), 0.5 * (high - low)
    free = np.flatnonzero(radius > 0)
    boxed = np.zeros((1 + free.size, low.size))
    boxed[0] = centre
    boxed[1 + np.arange(free.size), free] = radius[free]
    columns = tuple(Origin(Why.ERROR, OUTPUT, int(k)) for k in free)
    return Star(box(-np.ones(free.size), np.ones(free.size), columns), {OUTPUT: boxed}, False)


def refuse(network: Network, budget: Budget) -> None:
    """Refuse what stars say nothing of.

    Raises:
        QuestionError: a perturbed node; or a function that is not piecewise linear where
            all is to be split.
    """
    for node in network.nodes:
        if isinstance(node, Perturbed):
            raise QuestionError(
                f"tensor '{node.name}' carries rounding errors, or faults: stars are of intact "
                "networks in real numbers (--semantics real)"
            )
        if budget.splits is None and (
            isinstance(node, Product)
            or (isinstance(node, Univariate) and node.function not in PIECEWISE)
        ):
            kind = "a product" if isinstance(node, Product) else node.function
            raise QuestionError(
                f"tensor '{node.name}' ({kind}) is not piecewise linear, so there is no exact "
                "union of stars: leave --exact out"
            )
