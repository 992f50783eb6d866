"""The reciprocal."""

import numpy as np
import pytest

from proofs.functions.reciprocal import rule
from tests.functions.conformance import conformance
from tests.functions.references import balls

tests = conformance("reciprocal", balls(lambda x: 1 / x, lambda x: x != 0))
test_conforms, test_refuses, test_agrees, test_any_guess, test_shape = tests


@pytest.mark.filterwarnings("error")
def test_the_pole_gives_no_warnings():
    at = np.array([0.0, -0.0, 1e-320])
    assert rule().value(at).tolist() == [np.inf, -np.inf, np.inf]
    assert rule().derivative(at).tolist() == [-np.inf] * 3
