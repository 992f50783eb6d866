"""The cosine."""

from tests.functions.conformance import PERIODS, conformance
from tests.functions.references import balls

tests = conformance("cos", balls(lambda x: x.cos()), extra=PERIODS)
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
