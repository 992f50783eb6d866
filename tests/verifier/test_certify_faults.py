"""The answers of [faults] on tiny networks, against exact evaluation and enumeration."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

import numpy as np
import pytest

import farkas
from proofs.check import check_file
from proofs.evaluate import evaluate
from specs.errors import ModelError, QuestionError
from specs.faults.formats import BFLOAT16, FLOAT16, FixedFormat
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips
from specs.faults.placed import place_model, read_placed
from specs.faults.sites import cells
from specs.onnx_reader import read_model
from specs.question import load_question
from specs.source import Source
from specs.vnnlib1 import read_unsafe
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from tests.verifier.certify_files import HEAD, folder_with, part, plain, run
from verifier.certify.config import load_config
from verifier.certify.faults.agreement import apart, otherwise
from verifier.certify.models import side_by_side, stored_model
from verifier.faults.judge import exact_outputs, exact_verdict
from verifier.faults.maps import single_fault_maps
from verifier.toml import toml

FLIPS = '[faults]\nmodel = "bit_flips"\nformat = "int8"\n'


def checked(folder):
    """What the kernel says of each piece of the evidence folder."""
    found = []
    for question in sorted((folder / "out/evidence").glob("*.toml")):
        (evidence,) = (
            path for path in question.parent.glob(f"{question.stem}.*") if path.suffix != ".toml"
        )
        found.append(check_file(load_question(question), evidence).verdict)
    return found


def samples(folder):
    return np.load(folder / "data.npz")["x"].astype(np.float64)


def test_a_map_is_that_of_all_samples_at_once(tmp_path):
    path = folder_with(tmp_path, FLIPS + "[faults.map]\n", count=20)
    facts = part(run(path)).facts
    memory = store(read_placed(tmp_path / "net.onnx"), Quantised(8))
    maps = single_fault_maps(cells(memory, BitFlips()), samples(tmp_path))
    totals = maps.totals
    assert facts["benign"] == totals["benign"]
    assert facts["critical"] == totals["critical"]
    assert facts["no number"] == totals["not a number"]
    bad = sum(int(each.critical.sum()) for each in maps.maps.values())
    assert Fraction(facts["benign_mean"]) == 1 - Fraction(bad, 20 * totals["faults"])
    for name, each in maps.maps.items():
        table = each.by_bit(8)
        assert facts["by_tensor"][name]["benign"] == table["benign"].tolist()
        assert facts["by_tensor"][name]["critical"] == table["critical"].tolist()


def test_a_map_names_the_first_sample(tmp_path):
    text = HEAD + "start = 2\n" + FLIPS + "[faults.map]\n"
    outcome = part(run(folder_with(tmp_path, text, count=20)))
    memory = store(read_placed(tmp_path / "net.onnx"), Quantised(8))
    points = samples(tmp_path)
    (rows,) = (table for table in outcome.tables if table.title.startswith("Critical"))
    assert rows.rows
    for word, bit, _, value, changed, first in rows.rows[:3]:
        name, entry = re.fullmatch(r"(\w+)\[(\d+)\]", word).groups()
        network = struck(memory, [(name, int(entry), int(bit))])
        flipped = memory.stored[name].words[[int(entry)]] ^ np.uint32(1 << int(bit))
        (faulty,), _ = memory.stored[name].decode(np.array([int(entry)]), flipped)
        assert float(value) == pytest.approx(faulty, rel=1e-5)
        hits = [
            k
            for k in range(2, 20)
            if predicts(network, points[k]) != predicts(memory.network, points[k])
        ]
        assert (len(hits), hits[0]) == (int(changed), int(first))


def predicts(network, point):
    outputs = exact_outputs(network, point)
    best = max(range(len(outputs)), key=lambda k: outputs[k][0])
    return best if exact_verdict(outputs, best) else None


def test_a_sample_without_a_prediction_is_named(tmp_path, capsys):
    path = folder_with(tmp_path, FLIPS + "[faults.map]\n", sizes=(2, 2))
    tie = graph_bytes([node("MatMul", "x w", "y")], (1, 2), {"w": np.ones((2, 2), np.float32)})
    (tmp_path / "net.onnx").write_bytes(tie)
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 3
    assert "samples 0 to 2: point 0" in capsys.readouterr().err


def test_certificates_against_enumeration(tmp_path):
    """Every pair of faults at a certified sample; every witness is one."""
    text = FLIPS + "[faults.certificate]\nk = 2\nbits = [2, 3]\ncertified = 0\n"
    path = folder_with(tmp_path, text, sizes=(2, 2, 2), count=3, seed=5)
    found = part(run(path))
    assert found.facts["proved"] > 0
    memory = store(read_placed(tmp_path / "net.onnx"), Quantised(8))
    places = [
        (name, entry, bit)
        for name, stored in memory.stored.items()
        for entry in range(stored.words.size)
        for bit in (2, 3)
    ]
    verdicts = [row[1] for row in found.tables[0].rows]
    for point, verdict in zip(samples(tmp_path), verdicts, strict=True):
        label = predicts(memory.network, point)
        harmless = all(
            predicts(struck(memory, pair), point) == label
            for pair in itertools.combinations(places, 2)
        )
        assert verdict != "proved" or harmless
        assert verdict != "refuted" or not harmless
    kinds = {"proved": "valid unsat", "refuted": "valid sat"}
    assert sorted(checked(tmp_path)) == sorted(kinds[v] for v in verdicts if v in kinds)


def struck(memory, faults):
    words = {name: stored.words.copy() for name, stored in memory.stored.items()}
    for name, entry, bit in faults:
        words[name][entry] ^= np.uint32(1 << bit)
    values = {
        name: stored.decode(np.arange(stored.words.size), words[name])[0]
        for name, stored in memory.stored.items()
    }
    return memory.placed.with_values(values)


def test_ranges_over_boxes_hold(tmp_path):
    text = (
        '[faults]\n[faults.ranges]\ntensor = "h0"\nwithin = [-8, 8]\nradius = 0.01\n'
        'per = "channel"\ncovers = [0, 0]\ncovered = 0\n'
    )
    path = folder_with(tmp_path, text, sizes=(2, 3, 2), count=1, seed=1)
    found = part(run(path)).facts["ranges"]
    assert len(found) == 3
    proved = [each for each in found if each["range"] is not None]
    assert proved
    network = place_model(model_file((tmp_path / "net.onnx").read_bytes()), ()).network
    points = samples(tmp_path)
    rng = np.random.default_rng(0)
    from tests.verifier.test_fault_ranges import replaced

    for each in proved:
        low, high = (float(Fraction(end)) for end in each["range"])
        point, entry = points[each["sample"]], int(each["channel"])
        label = predicts(network, point)
        for value in (low, high, rng.uniform(low, high)):
            shifted = point + rng.choice([-0.01, 0.0, 0.01], size=2) * (1 - 2.0**-30)
            faulty = replaced(network, network.tensors["h0"], entry, value)
            assert predicts(faulty, shifted) == label
    assert checked(tmp_path) == ["valid unsat"] * len(proved)


def test_ranges_at_samples_judge_what_they_hold(tmp_path):
    text = (
        '[faults]\n[faults.ranges]\ntensor = "h0"\nwithin = [-9, 9]\n'
        "covers = {covers}\ncovered = {share}\n"
    )
    verdicts = []
    for covers, share in (("[0, 0.001]", "0.3"), ("[-9, 9]", "0.999"), ("[-9, 9]", "0")):
        path = folder_with(tmp_path, text.format(covers=covers, share=share))
        verdicts.append(run(path).verdict)
    assert verdicts == ["proved", "refuted", "proved"]


FORMATS = ["int8", "int2", "float16", "Q2.1"]
CHOICES = [Quantised(8), Quantised(2), FLOAT16, FixedFormat(2, 1)]


def test_precision_at_samples_against_exact_evaluation(tmp_path):
    text = f"[faults]\n[faults.precision]\nformats = {FORMATS}\nunchanged = 0\n"
    path = folder_with(tmp_path, text, count=12)
    facts = part(run(path)).facts
    placed = read_placed(tmp_path / "net.onnx")
    changed = 0
    for name, choice in zip(FORMATS, CHOICES, strict=True):
        network = store(placed, choice).network
        for point, verdict in zip(
            samples(tmp_path), facts[f"stored {name}"]["by_sample"], strict=True
        ):
            same = predicts(network, point) == predicts(placed.network, point)
            assert verdict == ("unchanged" if same else "changed")
            changed += not same
    assert changed > 0


def test_precision_on_boxes(tmp_path):
    text = (
        '[faults]\n[faults.precision]\nformats = ["int2", "int8"]\nradius = 0.01\n'
        "[limits]\ntimeout = 10\n"
    )
    path = folder_with(tmp_path, text, sizes=(2, 3, 2), count=3, seed=2)
    facts = part(run(path)).facts
    placed = read_placed(tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    for name, choice in (("int2", Quantised(2)), ("int8", Quantised(8))):
        network = store(placed, choice).network
        for point, verdict in zip(
            samples(tmp_path), facts[f"stored {name}"]["by_sample"], strict=True
        ):
            near = [point + rng.uniform(-0.0099, 0.0099, size=2) for _ in range(8)]
            same = [predicts(network, x) == predicts(placed.network, x) for x in near]
            assert verdict != "unchanged" or all(same)
    assert facts["stored int8"]["unchanged"] > 0
    assert {"valid unsat"} <= set(checked(tmp_path)) <= {"valid unsat", "valid sat"}


def test_evaluation_in_a_format(tmp_path):
    text = '[faults]\n[faults.precision]\nsemantics = ["float32", "bfloat16"]\n'
    path = folder_with(tmp_path, text, sizes=(3, 3, 3))
    facts = part(run(path)).facts
    assert facts["evaluated float32"]["unchanged"] == 3
    assert facts["evaluated bfloat16"]["unchanged"] <= 3
    assert {"valid unsat"} <= set(checked(tmp_path)) <= {"valid unsat", "valid sat"}


STORED = {
    "int8": Quantised(8),
    "int5 by channel": Quantised(5, axis=0),
    "uint8": Quantised(8, False, (0.0625,), (128,)),
    "float16": FLOAT16,
    "bfloat16": BFLOAT16,
    "fixed": FixedFormat(3, 6),
}


@pytest.mark.parametrize("content", [dense_model((4, 3, 2)), conv_model()], ids=["dense", "conv"])
@pytest.mark.parametrize("name", list(STORED))
def test_a_stored_model_is_the_network_with_the_stored_values(name, content, tmp_path):
    memory = store(
        place_model(model_file(content)),
        {
            tensor: STORED[name]
            for tensor, each in place_model(model_file(content)).parameters.items()
            if tensor != "var"
        },
    )
    (tmp_path / "s.onnx").write_bytes(stored_model(memory))
    network, _ = read_model(tmp_path / "s.onnx")
    rng = np.random.default_rng(0)
    point = [Fraction(float(x)) for x in rng.normal(size=network.input_size)]
    for one, two in zip(evaluate(network, point), evaluate(memory.network, point), strict=True):
        assert abs(one[0] - two[0]) <= one[1] + two[1]
        assert one[1] < 1e-9


def test_a_model_that_cannot_hold_the_values_is_refused():
    memory = store(place_model(model_file(dense_model((3, 2)))), Quantised(12))
    with pytest.raises(QuestionError, match="holds not all values"):
        stored_model(memory)


def test_two_models_side_by_side(tmp_path):
    one, two = dense_model((3, 4, 2), seed=1), dense_model((3, 5, 2), seed=2)
    (tmp_path / "j.onnx").write_bytes(side_by_side(model_file(one), model_file(two)))
    network, _ = read_model(tmp_path / "j.onnx")
    point = [Fraction(k, 3) for k in (1, -2, 4)]
    found = evaluate(network, point)
    apart_ = [evaluate(place_model(model_file(m), ()).network, point) for m in (one, two)]
    assert found == [*apart_[0], *apart_[1]]


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ((3, 2), (4, 2), "inputs differ"),
        ((3, 2), (3, 2), "different opsets"),
    ],
    ids=["inputs", "opsets"],
)
def test_models_that_do_not_fit_are_refused(one, two, message):
    second = dense_model(two)
    if message == "different opsets":
        rng = np.random.default_rng(0)
        second = graph_bytes(
            [node("MatMul", "x w", "y")], (1, 3), {"w": floats(rng, 3, 2)}, opset=15
        )
    with pytest.raises(ModelError, match=message):
        side_by_side(model_file(dense_model(one)), model_file(second))


@pytest.mark.parametrize("outputs", [2, 3])
def test_formulas_of_agreement(outputs):
    """Against their meaning, on a grid that holds ties."""
    most, margin = Fraction(1, 2), Fraction(1, 2)
    far = read_unsafe(Source("f", apart(outputs, most)), 1, 2 * outputs)
    other = read_unsafe(Source("f", otherwise(outputs, margin)), 1, 2 * outputs)

    def prefers(scores):
        return {
            i
            for i in range(outputs)
            if all(scores[i] - scores[k] >= margin for k in range(outputs) if k != i)
        }

    rng = np.random.default_rng(0)
    for row in rng.integers(-2, 3, size=(200, 2 * outputs)):
        y = [Fraction(int(v), 2) for v in row]
        a, b = y[:outputs], y[outputs:]
        assert holds(far, y) is any(abs(p - q) > most for p, q in zip(a, b, strict=True))
        assert holds(other, y) is any(i != j for i in prefers(a) for j in prefers(b))


def holds(unsafe, y):
    def true(row):
        value = sum((c * y[j] for j, c in row.outputs), row.constant)
        return value < 0 if row.strict else value <= 0

    return any(all(true(row) for row in part_) for part_ in unsafe)


AGREE = HEAD.replace('net = "net.onnx"', 'net = "net.onnx"\nother = "other.onnx"') + (
    '[limits]\ntimeout = 10\n[faults]\n[faults.agreement]\nother = "other"\n'
)


def agreement(tmp_path, extra, second):
    path = folder_with(tmp_path, AGREE + extra, sizes=(2, 3, 2), seed=3)
    (tmp_path / "other.onnx").write_bytes(second((tmp_path / "net.onnx").read_bytes()))
    return run(path)


def rounded(content):
    return stored_model(store(place_model(model_file(content)), Quantised(8)))


def test_agreement_with_a_rounded_network(tmp_path, capsys):
    extra = "at_most = 0.5\nclasses = true\nmargin = 0.01\nradius = 0.01\nagreed = 0.5\n"
    outcome = agreement(tmp_path, extra, rounded)
    facts = part(outcome).facts
    assert facts["within 0.5"] == ["unsat"] * 3
    assert facts["in class"].count("unsat") >= 2
    assert outcome.verdict == "proved"
    assert farkas.main(["check", str(tmp_path / "out/evidence"), "--expect", "unsat"]) == 0
    assert " valid unsat" in capsys.readouterr().out


def test_disagreement_over_a_domain(tmp_path):
    extra = "at_most = 0.25\ndomain = [-1, 1]\nagreed = 1\n"
    outcome = agreement(tmp_path, extra, lambda _: dense_model((2, 3, 2), seed=4))
    assert part(outcome).facts["within 0.25"] == ["sat"]
    assert outcome.verdict == "refuted"
    assert checked(tmp_path) == ["valid sat"]


def test_an_agreement_of_other_outputs_is_refused(tmp_path):
    path = folder_with(tmp_path, AGREE + "at_most = 1\n", sizes=(2, 3, 2))
    (tmp_path / "other.onnx").write_bytes(dense_model((2, 3, 3)))
    with pytest.raises(QuestionError, match=r"c.toml:\d+:1: the models have 2 and 3 outputs"):
        load_config(path)


def test_a_campaign_counts_and_is_kept(tmp_path):
    text = FLIPS + "[faults.campaign]\ntrials = 60\nk = 3\nseed = 2\nconfidence = 0.99\n"
    path = folder_with(tmp_path, text)
    first = run(path)
    facts = part(first).facts
    assert facts["outcomes"]["trials"] == 60
    assert facts["due"]["count"] == 0
    low, high = facts["sdc"]["interval"]
    assert low <= facts["sdc"]["count"] / 60 <= high
    again = run(path)
    assert (again.done, part(again).facts) == (0, plain(facts))


def test_certified_bits_and_injections_do_not_contradict(tmp_path):
    """One failing cell in a trial: SDC at most where the map has critical bits."""
    text = FLIPS + "[faults.map]\n[faults.campaign]\ntrials = 300\nk = 1\n"
    outcome = run(folder_with(tmp_path, text))
    bits, injected = part(outcome).facts, part(outcome, 1).facts
    low, _ = injected["sdc"]["interval"]
    assert low <= bits["critical"] / bits["faults"]


def test_numbers_in_question_files_are_exact():
    assert toml([Fraction(1, 8), 3, True, 'a"b']) == '[0.125, 3, true, "a\\"b"]'
    assert Fraction(toml(Fraction(0.1))) == Fraction(0.1)
    with pytest.raises(QuestionError, match="no decimal"):
        toml(Fraction(1, 3))


def test_ranges_of_an_activation_that_reading_looks_through(tmp_path):
    """The sigmoid inside a SiLU is kept apart where it is asked about."""
    rng = np.random.default_rng(0)
    nodes = [
        node("MatMul", "x w", "a"),
        node("Sigmoid", "a", "s"),
        node("Mul", "a s", "h"),
        node("MatMul", "h v", "y"),
    ]
    stored = {"w": floats(rng, 4, 4), "v": floats(rng, 4, 3)}
    text = '[faults]\n[faults.ranges]\ntensor = "s"\nwithin = [-4, 4]\n'
    path = folder_with(tmp_path, text)
    (tmp_path / "net.onnx").write_bytes(graph_bytes(nodes, (1, 4), stored))
    facts = part(run(path)).facts
    assert facts["ranges"] == 12
