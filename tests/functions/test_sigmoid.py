"""The logistic sigmoid."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("sigmoid", balls(lambda x: (1 + (x / 2).tanh()) / 2))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
