"""GELU."""

from flint import arb

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("gelu", balls(lambda x: x * (1 + (x / arb(2).sqrt()).erf()) / 2))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
