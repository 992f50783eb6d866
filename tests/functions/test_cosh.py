"""The hyperbolic cosine."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("cosh", balls(lambda x: x.cosh()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
