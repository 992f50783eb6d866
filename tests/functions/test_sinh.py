"""The hyperbolic sine."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("sinh", balls(lambda x: x.sinh()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
