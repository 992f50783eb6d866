"""Scaled exponential linear units."""

import pytest

from proofs.functions import function
from specs.errors import UnsupportedOperatorError
from tests.functions.conformance import conformance
from tests.functions.references import balls

ALPHA, GAMMA = 1.67326319217681884765625, 1.05070102214813232421875

tests = conformance(
    "selu",
    balls(lambda x: GAMMA * (x if x >= 0 else ALPHA * x.expm1())),
    parameters=(ALPHA, GAMMA),
)
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests


def test_without_a_left_side_it_is_a_multiple_of_relu():
    rule = function("selu", (0.0, 2.0))
    assert rule.curvatures == (0, 0)
    assert rule.corners == (0.0,)


@pytest.mark.parametrize("parameters", [(-1.0, 1.0), (1.0, -1.0), (1.0, 0.0)])
def test_others_are_refused(parameters):
    with pytest.raises(UnsupportedOperatorError):
        function("selu", parameters)
