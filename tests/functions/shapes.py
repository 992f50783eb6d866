"""Proofs, in balls, that a curve has the shape that its rule claims."""

from __future__ import annotations

import math
from fractions import Fraction

from flint import arb, arb_series, ctx, fmpq

from proofs.curves import Curve

PRECISION = 400
FAR = 16.0
"""Shapes of unbounded pieces are proved up to so far from a bend.

Beyond, functions are monotone in what decides.
"""

CLOSE = 2.0**-60
"""And not nearer than this to a bend that is known exactly."""

FINEST = 2.0**-18
"""Cells are halved down to this share of their distance from the bend."""

COUNT = 20000


def check_shape(rule: Curve) -> None:
    """Every piece is convex, concave or linear, as claimed, and bends are where they are."""
    before, ctx.prec, cap, ctx.cap = ctx.prec, PRECISION, ctx.cap, 5
    try:
        borders = [-math.inf, *rule.bends, math.inf]
        assert list(rule.bends) == sorted(set(rule.bends))
        assert len(rule.curvatures) == len(rule.bends) + 1
        assert len(rule.formulas) in (1, len(rule.curvatures))
        assert set(rule.corners) <= set(rule.bends)
        for k, curvature in enumerate(rule.curvatures):
            formula = rule.formulas[k if len(rule.formulas) > 1 else 0].formula
            if curvature is not None:
                check_piece(rule, formula, curvature, borders[k], borders[k + 1])
        for k, bend in enumerate(rule.bends):
            left, right = rule.curvatures[k : k + 2]
            if len(rule.formulas) == 1 and None not in (left, right) and rule.slack:
                check_bend(rule, rule.formulas[0].formula, bend, left)
        check_joints(rule)
    finally:
        ctx.prec, ctx.cap = before, cap


def derivative(formula, x, order: int):
    """Encloses a derivative on a ball; infinite where that fails."""
    try:
        value = formula(arb_series([x, 1], order + 1))[order]
    except (ValueError, ZeroDivisionError):
        return arb(0, math.inf)
    return value * math.factorial(order) if value.is_finite() else arb(0, math.inf)


def near(rule: Curve, bend: float) -> Fraction:
    """How far from a bend its zero may lie."""
    if not rule.slack:
        return Fraction(CLOSE)
    return Fraction(math.ulp(max(abs(bend), 1.0)))


def check_piece(rule, formula, curvature: int, start: float, end: float) -> None:
    """The second derivative's sign, on cells that cover the piece away from its ends."""
    for anchor, other, way in ((start, end, 1), (end, start, -1)):
        origin = anchor if math.isfinite(anchor) else other if math.isfinite(other) else 0.0
        way = way if math.isfinite(anchor) else -way if math.isfinite(other) else way
        reach = abs(other - anchor) / 2 if math.isfinite(other - anchor) else FAR
        cells = []
        size = near(rule, origin)
        while size < reach:
            cells.append((size, min(2 * size, Fraction(reach))))
            size *= 2
        done = 0
        while cells:
            done += 1
            assert done < COUNT, "the cover is too long"
            low, high = cells.pop()
            middle, radius = (low + high) / 2, (high - low) / 2
            point = Fraction(origin) + way * middle
            edge = [point - radius, point + radius]
            if not any(defined(rule, e) for e in edge):
                continue
            x = arb(fmpq(point.numerator, point.denominator))
            ball = x + arb(0, 1) * arb(fmpq(radius.numerator, radius.denominator))
            second = derivative(formula, ball, 2)
            if curvature == 0:
                assert second == 0, (start, end, "not linear")
            elif not second * curvature > 0:
                assert not second * curvature < 0, (float(point), "the other curvature")
                assert radius > FINEST * middle, (float(point), "no sign to be proved")
                cells += [(low, middle), (middle, high)]


def defined(rule, x: Fraction) -> bool:
    import numpy as np

    place = np.array([x], dtype=object)
    return bool(rule.defined(place, place)[0])


def check_bend(rule, formula, bend: float, left: int) -> None:
    """An inflection within ``e`` of the float, and a slack that covers it."""
    e = near(rule, bend)
    exact = arb(bend)
    radius = arb(fmpq(e.numerator, e.denominator))
    assert derivative(formula, exact - radius, 2) * left > 0, (bend, "lies farther off")
    assert derivative(formula, exact + radius, 2) * left < 0, (bend, "lies farther off")
    third = abs(derivative(formula, exact + arb(0, 1) * 2 * radius, 3))
    assert third * radius * radius <= arb(rule.slack), (bend, "costs more than the slack")


def check_joints(rule: Curve) -> None:
    """Formulas meet at the bends; corners turn where they are said to."""
    if len(rule.formulas) == 1:
        return
    for k, bend in enumerate(rule.bends):
        left, right = (f.formula for f in rule.formulas[k : k + 2])
        assert (left(arb(bend)) - right(arb(bend))).contains(0)
        jump = derivative(right, arb(bend), 1) - derivative(left, arb(bend), 1)
        signs = [c for c in rule.curvatures[k : k + 2] if c]
        goes_on = all(jump * c >= 0 for c in signs) and len(set(signs)) == 1
        smooth = jump.contains(0)  # an inflection between two formulas
        assert (goes_on or smooth) != (bend in rule.corners), (bend, "is a corner, or is none")
