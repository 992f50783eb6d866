"""What every univariate function of the kernel must keep; see ``conformance.py``."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from flint import fmpq

from specs.errors import EvidenceError
from tests.functions.references import ENDLESS, INFINITE, Reference, rational

WIDTHS = (0.0, 5e-324, 1e-300, 1e-16, 1e-3, 0.5, 1.0, 7.3, 1e6, 1e25)
CENTRES = (0.0, 5e-324, -1e-310, 1e-16, 0.1, -0.1, 1.0, -1.0, 3.7, -30.0, -1e4, 1e20)
SLOPES = (0.0, 1.0, 0.5, 1 / 3, -0.25, -7.0, 2.0, 1e3, 2.0**-39, 1e9, -1e300)
NEAR = (-6.0, -2.5, -1.0, -0.3, 0.0, 0.2, 1.0, 1.5, 4.0, 11.0)
"""Ends of the intervals on which lines must be tight."""

GOLDEN = (math.sqrt(5) - 1) / 2
UNITS = (1, 3, 1 << 512, 7 << 600)


@dataclass(frozen=True)
class Case:
    """A function and what it is held against.

    Attributes:
        reference: its value, independently of the kernel.
        lower, upper: intervals on which everything must hold.
        gap: how far intercepts may be from the best, relative to the numbers involved.
    """

    reference: Reference
    lower: np.ndarray
    upper: np.ndarray
    gap: float

    def pairs(self) -> list[tuple[float, float]]:
        return list(zip(self.lower.tolist(), self.upper.tolist(), strict=True))

    def part(self, count: int) -> Case:
        """The same with about so many of the intervals."""
        step = max(1, self.lower.size // count)
        return Case(self.reference, self.lower[::step], self.upper[::step], self.gap)


def intervals(bends: tuple[float, ...], extra) -> tuple[np.ndarray, np.ndarray]:
    """Huge, degenerate, one-sided and tiny ones; at, next to and across every bend."""
    rng = np.random.default_rng(0)
    pairs = list(extra)
    for i, c in enumerate(CENTRES):
        for j, w in enumerate(WIDTHS):
            pairs.append([(c - w, c + w), (c, c + w), (c - w, c)][(i + j) % 3])
    middle = sorted(bends, key=abs)[:5]
    pairs += [(b - v, b + w) for b in middle for v, w in ((0, 0), (0, 0.7), (0.8, 0), (1e-9, 2.1))]
    pairs += [(a, b) for a in middle for b in middle if a < b]
    pairs += [tuple(sorted(rng.normal(size=2) * 3)) for _ in range(30)]
    pairs += [tuple(np.sort(np.exp(rng.normal(size=2) * 2))) for _ in range(30)]
    low, high = np.array(pairs, dtype=np.float64).T
    return low, high


def samples(low: float, high: float) -> list[fmpq]:
    """Points of an interval, the ends and some that rules treat apart among them."""
    a, b = rational(low), rational(high)
    inside = [rational(x) for x in (0.0, 1.0, -1.0, 5e-324, -5e-324, 0.5, -2.5)]
    return [a + fmpq(k, 7) * (b - a) for k in range(8)] + [x for x in inside if a <= x <= b]


@functools.cache
def known(reference: Reference, low: float, high: float) -> list[tuple[fmpq, fmpq, fmpq]]:
    """Samples with what is surely at least, and at most, the value.

    Where there is no value, only infinite bounds pass.
    """
    found = []
    for x in samples(low, high):
        value = reference(x)
        found.append((x, -ENDLESS, ENDLESS) if value is None else (x, value[1], value[0]))
    return found


def exact(arithmetic, number) -> fmpq:
    """A number as a rational."""
    assert number == number, "NaN"
    return rational(float(number) if abs(number) == math.inf else arithmetic.fraction(number))


def lifted(case: Case, arithmetic):
    return arithmetic.lift_down(case.lower), arithmetic.lift_up(case.upper)


def check_image(rule, arithmetic, case: Case) -> None:
    image = rule.image(arithmetic, *lifted(case, arithmetic))
    for k, ends in enumerate(case.pairs()):
        bottom, top = exact(arithmetic, image[0][k]), exact(arithmetic, image[1][k])
        for x, highest, lowest in known(case.reference, *ends):
            assert bottom <= highest, (ends, x)
            assert top >= lowest, (ends, x)


def check_lines(rule, arithmetic, case: Case) -> None:
    hinted = [(np.full(case.lower.size, s),) * 2 for s in SLOPES]
    hinted.append(rule.default_slopes(case.lower, case.upper))
    lower, upper = lifted(case, arithmetic)
    for below, above in hinted:
        slopes = [arithmetic.lift_down(rule.usable_slopes(s)) for s in (below, above)]
        lines = rule.intercepts(arithmetic, *slopes, lower, upper)
        for k, ends in enumerate(case.pairs()):
            s, p, t, q = (exact(arithmetic, numbers[k]) for numbers in (*slopes, *lines))
            for x, highest, lowest in known(case.reference, *ends):
                assert s * x + t <= highest, (ends, float(slopes[0][k]), x)
                assert p * x + q >= lowest, (ends, float(slopes[1][k]), x)


def check_infinite(rule, arithmetic, case: Case) -> None:
    """Infinite ends are floats in both arithmetics; what holds at finite points holds."""
    places = [-1e25, -3.0, 0.0, 2.0, 1e25]
    pairs = [(-math.inf, x) for x in (*places, math.inf)] + [(x, math.inf) for x in places]
    low, high = np.array(pairs).T
    ends = []
    for end in (low, high):
        held = arithmetic.lift_down(np.where(np.isinf(end), 0.0, end))
        ends.append(np.where(np.isinf(end), end, held))
    image = rule.image(arithmetic, *ends)
    rule.unstable(arithmetic, *ends)
    assert all(np.isfinite(rule.usable_slopes(s)).all() for s in rule.default_slopes(low, high))
    for slope in (0.0, 0.5, -1.0):
        slopes = arithmetic.lift_down(np.full(low.size, slope))
        lines = rule.intercepts(arithmetic, slopes, slopes, *ends)
        s = rational(slope)
        for k, (a, b) in enumerate(pairs):
            for place in (x for x in (*places, -1.0, 1.0) if a <= x <= b):
                ((x, highest, lowest), *_) = known(case.reference, place, place)
                assert exact(arithmetic, image[0][k]) <= highest
                assert exact(arithmetic, image[1][k]) >= lowest
                assert s * x + exact(arithmetic, lines[0][k]) <= highest
                assert s * x + exact(arithmetic, lines[1][k]) >= lowest


def check_unstable(rule, arithmetic, case: Case) -> None:
    """Where the rule says that the function is linear, samples lie on one line."""
    lower, upper = lifted(case, arithmetic)
    stable = ~rule.unstable(arithmetic, lower, upper)
    for k in np.flatnonzero(stable & (case.lower < case.upper)):
        a, b = rational(case.lower[k]), rational(case.upper[k])
        for share in (fmpq(1, 2), fmpq(1, 3), fmpq(1, 9)):
            values = [case.reference(x) for x in (a, b, a + share * (b - a))]
            assert None not in values, (a, b)
            at_a, at_b, inside = values
            if max(at_a[1], at_b[1]) < INFINITE:
                assert at_a[0] * (1 - share) + at_b[0] * share <= inside[1], (a, b)
                assert inside[0] <= at_a[1] * (1 - share) + at_b[1] * share, (a, b)


def check_points(rule, arithmetic, case: Case) -> None:
    """Integers over a common denominator, with and without a radius."""
    centres = (Fraction(x) for x in (-30, Fraction(-7, 3), -1, 0, Fraction(1, 5), 1, 3, 40))
    for centre in centres:
        for unit in UNITS:
            for radius in (None, 0, 1, unit // 4):
                check_point(rule, case, round(centre * unit), radius, unit)


def check_point(rule, case: Case, centre: int, radius: int | None, unit: int) -> None:
    reach = radius or 0
    values = [case.reference(fmpq(centre + d, unit)) for d in (-reach, 0, reach)]
    array = [None if x is None else np.array([[x]], dtype=object) for x in (centre, radius)]
    try:
        value, spread = rule.at_point(*array, unit)
    except EvidenceError:  # rightly, if somewhere within reach there is no value
        assert None in values or reach > 1
        return
    assert None not in values, (centre, radius, unit)
    own = 0 if spread is None else spread[0, 0]
    for low, high in values:
        assert fmpq(value[0, 0] - own, unit) <= high, (centre, unit)
        assert low <= fmpq(value[0, 0] + own, unit), (centre, unit)
    if reach == 0:
        assert fmpq(own, unit) <= (1 + abs(fmpq(value[0, 0], unit))) * fmpq(2, unit), "not sharp"


def check_tight(rule, arithmetic, case: Case) -> None:
    """Intercepts are the best there are; default lines are best over the middle."""
    pairs = [(a, b) for a in NEAR for b in NEAR if a < b]
    pairs = [p for p in pairs if all(case.reference(x) for x in samples(*p))]
    low, high = np.array(pairs).T
    lower, upper = arithmetic.lift_down(low), arithmetic.lift_up(high)
    middle = 0.5 * low + 0.5 * high
    defaults = rule.default_slopes(low, high)
    found = []
    for below, above in [defaults] + [(np.full(low.size, s),) * 2 for s in (0.0, 0.3, -1.0, 2.0)]:
        slopes = [arithmetic.lift_down(rule.usable_slopes(s)) for s in (below, above)]
        lines = rule.intercepts(arithmetic, *slopes, lower, upper)
        found.append([[as_float(exact(arithmetic, x)) for x in line] for line in lines])
        for k in range(0, low.size, 3):
            for slope, line, sign in zip((below, above), found[-1], (1, -1), strict=True):
                best, size = least(
                    case.reference, sign, *(float(p[k]) for p in (sign * slope, low, high))
                )
                assert abs(sign * best - line[k]) <= case.gap * size, (pairs[k], slope[k])
        values = [s * middle + np.array(t) for s, t in zip((below, above), found[-1], strict=True)]
        if below is defaults[0]:
            best_below, best_above = values
            room = 0.02 * (best_above - best_below) + 1e-9 * (1.0 + np.abs(best_below))
        assert np.all(values[0] <= best_below + room), "a slope below is better"
        assert np.all(values[1] >= best_above - room), "a slope above is better"


@functools.cache
def least(reference: Reference, sign: int, slope: float, low: float, high: float):
    """The least of ``sign * f(x) - slope * x``, nearly, and the size of the numbers.

    Golden sections around the three lowest local minima among samples.
    """
    x = np.linspace(low, high, 33)

    def height(p: float) -> float:
        return sign * as_float(reference(rational(p))[0]) - slope * p

    value = np.array([height(p) for p in x.tolist()])
    size = max(1.0, np.abs(value + slope * x).max(), np.abs(slope * x).max())
    padded = np.concatenate([[math.inf], value, [math.inf]])
    local = np.flatnonzero((value <= padded[:-2]) & (value <= padded[2:]))
    best = value.min()
    for k in local[np.argsort(value[local])][:3]:
        a, b = float(x[max(k - 1, 0)]), float(x[min(k + 1, 32)])
        inner = [a + (1 - GOLDEN) * (b - a), a + GOLDEN * (b - a)]
        found = [height(p) for p in inner]
        for _ in range(50):
            if found[0] <= found[1]:
                b, inner[1], found[1] = inner[1], inner[0], found[0]
                inner[0] = a + (1 - GOLDEN) * (b - a)
                found[0] = height(inner[0])
            else:
                a, inner[0], found[0] = inner[0], inner[1], found[1]
                inner[1] = a + GOLDEN * (b - a)
                found[1] = height(inner[1])
        best = min(best, *found)
    return best, size


def check_defaults(rule, arithmetic, case: Case) -> None:
    """Default slopes are finite, and tight where an interval is a point."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slopes = rule.default_slopes(case.lower, case.upper)
    assert not any(np.isnan(s).any() for s in slopes)
    used = [arithmetic.lift_down(rule.usable_slopes(s)) for s in slopes]
    lower, upper = lifted(case, arithmetic)
    lines = rule.intercepts(arithmetic, *used, lower, upper)
    linear = ~rule.unstable(arithmetic, lower, upper)
    for k in np.flatnonzero(linear):
        x, end = rational(case.lower[k]), rational(case.upper[k])
        value = case.reference(x)
        s, p, t, q = (exact(arithmetic, numbers[k]) for numbers in (*used, *lines))
        if value is None or max(value[1], -t, q) >= ENDLESS or abs(x) > 1000:
            continue
        size = 1 + abs(value[1]) + (1 + abs(s) + abs(p)) * (abs(x) + abs(end))
        assert (p * x + q) - (s * x + t) <= size / (1 << 40)


def check_floats(rule, arithmetic, case: Case) -> None:
    """Plain values and derivatives: no warning, no NaN, and near enough for a guess."""
    points = np.unique(np.concatenate([case.lower, case.upper]))
    points = points[np.array([case.reference(rational(x)) is not None for x in points])]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values, slopes = rule.value(points), rule.derivative(points)
        assert values.dtype == slopes.dtype == np.float64
    assert not np.isnan(values).any()
    assert not np.isnan(slopes).any()
    for x, value in zip(points.tolist(), values.tolist(), strict=True):
        if abs(x) < 100 and abs(value) < math.inf:
            below, _ = case.reference(rational(x))
            assert abs(value - as_float(below)) <= 1e-9 * (1 + abs(value)), x


def check_agreement(rules: list[Any], arithmetics: list[Any], case: Case) -> None:
    """Both arithmetics find nearly the same, where numbers are moderate."""
    slopes = rules[0].default_slopes(case.lower, case.upper)
    found = []
    for rule, arithmetic in zip(rules, arithmetics, strict=True):
        ends = lifted(case, arithmetic)
        used = [arithmetic.lift_down(rule.usable_slopes(s)) for s in slopes]
        numbers = *rule.image(arithmetic, *ends), *rule.intercepts(arithmetic, *used, *ends)
        found.append(np.array([[as_float(exact(arithmetic, x)) for x in part] for part in numbers]))
    reach = np.maximum(np.abs(case.lower), np.abs(case.upper))
    size = 1.0 + (1.0 + np.abs(slopes[0]) + np.abs(slopes[1])) * reach
    grid = np.array([np.rint(x * 2.0**128) == x * 2.0**128 for x in (case.lower, case.upper)])
    moderate = (
        grid.all(axis=0) & (reach < 1e3) & (size < 1e12) & np.all(np.abs(found[0]) < 1e12, axis=0)
    )
    assert moderate.sum() > 20
    scale = (size + np.abs(found[0]).max(axis=0))[moderate]
    gap = np.abs(found[0][:, moderate] - found[1][:, moderate])
    assert np.all(gap <= 1e-12 * scale), case.lower[moderate][gap.max(axis=0).argmax()]


def as_float(value: fmpq) -> float:
    return (
        math.inf * (1 if value > 0 else -1)
        if abs(value) > 1 << 1000
        else int(value.p) / int(value.q)
    )


CHECKS: dict[str, Callable[[Any, Any, Case], None]] = {
    "image": check_image,
    "lines": check_lines,
    "infinite": check_infinite,
    "unstable": check_unstable,
    "points": check_points,
    "tight": check_tight,
    "defaults": check_defaults,
    "floats": check_floats,
}
