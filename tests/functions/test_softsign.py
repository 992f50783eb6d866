"""Softsign."""

import numpy as np

from tests.functions.conformance import conformance
from tests.functions.references import balls
from tests.verifier.relaxation_conformance import Truth, relaxation_conformance

tests = conformance("softsign", balls(lambda x: x / (1 + abs(x))))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests


def value(x):
    """At complex arguments too."""
    return x / (1 + np.where(np.real(x) < 0, -x, x))


test_relaxes, test_notices_wrong_lines = relaxation_conformance(
    Truth("softsign", value, pieces=(1, -1), bends=(0.0,))
)
