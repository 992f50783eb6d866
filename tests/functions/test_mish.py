"""Mish."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("mish", balls(lambda x: x * x.exp().log1p().tanh()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
