"""Moves of constants and the worst spread of a budget, against enumeration."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import QuestionError
from specs.faults.budget import moves, totals, worst
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips, Where
from specs.faults.placed import place_model, weighted
from specs.faults.sites import cells
from tests.faulty_models import conv_model, dense_model, model_file, quantised_model


def enumerated(gains) -> float:
    """Over all ways to give each word its number of faults."""
    k, words = gains.shape
    best = 0
    for counts in itertools.product(range(k + 1), repeat=words):
        if sum(counts) <= k:
            total = sum(gains[j - 1, p] for p, j in enumerate(counts) if j)
            best = max(best, total)
    return best


@settings(max_examples=120, deadline=None)
@given(data=st.data(), k=st.integers(1, 4), rows=st.integers(1, 3), words=st.integers(0, 5))
def test_the_worst_spread_is_that_of_all(data, k, rows, words):
    numbers = st.lists(st.integers(-3, 20), min_size=k * rows * words, max_size=k * rows * words)
    gains = np.array(data.draw(numbers), dtype=np.float64).reshape(k, rows, words)
    expected = [enumerated(gains[:, row]) for row in range(rows)]
    assert worst(gains).tolist() == expected
    whole = np.empty(gains.shape, dtype=object)
    whole[...] = gains.astype(int).tolist()
    assert worst(whole).tolist() == expected


@settings(max_examples=80, deadline=None)
@given(data=st.data(), k=st.integers(1, 5), rows=st.integers(1, 3), words=st.integers(0, 5))
def test_words_that_fail_once_are_words_whose_further_faults_gain_nothing(data, k, rows, words):
    numbers = st.lists(st.integers(-3, 20), min_size=rows * words, max_size=rows * words)
    gains = np.array(data.draw(numbers), dtype=np.float64).reshape(1, rows, words)
    expected = totals(np.repeat(gains, k, axis=0))
    assert totals(gains, limit=k).tolist() == expected.tolist()
    whole = np.empty(gains.shape, dtype=object)
    whole[...] = gains.astype(int).tolist()
    assert totals(whole, limit=k).tolist() == expected.tolist()


def test_words_that_fail_once_have_one_row_of_gains():
    with pytest.raises(QuestionError, match="fail once"):
        totals(np.zeros((2, 1, 3)), limit=2)


def test_two_faults_in_one_word_may_beat_two_words():
    gains = np.array([[[5.0, 4.0, 3.0]], [[5.0, 4.0, 10.0]]])
    assert worst(gains[:1]).tolist() == [5.0]
    assert worst(gains).tolist() == [10.0]
    gains[1, 0, 2] = 8.0
    assert worst(gains).tolist() == [9.0]


def test_sums_are_the_caller_s():
    up = lambda a, b: np.nextafter(a + b, np.inf)  # noqa: E731
    gains = np.full((2, 1, 3), 0.1)
    assert Fraction(worst(gains, up)[0]) >= 2 * Fraction(0.1)
    assert worst(np.full((1, 2, 3), np.inf)).tolist() == [np.inf] * 2


@pytest.mark.parametrize(
    "gains", [np.zeros((2, 3)), np.zeros((0, 1, 1)), np.full((1, 1, 1), np.nan)]
)
def test_gains_that_make_no_sense(gains):
    with pytest.raises(QuestionError, match="gain"):
        worst(gains)


@pytest.mark.parametrize("choice", [None, Quantised(8, axis=0)])
@pytest.mark.parametrize("k", [1, 2])
def test_every_fault_moves_constants_within_their_bounds(choice, k):
    placed = place_model(model_file(conv_model()))
    memory = store(placed, choice)
    found = cells(memory, BitFlips(k))
    reached = 0
    for place in placed.places:
        stored = memory.stored[place.tensor]
        low, high = moves(place, stored.values, found.hull(place.tensor))
        entry = int(place.entries.max())
        bits = range(stored.format.bits)
        for chosen in itertools.chain(*(itertools.combinations(bits, j) for j in range(1, k + 1))):
            word = stored.words[entry] ^ np.uint32(sum(1 << bit for bit in chosen))
            value, number = stored.decode(np.array([entry]), np.array([word]))
            if not number[0]:
                continue
            at = np.flatnonzero(place.entries == entry)
            if place.function != "linear":
                if value[0] + place.shift <= 0:
                    assert low[at[0]] == -np.inf
                    assert high[at[0]] == np.inf
                continue
            for position in at:
                factor = Fraction(place.factor.value[position])
                step = factor * (Fraction(value[0]) - Fraction(stored.values[entry]))
                assert low[position] <= step <= high[position]
                reached += step in (Fraction(low[position]), Fraction(high[position]))
    assert reached > 20


def test_moves_of_integers_are_exact_and_others_stay():
    placed = place_model(model_file(quantised_model()), ("q", "b"))
    memory = store(placed)
    model = BitFlips(1, where=Where(tensors=("q",), bits=(7,)))
    found = cells(memory, model)
    (place,) = placed.of["q"]
    low, high = moves(place, memory.stored["q"].values, found.hull("q"))
    values = memory.stored["q"].values[place.entries]
    step = np.where(values < 0, 128.0, -128.0) * place.factor.value
    assert np.array_equal(low, np.minimum(step, 0.0))
    assert np.array_equal(high, np.maximum(step, 0.0))


def test_the_worst_of_two_flips_of_a_layer_for_a_linear_form():
    """At a point the bound is exact: it is the best of all pairs of flips."""
    placed = place_model(model_file(dense_model((3, 2, 2))))
    memory = store(placed, Quantised(4))
    where = Where(tensors=("w0",))
    (place,) = placed.of["w0"]
    term = weighted(memory.network.nodes[place.node].terms[0])
    form, point = np.array([[0.5, -1.25]]), np.array([[1.0, -0.5, 2.0]])
    slope = term.gradient(form, point, np.matmul).reshape(-1)
    gains = []
    for k in (1, 2):
        found = cells(memory, BitFlips(k, where=where))
        low, high = moves(place, memory.stored["w0"].values, found.hull("w0"))
        gains.append(np.maximum(slope * low, slope * high)[None])
    bound = worst(np.array(gains))[0]
    stored, best = memory.stored["w0"], 0.0
    for pair in itertools.combinations(itertools.product(range(6), range(4)), 2):
        words = stored.words.copy()
        for entry, bit in pair:
            words[entry] ^= np.uint32(1 << bit)
        step = stored.decode(np.arange(6), words)[0] - stored.values
        best = max(best, float(slope @ step[place.entries]))
    assert bound == pytest.approx(best, rel=1e-12)
