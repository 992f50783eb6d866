"""The nearest integer, the even one of two."""

from tests.functions.conformance import STEPS, conformance
from tests.functions.references import exactly

tests = conformance("round", exactly(round), extra=STEPS, gap=1e-6)
test_conforms, test_refuses, test_agrees = tests
