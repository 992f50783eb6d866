"""Relu keeps what every function must, and wrong Relus are noticed."""

from __future__ import annotations

import numpy as np

from tests.functions.conformance import Mutant, conformance


def swapped_rounding(module):
    """The intercept above is rounded down and the one below up."""

    def intercepts(arithmetic, below, above, lower, upper):
        class Inverted:
            lift_down = arithmetic.lift_down
            multiply_down = arithmetic.multiply_up
            multiply_up = arithmetic.multiply_down

        return module.intercepts(Inverted(), below, above, lower, upper)

    return {"intercepts": intercepts}


def without_zero(module):
    """Only the ends are looked at, not the bend between them."""

    def intercepts(arithmetic, below, above, lower, upper):
        one = arithmetic.lift_down(np.ones(1))
        ends = []
        for x in (lower, upper):
            value = np.maximum(x, 0)
            ends.append((value, x))
        down = [arithmetic.add_down(v, arithmetic.multiply_down(-below, x)) for v, x in ends]
        up = [arithmetic.add_up(v, arithmetic.multiply_up(-above, x)) for v, x in ends]
        assert one is not None
        return np.minimum(*down), np.maximum(*up)

    return {"intercepts": intercepts}


def one_end(module):
    def intercepts(arithmetic, below, above, lower, upper):
        return module.intercepts(arithmetic, below, above, lower, np.minimum(lower, upper))

    return {"intercepts": intercepts}


def changed_intercepts(change):
    def make(module):
        def intercepts(arithmetic, below, above, lower, upper):
            return change(*module.intercepts(arithmetic, below, above, lower, upper))

        return {"intercepts": intercepts}

    return Mutant(change.__name__, make)


def exchanged(floor, ceiling):
    return ceiling, floor


def no_ceiling(floor, ceiling):
    return floor, ceiling * 0


def no_floor(floor, ceiling):
    return floor * 0, ceiling


def replaced(name, make):
    return Mutant(name, lambda module: {name: make(module)})


conforms, refuses = conformance(
    "relu",
    lambda x: (max(x, 0 * x),) * 2,
    {
        "roundings swapped": ("lines", Mutant("swapped", swapped_rounding)),
        "the bend forgotten": ("lines", Mutant("bend", without_zero)),
        "one end forgotten": ("lines", Mutant("end", one_end)),
        "lines exchanged": ("lines", changed_intercepts(exchanged)),
        "no intercept above": ("lines", changed_intercepts(no_ceiling)),
        "no intercept below": ("lines", changed_intercepts(no_floor)),
        "image not clipped": (
            "image",
            replaced("image", lambda m: lambda arithmetic, lower, upper: (lower, upper)),
        ),
        "image of one end": (
            "image",
            replaced("image", lambda m: lambda a, lower, upper: m.image(a, lower, lower)),
        ),
        "image negative": (
            "image",
            replaced("image", lambda m: lambda a, lower, upper: (lower * 0 + 1, upper)),
        ),
        "stable too early": (
            "unstable",
            replaced(
                "unstable", lambda m: lambda a, lower, upper: m.unstable(a, lower, upper) & False
            ),
        ),
        "point negative": (
            "points",
            replaced("at_point", lambda m: lambda centre, radius, unit: (centre, radius)),
        ),
        "radius dropped": (
            "points",
            replaced(
                "at_point", lambda m: lambda c, radius, unit: (m.at_point(c, None, 1)[0], None)
            ),
        ),
        "defaults not finite": (
            "defaults",
            replaced(
                "default_slopes",
                lambda m: lambda lower, upper: (np.full_like(lower, np.inf), upper),
            ),
        ),
    },
)
test_conforms, test_refuses_mutant = conforms, refuses
