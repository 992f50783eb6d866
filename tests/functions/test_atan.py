"""The inverse tangent."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("atan", balls(lambda x: (x / (1 + x * x).sqrt()).asin()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
