"""What every univariate function of the kernel must keep, as one call per function.

A test of a function is ``conformance(name, reference, mutants)``: ``reference`` evaluates it
at a rational, exactly or as an enclosure, and independently of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from proofs.check import ARITHMETICS
from proofs.functions import KNOWN, function

Reference = Callable[[Fraction], tuple[Fraction, Fraction]]
"""A lower and an upper bound of the value at a rational, equal where it is exact."""

WIDTHS = (0.0, 5e-324, 1e-300, 1e-16, 1e-3, 0.5, 1.0, 7.3, 1e6, 1e25)
CENTRES = (0.0, -0.0, 5e-324, -1e-310, 1e-16, 0.1, -0.1, 1.0, -1.0, 3.7, -1e4, 1e20)
SLOPES = (0.0, 1.0, 0.5, 1 / 3, -0.25, -7.0, 2.0, 1e3, 2.0**-39, 1e9, -1e300)


@dataclass(frozen=True)
class Mutant:
    """A wrong rule: methods of the right one replaced, given the rule itself."""

    name: str
    change: Callable[[Any], dict[str, object]]


def intervals() -> tuple[np.ndarray, np.ndarray]:
    """Huge, degenerate, one-sided and tiny ones, with 0 inside, outside and at an end."""
    rng = np.random.default_rng(0)
    pairs = [(c - w, c + w) for c in CENTRES for w in WIDTHS]
    pairs += [(c, c + w) for c in CENTRES for w in WIDTHS]
    pairs += [(c - w, c) for c in CENTRES for w in WIDTHS]
    pairs += [tuple(sorted(rng.normal(size=2))) for _ in range(40)]
    low, high = np.array(pairs).T
    return low, high


def samples(low: float, high: float) -> list[Fraction]:
    a, b = Fraction(low), Fraction(high)
    inside = [Fraction(0), Fraction(1), Fraction(-1), Fraction(5e-324), Fraction(-5e-324)]
    shares = [Fraction(k, 7) for k in range(8)]
    return [a + s * (b - a) for s in shares] + [x for x in inside if a <= x <= b]


def check_image(rule, arithmetic, reference: Reference) -> None:
    low, high = intervals()
    image = rule.image(arithmetic, arithmetic.lift_down(low), arithmetic.lift_up(high))
    for k in range(low.size):
        bottom, top = arithmetic.fraction(image[0][k]), arithmetic.fraction(image[1][k])
        for x in samples(low[k], high[k]):
            below, above = reference(x)
            assert bottom <= below, (low[k], high[k], x)
            assert above <= top, (low[k], high[k], x)


def check_lines(rule, arithmetic, reference: Reference) -> None:
    low, high = intervals()
    lower, upper = arithmetic.lift_down(low), arithmetic.lift_up(high)
    hinted = [(np.full(low.size, s), np.full(low.size, s)) for s in SLOPES]
    hinted.append(rule.default_slopes(low, high))
    for below, above in hinted:
        slope_below = arithmetic.lift_down(rule.usable_slopes(below))
        slope_above = arithmetic.lift_down(rule.usable_slopes(above))
        floor, ceiling = rule.intercepts(arithmetic, slope_below, slope_above, lower, upper)
        for k in range(low.size):
            s, t = arithmetic.fraction(slope_below[k]), arithmetic.fraction(floor[k])
            p, q = arithmetic.fraction(slope_above[k]), arithmetic.fraction(ceiling[k])
            for x in samples(low[k], high[k]):
                bottom, top = reference(x)
                assert s * x + t <= bottom, (low[k], high[k], float(s), x)
                assert top <= p * x + q, (low[k], high[k], float(p), x)


def check_unstable(rule, arithmetic, reference: Reference) -> None:
    """Where the rule says that the function is linear, three samples lie on one line."""
    low, high = intervals()
    mask = rule.unstable(arithmetic, arithmetic.lift_down(low), arithmetic.lift_up(high))
    for k in np.flatnonzero(~mask):
        a, b = Fraction(low[k]), Fraction(high[k])
        ends, middle = [reference(x) for x in (a, b)], reference((a + b) / 2)
        assert sum(e[0] for e in ends) / 2 <= middle[1], (low[k], high[k])
        assert middle[0] <= sum(e[1] for e in ends) / 2, (low[k], high[k])


def check_points(rule, reference: Reference) -> None:
    """Integers over a common denominator, with and without a radius."""
    for radius in (0, 1, 5, 10**30):
        centres = np.array([-(10**30), -5, -1, 0, 1, 3, 10**30], dtype=object)
        radii = None if radius == 0 else np.array([radius] * 7, dtype=object)
        value, spread = rule.at_point(centres, radii, 1)
        for k in range(7):
            own = 0 if spread is None else spread[k]
            for x in (centres[k] - radius, centres[k], centres[k] + radius):
                below, above = reference(Fraction(x))
                assert value[k] - own <= below, (x, radius)
                assert above <= value[k] + own, (x, radius)


def check_defaults(rule, arithmetic, reference: Reference) -> None:
    """Default slopes are finite, and tight where the function is linear."""
    low, high = intervals()
    below, above = rule.default_slopes(low, high)
    used = [arithmetic.lift_down(rule.usable_slopes(s)) for s in (below, above)]
    lower, upper = arithmetic.lift_down(low), arithmetic.lift_up(high)
    floor, ceiling = rule.intercepts(arithmetic, *used, lower, upper)
    linear = ~np.asarray(rule.unstable(arithmetic, lower, upper), dtype=bool)
    for k in np.flatnonzero(linear):
        x = Fraction(low[k])
        bottom = arithmetic.fraction(used[0][k]) * x + arithmetic.fraction(floor[k])
        top = arithmetic.fraction(used[1][k]) * x + arithmetic.fraction(ceiling[k])
        assert top - bottom <= (abs(x) + abs(Fraction(high[k]))) / 2**40 + Fraction(1, 2**100)


CHECKS = {
    "image": check_image,
    "lines": check_lines,
    "unstable": check_unstable,
    "points": lambda rule, arithmetic, reference: check_points(rule, reference),
    "defaults": check_defaults,
}


def conformance(name: str, reference: Reference, mutants: Mapping[str, tuple[str, Mutant]]):
    """The tests of a function: checks that it passes, and that each mutant fails.

    Args:
        name: of the function, one of ``proofs.functions.KNOWN``.
        reference: its value, independently of the kernel.
        mutants: by description: the check that must notice, and the wrong rule.
    """
    assert name in KNOWN
    rule = function(name)
    arithmetics = {key: make() for key, make in ARITHMETICS.items()}

    @pytest.mark.parametrize("arithmetic", arithmetics)
    @pytest.mark.parametrize("check", CHECKS)
    def test_conforms(check: str, arithmetic: str) -> None:
        CHECKS[check](rule, arithmetics[arithmetic], reference)

    @pytest.mark.parametrize("arithmetic", arithmetics)
    @pytest.mark.parametrize("mutant", mutants)
    def test_refuses_mutant(mutant: str, arithmetic: str) -> None:
        check, wrong = mutants[mutant]
        kept = {key: getattr(rule, key) for key in dir(rule) if not key.startswith("_")}
        mutated = SimpleNamespace(**{**kept, **wrong.change(rule)})
        with pytest.raises(AssertionError):
            CHECKS[check](mutated, arithmetics[arithmetic], reference)

    return test_conforms, test_refuses_mutant
