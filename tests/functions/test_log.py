"""The natural logarithm."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("log", balls(lambda x: x.log(), lambda x: x > 0))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
