"""Relu keeps what every function must, and wrong Relus are noticed."""

from __future__ import annotations

import numpy as np

from tests.functions.conformance import conformance
from tests.functions.references import exactly
from tests.functions.wrong import Mutant


def without_zero(rule):
    """Only the ends are looked at, not the bend between them."""

    def intercepts(arithmetic, below, above, lower, upper):
        ends = [(np.maximum(x, 0), x) for x in (lower, upper)]
        down = [arithmetic.add_down(v, arithmetic.multiply_down(-below, x)) for v, x in ends]
        up = [arithmetic.add_up(v, arithmetic.multiply_up(-above, x)) for v, x in ends]
        return np.minimum(*down), np.maximum(*up)

    return {"intercepts": intercepts}


tests = conformance(
    "relu",
    exactly(lambda x: max(x, 0)),
    {
        "the bend forgotten": Mutant("lines", without_zero),
        "image not clipped": Mutant(
            "image", lambda rule: {"image": lambda arithmetic, lower, upper: (lower, upper)}
        ),
        "dead too early": Mutant(
            "points",
            lambda rule: {
                "at_point": lambda c, r, unit: (
                    np.maximum(c, 0),
                    None if r is None else np.where(c <= 0, 0, r),
                )
            },
        ),
        "point negative": Mutant("points", lambda rule: {"at_point": lambda c, r, unit: (c, r)}),
    },
)
test_conforms, test_refuses, test_agrees = tests
