"""The greatest integer below."""

import math

from tests.functions.conformance import STEPS, conformance
from tests.functions.references import exactly

tests = conformance("floor", exactly(math.floor), extra=STEPS, gap=1e-6)
test_conforms, test_refuses, test_agrees = tests
