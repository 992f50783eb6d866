"""GELU's approximation."""

from flint import arb, fmpq

from tests.functions.conformance import conformance
from tests.functions.references import balls

CUBIC = fmpq(44715, 1000000)

tests = conformance(
    "gelu_tanh", balls(lambda x: x * (1 + ((2 / arb.pi()).sqrt() * (x + CUBIC * x**3)).tanh()) / 2)
)
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
