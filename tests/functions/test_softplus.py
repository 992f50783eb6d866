"""Softplus."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("softplus", balls(lambda x: x.exp().log1p()))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
