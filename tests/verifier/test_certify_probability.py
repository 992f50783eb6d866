"""Bounds of probabilities, against the sum over all patterns of failures."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.faults.memory import Quantised, store
from specs.faults.placed import read_placed
from tests.faulty_models import graph_bytes, node
from tests.verifier.certify_files import folder_with, part, run
from verifier.faults.binomial import several_above, single_above, tail_above
from verifier.faults.judge import exact_outputs, exact_verdict

RATES = st.fractions(min_value=0, max_value=1, max_denominator=50)


def pattern_probability(rate: Fraction, failed: tuple[bool, ...]) -> Fraction:
    count = sum(failed)
    return rate**count * (1 - rate) ** (len(failed) - count)


def patterns(cells: int):
    return itertools.product((False, True), repeat=cells)


@given(cells=st.integers(1, 7), rate=RATES, count=st.integers(0, 8))
def test_tails_against_enumeration(cells, rate, count):
    exact = sum(
        (pattern_probability(rate, p) for p in patterns(cells) if sum(p) >= count), Fraction(0)
    )
    found = Fraction(tail_above(cells, rate, count))
    assert exact <= found <= exact * (1 + Fraction(1, 2**40)) + Fraction(1, 2**1000)


@given(cells=st.integers(1, 7), rate=RATES, certified=st.integers(0, 7), k=st.integers(1, 4))
def test_several_failures_against_enumeration(cells, rate, certified, k):
    """Everything that is not certified does harm: then the bound is the probability."""
    certified = min(certified, cells)

    def may_do_harm(failed: tuple[bool, ...]) -> bool:
        struck = [cell for cell, bad in enumerate(failed) if bad]
        spared = 2 <= len(struck) <= k and all(cell < certified for cell in struck)
        return len(struck) >= 2 and not spared

    exact = sum(
        (pattern_probability(rate, p) for p in patterns(cells) if may_do_harm(p)), Fraction(0)
    )
    found = Fraction(several_above(cells, rate, certified, k))
    assert exact <= found <= exact * (1 + Fraction(1, 2**30)) + Fraction(1, 2**100)


@given(cells=st.integers(1, 7), rate=RATES, harmful=st.integers(0, 7))
def test_single_failures_against_enumeration(cells, rate, harmful):
    harmful = min(harmful, cells)
    exact = sum(
        (pattern_probability(rate, p) for p in patterns(cells) if sum(p) == 1 and any(p[:harmful])),
        Fraction(0),
    )
    found = Fraction(single_above(cells, rate, Fraction(harmful)))
    assert exact <= found <= exact * (1 + Fraction(1, 2**30)) + Fraction(1, 2**100)


def test_tails_of_the_field_notes():
    """Two or more of 8 million bits: 0.30 %, 19 % and 99.7 %."""
    found = [tail_above(8_000_000, Fraction(1, 10**power), 2) for power in (8, 7, 6)]
    assert found == [pytest.approx(share, rel=0.02) for share in (0.0030, 0.19, 0.997)]


def test_tiny_tails_are_tight():
    found = Fraction(tail_above(10**7, Fraction(1, 10**12), 6))
    # (N p)^6 / 6! to within a factor near 1
    about = Fraction(1, 10**5) ** 6 / 720
    assert abs(found / about - 1) < Fraction(1, 10**4)


CONFIG = """[faults]
model = "{model}"
format = "int8"
{where}
[faults.map]
[faults.probability]
rates = [1e-3]
raw_fit = 1000
residual_fit = {residual}
{noticed}
sdc_at = [{{ rate = 1e-6, at_most = 0.9 }}, {{ rate = 1e-3, at_most = 1e-9 }}]
"""


def asked(tmp_path, model="bit_flips", where="", residual="0.3", noticed=""):
    text = CONFIG.format(model=model, where=where, residual=residual, noticed=noticed)
    return run(folder_with(tmp_path, text))


def test_counts_come_from_the_map(tmp_path):
    outcome = asked(tmp_path)
    bits, found = part(outcome).facts, part(outcome, 1).facts
    assert outcome.done == 4  # the map's task serves both; costs of three samples
    assert found["bits"] == found["exposed"] == bits["faults"]
    assert found["certified_at_all_samples"] == bits["benign"]
    per_sample = Fraction(found["not_certified_mean"])
    assert per_sample <= bits["critical"] <= per_sample * bits["samples"]
    share = 1 - Fraction(found["fit at every sample"]["safe_fraction"])
    assert found["fit at every sample"]["residual"] >= share * 1000 * found["bits"] / 10**6


def test_thresholds_of_probabilities(tmp_path):
    verdicts = [each.verdict for each in asked(tmp_path).judged]
    assert verdicts == ["proved", "undecided", "proved"]


def test_bits_outside_count_as_not_certified(tmp_path):
    facts = part(asked(tmp_path, where="bits = [0]"), 1).facts
    assert facts["exposed"] * 8 == facts["bits"]
    assert Fraction(facts["not_certified_mean"]) >= facts["bits"] - facts["exposed"]


def test_parameters_that_are_not_followed_count_as_stored_in_the_file(tmp_path):
    facts = part(asked(tmp_path, where='tensors = ["w0"]'), 1).facts
    # 4x3 words of int8; 3, 3x3 and 3 of float32
    assert facts["exposed"] == 12 * 8
    assert facts["bits"] == 12 * 8 + 15 * 32


def test_cells_stuck_at_either_count_once(tmp_path):
    facts = part(asked(tmp_path, model="stuck_at"), 1).facts
    assert facts["bits"] == facts["exposed"]
    assert facts["certified_at_all_samples"] <= facts["bits"]


def test_words_that_are_no_numbers(tmp_path):
    """Floats whose exponent fills up are safe only if they are noticed."""
    text = CONFIG.format(model="bit_flips", where="", residual="1", noticed="").replace(
        "int8", "float16"
    )
    path = folder_with(tmp_path, text)
    path.write_text(path.read_text().replace("[faults.map]", "bits = [14]\n[faults.map]"))
    noticed = part(run(path), 1).facts
    lost = part(run(path)).facts["no number"]
    path.write_text(path.read_text().replace("raw_fit", "noticed = false\nraw_fit"))
    silent = part(run(path), 1).facts
    assert lost > 0
    assert Fraction(silent["not_certified_mean"]) == Fraction(noticed["not_certified_mean"]) + lost


def test_proofs_about_several_failures_tighten_the_bound(tmp_path):
    text = (
        '[faults]\nmodel = "bit_flips"\nformat = "int8"\n'
        "[[faults.probability]]\nrates = [1e-3]\n"
        "[[faults.probability]]\nrates = [1e-3]\nproved = { k = 2, bits = [0] }\n"
    )
    outcome = run(folder_with(tmp_path, text))
    one, two = (part(outcome, number).facts["bounds"]["0.001"] for number in (0, 1))
    assert two <= one


def test_the_bound_covers_what_enumeration_finds(tmp_path):
    """All patterns of failures of eight bits, with their probabilities, at three samples."""
    text = (
        '[faults]\nmodel = "bit_flips"\nformat = "int4"\n'
        "[faults.probability]\nrates = [0.01, 0.1, 0.3]\n"
    )
    path = folder_with(tmp_path, text, sizes=(1, 2), count=3, seed=2)
    nodes = [node("MatMul", "x w0", "y")]
    weights = np.array([[1.0, -0.6]], np.float32)
    (tmp_path / "net.onnx").write_bytes(graph_bytes(nodes, (1, 1), {"w0": weights}))
    bounds = part(run(path)).facts["bounds"]
    memory = store(read_placed(tmp_path / "net.onnx"), Quantised(4))
    stored = memory.stored["w0"]
    points = np.load(tmp_path / "data.npz")["x"].astype(np.float64)
    harm = []
    for flips in itertools.product(range(16), repeat=2):
        words = stored.words ^ np.array(flips, np.uint32)
        network = memory.placed.with_values({"w0": stored.decode(np.arange(2), words)[0]})
        changed = 0
        for point in points:
            before = exact_outputs(memory.network, point)
            label = int(before[1][0] > before[0][0])
            changed += exact_verdict(exact_outputs(network, point), label) is not True
        harm.append((sum(bin(flip).count("1") for flip in flips), changed))
    for rate in (Fraction(1, 100), Fraction(1, 10), Fraction(3, 10)):
        total = sum(Fraction(c, 3) * rate**k * (1 - rate) ** (8 - k) for k, c in harm)
        assert total <= Fraction(bounds[f"{float(rate):g}"])
