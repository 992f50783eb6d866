"""The over-approximate step: a new predicate for every neuron that is not affine.

The output is a multiple of the input plus an error, and the error is the new predicate: its
bounds alone give the best zonotope (Singh et al. 2018, "Fast and effective robustness
certification"), and rows cut it to the triangle of a Relu, to tangents and chords of a
smooth function (Tran et al. 2019), or to the planes of a product (McCormick 1976).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specs.errors import QuestionError
from specs.network import Product, Univariate
from verifier.stars.corners import FloatArray
from verifier.stars.exact import PIECEWISE, IndexArray
from verifier.stars.lp import Infeasible
from verifier.stars.sets import Origin, Solver, Star, Why, at_points, padded, zonotope

SHARES = (0.0, 0.5, 1.0)
"""Parameters of the free lines of a smooth function that become rows."""


@dataclass(frozen=True, eq=False)
class Line:
    """``y >= sum_s slope_s x_s + intercept``, or ``<=``; arrays ``(n,)``.

    Attributes:
        above: whether the output is above it.
    """

    above: bool
    slopes: tuple[FloatArray, ...]
    intercept: FloatArray


@dataclass(frozen=True, eq=False)
class Enclosed:
    """``n`` outputs ``y = sum_s slope_s x_s + error``, cut by lines.

    Attributes:
        least, most: ``(n,)`` bounds of the error, equal where the output is affine.
    """

    slopes: tuple[FloatArray, ...]
    least: FloatArray
    most: FloatArray
    lines: tuple[Line, ...]


def bounds(
    star: Star,
    tensor: int,
    entries: IndexArray,
    solver: Solver,
    programs: int,
    relu: bool = False,
) -> tuple[FloatArray, FloatArray, Star]:
    """Bounds of a tensor's entries: from the zonotope, the widest ones by linear programs.

    Args:
        star: where the tensor is.
        tensor: whose bounds.
        entries: the ones wanted.
        solver: for linear programs.
        programs: how many entries get them.
        relu: whether only what may be on both sides of 0 matters.

    Returns:
        Both ends, and the star with the points that were found.

    Raises:
        SolverError: a linear program has no answer.
    """
    image = star.images[tensor][:, entries]
    predicates = star.predicates
    if predicates.cornered:
        values = at_points(image, predicates.points)
        return values.min(axis=0), values.max(axis=0), star
    low, high = zonotope(image, predicates)
    width = np.maximum(np.minimum(-low, high), 0.0) if relu else high - low
    chosen = np.argsort(-width, kind="stable")[:programs]
    points = []
    for k in chosen[width[chosen] > 0]:
        for sign in (-1.0, 1.0):
            found = solver.minimise(predicates, sign * image[1:, k])
            if isinstance(found, Infeasible):
                continue
            points.append(found.point)
            if sign < 0:
                high[k] = max(min(high[k], image[0, k] - found.bound), low[k])
            else:
                low[k] = min(max(low[k], image[0, k] + found.bound), high[k])
            if relu and high[k] <= 0:
                break
    points_found = np.array(points).reshape(-1, predicates.size)
    return low, high, replace(star, predicates=predicates.with_points(points_found))


def apply(
    star: Star,
    number: int,
    sources: Sequence[int],
    entries: IndexArray,
    output: FloatArray,
    enclosed: Enclosed,
    value: FloatArray,
) -> tuple[Star, FloatArray]:
    """Write relaxed outputs of some neurons, with predicates for their errors.

    Args:
        star: the star.
        number: the tensor that is defined.
        sources: the tensors that it reads.
        entries: ``(n,)`` the neurons.
        output: the image to write to, the tensor's other neurons being done.
        enclosed: what is known of the outputs.
        value: ``(k, n)`` the outputs at the star's points.

    Raises:
        QuestionError: an output has no bound.
    """
    finite = np.isfinite(enclosed.least) & np.isfinite(enclosed.most)
    if not finite.all():
        entry = int(entries[np.argmin(finite)])
        raise QuestionError(
            f"entry {entry} of tensor {number} has no finite bounds over the region, or its "
            "function is not defined there: narrow the region"
        )
    predicates = star.predicates
    images = [padded(star.images[s], 1 + predicates.size)[:, entries] for s in sources]
    affine = sum(
        (image * slope for image, slope in zip(images, enclosed.slopes, strict=True)),
        np.zeros((1 + predicates.size, entries.size)),
    )
    loose = np.flatnonzero(enclosed.most > enclosed.least)
    tight = np.flatnonzero(enclosed.most <= enclosed.least)
    result = padded(output, 1 + predicates.size + loose.size).copy()
    result[:, entries] = padded(affine, len(result))
    result[0, entries[tight]] += 0.5 * (enclosed.least[tight] + enclosed.most[tight])
    if not loose.size:
        return star, result
    result[1 + predicates.size + np.arange(loose.size), entries[loose]] = 1.0
    rows, limits, origins = [], [], []
    unit = np.eye(loose.size)
    for line in enclosed.lines:
        # Above: slope x + intercept - affine - error <= 0.
        sign = 1.0 if line.above else -1.0
        part = sum(
            (
                image[:, loose] * (a[loose] - s[loose])
                for image, a, s in zip(images, line.slopes, enclosed.slopes, strict=True)
            ),
            np.zeros((1 + predicates.size, loose.size)),
        )
        intercept = line.intercept[loose]
        kept = np.isfinite(intercept)
        row = np.concatenate([sign * part[1:].T, -sign * unit], axis=1)
        rows.append(row[kept])
        limits.append((-sign * (part[0] + intercept))[kept])
        origins += [
            Origin(
                Why.FLOOR if line.above else Why.CEILING,
                number,
                int(entries[k]),
                tuple(float(a[k]) for a in line.slopes),
                float(line.intercept[k]),
            )
            for k in loose[kept]
        ]
    errors = value[:, loose] - at_points(affine[:, loose], predicates.points)
    made = predicates.extended(
        enclosed.least[loose],
        enclosed.most[loose],
        np.concatenate([np.zeros((0, predicates.size + loose.size)), *rows]),
        np.concatenate([np.zeros(0), *limits]),
        np.clip(errors, enclosed.least[loose], enclosed.most[loose]),
        tuple(origins),
        tuple(
            Origin(Why.ERROR, number, int(entries[k]), tuple(float(s[k]) for s in enclosed.slopes))
            for k in loose
        ),
    )
    return replace(star, predicates=made, exact=False), result


def relu(low: FloatArray, high: FloatArray) -> Enclosed:
    """The triangle: above 0 and the input, below the chord."""
    crossing = (low < 0) & (high > 0)
    width = np.where(crossing, high - low, 1.0)
    slope = np.where(crossing, high / width, (low >= 0).astype(np.float64))
    most = np.where(crossing, -slope * low, 0.0)
    zero, one = np.zeros_like(low), np.ones_like(low)
    lines = (Line(True, (zero,), zero), Line(True, (one,), zero))
    return Enclosed((slope,), zero, most, lines)


def univariate(node: Univariate, low: FloatArray, high: FloatArray) -> Enclosed:
    """Lines of the project's relaxation of any function, beside parallel ones."""
    if node.function == "relu":
        return relu(low, high)
    # Only here is torch needed, which takes a second to start.
    import torch

    from verifier.relaxations import find

    relaxation = find(node.function, node.parameters)
    ends = tuple(torch.from_numpy(np.ascontiguousarray(end))[None] for end in (low, high))
    with torch.no_grad():
        default = relaxation.default(*ends)
        free = relaxation.relaxed(*ends)
        sets = [free.start()] + [
            tuple(torch.full_like(p, share) for p in free.start()) for share in SHARES
        ]
        drawn = [default] + [free.lines(*parameters) for parameters in sets]
        values = tuple(relaxation.value(end) for end in ends)
        chord = (values[1] - values[0]) / (ends[1] - ends[0]).clamp(min=1e-300)
        slopes = torch.stack(
            [chord.nan_to_num(0.0, 0.0, 0.0)]
            + [s.expand_as(chord) for line in drawn for s in (line.lower_slope, line.upper_slope)]
        )
        bottom, top = relaxation.intercepts(ends[0], ends[1], slopes[:, 0], slopes[:, 0])
        best = (top - bottom).nan_to_num(np.inf).argmin(dim=0, keepdim=True)
        chosen = (slopes[:, 0], bottom, top)
        slope, least, most = (part.gather(0, best)[0].numpy() for part in chosen)
        lines = [
            Line(above, (np.broadcast_to(s.numpy()[0], low.shape),), _intercept(t, low))
            for line in drawn
            for above, s, t in (
                (True, line.lower_slope, line.lower_intercept),
                (False, line.upper_slope, line.upper_intercept),
            )
        ]
    return Enclosed((slope,), least, most, _distinct(lines))


def _intercept(given: object, like: FloatArray) -> FloatArray:
    if given is None:
        return np.zeros_like(like)
    return np.broadcast_to(given.numpy()[0], like.shape)  # type: ignore[attr-defined]


def _distinct(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Lines without those that another equals, entry by entry; infinite ones are not used."""
    kept: list[Line] = []
    for line in lines:
        again = np.zeros(line.intercept.shape, dtype=bool)
        for other in kept:
            if other.above == line.above:
                near = np.abs(other.intercept - line.intercept) <= 1e-12
                again |= near & (np.abs(other.slopes[0] - line.slopes[0]) <= 1e-12)
        kept.append(replace(line, intercept=np.where(again, np.inf, line.intercept)))
    return tuple(kept)


def product(
    left: tuple[FloatArray, FloatArray], right: tuple[FloatArray, FloatArray], same: bool
) -> Enclosed:
    """The planes of a product of two entries; a parabola's lines where they are the same."""
    (a, b), (c, d) = left, right
    if same:
        middle, radius = 0.5 * (a + b), 0.5 * (b - a)
        lines = tuple(Line(True, (2.0 * at,), -at * at) for at in (a, b))
        chord = Line(False, (a + b,), -a * b)
        return Enclosed(
            (2.0 * middle,), -middle * middle, radius * radius - middle * middle, (*lines, chord)
        )
    x, y = 0.5 * (a + b), 0.5 * (c + d)
    size = 0.25 * (b - a) * (d - c)
    lines = (
        Line(True, (c, a), -a * c),
        Line(True, (d, b), -b * d),
        Line(False, (d, a), -a * d),
        Line(False, (c, b), -b * c),
    )
    return Enclosed((y, x), -x * y - size, -x * y + size, lines)


def relaxed(
    star: Star,
    number: int,
    node: Univariate | Product,
    solver: Solver,
    programs: int,
    entries: IndexArray | None = None,
    output: FloatArray | None = None,
) -> tuple[Star, FloatArray]:
    """A nonlinear node over-approximated.

    Args:
        star: with what the node reads.
        number: the tensor that it defines.
        node: the node.
        solver: for linear programs.
        programs: neurons that get them, the widest ones.
        entries: the neurons left, where not all are.
        output: the image of the others.

    Returns:
        The star with more predicates, and the node's image.

    Raises:
        QuestionError: the function has no bounds over the region.
        SolverError: a linear program has no answer.
    """
    size = star.images[node.sources[0]].shape[1]
    chosen = np.arange(size) if entries is None else entries
    written = np.zeros((1 + star.predicates.size, size)) if output is None else output
    found = []
    sources = tuple(dict.fromkeys(node.sources))
    relu = isinstance(node, Univariate) and node.function == "relu"
    for source in sources:
        low, high, star = bounds(star, source, chosen, solver, programs, relu)
        found.append((low, high))
    points = star.predicates.points
    values = [at_points(star.images[s][:, chosen], points) for s in sources]
    with np.errstate(all="ignore"):  # what is not finite is refused below
        if isinstance(node, Product):
            enclosed = product(found[0], found[-1], len(sources) == 1)
            value = values[0] * values[-1]
        else:
            enclosed = univariate(node, *found[0])
            value = _function(node)(values[0])
    return apply(star, number, sources, chosen, written, enclosed, value)


def _function(node: Univariate) -> Callable[[FloatArray], FloatArray]:
    if node.function in PIECEWISE:
        return PIECEWISE[node.function].value
    from proofs.functions import function

    return function(node.function, node.parameters).value
