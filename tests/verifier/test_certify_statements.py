"""``[range]``, ``[monotonicity]``, ``[agreement]``, ``[vnnlib]`` and ``[semantic]`` are true."""

from __future__ import annotations

import shutil
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import farkas
from specs.errors import InputError, ModelError
from specs.onnx_reader import read_model_bytes
from specs.query import ModelFile
from tests.faulty_models import graph_bytes, node
from tests.verifier.certify_files import HEAD, folder_with, part, run
from tests.verifier.test_reuse import SIZES, weights
from verifier.certify import questions
from verifier.certify.config import load_config
from verifier.certify.images import AMOUNTS, DEGREE, Amounts, Normal, changed
from verifier.certify.monotonicity import falls, raised
from verifier.certify.prefix import differences
from verifier.faults.judge import exact_outputs
from verifier.verdict import Verdict


def outputs_of(content, point):
    network = read_model_bytes(content, None, "made")
    return np.array([float(v) for v, _ in exact_outputs(network, np.asarray(point, float))])


def image_model(size):
    """The outputs are the pixels."""
    return ModelFile(None, graph_bytes([node("Identity", "x", "y")], (1, size), {}), "0" * 64)


# ------------------------------------------------------------------------------------ images

LIMITS = {
    "shift_y": (-3, 3),
    "shift_x": (-3, 3),
    "rotation": (-40, 40),
    "contrast": (0, 2),
    "brightness": (-1, 1),
}


def reference(image, given, clipped=True):
    """Bilinear interpolation, pixel by pixel."""
    height, width = image.shape[1:]
    angle = given.get("rotation", 0.0) * DEGREE
    down, right = (height - 1) / 2, (width - 1) / 2
    found = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            y = (i - down) * np.cos(angle) + (j - right) * np.sin(angle)
            x = (j - right) * np.cos(angle) - (i - down) * np.sin(angle)
            y, x = y - given.get("shift_y", 0) + down, x - given.get("shift_x", 0) + right
            for k in range(height):
                for m in range(width):
                    weight = max(0, 1 - abs(y - k)) * max(0, 1 - abs(x - m))
                    found[:, i, j] += weight * image[:, k, m]
    found = found * given.get("contrast", 1) + given.get("brightness", 0)
    return np.clip(found, 0, 1) if clipped else found


@given(st.sets(st.sampled_from(AMOUNTS), min_size=1), st.integers(1, 2), st.data())
@settings(max_examples=25, deadline=None)
def test_the_operators_in_front_change_the_image_as_is_said(names, channels, data):
    shape = (channels, 3, 4)
    image = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape)
    used = {name: data.draw(st.integers(8 * a, 8 * b)) / 8 for name, (a, b) in LIMITS.items()}
    used = {name: used[name] for name in AMOUNTS if name in names}
    amounts = Amounts(
        {name: (Fraction(-9), Fraction(9)) for name in names}, (Fraction(0), Fraction(1))
    )
    assert amounts.names == tuple(used)
    file = image_model(image.size)
    content = changed(file, image.reshape(-1), shape, amounts)
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    fed = {session.get_inputs()[0].name: np.array(list(used.values()), np.float32)}
    (found,) = session.run(None, fed)
    assert np.allclose(found.reshape(shape), reference(image, used), atol=2e-5)
    read_model_bytes(content, None, "made")


@given(st.sets(st.sampled_from(AMOUNTS), min_size=1), st.booleans(), st.data())
@settings(max_examples=20, deadline=None)
def test_pixels_of_normalised_images_are_changed(names, clipped, data):
    """What is done to pixels ``p``, seen through ``(p - mean) / std``."""
    shape, rng = (3, 3, 4), np.random.default_rng(data.draw(st.integers(0, 99)))
    pixels = rng.random(shape)
    normal = Normal((Fraction("0.485"), Fraction("0.456"), Fraction("0.4")), (Fraction("0.2"),))
    mean = np.array([0.485, 0.456, 0.4]).reshape(3, 1, 1)
    used = {name: data.draw(st.integers(8 * a, 8 * b)) / 8 for name, (a, b) in LIMITS.items()}
    used = {name: used[name] for name in AMOUNTS if name in names}
    clip = (Fraction(0), Fraction(1)) if clipped else None
    amounts = Amounts({name: (Fraction(-9), Fraction(9)) for name in names}, clip, normal)
    content = changed(image_model(36), ((pixels - mean) / 0.2).reshape(-1), shape, amounts)
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    (found,) = session.run(None, {"prefix/parameters": np.array(list(used.values()), np.float32)})
    wanted = reference(pixels, used, clipped)
    assert np.allclose(found.reshape(shape) * 0.2 + mean, wanted, atol=2e-5)


def test_a_normalised_image_that_is_not_changed_is_the_sample():
    image = np.array([1 / 3, -0.1, 0.7, 2.0])
    normal = Normal((Fraction(1, 10),), (Fraction(3, 10),))
    amounts = Amounts({"contrast": (Fraction(0), Fraction(1))}, None, normal)
    network = read_model_bytes(changed(image_model(4), image, (1, 2, 2), amounts), None, "made")
    assert [v for v, _ in exact_outputs(network, np.array([1.0]))] == list(map(Fraction, image))


def test_the_preparation_of_the_data_is_undone(tmp_path):
    """Darkened so that all pixels are 0: the sample is ``-mean / std``, whatever it was."""
    text = HEAD + "mean = 0.5\nstd = 0.25\n[semantic]\nshape = [2, 2]\nclip = [0, 1]\n"
    path = folder_with(tmp_path, text + "brightness = [-9, -8]\nlabel = 'predicted'\n", count=1)
    outcome = run(path)
    (made,) = (tmp_path / "out/evidence/models").glob("*.onnx")
    dark = outputs_of((tmp_path / "net.onnx").read_bytes(), np.full(4, -2.0))
    assert outputs_of(made.read_bytes(), [-8.5]).tolist() == dark.tolist()
    assert any("before mean and std" in line for line in part(outcome).assumptions)
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) in (0, 1)


def test_pixels_are_stored_exactly():
    """A third is no float32; brightness of 0 leaves the number that float64 holds."""
    image = np.array([1 / 3, 0.1, 0.7, 1.0])
    amounts = Amounts({"brightness": (Fraction(0), Fraction(1))})
    content = changed(image_model(4), image, (1, 2, 2), amounts)
    network = read_model_bytes(content, None, "made")
    exact = [v for v, _ in exact_outputs(network, np.array([0.0]))]
    assert exact == [Fraction(x) for x in image.tolist()]


def test_an_image_of_another_size_is_refused():
    amounts = Amounts({"brightness": (Fraction(0), Fraction(1))})
    with pytest.raises(ModelError, match="4 numbers for an input of shape"):
        changed(image_model(6), np.ones(4), (1, 2, 2), amounts)


SEMANTIC = """[[semantic]]
shape = [2, 2]
brightness = [-0.01, 0.01]
contrast = [0.99, 1.01]
label = "predicted"
certified = 0.5
[[semantic]]
shape = [2, 2]
rotation = [-1, 1]
shift_x = [-0.01, 0.01]
label = "predicted"
"""


def test_changed_images_have_proofs(tmp_path):
    path = folder_with(tmp_path, SEMANTIC, count=2)
    outcome = run(path)
    assert outcome.verdict == "proved"
    for number in (0, 1):
        assert part(outcome, number).facts["proved"] >= 1
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_rows_of_channels_are_no_planes(tmp_path):
    path = folder_with(tmp_path, "[semantic]\nshift_x = [0, 1]\n", sizes=(8, 3, 3))
    np.save(tmp_path / "x.npy", np.zeros((2, 2, 2, 2)))
    data = '[data]\npoints = "x.npy"\nlayout = "HWC"\n[semantic]'
    text = path.read_text().partition("[data]")[0] + data
    path.write_text(text + "\nshift_x = [0, 1]\n")
    with pytest.raises(InputError, match="channels, height, width"):
        load_config(path)


@pytest.mark.parametrize("name", ["prefix/parameters", "prefix/t0"])
def test_names_of_inputs_do_not_meet_those_in_front(name):
    model = onnx.ModelProto.FromString(image_model(4).content)
    old, model.graph.input[0].name = model.graph.input[0].name, name
    for own in model.graph.node:
        for place, each in enumerate(own.input):
            own.input[place] = name if each == old else each
    file = ModelFile(None, model.SerializeToString(), "0" * 64)
    with pytest.raises(ModelError, match="names begin with"):
        differences(file)


# --------------------------------------------------------------------------------- statements


@given(st.integers(0, 50), st.data())
@settings(max_examples=15, deadline=None)
def test_the_raised_copy(seed, data):
    from tests.faulty_models import dense_model

    file = ModelFile(None, dense_model((3, 4, 2), seed=seed), "0" * 64)
    content = raised(file, [2, 0])
    x = [data.draw(st.integers(-8, 8)) / 4 for _ in range(3)]
    steps = [data.draw(st.integers(0, 8)) / 4 for _ in range(2)]
    both = outputs_of(content, [*x, *steps])
    up = [x[0] + steps[1], x[1], x[2] + steps[0]]
    assert np.allclose(both[:2], outputs_of(file.content, x), atol=0)
    assert np.allclose(both[2:], outputs_of(file.content, up), atol=0)


@given(st.lists(st.fractions(-1, 3, max_denominator=4), min_size=3, max_size=3))
def test_the_raised_inputs_stay_in_the_box(point):
    box = ((Fraction(0), Fraction(0)), (Fraction(1), Fraction(2)))
    (case,) = falls(box, [1], 0, 1, False).cases
    inside = all(a <= x <= b for a, x, b in zip(case.lower, point, case.upper, strict=True))
    inside = inside and all(c.holds(point, []) for c in case.constraints)
    x, y, step = point
    assert inside == (0 <= x <= 1 and y >= 0 and step >= 0 and y + step <= 2)
    ((wrong,),) = case.unsafe
    assert wrong.holds(point, [Fraction(1), Fraction(0)])
    assert not wrong.holds(point, [Fraction(1), Fraction(1)])
    ((wrong,),) = falls(box, [1], 0, 1, False, Fraction(1, 2)).cases[0].unsafe
    assert not wrong.holds(point, [Fraction(1), Fraction(1, 2)])
    assert wrong.holds(point, [Fraction(1), Fraction(1, 4)])


def monotone(tmp_path, sign, direction, text="domain = [-1, 1]"):
    """A network whose second output rises with input 0, and with input 1 if ``sign`` is 1."""
    path = folder_with(
        tmp_path,
        f'{HEAD}[monotonicity]\n{text}\noutput = 1\nfeatures = [0, 1]\ndirection = "{direction}"\n'
        "holds = 1\nslack = 0.01\n[limits]\ntimeout = 300\n",
        sizes=(4, 3, 3),
    )
    weights = np.array([[1, 1, 0], [0, sign, 2]], np.float32).T
    stored = {
        "w": np.vstack([weights, np.ones((1, 2), np.float32)]),
        "v": np.eye(2, dtype=np.float32),
    }
    nodes = [node("MatMul", "x w", "z"), node("Relu", "z", "h"), node("MatMul", "h v", "y")]
    (tmp_path / "net.onnx").write_bytes(graph_bytes(nodes, (1, 4), stored))
    return path


@pytest.mark.parametrize(
    ("sign", "direction", "verdict"),
    [(1, "increasing", "proved"), (-1, "increasing", "refuted"), (1, "decreasing", "refuted")],
    ids=["rises", "falls with one", "the other way"],
)
def test_monotonicity(sign, direction, verdict, tmp_path):
    outcome = run(monotone(tmp_path, sign, direction))
    assert outcome.verdict == verdict
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


RANGES = {
    "proved": ("minimum = -1000\nmaximum = 1000", "proved"),
    "refuted": ("maximum = -1000", "refuted"),
    "quotient": ('minimum = -1000\nupper = 1\nlower = [0, 0, 0, "1/3"]', "proved"),
    "samples": ("minimum = -1000\nradius = 0.1\nfirst = 2", "proved"),
}


@pytest.mark.parametrize("name", list(RANGES))
def test_ranges(name, tmp_path):
    text, verdict = RANGES[name]
    if "lower" not in text and "radius" not in text:
        text += "\ndomain = [0, 1]"
    path = folder_with(tmp_path, f"[range]\noutput = 2\nholds = 1\n{text}\n")
    outcome = run(path)
    assert outcome.verdict == verdict
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_agreement_is_that_of_the_faults_section(tmp_path):
    text = '[agreement]\nother = "b"\nat_most = 0.01\ndomain = [0, 1]\nagreed = 1\n'
    path = folder_with(tmp_path, text)
    shutil.copy(tmp_path / "net.onnx", tmp_path / "b.onnx")
    path.write_text(path.read_text().replace("[data]", 'b = "b.onnx"\n[data]'))
    assert run(path).verdict == "proved"


PROPERTY = """(declare-const X_0 Real)(declare-const X_1 Real)(declare-const X_2 Real)
(declare-const X_3 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)(declare-const Y_2 Real)
(assert (<= X_0 1))(assert (>= X_0 0))(assert (<= X_1 1))(assert (>= X_1 0))
(assert (<= X_2 1))(assert (>= X_2 0))(assert (<= X_3 1))(assert (>= X_3 0))
(assert (>= Y_0 LIMIT))
"""


def test_property_files(tmp_path):
    path = folder_with(tmp_path, '[vnnlib]\nproperties = ["a.vnnlib", "b.vnnlib"]\nholds = 0.5\n')
    (tmp_path / "a.vnnlib").write_text(PROPERTY.replace("LIMIT", "1000"))
    (tmp_path / "b.vnnlib").write_text(PROPERTY.replace("LIMIT", "(- 1000)"))
    outcome = run(path)
    assert part(outcome).facts == {"proved": 1, "refuted": 1, "questions": 2}
    assert outcome.verdict == "proved"
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_the_proof_of_another_model_is_tried(tmp_path):
    text = "[range]\noutput = 0\nmaximum = 1\ndomain = [-1, 1]\n"
    path = folder_with(tmp_path, text, sizes=SIZES)
    asked = []
    for noise in (0.0, 0.001):
        (tmp_path / "net.onnx").write_bytes(weights(noise=noise)[1].content)
        made = run(path)
        assert (made.done, made.found) == (1, 0)
        asked.append(part(made).asked[0])
    assert [each.verdict for each in asked] == ["proved", "proved"]
    assert asked[0].origin == "searched"
    assert asked[1].origin in ("reused", "mended")
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_what_an_old_proof_leaves_open_is_searched_anew(tmp_path, monkeypatch):
    text = "[limits]\ntimeout = 40\n[range]\noutput = 0\nmaximum = 1\ndomain = [-1, 1]\n"
    path = folder_with(tmp_path, text, sizes=SIZES)
    (tmp_path / "net.onnx").write_bytes(weights(noise=0.0)[1].content)
    run(path)
    (tmp_path / "net.onnx").write_bytes(weights(noise=0.001)[1].content)
    whole, tried = questions.verify, []

    def verify(query, options):
        tried.append((options.reuse is not None, options.timeout))
        return Verdict("timeout", "") if options.reuse is not None else whole(query, options)

    monkeypatch.setattr(questions, "verify", verify)
    assert part(run(path)).asked[0].verdict == "proved"
    (first, half), (second, rest) = tried
    assert (first, half, second) == (True, 20.0, False)
    assert 20 <= rest <= 40


def test_proofs_without_hints_are_not_tried_on_other_models(tmp_path):
    """The kernel tries the empty proof anyway; trying it twice only costs."""
    path = folder_with(tmp_path, "[range]\noutput = 0\ndomain = [0, 1]\nmaximum = 1000\n")
    first = part(run(path)).asked[0]
    assert (first.verdict, first.origin) == ("proved", "searched")
    assert not (tmp_path / "out/hints").exists()


def test_evidence_without_its_result_costs_one_check(tmp_path, monkeypatch):
    path = folder_with(tmp_path, "[range]\noutput = 0\ndomain = [0, 1]\nmaximum = 1000\n")
    run(path)
    shutil.rmtree(tmp_path / "out/results")
    monkeypatch.setattr("verifier.certify.questions.verify", None)
    assert part(run(path)).asked[0].origin == "kept"


WRONG = {
    "range: no limit": ("[range]\noutput = 0\ndomain = [0, 1]", "minimum or a maximum"),
    "range: no region": ("[range]\noutput = 0\nmaximum = 1", "needs one of domain"),
    "range: two": (
        "[range]\noutput = 0\nmaximum = 1\ndomain = [0, 1]\nradius = 1",
        "one of domain",
    ),
    "range: output": ("[range]\noutput = 3\nmaximum = 1\ndomain = [0, 1]", "from 0 to 2"),
    "range: order": ("[range]\noutput = 0\nmaximum = 1\nlower = 1\nupper = 0", "exceeds"),
    "range: key": ("[range]\noutput = 0\nmaximum = 1\ndomain = [0, 1]\nholdz = 1", "'holdz'"),
    "monotone: features": ("[monotonicity]\noutput = 0\ndomain = [0, 1]", "one input or more"),
    "vnnlib: none": ("[vnnlib]", "one property file or more"),
    "vnnlib: absent": ('[vnnlib]\nproperties = ["x.vnnlib"]', "x.vnnlib"),
    "semantic: nothing": ("[semantic]\nshape = [2, 2]", "needs one of shift_y"),
    "semantic: shape": ("[semantic]\nrotation = [0, 1]", "'shape' must be"),
    "semantic: clip": (
        "[semantic]\nshape = [2, 2]\nrotation = [0, 1]\nclip = [0, 0.1]",
        "no float",
    ),
    "agreement: other": ("[agreement]\nat_most = 1\ndomain = [0, 1]", "'other' must name"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_wrong_is_said_with_its_line(name, tmp_path):
    text, words = WRONG[name]
    path = folder_with(tmp_path, f"{text}\n")
    with pytest.raises(InputError, match=words) as error:
        load_config(path)
    assert "c.toml:" in str(error.value)
