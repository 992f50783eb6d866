"""What ``farkas certify`` says, against enumeration and against what it was not told."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from proofs.evaluate import evaluate
from specs.errors import InputError, ModelError, QuestionError
from specs.faults.memory import Quantised, store
from specs.faults.placed import place_model, read_placed
from specs.onnx_reader import read_model_bytes
from tests.faulty_models import dense_model, graph_bytes, model_file, node
from tests.verifier.certify_files import folder_with, part, run
from tests.verifier.random_graphs import random_graph
from tests.verifier.test_fault_ranges import replaced
from verifier.certify import questions
from verifier.certify.config import load_config
from verifier.certify.faults.stand import label_at
from verifier.certify.models import side_by_side, stored_model
from verifier.certify.section import Record, Task, at_least, at_most, shown
from verifier.certify.store import Store
from verifier.faults.floats import Floats
from verifier.faults.judge import exact_outputs, exact_verdict
from verifier.faults.ranges import vulnerability_ranges
from verifier.faults.several import GRID, tails_above
from verifier.progress import Progress
from verifier.verdict import Verdict


@settings(deadline=None, max_examples=60)
@given(
    units=st.lists(st.sampled_from([0, 0, 1, 31, 32, 63, 64]), min_size=1, max_size=6),
    rate=st.fractions(min_value=0, max_value=Fraction(2, 5), max_denominator=30),
)
def test_a_harmful_cell_that_fails_with_harmless_ones_counts_as_several(units, rate):
    """Cells that cost nothing are among the two that fail."""
    counts = np.bincount(units, minlength=GRID + 1)
    exact = Fraction(0)
    for failed in itertools.product((0, 1), repeat=len(units)):
        if sum(failed) >= 2 and sum(u * f for u, f in zip(units, failed, strict=True)) >= GRID:
            exact += rate ** sum(failed) * (1 - rate) ** (len(units) - sum(failed))
    assert exact <= Fraction(float(tails_above(counts[None], [rate])[0, 0]))


def sdc(memory, points, labels, cells, rate, kinds, noticed=True):
    """The probability that a prediction changes, by all patterns of failures; exact.

    Args:
        cells: ``(name, entry, bit)`` of all stored bits.
        kinds: what a failed cell may read: 0, 1, or ``"flip"``; the worst is taken, pattern by
            pattern.
    """
    total = Fraction(0)
    for failed in itertools.product((0, 1), repeat=len(cells)):
        struck = [cell for cell, bad in zip(cells, failed, strict=True) if bad]
        weight = rate ** len(struck) * (1 - rate) ** (len(cells) - len(struck))
        harm = [False] * len(points)
        for reads in itertools.product(kinds, repeat=len(struck)):
            words = {name: stored.words.copy() for name, stored in memory.stored.items()}
            for (name, entry, bit), read in zip(struck, reads, strict=True):
                place = np.uint32(1 << bit)
                old = words[name][entry]
                new = {0: old & ~place, 1: old | place, "flip": old ^ place}[read]
                words[name][entry] = new
            values, numbers = {}, True
            for name, stored in memory.stored.items():
                found, number = stored.decode(np.arange(stored.words.size), words[name])
                values[name], numbers = found, numbers and bool(number.all())
            if not numbers:
                harm = [h or not noticed for h in harm]
                continue
            network = memory.placed.with_values(values)
            for row, (point, label) in enumerate(zip(points, labels, strict=True)):
                if not harm[row]:
                    harm[row] = exact_verdict(exact_outputs(network, point), label) is not True
        total += weight * sum(harm) / len(points)
    return total


def tiny(tmp_path, text, weights, bias=None, count=3, seed=0):
    """One or two sums, and samples; returns the configuration's path."""
    rng = np.random.default_rng(seed)
    stored, nodes = {"w": np.array(weights, np.float32)}, [node("MatMul", "x w", "y")]
    if bias is not None:
        stored["b"] = np.array(bias, np.float32)
        nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "y")]
    path = folder_with(tmp_path, text, sizes=(1, 2), count=count, seed=seed)
    (tmp_path / "net.onnx").write_bytes(graph_bytes(nodes, (1, 1), stored))
    points = rng.normal(size=(count, 1)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=points, y=np.zeros(count, np.int64))
    return path


RATES = (Fraction(1, 100), Fraction(1, 5), Fraction(49, 100), Fraction(4, 5), Fraction(1))
MODELS = {
    "flips": ('model = "bit_flips"', ("flip",)),
    "zero": ('model = "stuck_at"\nreads = 0', (0,)),
    "one": ('model = "stuck_at"\nreads = 1', (1,)),
    "either": ('model = "stuck_at"', (0, 1)),
}


def probability_case(tmp_path, kind, format, bits, more, seed):
    """The bounds that are printed, and what enumeration finds."""
    stated, kinds = MODELS[kind]
    where = f"bits = {bits}\n" if bits is not None else ""
    text = (
        f'[faults]\n{stated}\nformat = "{format}"\n{where}[faults.probability]\n'
        f"rates = [0.01, 0.2, 0.49, 0.8, 1]\nraw_fit = 1\n{more}"
    )
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(1, 2)).round(1)
    path = tiny(tmp_path, text, weights, seed=seed, count=2)
    try:
        found = part(run(path)).facts
    except InputError:  # a tie without faults
        return None
    memory = store(read_placed(tmp_path / "net.onnx"), Quantised(int(format[3:])))
    points = np.load(tmp_path / "data.npz")["x"].astype(np.float64)
    labels = [
        int(outputs[1][0] > outputs[0][0])
        for outputs in (exact_outputs(memory.network, point) for point in points)
    ]
    width = memory.stored["w"].format.bits
    cells = [("w", entry, bit) for entry in range(2) for bit in range(width)]
    exact = {r: sdc(memory, points, labels, cells, r, kinds) for r in RATES}
    return found, exact


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize("more", ["", "proved = { k = 2 }\n"], ids=["plain", "proved"])
def test_bounds_of_probabilities_cover_all_patterns(tmp_path, kind, more):
    for seed in range(2):
        bits = (None, [0, 1])[seed]
        case = probability_case(tmp_path, kind, "int3", bits, more, seed)
        if case is None:
            continue
        found, exact = case
        for rate, total in exact.items():
            assert total <= Fraction(found["bounds"][shown(rate)])


def test_proofs_about_other_readings_are_no_proofs_about_these(tmp_path):
    """Cells stuck at 0 say nothing about cells that may be stuck at 1."""
    text = (
        '[faults]\nmodel = "stuck_at"\n{reads}format = "int3"\n[faults.probability]\n'
        "rates = [0.2]\nproved = {{ k = 2, {proved} }}\n"
    )
    for number, (reads, proved, good) in enumerate(
        [
            ("", "reads = 0", False),
            ("reads = 1\n", "reads = 0", False),
            ("reads = 1\n", "reads = 1", True),
            ("", "bits = [0]", True),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = tiny(folder, text.format(reads=reads, proved=proved), [[1.0, -0.6]])
        if good:
            load_config(path)
            continue
        with pytest.raises(QuestionError, match="same stored words and faults"):
            load_config(path)


def test_what_is_stored_in_a_format_belongs_to_the_result(tmp_path):
    """Which parameters are rounded is what the table says now."""
    text = (
        '[faults]\nmodel = "bit_flips"\ntensors = ["{name}"]\n[faults.precision]\n'
        'formats = ["int2"]\n'
    )
    path = folder_with(tmp_path, text.format(name="b0"), count=30)
    first = run(path)
    path.write_text(path.read_text().replace('"b0"', '"w1"'))
    second = run(path)
    assert second.found == 0
    folder = tmp_path / "fresh"
    folder.mkdir()
    fresh = run(folder_with(folder, text.format(name="w1"), count=30))
    assert part(second).facts == part(fresh).facts
    assert any("b0" in line for line in part(first).lines)


def named_model(inputs, name="w", scale=1.0, output="y"):
    """``inputs[0] * w - inputs[1] * v``."""
    made = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, (1, 2)) for n in inputs]
    weights = {name: np.full((1, 2), scale, np.float32), "v": np.full((1, 2), 0.5, np.float32)}
    content = graph_bytes(
        [
            node("Mul", f"{inputs[0]} {name}", "p"),
            node("Mul", f"{inputs[1]} v", "q"),
            node("Sub", "p q", output),
        ],
        (1, 2),
        weights,
        output=output,
    )
    model = onnx.ModelProto.FromString(content)
    del model.graph.input[:]
    model.graph.input.extend(made)
    return model.SerializeToString()


def test_two_models_whose_stored_names_clash(tmp_path):
    """An initializer of the first that is called as one of the second is going to be."""
    first = named_model(("a", "b"), "other/w", 1.0)
    second = named_model(("a", "b"), "w", 3.0)
    with pytest.raises(ModelError, match="begin with 'other/'"):
        side_by_side(model_file(first), model_file(second))


def test_two_models_whose_inputs_are_in_another_order():
    first, second = named_model(("a", "b")), named_model(("b", "a"))
    with pytest.raises(ModelError, match="another order"):
        side_by_side(model_file(first), model_file(second))
    side_by_side(model_file(first), model_file(named_model(("c", "d"))))


def test_one_output_has_no_classes_to_agree_on(tmp_path):
    text = (
        '[models]\nnet = "net.onnx"\nother = "other.onnx"\n[faults]\n[faults.agreement]\n'
        'other = "other"\nclasses = true\ndomain = [0, 1]\n'
    )
    path = folder_with(tmp_path, text, sizes=(2, 1))
    (tmp_path / "other.onnx").write_bytes(dense_model((2, 1), seed=1))
    with pytest.raises(InputError, match="two outputs"):
        load_config(path)


def test_thresholds_are_shown_as_they_are():
    asked = Fraction(99999999, 100000000)
    judged = at_least("share", asked, Fraction(999999999, 10**9), 1)
    assert judged.asked == "share at least 0.99999999"
    assert at_most("P", Fraction(10000001, 10**13), 1e-7).asked == "P at most 0.0000010000001"
    assert shown(Fraction(1, 10**6)) == "1e-06"
    assert shown(0.1) == "0.1"


def test_rates_that_look_alike_are_kept_apart(tmp_path):
    text = (
        '[faults]\nmodel = "bit_flips"\nformat = "int3"\n[faults.probability]\n'
        "rates = [0.01, 0.01000000001]\n"
    )
    facts = part(run(tiny(tmp_path, text, [[1.0, -0.6]]))).facts
    assert len(facts["bounds"]) == 2


@pytest.mark.parametrize(
    "asked",
    [
        "[faults.certificate]\nradius = 0.5\nclip = [-0.1, 0.1]\n",
        '[faults.ranges]\ntensor = "h0"\nwithin = [-1, 1]\nradius = 0.5\nclip = [-0.1, 0.1]\n',
        '[faults.precision]\nformats = ["int8"]\nradius = 0.5\nclip = [-0.1, 0.1]\n',
        '[faults.agreement]\nother = "b"\nat_most = 9\nradius = 0.5\nclip = [-0.1, 0.1]\n',
    ],
    ids=["certificate", "ranges", "precision", "agreement"],
)
def test_a_region_that_is_cut_is_said_to_be_cut(asked, tmp_path):
    text = (
        '[models]\na = "net.onnx"\nb = "b.onnx"\n[data]\nfile = "data.npz"\npoints = "x"\n'
        '[limits]\ntimeout = 5\n[faults]\nmodel = "bit_flips"\nformat = "int8"\n' + asked
    )
    path = folder_with(tmp_path, text, sizes=(2, 2, 2), count=1)
    (tmp_path / "b.onnx").write_bytes(dense_model((2, 2, 2), seed=3))
    points = np.array([[0.05, -0.05]])
    np.savez(tmp_path / "data.npz", x=points)
    assert any("[-0.1, 0.1]" in line for line in part(run(path)).lines)


ASKED_TWICE = (
    '[models]\nnet = "net.onnx"\n[data]\nfile = "data.npz"\npoints = "x"\nfirst = 1\n'
    '[limits]\ntimeout = 20\n[faults]\n[faults.precision]\nformats = ["Q3.20", "Q3.24"]\n'
    "radius = 0.0625\n"
)


def test_evidence_of_a_question_that_is_asked_again(tmp_path, monkeypatch):
    """The second time, the search finds nothing: what it found before still stands."""
    path = folder_with(tmp_path, ASKED_TWICE, sizes=(2, 2, 2), seed=1)
    first = run(path)
    results = sorted((tmp_path / "out/results").iterdir())
    evidence = {p.name: p.read_bytes() for p in (tmp_path / "out/evidence").glob("*.*")}
    assert {name.split(".")[-1] for name in evidence} == {"toml", "farkas"}
    monkeypatch.setattr(questions, "verify", lambda *given: Verdict("timeout", "too slow"))
    results[0].unlink()
    again = run(path)
    assert (again.done, again.found) == (1, 1)
    assert part(again).facts == part(first).facts
    assert {p.name: p.read_bytes() for p in (tmp_path / "out/evidence").glob("*.*")} == evidence


@pytest.mark.parametrize("damage", ["value", "proof", "question", "model"])
def test_a_result_whose_evidence_was_changed_is_made_again(damage, tmp_path):
    text = (
        '[faults]\nmodel = "bit_flips"\nformat = "int8"\nbits = [0]\n[faults.certificate]\n'
        "first = 1\ncertified = 1\n"
    )
    path = folder_with(tmp_path, text, sizes=(2, 2, 2), seed=1)
    assert run(path).verdict == "proved"
    assert run(path).found == 1
    out = tmp_path / "out"
    kinds = {"value": "results/*.json", "proof": "evidence/*.farkas"}
    kinds |= {"question": "evidence/*.toml", "model": "evidence/models/*"}
    (file,) = out.glob(kinds[damage])
    content = file.read_bytes()
    if damage == "value":
        file.write_bytes(content.replace(b'"label": ', b'"label": 1'))
    else:
        file.write_bytes(content[:-20])
    again = run(path)
    assert (again.done, again.verdict) == (1, "proved")
    assert run(path).found == 1


def test_a_damaged_proof_is_not_taken_for_one(tmp_path):
    store_, task = Store(tmp_path), Task("t", ("a",), lambda place: Record())
    place = store_.place(task, Progress(enabled=False))
    (place.evidence / "p").write_text("one")
    store_.save(task, Record({"evidence": ["p"], "n": 1}))
    assert store_.load(task) is not None
    (place.evidence / "p").write_text("other")
    assert store_.load(task) is None


@pytest.mark.parametrize(
    ("points", "scale", "message"),
    [
        (np.array([[2**53 + 1]]), None, "float64"),
        (np.array([[np.longdouble(1) / 3]]), None, "float64"),
        (np.array([[1e300]]), "1e-300", "not finite"),
        (np.array([[np.nan]]), None, "not finite"),
        (np.zeros((0, 1)), None, "no sample"),
    ],
    ids=["integer", "longdouble", "scale", "nan", "none"],
)
def test_samples_that_are_not_what_was_stored(points, scale, message, tmp_path):
    text = '[faults]\n[faults.precision]\nformats = ["int8"]\n'
    path = folder_with(tmp_path, text, sizes=(1, 2))
    np.savez(tmp_path / "data.npz", x=points, y=np.zeros(len(points), np.int64))
    if scale is not None:
        path.write_text(path.read_text().replace("labels", f"scale = {scale}\nlabels"))
    with pytest.raises(QuestionError, match=message):
        load_config(path)


def close(first, second) -> bool:
    """Whether outputs are the same, within their enclosures."""
    pairs = zip(first, second, strict=True)
    return all(abs(a[0] - b[0]) <= a[1] + b[1] < Fraction(1, 10**60) for a, b in pairs)


@pytest.mark.parametrize("seed", range(30))
def test_models_side_by_side_and_with_stored_values(seed):
    rng = np.random.default_rng(seed)
    first, second = (random_graph(rng)[0] for _ in range(2))
    networks = [read_model_bytes(content, None, "net") for content in (first, second)]
    point = [Fraction(float(x)) for x in rng.normal(size=networks[0].input_size)]
    if networks[0].input_size == networks[1].input_size:
        joined = side_by_side(model_file(first), model_file(second))
        wanted = [each for network in networks for each in evaluate(network, point)]
        assert close(wanted, evaluate(read_model_bytes(joined, None, "net"), point))
    format = (Quantised(4), Quantised(8, axis=0), Quantised(8, False, (0.25,), (3,)))[seed % 3]
    try:
        memory = store(place_model(model_file(first)), format)
    except QuestionError:
        return
    written = read_model_bytes(stored_model(memory), None, "net")
    assert close(evaluate(memory.network, point), evaluate(written, point))


@pytest.mark.parametrize("seed", range(30))
def test_ranges_of_random_graphs(seed):
    """Ties, dead Relus, tensors that several read, and that are outputs."""
    rng = np.random.default_rng(seed)
    content, names = random_graph(rng)
    name = str(rng.choice(names))
    network = place_model(model_file(content), (), (name,)).network
    point = rng.integers(-2, 3, size=network.input_size) / 2
    label = label_at(network, point) if name in network.tensors else None
    if label is None:
        return  # nothing depends on the tensor, or a tie
    floats, number = Floats(network), network.tensors[name]
    tensors = dict(enumerate(floats.run(point[None], sharp=True)))
    low, high = sorted(rng.choice([-8.0, -1, -0.5, 0, 1, 3, 20], size=2, replace=False))
    found = vulnerability_ranges(floats, tensors, number, label, (low, high))
    for entry, (a, b) in enumerate(zip(found.lower, found.upper, strict=True)):
        inside = [(value, True) for value in (a, b, rng.uniform(a, b))]
        beyond = [(v, False) for v in (found.below[entry], found.above[entry]) if np.isfinite(v)]
        for value, stands in inside + beyond:
            faulty = replaced(network, number, entry, float(value))
            assert exact_verdict(exact_outputs(faulty, point), label) is stands


def test_cells_that_are_left_out_are_spoken_of(tmp_path):
    text = (
        '[faults]\nmodel = "bit_flips"\nformat = "int8"\nk = 2\nexcept = [["w0", 0, 7]]\n'
        "[faults.several]\n"
    )
    lines = part(run(folder_with(tmp_path, text))).lines
    assert any("except 1 cells" in line for line in lines)
