"""Hard swish."""

from tests.functions.conformance import conformance
from tests.functions.references import exactly

tests = conformance("hardswish", exactly(lambda x: x * min(max(x + 3, 0), 6) / 6))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
