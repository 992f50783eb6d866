"""Counterexamples of the sections beside what they are near."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.onnx_reader import read_model
from verifier.certify.images import Amounts, changed, changed_image
from verifier.certify.pairs import Near, class_words, outputs_at, pairs, point_of
from verifier.certify.watermark.budgets import Budget, draw

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORK, MODEL = read_model(EXAMPLES / "digits.onnx")
IMAGE = np.load(EXAMPLES / "digits.npz")["images"][0] / 16.0
RANGES = {
    "shift_y": (Fraction(-1), Fraction(1)),
    "rotation": (Fraction(-20), Fraction(20)),
    "contrast": (Fraction(1, 2), Fraction(2)),
    "brightness": (Fraction(-1, 4), Fraction(1, 4)),
}


def test_only_counterexamples_are_shown_and_not_too_many():
    near = Near("sample 3", np.zeros(2))
    values = {"answer": "sat", "witness": ["1/2", "-3"]}
    found = [(values, near.pair)] * 40
    found += [({"answer": "unsat"}, near.pair), (values, None)]
    shown = list(pairs(found))
    assert len(shown) == 12
    assert shown[0].changed.tolist() == [0.5, -3.0]
    assert list(pairs(found[-2:])) == []


def test_the_middle_of_a_box_is_said_to_be_one():
    near = Near.middle("the domain", ((Fraction(0), Fraction(1)), (Fraction(1), Fraction(1))))
    assert near.point.tolist() == [0.5, 1.0]
    assert near.pair(np.ones(2)).kinds == ("middle of the region", "counterexample")


def test_classes_and_ties_are_said_in_words(monkeypatch):
    assert class_words(NETWORK, IMAGE) == "class 8"
    monkeypatch.setattr("verifier.certify.pairs.outputs_at", lambda *_: np.array([1.0, 1.0, 0.0]))
    assert class_words(NETWORK, IMAGE) == "a tie of 2 classes"


@settings(max_examples=8, deadline=None)
@given(st.sets(st.sampled_from(sorted(RANGES)), min_size=1), st.floats(0, 1), st.booleans())
def test_an_image_is_shown_as_the_question_has_it(names, share, clip):
    """The classifier says of the image what the model with operators in front says of amounts."""
    ends = (Fraction(0), Fraction(1)) if clip else None
    amounts = Amounts({name: RANGES[name] for name in names}, ends)
    low, high = (np.array([float(x) for x in side]) for side in amounts.box)
    at = low + share * (high - low)
    shown = changed_image(IMAGE, (1, 8, 8), amounts, at)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(changed(MODEL, IMAGE, (1, 8, 8), amounts))
    feed = {session.get_inputs()[0].name: at.astype(np.float32)}
    seen = np.asarray(session.run(None, feed)[0]).ravel()
    assert outputs_at(NETWORK, shown) == pytest.approx(seen, abs=1e-3)


def test_witnesses_are_rounded_to_floats():
    assert point_of(["1/3", "2"]).tolist() == [1 / 3, 2.0]


@pytest.mark.parametrize("alike", [False, True], ids=["own axes", "one axis"])
def test_bars_of_budgets_end_where_they_should(alike):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    draw(
        [
            Budget("a", Fraction(1, 2), Fraction(3, 4), Fraction(6, 10)),
            Budget("b", Fraction(0), None),
        ],
        alike=alike,
    )(figure)
    one, two = figure.axes
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in one.patches]
    assert spans == [(0.0, 0.5), (0.5, 0.75), (0.75, pytest.approx(0.875))]
    assert [line.get_xdata()[0] for line in one.lines] == [pytest.approx(0.6)]
    assert len(two.patches) == 1
    assert two.get_xlim()[1] == pytest.approx(0.875 if alike else 1.0)
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert sorted(words) == ["open", "proved", "refuted", "threshold"]
