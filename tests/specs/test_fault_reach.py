"""Hulls of what words become, against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import QuestionError
from specs.faults.formats import BFLOAT16, FLOAT16, FLOAT32, FixedFormat, IntegerFormat
from specs.faults.reach import flipped, hull, mask_of

FORMATS = [
    FLOAT32,
    FLOAT16,
    BFLOAT16,
    IntegerFormat(8, (0.5,), (3,)),
    IntegerFormat(6, (0.25,), (9,), signed=False),
    IntegerFormat(16, (2.0**-9,), (-7,)),
    FixedFormat(3, 4),
    FixedFormat(15, 16),
]


def enumerated(format, word: int, mask: int, k: int):
    bits = [bit for bit in range(format.bits) if mask >> bit & 1]
    words = [
        word ^ sum(1 << bit for bit in chosen)
        for count in range(k + 1)
        for chosen in itertools.combinations(bits, count)
    ]
    values, number = format.decode(np.array(words, np.uint32), np.zeros(len(words), np.int64))
    return values[number].min(), values[number].max(), not number.all()


def found(format, word: int, mask: int, k: int):
    words, masks = np.array([word], np.uint32), np.array([mask], np.uint32)
    h = hull(format, words, masks, k, np.zeros(1, np.int64))
    return h.lower[0], h.upper[0], bool(h.escapes[0])


@settings(max_examples=250, deadline=None)
@given(
    which=st.sampled_from(FORMATS),
    word=st.integers(0, 2**32 - 1),
    keep=st.integers(0, 2**32 - 1),
    dense=st.booleans(),
    k=st.integers(0, 3),
)
def test_the_hull_is_that_of_all_words_within_reach(which, word, keep, dense, k):
    full = (1 << which.bits) - 1
    word, mask = word & full, full if dense else keep & full
    if not which.decode(np.array([word], np.uint32), np.zeros(1, np.int64))[1][0]:
        return
    assert found(which, word, mask, k) == enumerated(which, word, mask, k)


@pytest.mark.parametrize("format", [FLOAT32, FLOAT16, BFLOAT16], ids=lambda f: f.name)
@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("sign", [0, 1])
def test_words_next_to_infinity(format, missing, sign):
    field = ((1 << format.exponent_bits) - 1) << format.fraction_bits
    low = sum(1 << (format.fraction_bits + bit) for bit in range(missing))
    word = (field ^ low) | 1 | sign << (format.bits - 1)
    for k in range(4):
        full = (1 << format.bits) - 1
        assert found(format, word, full, k) == enumerated(format, word, full, k)
        for bit in range(format.bits):
            mask = full ^ (1 << bit)
            assert found(format, word, mask, k) == enumerated(format, word, mask, k)


def test_a_pair_of_flips_goes_further_than_two_single_ones():
    """For 3.0 the best single flip moves the value by 5.5e19, the best pair by 2.4e29."""
    word = int(FLOAT32.encode(np.array([3.0]), np.zeros(1, np.int64))[0])
    single, pair = (found(FLOAT32, word, mask_of(None, FLOAT32), k)[1] for k in (1, 2))
    assert single == pytest.approx(5.5e19, rel=0.01)
    assert pair > 2e29


def test_no_flip_no_change():
    words = np.array([0x3F800000, 0xC1200000], np.uint32)
    same = hull(FLOAT32, words, np.full(2, 2**32 - 1, np.uint32), 0, np.zeros(2, np.int64))
    assert same.lower.tolist() == same.upper.tolist() == [1.0, -10.0]
    assert not same.escapes.any()


def test_flips_are_their_own_inverse():
    words = np.arange(256, dtype=np.uint32)
    for bit in range(8):
        assert np.array_equal(flipped(flipped(words, bit), bit), words)
        assert not np.any(flipped(words, bit) == words)


def test_masks():
    assert mask_of((0, 7), IntegerFormat(8)) == 0x81
    assert mask_of(None, FLOAT16) == 0xFFFF
    for bits in ((8,), (-1,), (0, 31)):
        with pytest.raises(QuestionError, match="int8 has bits 0 to 7"):
            mask_of(bits, IntegerFormat(8))


def test_refused():
    infinite = np.array([0x7F800000], np.uint32)
    with pytest.raises(QuestionError, match="Inf or NaN"):
        hull(FLOAT32, infinite, infinite, 1, np.zeros(1, np.int64))
    with pytest.raises(QuestionError, match="-1 faults"):
        hull(FLOAT32, infinite * 0, infinite, -1, np.zeros(1, np.int64))
