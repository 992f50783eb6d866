"""The exponential function."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("exp", balls(lambda x: x.exp()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
