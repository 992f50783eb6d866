"""The nearest integer, the even one of two."""

from tests.functions.conformance import conformance
from tests.functions.references import exactly

tests = conformance(
    "round",
    exactly(round),
    extra=(
        (0.5, 0.5),
        (-1.5, 0.5),
        (0.3, 2.0),
        (2.0**50, 2.0**50 + 3),
        (-0.5 - 2**-53, -0.5),
        (1e15, 1e17),
    ),
    gap=1e-6,
)
test_conforms, test_refuses, test_agrees = tests
