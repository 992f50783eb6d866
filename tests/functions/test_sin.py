"""The sine."""

from tests.functions.conformance import PERIODS, conformance
from tests.functions.references import balls

tests = conformance("sin", balls(lambda x: x.sin()), extra=PERIODS)
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
