"""States of random paths hold every fault and point that the path allows, in random networks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.proofs.faulty_nets import random_question
from tests.proofs.faulty_states import escapes


def found(seeds, arithmetic="outward", strikes=25) -> list[str]:
    missed = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        question = random_question(rng)
        if question is not None:
            missed += escapes(*question, arithmetic, rng, strikes=strikes)
    return missed


@pytest.mark.parametrize(("arithmetic", "first"), [("outward", 0), ("exact", 1000)])
def test_no_fault_leaves_a_state(arithmetic, first):
    assert not found(range(first, first + 12), arithmetic)
