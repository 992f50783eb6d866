"""The sign."""

from tests.functions.conformance import STEPS, conformance
from tests.functions.references import exactly

tests = conformance("sign", exactly(lambda x: (x > 0) - (x < 0)), extra=STEPS, gap=1e-6)
test_conforms, test_refuses, test_agrees = tests
