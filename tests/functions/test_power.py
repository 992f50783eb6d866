"""Powers by a constant exponent."""

from types import MappingProxyType

import numpy as np
import pytest
from flint import fmpq

from proofs.functions import function
from specs.errors import UnsupportedOperatorError
from tests.functions.conformance import conformance
from tests.functions.references import balls
from tests.functions.wrong import Mutant


def of_one_end(rule):
    """Above, the line touches the lower end only."""

    def intercepts(arithmetic, below, above, lower, upper):
        floor, _ = rule.intercepts(arithmetic, below, above, lower, upper)
        _, ceiling = rule.intercepts(arithmetic, below, above, lower, lower)
        return floor, ceiling

    return {"intercepts": intercepts}


def of_chords(rule):
    """Below, the least of what is found at the ends alone."""

    def intercepts(arithmetic, below, above, lower, upper):
        _, ceiling = rule.intercepts(arithmetic, below, above, lower, upper)
        at_ends = [rule.intercepts(arithmetic, below, above, x, x)[0] for x in (lower, upper)]
        return np.minimum(*at_ends), ceiling

    return {"intercepts": intercepts}


def of_ends(rule):
    """The image from one end to the other."""

    def image(arithmetic, lower, upper):
        first, second = (rule.image(arithmetic, x, x) for x in (lower, upper))
        return np.minimum(first[0], second[0]), np.maximum(first[1], second[1])

    return {"image": image}


# The square's extremes are not searched for, so what a search relies on may be wrong.
SQUARE = {
    "values without error": None,
    "image without error": None,
    "range too narrow": None,
    "curvature turned": None,
    "one end above": Mutant("lines", of_one_end),
    "ends alone below": Mutant("lines", of_chords),
    "image of the ends": Mutant("image", of_ends),
}


def power(exponent: float, mutants=MappingProxyType({})):
    ratio = fmpq(*exponent.as_integer_ratio())

    def defined(x):
        if exponent != int(exponent):
            return x >= 0 if exponent > 0 else x > 0
        return exponent > 0 or x != 0

    return conformance("power", balls(lambda x: x**ratio, defined), mutants, parameters=(exponent,))


test_square, test_square_refuses, test_square_agrees, _, test_square_shape = power(2.0, SQUARE)
test_cube, test_cube_refuses, test_cube_agrees, test_any_guess, test_cube_shape = power(3.0)
test_sixth, test_sixth_refuses, test_sixth_agrees, _, test_sixth_shape = power(6.0)
test_inverse_square, test_inverse_square_refuses, *_ = power(-2.0)
test_inverse_cube, test_inverse_cube_refuses, *_ = power(-3.0)
test_steep, test_steep_refuses, *_ = power(2.5)
test_root, test_root_refuses, *_ = power(0.25)
test_inverse_root, test_inverse_root_refuses, *_ = power(-0.5)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1e9, -65.0])
def test_others_are_refused(exponent):
    with pytest.raises(UnsupportedOperatorError):
        function("power", (exponent,))
