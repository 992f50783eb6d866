"""Words of every format: what they stand for, and the nearest to a value."""

from __future__ import annotations

import struct
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import QuestionError
from specs.faults.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FixedFormat,
    IntegerFormat,
    channels_of,
    symmetric,
)

F32 = float(np.float32(0.1))
SMALL = [
    FLOAT16,
    BFLOAT16,
    IntegerFormat(8, (F32,), (3,)),
    IntegerFormat(8, (0.25,), (200,), signed=False),
    IntegerFormat(5, (F32,)),
    IntegerFormat(16, (2.0**-9,), (-7,)),
    FixedFormat(3, 4),
    FixedFormat(0, 15),
]
NATIVE = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
VALUES = st.one_of(
    st.floats(-300.0, 300.0),
    st.floats(-(2.0**-10), 2.0**-10),
    st.integers(-4000, 4000).map(lambda n: n / 32),
)


def one(format):
    return np.zeros(1, dtype=np.int64)


@pytest.mark.parametrize("format", SMALL, ids=lambda f: f.text)
def test_every_word_that_is_a_number_is_its_own_nearest(format):
    words = np.arange(1 << format.bits, dtype=np.uint32)
    channel = np.zeros(words.size, dtype=np.int64)
    values, number = format.decode(words, channel)
    assert np.all(np.isnan(values) == ~number)
    assert np.array_equal(format.encode(values[number], channel[number]), words[number])


@pytest.mark.parametrize("format", [FLOAT32, FLOAT16, BFLOAT16], ids=lambda f: f.name)
def test_words_are_those_of_the_machine(format):
    rng = np.random.default_rng(0)
    words = rng.integers(0, 1 << format.bits, size=5000, dtype=np.uint32)
    words[:4] = [0, 1 << (format.bits - 1), 1, (1 << format.bits) - 1]
    stored = words if format.bits == 32 else words.astype(np.uint16)
    with np.errstate(invalid="ignore"):
        native = stored.view(NATIVE[format.name]).astype(np.float64)
    values, number = format.decode(words, np.zeros(5000, dtype=np.int64))
    assert np.array_equal(number, np.isfinite(native))
    assert np.array_equal(values[number], native[number])
    assert np.array_equal(np.signbit(values[number]), np.signbit(native[number]))


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False), bit=st.integers(0, 31))
def test_a_flip_is_one_of_the_float_s_bytes(value, bit):
    word = FLOAT32.encode(np.array([value]), one(FLOAT32))
    assert int(word[0]) == struct.unpack("<I", struct.pack("<f", value))[0]
    struck = struct.unpack("<f", struct.pack("<I", int(word[0]) ^ (1 << bit)))[0]
    found, number = FLOAT32.decode(word ^ np.uint32(1 << bit), one(FLOAT32))
    assert number[0] == np.isfinite(struck)
    assert found[0] == struck or not number[0]


@settings(max_examples=200, deadline=None)
@given(value=VALUES, which=st.sampled_from(SMALL))
def test_nearest_with_ties_to_the_even_word(value, which):
    words = np.arange(1 << which.bits, dtype=np.uint32)
    values, number = which.decode(words, np.zeros(words.size, dtype=np.int64))
    word = which.encode(np.array([value]), one(which))[0]
    mine = which.decode(np.array([word]), one(which))[0][0]
    near = values[number][np.argsort(np.abs(values[number] - value))[:4]]
    gaps = [abs(Fraction(float(v)) - Fraction(value)) for v in near]
    own = abs(Fraction(float(mine)) - Fraction(value))
    assert own == min(gaps)
    if sum(gap == own for gap in gaps) > 1 and mine != 0:
        zero = which.zero[0] if isinstance(which, IntegerFormat) else 0
        assert (int(word) - zero) % 2 == 0


def test_integers_saturate():
    eight = IntegerFormat(8, (0.5,), (10,))
    values = np.array([1e300, -1e300, 58.4, 58.6, -69.0])
    words = eight.encode(values, np.zeros(5, dtype=np.int64))
    assert eight.decode(words, np.zeros(5, dtype=np.int64))[0].tolist() == [
        58.5,
        -69.0,
        58.5,
        58.5,
        -69.0,
    ]
    fixed = FixedFormat(15, 16)
    words = fixed.encode(np.array([1e300, -1e300]), np.zeros(2, dtype=np.int64))
    assert words.tolist() == [0x7FFFFFFF, 0x80000000]
    assert fixed.bits == 32


def test_a_quotient_that_rounds_to_a_tie_is_decided_by_the_value():
    scale = float(np.float32(0.1))
    eight = IntegerFormat(8, (scale,))
    tie = Fraction(5, 2) * Fraction(scale)
    assert float(tie) == tie
    values = np.array([float(tie), np.nextafter(float(tie), 1), np.nextafter(float(tie), 0)])
    assert eight.encode(values, np.zeros(3, dtype=np.int64)).tolist() == [2, 3, 2]


def test_a_symmetric_scale_reaches_the_largest_magnitude():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 5)).astype(np.float32).astype(np.float64)
    values[2] = 0.0
    one_scale = symmetric(values, 8)
    assert one_scale.scale == (float(np.float32(np.abs(values).max() / 127)),)
    rows = symmetric(values, 8, axis=0)
    assert rows.channels == 4
    assert rows.scale[2] == 1.0
    words = rows.encode(values.reshape(-1), channels_of(rows, values.shape))
    whole = rows.decode(words, channels_of(rows, values.shape))[0].reshape(4, 5)
    steps = np.abs(whole / np.array(rows.scale)[:, None])
    assert np.array_equal(np.delete(steps.max(axis=1).round(), 2), [127.0] * 3)
    assert np.all(np.abs(whole - values) <= np.array(rows.scale)[:, None] * 0.51)


def test_channels_lie_along_their_axis():
    columns = IntegerFormat(8, (1.0, 2.0, 4.0), (0, 0, 0), axis=1)
    assert channels_of(columns, (2, 3)).tolist() == [0, 1, 2, 0, 1, 2]
    assert channels_of(FLOAT32, (2, 3)).tolist() == [0] * 6
    assert columns.decode(np.array([1, 1, 1], np.uint32), np.arange(3))[0].tolist() == [1, 2, 4]
    for shape in ((3, 2), (3,), (2, 4)):
        with pytest.raises(QuestionError, match="3 scales along axis 1 do not fit"):
            channels_of(columns, shape)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntegerFormat(1), "integers of 1 bits"),
        (lambda: IntegerFormat(17), "integers of 17 bits"),
        (lambda: IntegerFormat(8, (0.1,)), "no positive float32"),
        (lambda: IntegerFormat(8, (-1.0,)), "no positive float32"),
        (lambda: IntegerFormat(8, (float("nan"),)), "no positive float32"),
        (lambda: IntegerFormat(8, (1.0, 1.0), (0,)), "2 scales and 1 zero points"),
        (lambda: IntegerFormat(8, (), ()), "0 scales"),
        (lambda: IntegerFormat(8, (1.0,), (128,)), r"outside \[-128, 127\]"),
        (lambda: IntegerFormat(8, (1.0,), (-1,), False), r"outside \[0, 255\]"),
        (lambda: FixedFormat(16, 16), "32 bits"),
        (lambda: FixedFormat(-1, 8), "Q-1.8"),
        (lambda: FixedFormat(0, 0), "2 to 32 bits"),
        (lambda: FLOAT16.encode(np.array([65520.0]), np.zeros(1, int)), "beyond the range"),
        (lambda: FLOAT32.encode(np.array([np.inf]), np.zeros(1, int)), "not finite"),
        (lambda: SMALL[2].encode(np.array([np.nan]), np.zeros(1, int)), "not finite"),
        (lambda: SMALL[6].encode(np.array([-np.inf]), np.zeros(1, int)), "not finite"),
        (lambda: symmetric(np.array([np.inf]), 8), "not finite"),
    ],
)
def test_refused(make, message):
    with pytest.raises(QuestionError, match=message):
        make()
