"""Costs that may be added up, against exact evaluation of many faults at once."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.faults.formats import FLOAT16, FixedFormat
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips, StuckAt
from specs.faults.placed import place_model
from specs.faults.sites import cells
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from tests.verifier.certify_files import folder_with, part, run
from verifier.faults.judge import Judge, exact_outputs, exact_verdict
from verifier.faults.several import (
    GRID,
    SHARES,
    any_faults,
    certified_sets,
    costs,
    histogram,
    tails_above,
    targets,
    words_apart,
)


def residual():
    """A shortcut around a layer, and a layer without a function behind it."""
    rng = np.random.default_rng(10)
    stored = {"w": floats(rng, 3, 3), "b": floats(rng, 3), "v": floats(rng, 3, 3)}
    nodes = [
        node("MatMul", "x w", "a"),
        node("Add", "a b", "c"),
        node("Relu", "c", "h"),
        node("Add", "h x", "r"),
        node("MatMul", "r v", "y"),
    ]
    return graph_bytes(nodes, (1, 3), stored)


MODELS = {
    "dense": dense_model((3, 4, 4, 2), seed=1),
    "convolutional": conv_model(2),
    "residual": residual(),
}
FORMATS = {"int8": Quantised(8), "fixed": FixedFormat(4, 8), "float16": FLOAT16}


def struck(memory, words):
    values = {}
    for name, stored in memory.stored.items():
        decoded, number = stored.decode(np.arange(stored.words.size), words[name])
        if not np.all(number):
            return None
        values[name] = decoded
    return memory.placed.with_values(values)


def costs_of(content, format, points, model=None):
    placed = place_model(model_file(content))
    choice = {name: format for name in placed.parameters if name != "var"}
    memory = store(placed, choice)
    found = cells(memory, model or BitFlips(format=format))
    judge = Judge(memory, points)
    return memory, judge, found, targets(judge, found)


@pytest.mark.parametrize("format", list(FORMATS))
@pytest.mark.parametrize("kind", list(MODELS))
def test_faults_whose_costs_stay_below_1_do_no_harm(kind, format):
    rng = np.random.default_rng(0)
    size = {"dense": 3, "convolutional": 72, "residual": 3}[kind]
    points = rng.normal(size=(2, size)).astype(np.float32).astype(np.float64)
    memory, judge, _, struck_ = costs_of(MODELS[kind], FORMATS[format], points)
    checked = 0
    for point, share in itertools.product(range(2), SHARES):
        found = costs(judge, struck_, point, share)
        for attempt in range(4 if kind == "convolutional" else 12):
            words = {name: stored.words.copy() for name, stored in memory.stored.items()}
            listed = [
                (cost, name, int(entry), int(bit), each.additive)
                for name, each in found.items()
                for cost, entry, bit, number in zip(
                    each.cost, each.entry, each.bit, each.number, strict=True
                )
                if 0 < cost < (1.0 if attempt % 2 else 0.2) and number
            ]
            total, used, many = 0.0, set(), 0
            for place in rng.permutation(len(listed)):
                cost, name, entry, bit, additive = listed[place]
                if total + cost >= 1 or (not additive and (name, entry) in used):
                    continue
                total, many = total + cost, many + 1
                used.add((name, entry))
                words[name][entry] ^= np.uint32(1 << bit)
            network = struck(memory, words)
            if network is None:
                continue
            outputs = exact_outputs(network, points[point])
            assert exact_verdict(outputs, int(judge.labels[point])) is True
            checked += many > 1
    assert checked > 3


def test_every_pair_that_is_certified_is_harmless():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(2, 2))
    memory, judge, found, struck_ = costs_of(dense_model((2, 2, 2), seed=6), Quantised(4), points)
    pairs = 0
    for point in range(2):
        made = costs(judge, struck_, point, 1.0)
        flat = [
            (cost, name, int(entry), int(bit))
            for name, each in made.items()
            for cost, entry, bit in zip(each.cost, each.entry, each.bit, strict=True)
        ]
        assert len(flat) == found.count
        for one, two in itertools.combinations(flat, 2):
            if one[0] + two[0] >= 1:
                continue
            words = {name: stored.words.copy() for name, stored in memory.stored.items()}
            for _, name, entry, bit in (one, two):
                words[name][entry] ^= np.uint32(1 << bit)
            outputs = exact_outputs(struck(memory, words), points[point])
            assert exact_verdict(outputs, int(judge.labels[point])) is True
            pairs += 1
    assert pairs > 100


def test_faults_that_multiply_each_other():
    """One fault makes an activation large that reaches no output; another lets it."""
    nodes = [
        node("MatMul", "x w", "a"),
        node("Relu", "a", "h"),
        node("MatMul", "h v", "m"),
        node("Add", "m c", "y"),
    ]
    stored = {
        "w": np.full((1, 1), 1 / 16, np.float32),
        "v": np.zeros((1, 2), np.float32),
        "c": np.array([1, 0], np.float32),
    }
    content, points = graph_bytes(nodes, (1, 1), stored), np.ones((1, 1))
    memory, judge, _, struck_ = costs_of(content, FixedFormat(3, 4), points)
    cells_of = {name: list(range(8)) for name in ("w", "v")}
    for share in (2.0**-6, *SHARES):
        found = costs(judge, struck_, 0, share)
        for one, two in itertools.product(*cells_of.values()):
            words = {name: each.words.copy() for name, each in memory.stored.items()}
            total = 0.0
            for name, entry, bit in (("w", 0, one), ("v", 1, two)):
                words[name][entry] ^= np.uint32(1 << bit)
                each = found[name]
                total += float(each.cost[(each.entry == entry) & (each.bit == bit)][0])
            kept = exact_verdict(exact_outputs(struck(memory, words), points[0]), 0)
            assert kept is True or total >= 1


def test_any_faults_counts_the_worst():
    points = np.random.default_rng(1).normal(size=(1, 3))
    _, judge, _, struck_ = costs_of(dense_model((3, 4, 4, 2), seed=1), Quantised(8), points)
    found = costs(judge, struck_, 0, 0.5)
    worst = np.sort(np.concatenate([each.cost for each in found.values()]))[::-1]
    k = any_faults(found)
    assert worst[:k].sum() < 1
    assert worst[: k + 1].sum() > 1 - 1e-6


def test_words_of_floats_stand_alone():
    points = np.random.default_rng(1).normal(size=(1, 3))
    _, judge, _, struck_ = costs_of(dense_model((3, 2)), FLOAT16, points)
    found = costs(judge, struck_, 0, 0.5)
    assert words_apart(found) == {16: 8}
    assert any_faults(found) <= 1
    silent = histogram(found, False)
    assert silent[GRID] - histogram(found, True)[GRID] == sum(
        int((~each.number).sum()) for each in found.values()
    )


def test_cells_stuck_at_either_have_the_worse_cost():
    points = np.random.default_rng(1).normal(size=(1, 3))
    content = dense_model((3, 2))
    flips, both = (
        costs(judge, struck_, 0, 0.5)
        for _, judge, _, struck_ in (
            costs_of(content, Quantised(8), points),
            costs_of(content, Quantised(8), points, StuckAt(format=Quantised(8))),
        )
    )
    for name, each in flips.items():
        assert np.array_equal(each.cost, both[name].cost)


@settings(deadline=None, max_examples=40)
@given(
    units=st.lists(st.integers(1, GRID), min_size=1, max_size=6),
    rate=st.fractions(min_value=0, max_value=Fraction(2, 5), max_denominator=30),
)
def test_tails_against_enumeration(units, rate):
    counts = np.bincount(units, minlength=GRID + 1)
    exact = Fraction(0)
    for failed in itertools.product((0, 1), repeat=len(units)):
        if sum(failed) >= 2 and sum(u * f for u, f in zip(units, failed, strict=True)) >= GRID:
            exact += rate ** sum(failed) * (1 - rate) ** (len(units) - sum(failed))
    found = Fraction(float(tails_above(counts[None], [rate])[0, 0]))
    assert exact <= found
    if rate <= Fraction(1, 10):  # what is left of a class is bounded by a geometric series
        assert found <= exact * 2 + Fraction(1, 10**200)


@given(
    units=st.lists(st.integers(0, GRID), min_size=1, max_size=9),
    k=st.integers(1, 4),
)
def test_sets_against_enumeration(units, k):
    counts = np.bincount(units, minlength=GRID + 1)
    sets = list(itertools.combinations(units, k))
    assert certified_sets(counts, {}, k) == (sum(sum(s) < GRID for s in sets), len(sets))


def test_sets_with_two_cells_of_a_word_apart():
    """Two words of three cells of no cost: of 15 pairs, 6 lie in one word."""
    counts = np.bincount([0] * 6, minlength=GRID + 1)
    assert certified_sets(counts, {3: 2}, 2) == (9, 15)
    assert certified_sets(counts, {3: 2}, 1) == (6, 6)
    good, every = certified_sets(counts, {3: 2}, 3)
    assert (good, every) == (0, 20)  # 18 of 20 hold such a pair; each pair is taken off


def test_an_answer_about_several_faults(tmp_path):
    text = (
        '[faults]\nmodel = "bit_flips"\nformat = "int8"\nk = 3\nbits = [0]\n'
        "[faults.several]\ncertified = 0.3\n"
    )
    path = folder_with(tmp_path, text, sizes=(2, 2, 2), count=3)
    outcome = run(path)
    facts = part(outcome).facts
    assert facts["certified"] == sum(k >= 3 for k in facts["any"])
    path.write_text(path.read_text().replace("k = 3", "k = 2"))
    assert run(path).done == 0  # costs are those of single faults
    for good, k in zip(facts["certified_sets"], facts["any"], strict=True):
        assert good <= facts["sets"]
        assert good > 0 or k < 3
    memory = store(place_model(model_file((tmp_path / "net.onnx").read_bytes())), Quantised(8))
    points = np.load(tmp_path / "data.npz")["x"].astype(np.float64)
    places = [(n, e) for n, s in memory.stored.items() for e in range(s.words.size)]
    judge = Judge(memory, points)
    for point, k in enumerate(facts["any"]):
        for chosen in itertools.combinations(places, min(k, 3)):
            words = {name: stored.words.copy() for name, stored in memory.stored.items()}
            for name, entry in chosen:
                words[name][entry] ^= np.uint32(1)
            outputs = exact_outputs(struck(memory, words), points[point])
            assert exact_verdict(outputs, int(judge.labels[point])) is True
