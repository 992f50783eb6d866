"""Exponential linear units."""

import pytest

from proofs.functions import function
from specs.errors import UnsupportedOperatorError
from tests.functions.conformance import conformance
from tests.functions.references import balls


def unit(alpha: float):
    return balls(lambda x: x if x >= 0 else alpha * x.expm1())


one = conformance("elu", unit(1.0), parameters=(1.0,))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = one
half = conformance("elu", unit(0.5), parameters=(0.5,))
test_half_conforms, test_half_refuses, test_half_agrees, _, test_half_shape = half
two = conformance("elu", unit(2.0), parameters=(2.0,))
test_two_conforms, test_two_refuses, test_two_agrees, _, test_two_shape = two


def test_others_are_refused():
    with pytest.raises(UnsupportedOperatorError):
        function("elu", (-1.0,))
