"""Certified budgets and attacks on linear marks meet, and never cross."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import marks
import numpy as np
import pytest

from proofs.watermarks.check import check_mark
from proofs.watermarks.persistence import refuted
from specs.errors import QuestionError
from specs.faults.formats import IntegerFormat
from specs.watermarks.allowed import KEYS
from specs.watermarks.changes import Ball, Flips, Pruned, rounded_to_steps
from specs.watermarks.rows import Demand, lost, rows_of
from verifier.watermarks.ascent import Settings
from verifier.watermarks.margin_attack import cheapest_ball, cheapest_count
from verifier.watermarks.persistence import (
    certified_ball,
    certified_count,
    digits_down,
    kernel,
)
from verifier.watermarks.problem import problem
from verifier.watermarks.stated import allowed_keys, problem_of, proof_of, witness_of

QUICK = Settings(steps=12)
NORMS = ("linf", "l2", "l1")


def planted(bits=12, kinds=30, copies=2, flips=4, seed=0):
    """Weights with a mark, some weights sharing a column; it is lost when ``flips`` bits are."""
    rng = np.random.default_rng(seed)
    matrix = np.rint(rng.normal(size=(bits, kinds)) * 2.0**10)
    key = rng.random(bits) < 0.5
    wanted = np.where(key, 1.0, -1.0) * rng.uniform(0.5, 3.0, bits) * 2.0**10
    moved = rng.normal(size=kinds) * 0.3
    moved += np.linalg.lstsq(matrix, wanted - matrix @ moved, rcond=None)[0]
    rows = rows_of(np.repeat(matrix, copies, axis=1))
    weights = np.repeat(moved, copies) / copies
    return rows, key, np.rint(weights * 2.0**12) / 2.0**12, lost(rows, key, bits - flips + 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(2))
def test_a_certified_radius_is_near_what_an_attack_needs(norm, seed):
    _, _, weights, demand = planted(seed=seed)
    asked = problem([demand], weights)
    found = certified_ball(asked, norm, QUICK)
    removal = cheapest_ball(asked, norm, found.shares)
    assert kernel(asked, found.changes, found.hints).holds
    assert refuted([demand], [removal.changes], weights, removal.change).holds
    assert found.alone <= found.budget < removal.cost
    assert found.budget >= Fraction(2, 5) * removal.cost
    # A little above what an attack needs, nothing may be proved.
    assert not kernel(asked, Ball(norm, removal.cost), found.hints).holds
    if norm != "l1":
        plain = certified_ball(asked, norm, Settings(steps=12, centre=False))
        assert plain.budget <= found.budget * Fraction(101, 100)


def test_pruned_weights_and_flipped_bits_are_counted():
    _, _, weights, demand = planted(kinds=40, copies=3, flips=6)
    asked = problem([demand], weights)
    found = certified_count(asked, Pruned, weights.size, QUICK)
    removal = cheapest_count(asked, Pruned(1), weights.size)
    assert 1 <= found.alone <= found.budget < removal.cost
    assert refuted([demand], [removal.changes], weights, removal.change).holds
    assert not kernel(asked, Pruned(int(removal.cost)), found.hints).holds
    format = IntegerFormat(8, (2.0**-6,))
    channel = np.zeros(weights.size, np.int64)
    stored = format.decode(format.encode(weights, channel), channel)[0]
    asked = problem([demand], stored)
    words = Flips(1, format, channel, (0, 1, 2, 3, 4))
    flips = certified_count(asked, lambda k: Flips(k, format, channel, words.bits), 64, QUICK)
    removal = cheapest_count(asked, words, 400)
    assert flips.budget >= 1
    assert removal is None or flips.budget < removal.cost


def test_two_demands_cost_more_than_one():
    _, _, weights, demand = planted()
    rng = np.random.default_rng(9)
    other = rows_of(np.rint(rng.normal(size=(12, weights.size)) * 2.0**10))
    written = Demand(other, rng.random(12) < 0.5, 11)
    alone = problem([demand], weights)
    both = problem([demand, written], weights)
    for norm in ("l2", "linf"):
        found = certified_ball(both, norm, QUICK)
        removal = cheapest_ball(both, norm, found.shares)
        assert refuted([demand, written], [removal.changes], weights, removal.change).holds
        assert certified_ball(alone, norm, QUICK).budget <= found.budget < removal.cost


def test_a_mark_that_does_not_stand_has_no_radius():
    rows, key, weights, _ = planted()
    asked = problem([lost(rows, ~key, 12)], weights)
    assert certified_ball(asked, "l2", QUICK).budget == 0
    removal = cheapest_ball(asked, "l2")
    assert removal is not None
    assert removal.cost == 0


def test_evidence_is_checked_as_it_was_found(tmp_path):
    rng = np.random.default_rng(4)
    marks.model(tmp_path / "net.onnx", np.round(rng.normal(size=(8, 10)) * 64) / 64)
    claim = 'kind = "persistence"\nat_least = 3\n'
    asked = marks.question(tmp_path, claim)
    found = certified_ball(problem_of(asked.claim), "l2", QUICK)
    removal = cheapest_ball(problem_of(asked.claim), "l2", found.shares)
    keys = "\n".join(f"{key} = {value}" for key, value in allowed_keys(found.changes).items())
    stated = marks.question(tmp_path, claim + keys)
    assert check_mark(stated, proof_of(stated, found))[0].verdict == "valid unsat"
    keys = "\n".join(f"{key} = {value}" for key, value in allowed_keys(removal.changes).items())
    wider = marks.question(tmp_path, claim + keys)
    assert check_mark(wider, witness_of(wider, removal))[0].verdict == "valid sat"
    assert check_mark(wider, proof_of(wider, found))[0].verdict == "invalid"
    assert check_mark(stated, witness_of(stated, removal))[0].verdict == "invalid"


def test_the_page_lists_the_keys_and_its_example_runs(capsys):
    page = Path("docs/watermarks.md").read_text()
    section = page.partition("## What may change")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    listed = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert listed == set(KEYS) - {"kind"}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (example,) = [block for block in blocks if "certified_ball" in block]
    exec(example, {})
    assert 0.5 < float(capsys.readouterr().out) < 1


def test_keys_state_sets():
    assert allowed_keys(Ball("linf", Fraction(1, 8))) == {"linf": "0.125"}
    assert allowed_keys(Ball("l2", Fraction(1, 8), True)) == {"relative_l2": "0.125"}
    assert allowed_keys(rounded_to_steps(Fraction(1, 4))) == {"linf": "0.125"}
    assert allowed_keys(Pruned(7)) == {"pruned": "7"}
    flips = Flips(2, IntegerFormat(8), np.zeros(1, np.int64), (0, 3))
    assert allowed_keys(flips) == {"flips": "2", "bits": "[0, 3]"}
    with pytest.raises(QuestionError):
        allowed_keys(Ball("l2", Fraction(1, 3)))
    assert digits_down(0.0123456) == Fraction(123, 10000)
    assert digits_down(98760.0) == Fraction(98700)
