"""The square root."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("sqrt", balls(lambda x: x.sqrt(), lambda x: x >= 0))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
