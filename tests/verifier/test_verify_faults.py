"""Questions with [faults] on the command line: proofs, witnesses, and honest unknowns."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from proofs.check import check_file, check_proof, check_witness
from proofs.format import write_witness
from proofs.proof import NodeKind, ProofBuilder
from proofs.witness import Witness
from specs.errors import ModelError, QuestionError, UnsupportedOperatorError
from specs.faults.exact import WordFault
from specs.question import load_question
from tests.faulty_models import dense_model
from verifier.attack_targets import rounded_to_float32
from verifier.bounds_errors import error_radii
from verifier.options import Options
from verifier.replay import Replay
from verifier.stars.walk import Budget, refuse
from verifier.verify import verify

QUESTION = """
[models]
net = "net.onnx"
[faults]
model = "bit_flips"
format = "int8"
k = 2
{more}
[region]
centre = [0.5, 0.25, 0, -0.5, 1, 0.75]
radius = {radius}
[statement]
kind = "range"
output = 0
maximum = {maximum}
"""


def question(folder, maximum, radius=0.01, more=""):
    (folder / "net.onnx").write_bytes(dense_model())
    path = folder / "question.toml"
    path.write_text(QUESTION.format(maximum=maximum, radius=radius, more=more))
    return load_question(path)


def test_a_proof_is_found_and_checked_from_its_file(tmp_path, capsys):
    from proofs.cli import main

    query = question(tmp_path, 1000)
    verdict = verify(query)
    assert verdict.answer == "unsat"
    from proofs.format import write_proof

    write_proof(tmp_path / "p.farkas", verdict.evidence)
    for arithmetic in ("outward", "exact"):
        checked = check_file(query, tmp_path / "p.farkas", arithmetic=arithmetic)
        assert checked.verdict == "valid unsat"
    files = [str(tmp_path / "question.toml"), str(tmp_path / "p.farkas")]
    assert main(["check", *files]) == 0
    assert main(["show", files[0], "--statement"]) == 0
    out = capsys.readouterr().out
    assert "for every fault that is covered" in out
    assert "bit_flips 2 anywhere int8" in out
    question(tmp_path, 1000, more="bits = [0]")
    assert main(["check", *files]) == 3


def test_a_violation_without_faults_is_one(tmp_path):
    verdict = verify(question(tmp_path, -1000))
    assert verdict.answer == "sat"
    assert verdict.evidence.faults == ()


def test_a_violation_that_needs_faults_is_found(tmp_path):
    query = question(tmp_path, 1000)
    y = Replay(query).run(np.array([0.5, 0.25, 0, -0.5, 1, 0.75], dtype=np.float32))
    query = question(tmp_path, float(np.round(y[0] + 0.5, 3)), 0.001)
    verdict = verify(query)
    assert verdict.answer == "sat"
    assert verdict.evidence.faults
    assert verdict.replay.violated
    assert check_witness(query, verdict.evidence).verdict == "valid sat"


def test_what_is_left_open_is_unknown(tmp_path):
    query = question(tmp_path, 1000)
    y = Replay(query).run(np.array([0.5, 0.25, 0, -0.5, 1, 0.75], dtype=np.float32))
    query = question(tmp_path, float(np.round(y[0] + 0.5, 3)), 0.001)
    verdict = verify(query, Options(method="bounds"))
    assert verdict.answer == "unknown"
    assert "domains" in verdict.reason


def test_a_witness_with_a_fault_is_replayed_on_a_rewritten_model(tmp_path):
    query = question(tmp_path, 1000)
    faults = query.perturbations[0]
    x = tuple(map(lambda end: end[0], zip(query.property.cases[0].lower, strict=True)))
    fault = WordFault("b2", 0, (7,))
    inputs = rounded_to_float32(x)
    plain, struck = Replay(query).run(inputs), Replay(query, faults=(fault,)).run(inputs)
    scale = faults.cells.memory.stored["b2"].format.scale[0]
    assert abs(abs(struck[0] - plain[0]) - 128 * scale) < 1e-4
    sign = 1 if struck[0] > plain[0] else -1
    assert sign in (1, -1)
    limit = float(struck[0]) - 0.25
    risky = question(tmp_path, limit if sign > 0 else -1000)
    witness = Witness(risky.digest, 0, 0, x, (fault,))
    write_witness(tmp_path / "w.json", witness)
    assert check_file(risky, tmp_path / "w.json").verdict == "valid sat"
    assert json.loads((tmp_path / "w.json").read_text())["faults"][0]["bits"] == [7]
    assert Replay(risky, faults=(fault,)).judge(risky.property.cases[0], inputs).violated


def test_faults_go_with_real_semantics_only(tmp_path):
    question(tmp_path, 0)
    with pytest.raises(QuestionError, match="real semantics only"):
        load_question(tmp_path / "question.toml", semantics="float32")


def test_other_searches_refuse_faulty_networks(tmp_path):
    query = question(tmp_path, 0)
    with pytest.raises(UnsupportedOperatorError, match="faulty parameters"):
        error_radii(query)
    with pytest.raises(QuestionError):
        refuse(query.network, Budget())


def test_a_model_that_cannot_be_followed_is_refused_before_any_work(tmp_path):

    with pytest.raises(ModelError, match="no initialiser 'w9'"):
        question(tmp_path, 0, more='tensors = ["w9"]')
    assert ProofBuilder(question(tmp_path, 0)).finish().leaves == 0


STEP = """
[models]
net = "net.onnx"
[faults]
model = "bit_flips"
format = "int8"
bits = [0]
[region]
lower = -1
upper = 1
[statement]
kind = "range"
output = 0
maximum = {maximum}
"""


def stepped(folder, maximum):
    """``relu(x + 1/2) - relu(x - 1/2) + 1/4``; its linear bounds exceed its maximum by 1/8."""
    layers = [([[1.0, 1.0]], [0.5, -0.5]), ([[1.0], [-1.0]], [0.25])]
    constants = {
        f"{kind}{k}": np.array(values, dtype=np.float32)
        for k, layer in enumerate(layers)
        for kind, values in zip(("w", "b"), layer, strict=True)
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["z"]),
        helper.make_node("Relu", ["z"], ["a"]),
        helper.make_node("Gemm", ["a", "w1", "b1"], ["y"]),
    ]
    ends = (("x", 1), ("y", 1))
    graph = helper.make_graph(
        nodes,
        "step",
        *([helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, m])] for n, m in ends),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    (folder / "net.onnx").write_bytes(made.SerializeToString())
    (folder / "question.toml").write_text(STEP.format(maximum=maximum))
    return load_question(folder / "question.toml")


def test_few_inputs_are_halved_where_bounds_do_not_prove_the_network_without_faults(tmp_path):
    verdict = verify(stepped(tmp_path, 1.3))
    assert verdict.answer == "unsat"
    assert np.any(verdict.evidence.arrays["node_kind"] == NodeKind.SPLIT_INPUT)
    query = load_question(tmp_path / "question.toml")
    for arithmetic in ("outward", "exact"):
        assert check_proof(query, verdict.evidence, arithmetic=arithmetic).valid


def test_halved_inputs_prove_nothing_false(tmp_path):
    assert verify(stepped(tmp_path, 1.2), Options(timeout=5)).answer == "sat"
    tight = verify(stepped(tmp_path, 1.251), Options(timeout=5))  # with a fault it is more
    assert tight.answer == "sat"
    assert tight.evidence.faults
