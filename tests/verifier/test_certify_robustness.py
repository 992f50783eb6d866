"""``[robustness]``: verdicts are true, radii follow from each other, thresholds judge."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import farkas
from specs.document import read_document
from specs.errors import InputError
from specs.onnx_reader import read_model
from tests.faulty_models import node
from tests.linear_models import linear_model
from tests.verifier.certify_files import HEAD, folder_with, part, run
from verifier.certify import questions
from verifier.certify.balls import Change, root_above
from verifier.certify.config import load_config
from verifier.certify.data import Pixels, read_data
from verifier.certify.pairs import class_words
from verifier.certify.prefix import differences
from verifier.certify.questions import Stated
from verifier.certify.robustness import OUTSIDE
from verifier.certify.sweep import CERTIFIED, OPEN, VIOLATED, Sweep
from verifier.certify.table import Table
from verifier.faults.judge import exact_outputs
from verifier.verdict import Verdict

SWEEP = '[robustness]\nradii = [0.01, "1/3", 1, 5]\n'


def asked(path):
    found = run(path)
    return part(found).facts


# ------------------------------------------------------------------------------------ sweeps


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_sweep_without_open_questions_takes_few(count, first, unused):
    """The least violated radius is found by halving."""
    sweep = Sweep([Fraction(k) for k in range(count)])
    asked = 0
    while (place := sweep.next) is not None:
        asked += 1
        if place < first:
            sweep.certified(place)
        else:
            sweep.violated(place)
    bad = min(first, count)
    assert sweep.verdicts == [CERTIFIED] * bad + [VIOLATED] * (count - bad)
    assert asked <= count.bit_length()


@given(st.integers(1, 7), st.data())
def test_a_sweep_ends_whatever_the_answers(count, data):
    low = data.draw(st.integers(0, count))
    high = data.draw(st.integers(low, count))
    sweep = Sweep([Fraction(k) for k in range(count)])
    places = []
    while (place := sweep.next) is not None:
        places.append(place)
        if place < low:
            sweep.certified(place)
        elif place >= high:
            sweep.violated(place)
        else:
            sweep.left_open(place)
    assert len(places) == len(set(places))
    middle = high - low
    assert sweep.verdicts == [CERTIFIED] * low + [OPEN] * middle + [VIOLATED] * (count - high)


def test_a_near_violation_speaks_of_smaller_radii():
    sweep = Sweep([Fraction(1), Fraction(2), Fraction(3)])
    sweep.violated(2)
    sweep.found(Fraction(3, 2))
    assert sweep.verdicts == [OPEN, VIOLATED, VIOLATED]
    sweep.found(Fraction(9))
    assert sweep.verdicts == [OPEN, VIOLATED, VIOLATED]


def test_contradicting_answers_are_refused():
    sweep = Sweep([Fraction(1), Fraction(2)])
    sweep.violated(0)
    sweep.certified(1)
    with pytest.raises(ValueError, match="certified"):
        _ = sweep.verdicts


def test_radii_ascend():
    with pytest.raises(ValueError, match="ascend"):
        Sweep([Fraction(1), Fraction(1)])


# ----------------------------------------------------------------------------------- regions

SMALL = st.fractions(-3, 3, max_denominator=8)


@given(st.sampled_from(["l1", "l2"]), st.lists(SMALL, min_size=2, max_size=2), st.data())
@settings(max_examples=60, deadline=None)
def test_the_ball_and_its_question_hold_the_same_points(norm, step, data):
    """Every point of the ball is ``w - v`` of the region; of L1, no other is."""
    point = [Fraction(1, 2), Fraction(-1, 4)]
    radius = data.draw(st.fractions(Fraction(1, 8), 3, max_denominator=8))
    change = Change(norm, (Fraction(-2), Fraction(2)))
    stated = change.question(point, radius, 0, 2)
    assert isinstance(stated, Stated)
    case = read(stated).cases[0]
    other = [x + d for x, d in zip(point, step, strict=True)]
    spread = [max(x, y) for x, y in zip(point, other, strict=True)]
    spread += [max(x - y, Fraction(0)) for x, y in zip(point, other, strict=True)]
    inside = all(a <= x <= b for a, x, b in zip(case.lower, spread, case.upper, strict=True))
    inside = inside and all(c.holds(spread, []) for c in case.constraints)
    assert change.input_of(spread, 2) == tuple(other)
    clipped = all(-2 <= x <= 2 for x in other)
    near = clipped and change.distance(point, other) <= radius
    if norm == "l1":
        assert inside == near
    elif near:
        assert inside


def read(stated):
    from specs.source import Source
    from specs.vnnlib1 import read_vnnlib1

    return read_vnnlib1(Source("q", stated.beside.decode()), 4, 2)


@given(st.fractions(0, 1000, max_denominator=1000))
def test_roots_are_above(number):
    root = root_above(number)
    assert root * root >= number
    assert root <= 0 or (root * (1 - Fraction(1, 10**12))) ** 2 < number


def test_the_network_of_differences(tmp_path):
    folder_with(tmp_path, SWEEP)
    network, file = read_model(tmp_path / "net.onnx")
    (tmp_path / "two.onnx").write_bytes(differences(file))
    both, _ = read_model(tmp_path / "two.onnx")
    w, v = np.array([1.0, 2.0, -1.0, 0.5]), np.array([0.25, 0.0, 1.0, 0.5])
    assert both.input_size == 8
    assert exact_outputs(both, np.concatenate([w, v])) == exact_outputs(network, w - v)


# ---------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_verdicts_are_true(norm, tmp_path):
    path = folder_with(tmp_path, f'{SWEEP}norm = "{norm}"\n', sizes=(3, 3, 3), count=3)
    found = run(path)
    facts = part(found).facts
    network, _ = read_model(tmp_path / "net.onnx")
    points = load_config(path).setting.data.points
    rng = np.random.default_rng(1)
    records = json.loads(json.dumps(facts))["questions"]
    assert {each["answer"] for each in records} >= {"sat"}
    for each in records:
        point, radius = points[each["sample"]], Fraction(each["radius"])
        label = load_config(path).setting.data.labels[each["sample"]]
        if each["answer"] == "sat":
            other = [Fraction(x) for x in each["witness"]]
            outputs = [
                value for value, _ in exact_outputs(network, np.array(list(map(float, other))))
            ]
            assert Fraction(each["distance"]) <= radius
            assert max(outputs) - outputs[label] > -1e-9
        elif each["answer"] == "unsat":
            steps = rng.normal(size=(20, 3))
            order = {"linf": np.inf, "l1": 1, "l2": 2}[norm]
            steps *= 0.999 * float(radius) / np.linalg.norm(steps, order, axis=1)[:, None]
            for step in steps:
                outputs = [float(value) for value, _ in exact_outputs(network, point + step)]
                assert np.argmax(outputs) == label
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_a_violation_beside_the_ball_is_none_of_it(tmp_path):
    """A plane that cuts a corner off the octagon around a disc, and not the disc."""
    text = '[robustness]\nnorm = "l2"\nradii = [1, 1.125]\n'
    path = folder_with(tmp_path, text, sizes=(2, 2), count=1)
    slope = np.sqrt(2) - 1
    weights = np.array([-1.0, -slope]) / np.hypot(1, slope)
    (tmp_path / "net.onnx").write_bytes(linear_model(weights.tolist(), 1.04))
    np.savez(tmp_path / "data.npz", x=np.zeros((1, 2)), y=np.zeros(1, np.int64))
    found = part(run(path))
    inner = [each for each in found.facts["questions"] if each["radius"] == "1"]
    assert [each["answer"] for each in inner] == ["unknown"]
    assert inner[0]["reason"] == OUTSIDE
    assert Fraction(inner[0]["distance"]) > 1
    curve = [(each["certified"], each["at_most"]) for each in found.facts["curve"]]
    assert curve == [("0", "1"), ("0", "0")]


def test_the_curve_falls_and_bounds_the_truth(tmp_path):
    facts = asked(folder_with(tmp_path, SWEEP, count=5))
    low = [Fraction(each["certified"]) for each in facts["curve"]]
    high = [Fraction(each["at_most"]) for each in facts["curve"]]
    assert low == sorted(low, reverse=True)
    assert high == sorted(high, reverse=True)
    assert all(a <= b <= Fraction(facts["clean_accuracy"]) for a, b in zip(low, high, strict=True))


THRESHOLDS = {
    "proved": ("certified_stability = [{ radius = 0.001, at_least = 0.5 }]", 0),
    "refuted": ("certified_stability = [{ radius = 100, at_least = 0.5 }]", 1),
    "of the true label": ('label = "true"\ncertified_accuracy = 1', 1),
    "by one radius": ("certified_stability = 0", 0),
}


@pytest.mark.parametrize("name", list(THRESHOLDS))
def test_thresholds(name, tmp_path):
    text, code = THRESHOLDS[name]
    label = "" if "label" in text else 'label = "predicted"\n'
    path = folder_with(tmp_path, f"[robustness]\nradius = 0.001\n{label}{text}\n")
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "o")]) == code


def test_a_question_left_open_is_not_asked_again(tmp_path, monkeypatch):
    count = 0

    def verify(*given):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return Verdict("timeout", "out of time")

    monkeypatch.setattr(questions, "verify", verify)
    path = folder_with(tmp_path, SWEEP + 'label = "predicted"\n', count=1)
    with pytest.raises(KeyboardInterrupt):
        run(path)
    found = run(path)
    assert count == 5  # four radii, one of them twice
    assert "4 questions: 4 left open" in part(found).lines


@pytest.mark.parametrize("left", ['{"1/8": ', "[1]", "7"])
def test_damaged_notes_of_an_interrupted_run_are_forgotten(left, tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "verify", lambda *_: Verdict("timeout", "out of time"))
    path = folder_with(tmp_path, SWEEP + 'label = "predicted"\n', count=1)
    run(path)
    (notes,) = tmp_path.glob("out/scratch/*/open.json")
    notes.write_text(left)
    for result in tmp_path.glob("out/results/*"):
        result.unlink()
    assert "4 questions: 4 left open" in part(run(path)).lines


def test_features_that_may_not_change_do_not(tmp_path):
    text = (
        '[robustness]\nlabel = "predicted"\nlower_change = 100\n'
        "upper_change = [100, 100, 100, 100]\n"
    )
    path = folder_with(tmp_path, text)
    free = {each["answer"] for each in asked(path)["questions"]}
    assert free == {"sat"}
    path.write_text(path.read_text() + "immutable = [0, 1, 2, 3]\n")
    kept = asked(path)["questions"]
    assert {each["answer"] for each in kept} == {"unsat"}


def test_a_sample_outside_the_clip_is_no_violation_of_itself(tmp_path):
    text = "[robustness]\nradius = 5.0\nclip = [0, 1]\n"
    path = folder_with(tmp_path, text, sizes=(2, 3, 3))
    points = np.load(tmp_path / "data.npz")["x"]
    assert np.any(points < 0)
    found = run(path)
    rows = part(found).facts["questions"]
    outside = [k for k, point in enumerate(points) if np.any((point < 0) | (point > 1))]
    assert {each["radius"] for each in rows if each["sample"] in outside} == {"5"}


def test_what_the_model_says_of_a_sample_stands_beside_its_label(tmp_path):
    path = folder_with(tmp_path, "[robustness]\nradius = 5.0\nclip = [0, 1]\n", sizes=(2, 3, 3))
    pairs, network = part(run(path)).pairs, read_model(tmp_path / "net.onnx")[0]
    labels = np.load(tmp_path / "data.npz")["y"]
    wrong = 0
    for pair in pairs:
        said, label = class_words(network, pair.original), labels[int(pair.name.split()[1][:-1])]
        wrong += said != f"class {label}"
        assert pair.before == said + ("" if said == f"class {label}" else f", labelled {label}")
    assert wrong


def test_a_sample_outside_the_clip_of_a_norm_is_refused(tmp_path):
    text = '[robustness]\nradius = 5.0\nnorm = "l1"\nclip = [0, 1]\n'
    with pytest.raises(InputError, match="lies outside the clip"):
        load_config(folder_with(tmp_path, text, sizes=(2, 3, 3)))


WRONG = {
    "no radius": ("", "needs a radius"),
    "both": ("radius = 1\nradii = [1]", "exclude each other"),
    "negative": ("radius = -1", "at least 0"),
    "quotient": ('radius = "1/0"', "is no quotient"),
    "norm": ('radius = 1\nnorm = "l3"', "must be one of"),
    "count": ("lower_change = [1, 2]\nupper_change = 1", "wanted: 4"),
    "one side": ("lower_change = 1", "go together"),
    "index": ("lower_change = 1\nupper_change = 1\nimmutable = [4]", "from 0 to 3"),
    "which radius": ("radii = [1, 2]\ncertified_accuracy = 1", "which radius"),
    "stability": ("radius = 1\ncertified_stability = 1", "label = 'predicted'"),
    "unknown": ("radius = 1\nepsilon = 1", "unknown key 'epsilon'"),
    "clip": ("radius = 1\nclip = [10, 11]", "leaves nothing"),
    "net": ('radius = 1\nnet = "a"', "has no 'a'"),
    "threshold": ("radii = [1, 2]\ncertified_accuracy = { radius = 1 }", "needs radius"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_wrong_is_said_with_its_line(name, tmp_path):
    text, words = WRONG[name]
    path = folder_with(tmp_path, f"[robustness]\n{text}\n")
    with pytest.raises(InputError, match=words) as error:
        load_config(path)
    assert "c.toml:" in str(error.value)


def test_several_tables_are_several_answers(tmp_path):
    path = folder_with(tmp_path, "[[robustness]]\nradius = 0\n[[robustness]]\nradii = []\n")
    with pytest.raises(InputError, match=r"c.toml:9:1: \[robustness\] needs"):
        load_config(path)
    path.write_text(path.read_text().replace("radii = []", "radius = 1"))
    assert len(load_config(path).answers["robustness"]) == 2


# ------------------------------------------------------------------------------------- pixels

MEAN, STD = Fraction(1, 2), Fraction(1, 4)


@given(
    st.sampled_from(["linf", "l1", "l2"]),
    st.lists(SMALL, min_size=2, max_size=2),
    st.lists(SMALL, min_size=2, max_size=2),
    st.fractions(Fraction(1, 8), 3, max_denominator=8),
)
@settings(max_examples=20, deadline=None)
def test_changes_of_pixels_are_changes_of_samples(norm, point, other, radius):
    """With ``x = (p - mean) / std``, here without rounding."""
    plain = Change(norm, (Fraction(-3), Fraction(3)))
    assume(plain.holds(point))
    stds = (STD, 2 * STD)
    change = Change(norm, plain.clip, pixels=Pixels((MEAN,), stds, (2, 1, 1), 0))

    def seen(pixels):
        return [(p - MEAN) / s for p, s in zip(pixels, stds, strict=True)]

    assert change.holds(seen(point)) == plain.holds(point)
    if norm != "l2":
        assert change.distance(seen(point), seen(other)) == plain.distance(point, other)
    assert change.box(seen(point), radius) == tuple(
        tuple(seen(side)) for side in plain.box(point, radius)
    )
    if norm != "linf":
        both = (plain, point, other), (change, seen(point), seen(other))
        inside = []
        for own, x, y in both:
            case = read(own.question(x, radius, 0, 2)).cases[0]
            spread = [max(a, b) for a, b in zip(x, y, strict=True)]
            spread += [max(a - b, Fraction(0)) for a, b in zip(x, y, strict=True)]
            limits = zip(case.lower, spread, case.upper, strict=True)
            held = all(c.holds(spread, []) for c in case.constraints)
            inside.append(held and all(a <= z <= b for a, z, b in limits))
        assert inside[0] == inside[1]


def test_channels_have_their_own_sizes():
    mean, std = (Fraction(0), Fraction(1)), (Fraction(1), Fraction(3))
    assert Pixels(mean, std, (2, 1, 2), 0).stds == (1, 1, 3, 3)
    assert Pixels(mean, std, (1, 2, 2), 2).stds == (1, 3, 1, 3)
    assert Pixels(mean, std, (1, 2, 2), 2).at(Fraction(4)) == (4, 1, 4, 1)


def test_black_lies_inside_the_clip_however_it_was_rounded(tmp_path):
    table = "folder = 'd'\nscale = 255\nmean = [0.485]\nstd = [0.229]\n"
    (tmp_path / "d").mkdir()
    np.save(tmp_path / "d/a.npy", np.array([[[0, 255, 17]]], np.uint8))
    path = tmp_path / "c.toml"
    path.write_text(f"[data]\n{table}")
    data = read_data(Table.of(read_document(path), "data"))
    change = Change("l1", (Fraction(0), Fraction(1)), pixels=data.pixels)
    assert change.holds([Fraction(x) for x in data.points[0].tolist()])


@pytest.mark.parametrize("norm", ["linf", "l1", "l2"])
def test_a_model_that_normalises_by_itself_gets_the_same_answers(norm, tmp_path):
    keys = f'norm = "{norm}"\nradii = [0.002, 3]\nclip = [-4, 4]\nfirst = 2\nlabel = "predicted"\n'
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    first = folder_with(inside, f"[robustness]\n{keys}")
    text = HEAD + f"mean = 0.5\nstd = 0.25\n[robustness]\npixels = true\n{keys}"
    second = folder_with(outside, text)
    model = onnx.load(inside / "net.onnx")
    graph, name = model.graph, model.graph.input[0].name
    graph.input[0].name = "raw"
    for each, value in (("m", 0.5), ("s", 0.25)):
        graph.initializer.append(numpy_helper.from_array(np.float32(value), each))
    made = [node("Sub", "raw m", "less"), node("Div", "less s", name), *graph.node]
    del graph.node[:]
    graph.node.extend(made)
    onnx.save(model, inside / "net.onnx")
    found = [part(run(path)) for path in (first, second)]
    assert found[0].facts["curve"] == found[1].facts["curve"]
    assert "all of pixels before mean and std" in found[1].lines[0]
    assert farkas.main(["check", str(outside / "out/evidence")]) in (0, 1)


def test_pixels_need_a_preparation(tmp_path):
    path = folder_with(tmp_path, "[robustness]\nradius = 0.1\npixels = true\n")
    with pytest.raises(InputError, match=r"c.toml:9:1: 'pixels' is about mean and std"):
        load_config(path)
