"""Exact truths that stars are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from specs.network import Network, Univariate
from specs.property import Case
from tests.proofs import helpers
from verifier.stars.corners import FloatArray
from verifier.stars.lp import Infeasible, Program
from verifier.stars.planes import area, projected
from verifier.stars.sets import Predicates, Solver, Star, Why
from verifier.stars.walk import OUTPUT, Budget, Open, Walker, first_star

Pattern = tuple[bool, ...]
THIN = 1e-7
"""Cells of a smaller share of the region are within the tolerance of floats."""


def stars_of(network: Network, case: Case, budget: Budget | None = None) -> list[Star]:
    """All stars of a case."""
    walker = Walker(network, Budget() if budget is None else budget)
    start = first_star(network, case, walker.solver)
    found: list[Star] = []
    if start is not None:
        assert walker.run([Open(start, 0)], found.append) == []
    return found


def input_image(case: Case, predicates: Predicates) -> FloatArray:
    """The inputs as an image of a star's predicates."""
    low, high = case.box()
    image = np.zeros((1 + predicates.size, low.size))
    image[0] = 0.5 * (low + high)
    for k, column in enumerate(predicates.columns):
        if column.why is Why.REGION:
            image[1 + k, column.entry] = 0.5 * (high - low)[column.entry]
    return image


def preimage(case: Case, star: Star) -> FloatArray:
    """The corners ``(k, 1 or 2)`` of the inputs that an exact star comes from."""
    image = input_image(case, star.predicates)
    axes = tuple(range(image.shape[1]))
    return projected(Star(star.predicates, {0: image}), 0, axes, Solver()).corners


def pattern(network: Network, point: Sequence[Fraction]) -> Pattern:
    """Which Relus are active at a point, exactly."""
    tensors = helpers.outputs_at(network, point)
    return tuple(
        value > 0
        for node in network.nodes
        if isinstance(node, Univariate)
        for value in tensors[node.source]
    )


def true_cells(network: Network, case: Case) -> dict[Pattern, float] | None:
    """By activation pattern the size of its cell, in exact arithmetic.

    ``None`` where a cell is too thin for floats to tell whether it is one.
    """
    found: dict[Pattern, float] = {}
    region = helpers.region(case)
    whole = _size(region)
    if not whole:
        return None
    for cell, _ in helpers.cells(network, region):
        size = _size(cell)
        if not size:
            continue
        if size < THIN * whole:
            return None
        middle = tuple(sum(axis, Fraction(0)) / len(cell) for axis in zip(*cell, strict=True))
        key = pattern(network, middle)
        assert key not in found, "two cells of one pattern"
        found[key] = size
    return found


def _size(cell: list[helpers.Point]) -> float:
    if not cell or len(cell) < 1 + len(cell[0]):
        return 0.0
    if len(cell[0]) == 1:
        return float(max(cell)[0] - min(cell)[0])
    total = Fraction(0)
    for (a, b), (c, d) in zip(cell, cell[1:] + cell[:1], strict=True):
        total += a * d - b * c
    return float(abs(total) / 2)


def faults(network: Network, case: Case, stars: Sequence[Star]) -> list[str]:
    """In what stars differ from the reachable set, enumerated in exact arithmetic."""
    cells = true_cells(network, case)
    assert cells is not None
    found, seen = [], Counter[Pattern]()
    for star in stars:
        corners = preimage(case, star)
        if len(corners) < 1 + corners.shape[1]:
            found.append("a star without interior")
            continue
        middle = tuple(Fraction(v) for v in corners.mean(axis=0))
        key = pattern(network, middle)
        seen[key] += 1
        if not case.contains(middle):
            found.append("a star outside the region")
        if abs(area(corners) - cells.get(key, -1.0)) > 1e-6 * max(1.0, area(corners)):
            found.append(f"a star of size {area(corners)}, its cell has {cells.get(key)}")
        image = input_image(case, star.predicates)
        output = star.images[OUTPUT]
        points = np.array([np.zeros(star.predicates.size), *star.predicates.points])
        inside = points[np.all(points @ star.predicates.rows.T <= star.predicates.limits, axis=1)]
        for point in inside:
            exact = [Fraction(v) for v in image[0] + point @ image[1:]]
            tensors = helpers.outputs_at(network, exact)
            truth = [float(v) for o in network.outputs for v in tensors[o]]
            if not np.allclose(output[0] + point @ output[1:], truth, rtol=0, atol=1e-7):
                found.append("a star whose image is not the network's")
    found += [f"{count} stars of one pattern" for count in seen.values() if count > 1]
    if set(seen) != set(cells):
        found.append(f"{len(seen)} patterns, not {len(cells)}")
    return found


def holds_output(star: Star, output: FloatArray, tolerance: float = 1e-6) -> bool:
    """Whether a star has a member whose image is an output, up to a tolerance."""
    predicates, image = star.predicates, star.image(OUTPUT)
    program = Program(predicates.lower, predicates.upper)
    program.add_rows(predicates.rows, predicates.limits + 1e-9)
    gap = output - image[0]
    program.add_rows(image[1:].T, gap + tolerance)
    program.add_rows(-image[1:].T, tolerance - gap)
    return not isinstance(program.minimise(np.zeros(predicates.size)), Infeasible)
