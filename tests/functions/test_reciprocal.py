"""The reciprocal."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("reciprocal", balls(lambda x: 1 / x, lambda x: x != 0))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
