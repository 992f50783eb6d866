"""Searching and answering under float semantics."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from proofs.check import check_proof
from specs.errors import UnsupportedOperatorError
from specs.onnx_reader import read_model
from specs.perturbation import FORMATS, rounding_of
from specs.property import Property
from specs.query import Query
from tests.networks import serialised
from tests.proofs.helpers import at_least, at_most, box_case
from tests.rounded import Machine, drawn
from verifier.attack_confirm import Confirm
from verifier.bounds import interval
from verifier.bounds_compile import compile_network
from verifier.bounds_errors import OverflowPossibleError, error_radii
from verifier.bounds_sweep import fresh, sweep
from verifier.cli import main
from verifier.options import Options
from verifier.verdict import as_json
from verifier.verify import verify

BIG = 2.0**24


def written(folder, content):
    path = folder / "net.onnx"
    path.write_bytes(content)
    return path


def model(nodes, constants, shape=(1, 1)):
    made = [helper.make_node(op, list(i), [o], **a) for op, i, o, a in nodes]
    stored = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants.items()]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(made[-1].output[0], TensorProto.FLOAT, None)],
        stored,
    )
    return serialised(graph)


def dense(rng, sizes):
    nodes, constants, current = [], {}, "x"
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        constants[f"w{k}"] = rng.normal(size=(a, b)) / np.sqrt(a)
        constants[f"b{k}"] = rng.normal(size=b) * 0.1
        nodes += [
            ("MatMul", (current, f"w{k}"), f"m{k}", {}),
            ("Add", (f"m{k}", f"b{k}"), f"a{k}", {}),
        ]
        current = f"a{k}"
        if k < len(sizes) - 2:
            nodes.append(("Relu", (current,), f"r{k}", {}))
            current = f"r{k}"
    return model(nodes, constants, (1, sizes[0]))


def asked(folder, content, cases, semantics):
    format = rounding_of(semantics)
    network, file = read_model(written(folder, content), format)
    stated = Property(network.input_size, network.output_size, tuple(cases))
    perturbations = () if format is None else (format,)
    return Query(network, stated, (file,), stated.digest, perturbations)


CANCELLING = model([("Add", ("x", "c"), "h", {}), ("Sub", ("h", "c"), "y", {})], {"c": [[BIG]]})


def test_cancellation_fools_the_real_verdict_and_not_the_float_one(tmp_path):
    """onnxruntime gives 0 for 3/4, where real numbers stay above 1/2."""
    cases = [box_case([0.5], [1.0], at_most(0, Fraction(1, 4)))]
    real = verify(asked(tmp_path, CANCELLING, cases, "real"), Options(timeout=20))
    assert real.answer == "unsat"
    floats = verify(asked(tmp_path, CANCELLING, cases, "float32"), Options(timeout=6))
    assert floats.answer in ("unknown", "timeout", "sat")


def test_float_verdicts_are_proved_where_there_is_room(tmp_path):
    rng = np.random.default_rng(0)
    content = dense(rng, (3, 8, 8, 2))
    for semantics in ("real", "float32", "bfloat16"):
        query = asked(tmp_path, content, [box_case([-1] * 3, [1] * 3, at_least(0, 40))], semantics)
        verdict = verify(query, Options(timeout=30))
        assert verdict.answer == "unsat", semantics
        assert check_proof(query, verdict.evidence, arithmetic="exact").verdict == "valid unsat"


@pytest.mark.parametrize("semantics", ["float32", "bfloat16"])
@pytest.mark.parametrize("few", [0, 9])
def test_branch_and_bound_closes_what_the_kernel_alone_does_not(tmp_path, semantics, few):
    rng = np.random.default_rng(5)
    content = dense(rng, (3, 12, 12, 1))
    network, _ = read_model(written(tmp_path, content))
    from tests.networks import evaluate

    top = evaluate(network, rng.uniform(-1, 1, (20000, 3))).max()
    room = 0.3 if semantics == "float32" else 1.5
    case = box_case([-1] * 3, [1] * 3, at_least(0, float(np.float32(top + room))))
    query = asked(tmp_path, content, [case], semantics)
    assert check_proof(query, None).verdict == "invalid"
    verdict = verify(query, Options(timeout=60, settings={"search.few_inputs": few}, method="bab"))
    assert verdict.answer == "unsat", verdict.reason
    assert check_proof(query, verdict.evidence).verdict == "valid unsat"


def test_what_may_overflow_is_unknown_at_once(tmp_path):
    content = model([("Mul", ("x", "c"), "y", {})], {"c": [[1e38]]})
    cases = [box_case([0.0], [4.0], at_least(0, Fraction(10) ** 60))]
    query = asked(tmp_path, content, cases, "float32")
    with pytest.raises(OverflowPossibleError, match="at tensor 'y'"):
        error_radii(query)
    verdict = verify(query, Options(timeout=20, method="bab"))
    assert verdict.answer == "unknown"
    assert "overflow is not excluded at tensor 'y'" in verdict.reason


def test_a_perturbed_network_is_not_compiled_without_radii(tmp_path):
    query = asked(tmp_path, CANCELLING, [box_case([0], [1], at_most(0, -9))], "float32")
    with pytest.raises(UnsupportedOperatorError, match="without radii"):
        compile_network(query.network)
    assert error_radii(asked(tmp_path, CANCELLING, [], "real")) is None


def compiled(query):
    radii = error_radii(query)
    return compile_network(query.network, radii=radii), radii


@pytest.mark.parametrize("seed", range(12))
def test_evaluations_lie_within_the_searchs_bounds(tmp_path, seed):
    rng = np.random.default_rng(seed)
    format = FORMATS["float16"]
    graph = drawn(format, rng)
    try:
        network, file = read_model(written(tmp_path, graph.model()), format)
    except UnsupportedOperatorError:
        pytest.skip("attributes beyond the format")
    size = network.input_size
    low = format.rounded(rng.normal(size=size))
    high = format.rounded(low + 0.25)
    stated = Property(size, network.output_size, (box_case(low, high, at_least(0, 0)),))
    query = Query(network, stated, (file,), stated.digest, (format,))
    try:
        net, _ = compiled(query)
    except OverflowPossibleError:
        pytest.skip("may overflow")
    ends = torch.tensor(low)[None], torch.tensor(high)[None]
    swept = sweep(net, fresh(net, *ends))
    known = dict(
        zip(
            net.inputs,
            zip(*(net.split(e, net.inputs).values() for e in ends), strict=True),
            strict=True,
        )
    )
    for number in net.needed:
        known[number] = interval(net, net.nodes[number], known)
    numbers = dict(zip([name for name, _, _ in graph.steps], network.outputs, strict=True))
    for _ in range(10):
        x = format.rounded(low + (high - low) * rng.random(size))
        machine = Machine(format, rng, bool(rng.random() < 0.5), bool(rng.random() < 0.5))
        got = graph.run(machine, x)
        for name, tensor in numbers.items():
            value = torch.tensor(got[name].reshape(-1))
            least, most = known[tensor]
            slack = 1e-9 * (1 + value.abs())
            assert bool(((least[0] - slack <= value) & (value <= most[0] + slack)).all())
            if tensor in net.neurons:
                where = net.neurons[tensor]
                lower, upper = (s[0, where] for s in (swept.domains.lower, swept.domains.upper))
                assert bool(((lower - slack <= value) & (value <= upper + slack)).all())


def test_a_witness_that_only_the_replay_shows_is_said_to_rest_on_it(tmp_path):
    """y = (x + 2**24) - 2**24 is 2 at 3/2 in round-to-nearest; an enclosure has 0 as well."""
    cases = [box_case([1.5], [1.5], at_least(0, Fraction(3, 2)))]
    query = asked(tmp_path, CANCELLING, cases, "float32")
    found = Confirm(query)(0, 0, np.array([1.5]))
    assert found is not None
    assert found.replay.outputs == (2.0,)
    assert not found.checked.valid
    verdict = verify(query, Options(timeout=10))
    assert verdict.answer == "sat"
    assert "by onnxruntime's replay of the stored graph" in verdict.reason
    data = as_json(query, verdict)
    assert data["rests_on_replay"] is True
    assert data["semantics"] == "float32"
    assert any("Winograd" in line for line in data["not_modelled"])


def test_a_witness_in_every_evaluation_is_said_to_be_one(tmp_path):
    cases = [box_case([0.5], [1.0], at_most(0, 9))]
    for semantics in ("float32", "bfloat16"):
        content = (
            CANCELLING
            if semantics == "float32"
            else model([("Add", ("x", "c"), "y", {})], {"c": [[0.5]]})
        )
        query = asked(tmp_path, content, cases, semantics)
        verdict = verify(query, Options(timeout=10))
        assert verdict.answer == "sat"
        assert f"every {semantics} evaluation violates" in verdict.reason
        assert as_json(query, verdict)["rests_on_replay"] is False
        assert verdict.checked.verdict == "valid sat"


def test_short_formats_take_no_replays_word(tmp_path):
    """The replay computes in float32, so it is not one of the evaluations asked about."""
    content = model([("Add", ("x", "c"), "y", {})], {"c": [[256.0]]})
    cases = [box_case([1.0], [1.0], at_least(0, 257))]
    query = asked(tmp_path, content, cases, "bfloat16")
    confirm = Confirm(query)
    assert confirm(0, 0, np.array([1.0])) is None
    assert "but not in every bfloat16 evaluation" in confirm.doubt


PROPERTY = """(declare-const X_0 Real)(declare-const Y_0 Real)
(assert (>= X_0 0.5))(assert (<= X_0 1.0))(assert (<= Y_0 {}))"""


def test_the_command_line_states_semantics_and_checks_under_them(tmp_path, capsys):
    import farkas

    path = written(tmp_path, CANCELLING)
    stated = tmp_path / "p.vnnlib"
    stated.write_text(PROPERTY.format(-40))
    proof, report = tmp_path / "p.farkas", tmp_path / "r.json"
    question = [str(path), str(stated)]
    options = ["--semantics", "float32", "--proof", str(proof), "--json", str(report)]
    assert main(["verify", *question, *options, "--timeout", "30"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "unsat"
    assert any("every float32 evaluation of the stored graph as it stands" in line for line in out)
    assert any(line.startswith("not modelled: ") for line in out)
    data = json.loads(report.read_text())
    assert data["semantics"] == "float32"
    assert data["not_modelled"]
    assert farkas.main(["check", *question, str(proof), "--semantics", "float32"]) == 0
    assert capsys.readouterr().out.startswith("valid unsat\nproved: in every evaluation in float32")
    assert farkas.main(["check", *question, str(proof)]) == 3
    assert "made for another question" in capsys.readouterr().out
    assert farkas.check(question, proof, semantics="float32").valid
    assert not farkas.check(question, proof).valid


def test_a_question_file_states_its_semantics(tmp_path):
    from specs.errors import QuestionError
    from specs.question import load_question

    written(tmp_path, CANCELLING)
    (tmp_path / "p.vnnlib").write_text(PROPERTY.format(-40))
    file = tmp_path / "q.toml"
    text = '[models]\nn = "net.onnx"\n[region]\nfile = "p.vnnlib"\n'
    file.write_text('semantics = "float32"\n' + text)
    assert load_question(file).semantics == "float32"
    assert load_question(file, semantics="float32").semantics == "float32"
    with pytest.raises(QuestionError, match="the file says semantics 'float32'"):
        load_question(file, semantics="real")
    file.write_text(text)
    assert load_question(file).semantics == "real"
    assert load_question(file, semantics="bfloat16").semantics == "bfloat16"
    digests = {load_question(file, semantics=s).digest for s in (None, "float32", "bfloat16")}
    assert len(digests) == 3
