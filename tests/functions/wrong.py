"""Wrong rules: what every check must notice, made from the right rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from proofs.analytic import Analytic
from proofs.curves import Curve
from proofs.domains import everywhere, from_zero


@dataclass(frozen=True)
class Mutant:
    """A wrong rule.

    Attributes:
        check: the check that must refuse it.
        change: makes it from the right rule, as methods to replace or as a whole.
    """

    check: str
    change: Callable[[Any], Any]

    def of(self, rule: Any) -> Any:
        changed = self.change(rule)
        if not isinstance(changed, dict):
            return changed
        kept = {key: getattr(rule, key) for key in dir(rule) if not key.startswith("_")}
        return SimpleNamespace(**{**kept, **changed})


class Altered:
    """An arithmetic, some of whose methods are others."""

    def __init__(self, arithmetic, **changed):
        self._arithmetic, self._changed = arithmetic, changed

    def __getattr__(self, name):
        return self._changed.get(name) or getattr(self._arithmetic, name)


def with_arithmetic(method: str, change: Callable[[Any], dict[str, Any]]):
    """A method that is given an altered arithmetic."""

    def make(rule):
        def wrong(arithmetic, *numbers):
            return getattr(rule, method)(Altered(arithmetic, **change(arithmetic)), *numbers)

        return {method: wrong}

    return make


def swapped(arithmetic):
    def enclose(*arguments):
        return arithmetic.enclose(*arguments)[::-1]

    return {
        "enclose": enclose,
        "add_down": arithmetic.add_up,
        "add_up": arithmetic.add_down,
        "multiply_down": arithmetic.multiply_up,
        "multiply_up": arithmetic.multiply_down,
    }


def without_error(arithmetic):
    """Values taken from the wrong end of what they may be: the middle hides in the roundings."""

    def enclose(function: Analytic, x, order):
        low, high = arithmetic.enclose(function, x, order)
        if low.dtype == object:
            return low, np.where(np.isinf(high.astype(float)), high, low)
        known = np.isfinite(low) & np.isfinite(high)
        return np.where(known, high, low), np.where(known, low, high)

    return {"enclose": enclose}


def flat(arithmetic):
    """Tangents taken to touch where they are guessed to."""

    def enclose(function: Analytic, x, order):
        low, high = arithmetic.enclose(function, x, order)
        return (low * 0, high * 0) if order else (low, high)

    return {
        "enclose": enclose,
        "add_up": lambda a, b: arithmetic.add_up(a, b) * 0,
    }


def changed_numbers(method: str, change):
    def make(rule):
        return {method: lambda *arguments: change(*getattr(rule, method)(*arguments))}

    return make


def changed_ends(method: str, change):
    def make(rule):
        def wrong(*arguments):
            *first, lower, upper = arguments
            return getattr(rule, method)(*first, *change(lower, upper))

        return {method: wrong}

    return make


def lazy_guess(rule: Curve):
    """Guesses at the lower end: sound, so no check but that of tightness may notice."""

    class Lazy(Curve):
        def _guess(self, sign, wanted, a, b):
            return a

    return Lazy(**{key: getattr(rule, key) for key in rule.__dataclass_fields__})


ALWAYS = {
    "roundings swapped": Mutant("lines", with_arithmetic("intercepts", swapped)),
    "lines exchanged": Mutant("lines", changed_numbers("intercepts", lambda t, q: (q, t))),
    "no intercept above": Mutant("lines", changed_numbers("intercepts", lambda t, q: (t, q * 0))),
    "no intercept below": Mutant("lines", changed_numbers("intercepts", lambda t, q: (t * 0, q))),
    "upper end forgotten": Mutant("lines", changed_ends("intercepts", lambda a, b: (a, a))),
    "lower end forgotten": Mutant("lines", changed_ends("intercepts", lambda a, b: (b, b))),
    "useless above": Mutant("tight", changed_numbers("intercepts", lambda t, q: (t, q + abs(q)))),
    "useless below": Mutant("tight", changed_numbers("intercepts", lambda t, q: (t - abs(t), q))),
    "image of one end": Mutant("image", changed_ends("image", lambda a, b: (a, a))),
    "image of the other": Mutant("image", changed_ends("image", lambda a, b: (b, b))),
    "stable everywhere": Mutant(
        "unstable", changed_numbers("unstable", lambda *mask: np.array(mask) & False)
    ),
    "no point": Mutant("points", lambda rule: {"at_point": lambda c, r, unit: (c * 0, r)}),
    "radius dropped": Mutant(
        "points", lambda rule: {"at_point": lambda c, r, unit: rule.at_point(c, None, unit)}
    ),
    "defaults infinite": Mutant(
        "defaults", changed_numbers("default_slopes", lambda a, b: (a * math.nan, b))
    ),
    "defaults flat": Mutant(
        "tight", changed_numbers("default_slopes", lambda a, b: (a * 0, b * 0))
    ),
    "value NaN": Mutant("floats", changed_numbers("value", lambda *y: np.array(y[0]) * math.nan)),
}

CURVED = {
    "values without error": Mutant("lines", with_arithmetic("intercepts", without_error)),
    "image without error": Mutant("image", with_arithmetic("image", without_error)),
    "range too narrow": Mutant("image", lambda rule: replace(rule, range=(0.3, 0.4))),
    "guesses useless": Mutant("tight", lazy_guess),
}


def for_curve(rule: Curve) -> dict[str, Mutant]:
    """Wrong rules that this curve allows."""
    found = dict(CURVED)
    if any(rule.curvatures):
        other = tuple(None if c is None else -c for c in rule.curvatures)
        found["curvature turned"] = Mutant("lines", lambda r: replace(r, curvatures=other))
        found["slopes ignored"] = Mutant(
            "lines", lambda r: Mutant("", with_arithmetic("intercepts", flat)).of(lazy_guess(r))
        )
    if rule.defined is from_zero:  # elsewhere infinite enclosures guard a second time
        found["domain ignored"] = Mutant("image", lambda r: replace(r, defined=everywhere))
    return found
