"""``farkas explain`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import farkas
from proofs.proof import ProofBuilder
from proofs.restate import resting_on

Run = tuple[int, list[str], str]


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> Run:
    code = farkas.main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


@pytest.fixture
def question(examples: Path, tmp_path: Path) -> list[Path]:
    """The example with a smaller radius, which the empty proof proves."""
    lines = (examples / "holds.vnnlib").read_text().splitlines()
    kept = [line for line in lines if "X_" not in line or "declare" in line]
    query = farkas.load_question(examples / "digits.onnx", examples / "holds.vnnlib")
    (case,) = query.property.cases
    for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
        middle, radius = float(low + high) / 2, float(high - low) / 8
        kept.append(f"(assert (>= X_{i} {middle - radius:.6f}))")
        kept.append(f"(assert (<= X_{i} {middle + radius:.6f}))")
    path = tmp_path / "easy.vnnlib"
    path.write_text("\n".join(kept) + "\n")
    return [examples / "digits.onnx", path]


@pytest.fixture
def proof(question: list[Path], tmp_path: Path) -> Path:
    query = farkas.load_question(*question)
    path = tmp_path / "empty.farkas"
    farkas.write_proof(path, ProofBuilder(query).finish())
    return path


def test_neurons(question, proof, tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / name for name in ("p.png", "t.svg", "e.farkas", "e.json")]
    options = zip(("--picture", "--tree", "--out", "--json"), files, strict=True)
    code, out, err = run(
        capsys, "explain", *question, proof, *(word for pair in options for word in pair)
    )
    assert (code, out[0], err) == (0, "minimal", "")
    data = json.loads(files[3].read_text())
    assert f"{len(data['kept'])} of 16 neurons of {data['layer']}" in out[1]
    assert 0 < len(data["kept"]) < data["features"] == 16
    assert len(data["kept"]) + len(data["dropped"]) == 16
    assert all(entry["fall"] >= data["slack"] > 0 for entry in data["kept"])
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert files[1].read_text().startswith("<svg")
    for arithmetic in ("outward", "exact"):
        checked = run(capsys, "check", *question, files[2], "--arithmetic", arithmetic)
        assert checked[:2][0] == 0
        assert checked[1][0] == "valid unsat"
    # without one of them it is no proof
    (*rest, _) = [entry["entries"][0] for entry in data["kept"]]
    kept = resting_on(farkas.read_evidence(files[2]), data["layer"], np.array(rest, dtype=int))
    farkas.write_proof(files[2], kept)
    assert run(capsys, "check", *question, files[2])[1][0] == "invalid"


def test_regions_are_a_proof_of_a_wider_property(question, proof, tmp_path, capsys) -> None:
    wider, evidence, report = (tmp_path / name for name in ("w.vnnlib", "w.farkas", "w.json"))
    options = ["--regions", "2x2", "--domain", "-0.5,1", "--property", wider, "--out", evidence]
    code, out, _ = run(capsys, "explain", *question, proof, *options, "--json", report)
    assert (code, out[0]) == (0, "minimal")
    assert "of 16 groups of inputs" in out[1]
    data = json.loads(report.read_text())
    assert 0 < len(data["kept"]) < 16
    assert run(capsys, "check", question[0], wider, evidence)[1][0] == "valid unsat"
    assert run(capsys, "check", *question, evidence)[1][0] == "unreadable"
    (case,) = farkas.load_question(question[0], wider).property.cases
    dropped = {i for i in range(64) if (case.lower[i], case.upper[i]) == (-0.5, 1)}
    kept = {i for entry in data["kept"] for i in entry["entries"]}
    assert dropped == set(range(64)) - kept


def test_what_time_does_not_settle_is_said(question, proof, tmp_path, capsys, monkeypatch) -> None:
    code, out, _ = run(capsys, "explain", *question, proof, "--timeout", "0.000001")
    assert (code, out[0]) == (2, "timeout")

    from proofs import explain
    from proofs.tree import DeadlineError

    original, asked = explain._Neurons.holds, []

    def holds(self, kept):
        asked.append(kept)
        if len(asked) > 5:
            raise DeadlineError("the time limit is over")
        return original(self, kept)

    monkeypatch.setattr(explain._Neurons, "holds", holds)
    evidence = tmp_path / "e.farkas"
    code, out, _ = run(capsys, "explain", *question, proof, "--out", evidence)
    assert (code, out[0]) == (2, "not minimal")
    assert "not settled" in out[1]
    assert run(capsys, "check", *question, evidence)[1][0] == "valid unsat"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--inputs", "--layer", "1"], "say one"),
        (["--domain", "0,1"], "--inputs or --regions"),
        (["--property", "x.vnnlib"], "--inputs or --regions"),
        (["--inputs", "--out", "x.farkas"], "--property"),
        (["--inputs"], "--domain LOW,HIGH"),
        (["--inputs", "--domain", "1,0"], "is empty"),
        (["--inputs", "--domain", "1"], "LOW,HIGH"),
        (["--inputs", "--domain"], "LOW,HIGH"),
        (["--inputs", "--domain", "0,inf"], "LOW,HIGH"),
        (["--regions", "0x4"], "HxW"),
        (["--regions", "4x4", "--domain", "0,1", "--shape", "table"], "no image"),
        (["--shape", "1x8x9"], "not 64 inputs"),
        (["--shape", "8x8"], "CxHxW"),
        (["--layer", "nowhere"], "no tensor 'nowhere'"),
        (["--layer", "7"], "no layer 7"),
        (["--picture", "x.gif"], "drawn as"),
        (["--tree", "x.png"], ".svg"),
        (["--json", "no/such/folder/x.json"], "no/such/folder"),
        (["--json", "."], "is a folder"),
        (["--json", "x", "--out", "x"], "two things"),
        (["--timeout", "0"], "positive"),
        (["--semantics", "float8"], "use one of"),
    ],
)
def test_what_makes_no_sense_is_refused(options, says, question, proof, capsys) -> None:
    code, out, err = run(capsys, "explain", *question, proof, *options)
    assert (code, out) == (3, [])
    assert says in err


def test_other_evidence_is_refused(question, proof, examples, tmp_path, capsys) -> None:
    other = [examples / "digits.onnx", examples / "holds.vnnlib"]
    code, out, err = run(capsys, "explain", *other, proof)
    assert (code, out) == (3, [])
    assert "another question" in err
    witness = tmp_path / "w.json"
    witness.write_text(
        '{"format": "farkas-witness", "version": 1, "question": "", "case": 0, '
        '"disjunct": 0, "point": []}'
    )
    code, out, err = run(capsys, "explain", *question, witness)
    assert (code, out) == (3, [])
    assert "takes a proof" in err
    assert run(capsys, "explain", proof)[0] == 3


def test_the_same_from_python(question, proof) -> None:
    found = farkas.explain(question, proof, layer=-1)
    assert found.minimal
    assert isinstance(found, farkas.Explanation)
    again = farkas.explain(question, None, regions=(4, 4), domain=(0, "1.0"))
    assert len(again.features) == 4
    with pytest.raises(farkas.InputError, match="no image"):
        farkas.explain(farkas.Query(*_tiny()), None, regions=(2, 2))


def _tiny():
    from tests.proofs.helpers import Net, at_least, box_case, query

    net = Net(2)
    net.dense(net.relu(0), [[1.0, 1.0]])
    stated = query(net.done(), [box_case([0, 0], [1, 1], at_least(0, 3))])
    return stated.network, stated.property, stated.models, stated.property_digest
