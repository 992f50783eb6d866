"""The benchmark of protections: its bound of SDC, and its table and picture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.protections import FORMATS, RATES, choice, chosen, file_of, mapped, picture, table
from specs.faults.formats import FLOAT32
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips
from specs.faults.placed import place_model
from specs.faults.sites import cells
from tests.faulty_models import dense_model
from verifier.faults.campaign import Campaign, Plan
from verifier.harden.surgery import PREFIX, Restriction, restricted

CONTENT = dense_model((5, 4, 3))
POINTS = np.random.default_rng(2).normal(size=(3, 5))


def memories(format: str):
    """With bounds as constants, and as words."""
    found = []
    for stored in (False, True):
        each = Restriction("h0", np.array(2.0), None, "clip", stored)
        placed = place_model(file_of(restricted(CONTENT, [each])))
        choices = choice(format, place_model(file_of(CONTENT)))
        found.append(store(placed, chosen(format, choices, placed.parameters)))
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_the_certified_bound_is_above_what_is_injected(format):
    plain, memory = memories(format)
    found = mapped(plain, memory, POINTS)
    assert found["map"]["faults"] == memory.bits
    assert found["map of bounds"]["faults"] == 32
    open_ = found["uncertified flips a point"]
    assert found["certified P(SDC)"]["0.0001"] == pytest.approx(
        min(1.0, 1e-4 * open_ + binom.sf(1, memory.bits, 1e-4))
    )
    out = Campaign(cells(memory, BitFlips()), Plan(200, k=1), POINTS).run()
    low, high = out.interval("sdc", 0.999)
    assert low <= open_ / memory.bits <= high


def test_bounds_are_words_of_their_own():
    for format, bits in (("int8", 8), ("Q15.16", 32), ("float32", 32)):
        stored = memories(format)[1].stored
        assert {name: each.format.bits for name, each in stored.items()} == {
            name: 32 if name.startswith(PREFIX) else bits for name in stored
        }
    assert isinstance(choice("int8", place_model(file_of(CONTENT)))["w0"], Quantised)
    assert stored[f"{PREFIX}h0/upper"].format == FLOAT32


def test_table_and_picture(tmp_path):
    plain, memory = memories("int8")
    injected = {
        f"{rate:g}": {"trials": 10, "sdc": 1, "due": 0, "correct": 9, "sdc interval": (0.01, 0.4)}
        for rate in RATES
    }
    result = {"network": "dense", "format": "int8", "protection": "Ranger", "bits": 9}
    result |= {"bound words": 1, "injected": injected, "injected points": 3}
    result |= mapped(plain, memory, POINTS)
    assert "| Ranger | 9 | 1 | - | - |" in table([result])
    picture([result], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
