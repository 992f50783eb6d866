"""The sine."""

from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance(
    "sin",
    balls(lambda x: x.sin()),
    extra=((-1e3, 1e3), (90.0, 99.0), (95.0, 130.0), (1e6, 1e6 + 1)),
)
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests
