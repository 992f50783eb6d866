"""The claim about answers to secret inputs: decided exactly, both ways."""

from fractions import Fraction

import marks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.watermarks.answers import largest
from proofs.watermarks.check import check_mark

SCHEMES = {
    "triggers": f'scheme = "triggers"\nseed = "{marks.SEED}"\nclasses = 3\npoints = "keys.npy"',
    "blackmarks": (
        f'scheme = "blackmarks"\nseed = "{marks.SEED}"\npoints = "keys.npy"\n'
        f"clusters = [0, 1, 1]\nhits = {[0] * 12}\nmodels = 3"
    ),
}


def verdict(asked, claims):
    return check_mark(asked, marks.evidence(asked, claims))[0].verdict


@pytest.mark.parametrize("mark", SCHEMES.values(), ids=SCHEMES)
def test_answers_are_counted(tmp_path, mark):
    draw = np.random.default_rng(2)
    weight, points = draw.normal(size=(6, 3)).astype(np.float32), draw.uniform(size=(12, 6))
    marks.model(tmp_path / "net.onnx", weight)
    np.save(tmp_path / "keys.npy", points)
    asked = marks.question(tmp_path, 'kind = "answers"\nat_least = 0', mark)
    outputs = np.maximum(points @ weight.astype(float), 0)
    unique = np.sum(outputs == outputs.max(axis=1, keepdims=True), axis=1) == 1
    right = asked.mark.matching(np.argmax(outputs, axis=1))
    count = int(np.sum(unique & right))
    unclear = int(np.sum(~unique))
    assert 0 < count < 12
    for at_least in range(13):
        asked = marks.question(tmp_path, f'kind = "answers"\nat_least = {at_least}', mark)
        holds, fails = count >= at_least, count + unclear < at_least
        assert verdict(asked, "unsat") == ("valid unsat" if holds else "invalid")
        assert verdict(asked, "sat") == ("valid sat" if fails else "invalid")


def test_a_tie_is_no_answer(tmp_path):
    marks.model(tmp_path / "net.onnx", np.zeros((6, 3)))
    np.save(tmp_path / "keys.npy", np.ones((12, 6)))
    asked = marks.question(tmp_path, 'kind = "answers"\nat_least = 1', SCHEMES["triggers"])
    checked, facts = check_mark(asked, marks.evidence(asked))
    assert checked.verdict == "invalid"
    assert dict(facts)["matches"] == "0 of 12"
    assert dict(facts)["ties, or too close to tell"] == "12"


def test_false_claims_of_triggers_take_the_number_of_classes(tmp_path):
    marks.model(tmp_path / "net.onnx", np.ones((6, 10)))
    mark = f'scheme = "triggers"\nseed = "{marks.SEED}"\nclasses = 10\ncount = 100\nsize = 6'
    claim = 'kind = "false_claim"\nat_least = 40\nlevel = "2^-48"'
    asked = marks.question(tmp_path, claim, mark)
    checked, facts = check_mark(asked, marks.evidence(asked))
    assert checked.verdict == "valid unsat"
    assert dict(facts)["probability"] == "2^-48.27"
    asked = marks.question(tmp_path, claim.replace("48", "49"), mark)
    assert verdict(asked, "unsat") == "invalid"
    assert verdict(asked, "sat") == "valid sat"


def test_false_claims_of_blackmarks_take_measured_rates(tmp_path):
    marks.model(tmp_path / "net.onnx", np.ones((6, 3)))
    np.save(tmp_path / "keys.npy", np.ones((12, 6)))
    mark = SCHEMES["blackmarks"].replace("models = 3", "models = 1000")
    rates = marks.question(tmp_path, 'kind = "answers"\nat_least = 1', mark).mark.null
    tail = np.prod([float(r) for r in rates])
    for level, wanted in ((tail * 1.001, "valid unsat"), (tail * 0.999, "invalid")):
        claim = f'kind = "false_claim"\nat_least = 12\nlevel = {level:.30f}'
        assert verdict(marks.question(tmp_path, claim, mark), "unsat") == wanted
    always = mark.replace(str([0] * 12), str([1000] * 12))
    claim = 'kind = "false_claim"\nat_least = 12\nlevel = 0.999'
    assert verdict(marks.question(tmp_path, claim, always), "unsat") == "invalid"


VALUES = st.tuples(
    st.fractions(-2, 2, max_denominator=4), st.sampled_from((Fraction(0), Fraction(1, 8)))
)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_the_largest_output_is_larger_wherever_enclosures_are(outputs):
    found = largest(outputs)
    sure = [
        place
        for place, (c, r) in enumerate(outputs)
        if all(c - r > d + s for other, (d, s) in enumerate(outputs) if other != place)
    ]
    assert [found] == (sure or [None])
