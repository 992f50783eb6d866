"""The error function."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("erf", balls(lambda x: 1 - x.erfc()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
