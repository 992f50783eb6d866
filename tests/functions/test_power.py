"""Powers by a constant exponent."""

import pytest
from flint import fmpq

from proofs.functions import function
from specs.errors import UnsupportedOperatorError
from tests.functions.conformance import conformance
from tests.functions.references import balls


def power(exponent: float):
    ratio = fmpq(*exponent.as_integer_ratio())

    def defined(x):
        if exponent != int(exponent):
            return x >= 0 if exponent > 0 else x > 0
        return exponent > 0 or x != 0

    return conformance("power", balls(lambda x: x**ratio, defined), parameters=(exponent,))


test_square, test_square_refuses, test_square_agrees, _, test_square_shape = power(2.0)
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
