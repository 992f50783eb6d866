"""The hyperbolic tangent."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("tanh", balls(lambda x: x.tanh()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
