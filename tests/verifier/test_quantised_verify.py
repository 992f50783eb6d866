"""Verdicts under integer semantics: against enumeration, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

pytest.importorskip("onnxruntime")
pytest.importorskip("z3")

import farkas
from proofs.witness import Witness
from specs.errors import InputError, ModelError, QuestionError, UnsupportedOperatorError
from specs.query import Query
from tests.verifier.quantised_models import (
    Array,
    Layers,
    box_property,
    runtime,
    written,
)
from tests.verifier.small import random_mlp
from verifier.options import Options
from verifier.quantised.question import IntegerQuestion, load
from verifier.quantised.run import verify_integers
from verifier.verdict import Verdict

STEP, ZERO = float(np.float32(0.0078125)), 128


def small(rows: int, seed: int, form: str) -> bytes:
    """Two inputs of 8 bits, a hidden layer, two outputs; ``rows`` inputs at once."""
    layers = Layers((rows, 2), seed).quantize(STEP, ZERO)
    if form == "integers":
        layers.qlinear_matmul((2, 3), 0.03, 3, kind="uint8", weight="uint8", columns=True)
        layers.qlinear_matmul((3, 2), 0.06, 9, kind="uint8", weight="uint8", columns=True)
    else:
        layers.dense((2, 3), 0.03, 3, "uint8").dense((3, 2), 0.03, 9, "uint8")
    return layers.dequantize().content()


def enumerated(seed: int, form: str) -> Array:
    """The outputs at all inputs that differ after quantisation."""
    q = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1).reshape(-1, 2)
    x = ((q - ZERO) * STEP).astype(np.float32)
    return runtime(small(len(x), seed, form), x.reshape(1, -1)).reshape(-1, 2).astype(np.float64)


def ask(
    folder: Path, content: bytes, unsafe: str, inputs: int = 2, outputs: int = 2, **options: Any
) -> Verdict:
    text = box_property([-1.0] * inputs, [1.0] * inputs, outputs, unsafe)
    question = load(*written(folder, content, text), semantics="integer")
    assert isinstance(question, IntegerQuestion)
    return verify_integers(question, Options(**{"timeout": 60, **options}))


@pytest.mark.parametrize("form", ["integers", "floats"])
@pytest.mark.parametrize("seed", [1, 2])
def test_verdicts_are_those_of_enumeration(form: str, seed: int, tmp_path: Path) -> None:
    """At the very edge of what the outputs reach, and a little beyond."""
    y = enumerated(seed, form)
    assert len(np.unique(y, axis=0)) > 10
    content = small(1, seed, form)
    for weights in ([1, 0], [0, -1], [1, -1]):
        edge = float((y @ weights).min())
        left = f"(+ (* {weights[0]}.0 Y_0) (* {weights[1]}.0 Y_1))"
        reached = ask(tmp_path, content, f"(<= {left} {edge:.60f})")
        assert reached.answer == "sat"
        assert isinstance(reached.evidence, Witness)
        beyond = ask(tmp_path, content, f"(<= {left} {edge - 1e-9:.60f})")
        assert (beyond.answer, beyond.uncertified_claim) == ("unknown", "unsat")
        assert beyond.evidence is None


def test_a_witness_is_found_where_few_inputs_violate(tmp_path: Path) -> None:
    """By Z3, after samples have not found it."""
    y = enumerated(2, "integers")
    best = y[np.argmin(y @ [1.0, -1.0])]
    unsafe = f"(and (<= Y_0 {best[0]:.60f}) (>= Y_1 {best[1]:.60f}))"
    settings = {"quantised.samples": 1}
    verdict = ask(tmp_path, small(1, 2, "integers"), unsafe, settings=settings)
    assert verdict.answer == "sat"
    assert [stage.name for stage in verdict.stages] == ["compile", "attack", "smt"]


def test_the_witness_is_a_float32_point_that_the_runtime_confirms(tmp_path: Path) -> None:
    content = small(1, 2, "integers")
    verdict = ask(tmp_path, content, "(<= Y_0 1000.0)")
    assert isinstance(verdict.evidence, Witness)
    assert verdict.replay is not None
    x = np.array([[float(v) for v in verdict.evidence.point]])
    assert [float(v) for v in x[0]] == [float(np.float32(v)) for v in x[0]]
    assert runtime(content, x)[0].tolist() == list(verdict.replay.outputs)
    assert verdict.checked is not None
    assert verdict.checked.verdict == "valid sat"
    question = load(*(tmp_path / name for name in ("n.onnx", "p.vnnlib")), semantics="integer")
    assert verdict.evidence.question == question.digest != verdict.checked.question


def test_rounding_that_real_numbers_do_not_see(tmp_path: Path) -> None:
    """In float32, 3 * float32(0.1) is a little more than the stored step times 3."""
    layers = Layers((1, 1)).quantize(float(np.float32(0.1)), 0, "int8").dequantize()
    least = float(np.float32(3) * np.float32(0.1))
    assert least > 3 * float(np.float32(0.1))
    unsafe = f"(and (>= Y_0 {least:.60f}) (<= Y_0 {least:.60f}))"
    verdict = ask(tmp_path, layers.content(), unsafe, 1, 1)
    assert verdict.answer == "sat"
    assert verdict.checked is not None
    assert verdict.checked.verdict == "invalid"
    assert "real arithmetic it does not" in verdict.reason


def saturating() -> Layers:
    """uint8 times int8: pairs of products saturate in 16 bits without VNNI."""
    layers = Layers((1, 8)).quantize(1 / 255, 0)
    weights = layers.stored(np.full((8, 4), 127), np.int8)
    return layers.add("MatMulInteger", weights, layers.step[1])


def test_a_runtime_that_saturates_is_no_witness(tmp_path: Path) -> None:
    content = saturating().content(TensorProto.INT32)
    true = 8 * 255 * 127
    if runtime(content, np.ones((1, 8))).max() == true:
        pytest.skip("this processor does not saturate")
    verdict = ask(tmp_path, content, f"(>= Y_0 {true}.0)", 8, 4)
    assert (verdict.answer, verdict.uncertified_claim) == ("unknown", "sat")
    assert "onnxruntime computes something else" in verdict.reason
    assert verdict.evidence is None


def test_a_case_without_a_float32_input_is_closed_in_words(tmp_path: Path) -> None:
    text = box_property([0.0, 0.1], [1.0, 0.1], 2, "(<= Y_0 1000.0)")
    question = load(*written(tmp_path, small(1, 1, "integers"), text), semantics="integer")
    assert isinstance(question, IntegerQuestion)
    verdict = verify_integers(question)
    assert (verdict.answer, verdict.uncertified_claim) == ("unknown", "unsat")
    assert "no float32 input" in verdict.reason


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("nodes", 3),
        ("levels", 10),
        ("bits", 8),
        ("seconds", 1e-9),
    ],
)
def test_beyond_a_limit_the_answer_says_which(setting: str, value: float, tmp_path: Path) -> None:
    settings = {f"quantised.{setting}": value}
    verdict = ask(tmp_path, small(1, 1, "integers"), "(<= Y_0 -1000.0)", settings=settings)
    assert (verdict.answer, verdict.uncertified_claim) == ("unknown", None)
    assert f"quantised.{setting}" in verdict.reason


def test_the_time_limit_is_kept(tmp_path: Path) -> None:
    verdict = ask(tmp_path, small(1, 1, "integers"), "(<= Y_0 -1.0)", timeout=1e-6)
    assert verdict.answer == "timeout"
    assert verdict.uncertified_claim is None


# --- the command line -----------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    code = farkas.main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def files(folder: Path, unsafe: str) -> list[Path]:
    return written(folder, small(1, 1, "integers"), box_property([-1, -1], [1, 1], 2, unsafe))


INTEGER = ("--semantics", "integer")


def test_unsat_is_a_claim_and_never_the_first_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, proof = tmp_path / "v.json", tmp_path / "p.farkas"
    question = files(tmp_path, "(<= Y_0 -1000.0)")
    code, out, err = run(
        capsys,
        "verify",
        *question,
        *INTEGER,
        "--json",
        report,
        "--proof",
        proof,
        "--method",
        "auto",
    )
    assert (code, out[0]) == (2, "unknown")
    assert err == "uncertified_claim: unsat\n"
    assert not proof.exists()
    data = json.loads(report.read_text())
    assert (data["answer"], data["uncertified_claim"]) == ("unknown", "unsat")
    assert data["semantics"] == "integer"
    assert any("saturate" in line for line in data["not_modelled"])
    assert any(line.startswith("semantics: integer") for line in out)


def test_sat_has_a_witness_that_no_other_semantics_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, witness = tmp_path / "v.json", tmp_path / "w.json"
    question = files(tmp_path, "(>= Y_0 0.0)")
    code, out, err = run(
        capsys, "verify", *question, *INTEGER, "--json", report, "--witness", witness
    )
    assert (code, out[0], err) == (1, "sat", "")
    data = json.loads(report.read_text())
    assert data["replay"]["violated"] is True
    assert data["check"]["question"] != data["question"]
    code, out, _ = run(capsys, "check", *question, witness)
    assert (code, out[0]) == (3, "unreadable")


def test_a_question_file_may_state_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files(tmp_path, "(>= Y_0 0.0)")
    toml = tmp_path / "q.toml"
    toml.write_text(
        'semantics = "integer"\n[models]\nnet = "n.onnx"\n[region]\nfile = "p.vnnlib"\n'
    )
    assert run(capsys, "verify", toml)[0] == 1
    assert run(capsys, "verify", toml, *INTEGER)[0] == 1
    assert farkas.verify(toml).answer == "sat"
    code, out, err = run(capsys, "verify", toml, "--semantics", "real")
    assert (code, out) == (3, [])
    assert "the caller 'real'" in err
    toml.write_text(toml.read_text().replace("integer", "real"))
    code, out, err = run(capsys, "verify", toml, *INTEGER)
    assert (code, out) == (3, [])
    assert "the file says semantics 'real'" in err


@pytest.mark.parametrize(
    ("command", "stated"),
    [(name, stated) for name in ("check", "minimize", "explain", "show") for stated in (0, 1)]
    + [("bench", 0)],  # lists name no question files
)
def test_who_deals_in_proofs_refuses_integers(
    command: str, stated: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question: list[Any] = files(tmp_path, "(>= Y_0 0.0)")
    evidence = tmp_path / "w.json"
    assert run(capsys, "verify", *question, *INTEGER, "--witness", evidence)[0] == 1
    if stated:
        question = [tmp_path / "q.toml"]
        question[0].write_text(
            'semantics = "integer"\n[models]\nnet = "n.onnx"\n[region]\nfile = "p.vnnlib"\n'
        )
    argv: list[Any] = [*question, evidence]
    if command == "bench":
        listed = tmp_path / "instances.csv"
        listed.write_text("n.onnx,p.vnnlib,10\n")
        argv = [listed, "--out", tmp_path / "out"]
    if command == "minimize":
        argv += ["-o", tmp_path / "smaller"]
    code, out, err = run(capsys, command, *argv, *([] if stated else INTEGER))
    assert (code, out) == (3, [])
    assert "only farkas verify decides such questions" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "bab"], "integer semantics"),
        (["--method", "attack"], "integer semantics"),
        (["--device", "cuda"], "leave it out"),
        (["--set", "quantised.bits=0"], "at least 1"),
        (["--set", "quantised.bit=9"], "quantised.bits"),
    ],
)
def test_options_without_a_meaning_are_refused(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "verify", *files(tmp_path, "(>= Y_0 0.0)"), *INTEGER, *options)
    assert (code, out) == (3, [])
    assert says in err


# --- models and properties without integer semantics -------------------------------------


def refused(folder: Path, content: bytes, inputs: int = 2, outputs: int = 2) -> str:
    with pytest.raises(InputError) as caught:
        ask(folder, content, "(>= Y_0 0.0)", inputs, outputs)
    assert isinstance(caught.value, ModelError | QuestionError)
    return str(caught.value)


def test_a_float_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, model = random_mlp([2, 3, 2], 0)
    assert "none of QuantizeLinear" in refused(tmp_path, model.content)
    text = box_property([-1, -1], [1, 1], 2, "(>= Y_0 0.0)")
    code, out, err = run(capsys, "verify", *written(tmp_path, model.content, text), *INTEGER)
    assert (code, out) == (3, [])
    assert "quantised models" in err


def test_an_input_of_another_type_is_refused(tmp_path: Path) -> None:
    model = ModelProto.FromString(Layers((1, 2)).quantize(0.1, 0).dequantize().content())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    assert "input 'x' is not float32" in refused(tmp_path, model.SerializeToString())


def plain() -> Layers:
    return Layers((1, 2)).quantize(0.1, 0, "int8")


def test_operators_without_a_rule_are_named(tmp_path: Path) -> None:
    said = refused(tmp_path, plain().dequantize().add("Sigmoid").content())
    assert "Sigmoid (node 2, result 't2')" in said
    assert "under integer semantics" in said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("two variables", "is not a variable tensor|is not a constant"),
        ("a float product of floats", "is not the result of DequantizeLinear"),
        ("float arithmetic before a product", "float arithmetic between"),
        ("a float sum of many steps", "several steps"),
        ("a pool of several steps", "different steps"),
        ("a function of several entries", "Softmax.* it has no rule"),
    ],
)
def test_what_is_not_modelled_is_refused(name: str, says: str, tmp_path: Path) -> None:
    layers = plain().dequantize()
    left = layers.last
    if name == "two variables":
        layers.add("Add", left)
    elif name == "a float product of floats":
        layers.add("MatMul", layers.stored(np.eye(2)))
    elif name == "a pool of several steps":
        layers.add("Mul", layers.stored([1.0, 2.0])).add("Unsqueeze", layers.stored([0], np.int64))
        layers.add("MaxPool", kernel_shape=[2], pads=[1, 0])
        layers.add("Flatten")
    elif name == "a function of several entries":
        layers.add("Softmax")
    else:
        axis = 0 if name == "a float sum of many steps" else 1
        weight = layers.stored(np.eye(2), np.int8)
        if axis:
            left = layers.add("Add", layers.stored(0.5)).last
        layers.add("DequantizeLinear", weight, layers.stored([0.1, 0.2]), first=False, axis=axis)
        right, layers.last = layers.last, left
        layers.add("MatMul", right)
    with pytest.raises(UnsupportedOperatorError, match=says):
        ask(tmp_path, layers.content(), "(>= Y_0 0.0)")


def test_floats_that_may_overflow_are_refused(tmp_path: Path) -> None:
    layers = Layers((1, 2)).quantize(0.1, 0, "uint8")
    weight = layers.stored(np.full((2, 1), 255), np.uint8)
    layers.add("MatMulInteger", weight)
    layers.add("DequantizeLinear", layers.stored(3e37))
    with pytest.raises(UnsupportedOperatorError, match="overflow float32"):
        ask(tmp_path, layers.content(), "(>= Y_0 0.0)", 2, 1)


def test_sums_that_may_overflow_int32_are_refused(tmp_path: Path) -> None:
    """Whatever the limit of bits."""
    layers = plain()
    weight = layers.stored(np.full((2, 1, 1), 100), np.int8)
    bias = layers.stored([2**31 - 1, 0], np.int32)
    layers.add("Reshape", layers.stored([1, 1, 2], np.int64))
    one = layers.stored(1.0), layers.stored(0, np.int8)
    layers.add("QLinearConv", *layers.step, weight, *one, *one, bias).add("Cast", to=1)
    settings = {"quantised.bits": 64}
    with pytest.raises(UnsupportedOperatorError, match="overflow int32"):
        ask(tmp_path, layers.content(), "(>= Y_0 0.0)", 2, 4, settings=settings)


@pytest.mark.parametrize(
    "extra", ["(assert (<= (+ X_0 X_1) 0.5))\n", "(assert (<= (+ X_0 Y_1) 0.5))\n"]
)
def test_constraints_on_inputs_are_refused(extra: str, tmp_path: Path) -> None:
    question = files(tmp_path, "(>= Y_0 0.0)")
    question[1].write_text(question[1].read_text() + extra)
    with pytest.raises(QuestionError, match="constraint on inputs"):
        load(*question, semantics="integer")


def test_other_semantics_stay_what_they_are(tmp_path: Path) -> None:
    question = files(tmp_path, "(>= Y_0 0.0)")
    for semantics in (None, "real"):
        found = load(*question, semantics=semantics)
        assert isinstance(found, Query)
        assert found.semantics == "real"
    integer = load(*question, semantics="integer")
    assert integer.digest != found.digest
    with pytest.raises(QuestionError, match="only farkas verify"):
        farkas.load_question(*question, semantics="integer")


def test_a_question_file_is_not_read_as_one_of_real_numbers(tmp_path: Path) -> None:
    """Whoever says integers: the file, or the caller of one that says nothing."""
    files(tmp_path, "(>= Y_0 0.0)")
    toml = tmp_path / "q.toml"
    body = '[models]\nnet = "n.onnx"\n[region]\nfile = "p.vnnlib"\n'
    for stated, semantics in (('semantics = "integer"\n', None), ("", "integer")):
        toml.write_text(stated + body)
        with pytest.raises(QuestionError, match="only farkas verify"):
            farkas.load_question(toml, semantics=semantics)
        assert isinstance(load(toml, semantics=semantics), IntegerQuestion)


def test_sums_of_integer_outputs_are_weighed_by_rational_numbers(tmp_path: Path) -> None:
    layers = Layers((1, 2)).quantize(0.25, 0, "int8")
    content = layers.content(TensorProto.INT8)
    left = "(+ (* 0.5 Y_0) (* -0.25 Y_1))"
    settings = {"quantised.samples": 1}
    assert ask(tmp_path, content, f"(>= {left} 3.0)", settings=settings).answer == "sat"
    beyond = ask(tmp_path, content, f"(> {left} 3.0)", settings=settings)
    assert (beyond.answer, beyond.uncertified_claim) == ("unknown", "unsat")
