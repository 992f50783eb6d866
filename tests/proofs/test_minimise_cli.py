"""The command ``minimize`` from the outside: first lines, exit codes, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import farkas
from proofs.draft import draft_of, written
from proofs.format import read_evidence, write_proof, write_witness
from proofs.proof import NodeKind, Proof, ProofBuilder
from proofs.witness import Witness
from specs.question import load_question
from specs.vnnlib_writer import vnnlib

ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "examples/digits.onnx")
VIOLATED = [MODEL, str(ROOT / "examples/violated.vnnlib")]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    code = farkas.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


@pytest.fixture
def question(tmp_path: Path) -> list[str]:
    """The bundled example with a fifth of its radius, which the empty proof settles."""
    stated = load_question(MODEL, ROOT / "examples/holds.vnnlib").property
    (case,) = stated.cases
    ends = list(zip(case.lower, case.upper, strict=True))
    lower = tuple((3 * low + 2 * high) / 5 for low, high in ends)
    upper = tuple((2 * low + 3 * high) / 5 for low, high in ends)
    small = replace(stated, cases=(replace(case, lower=lower, upper=upper),))
    path = tmp_path / "small.vnnlib"
    path.write_text(vnnlib(small))
    return [MODEL, str(path)]


@pytest.fixture
def proof(question: list[str], tmp_path: Path) -> Path:
    """A valid proof with splits that nothing needs."""
    query = load_question(*question)
    made = ProofBuilder(query)
    made.begin_case(0)
    made.begin_tree()
    for entry in range(3):
        made.split_input(20 + entry)
        made.sweep()
        made.close()
    made.sweep()
    made.close()
    path = tmp_path / "proof.farkas"
    write_proof(path, made.finish())
    return path


def test_a_smaller_proof_is_written_and_valid(question, proof, tmp_path, capsys):
    out, report = tmp_path / "smaller.farkas", tmp_path / "report.json"
    code, lines, err = run(capsys, "minimize", *question, proof, "-o", out, "--json", report)
    assert (code, lines[0], err) == (0, "smaller", "")
    assert lines[-1].startswith("valid unsat")
    assert out.stat().st_size < proof.stat().st_size
    assert farkas.check(question, out, arithmetic="exact").verdict == "valid unsat"
    small = read_evidence(out)
    assert isinstance(small, Proof)
    assert small.leaves == 1
    data = json.loads(report.read_text())
    assert data["bytes"] == {"before": proof.stat().st_size, "after": out.stat().st_size}
    assert data["finished"] is True
    assert {"name", "before", "after", "seconds"} <= data["passes"][0].keys()


def test_what_is_small_stays(question, proof, tmp_path, capsys):
    first, second = tmp_path / "a.farkas", tmp_path / "b.farkas"
    run(capsys, "minimize", *question, proof, "-o", first)
    code, lines, _ = run(capsys, "minimize", *question, first, "-o", second)
    assert (code, lines[0]) == (0, "unchanged")
    assert first.read_bytes() == second.read_bytes()


def test_a_proof_may_take_its_own_place(question, proof, tmp_path, capsys):
    before = proof.stat().st_size
    code, lines, _ = run(capsys, "minimize", *question, proof, "-o", proof)
    assert (code, lines[0]) == (0, "smaller")
    assert proof.stat().st_size < before
    assert lines[1].startswith(f"{before} -> {proof.stat().st_size} bytes")


def test_no_effort_packs(question, proof, tmp_path, capsys):
    out = tmp_path / "packed.farkas"
    code, lines, _ = run(capsys, "minimize", *question, proof, "-o", out, "--effort", "none")
    assert (code, lines[0]) == (0, "smaller")
    packed = read_evidence(out)
    assert isinstance(packed, Proof)
    assert packed.leaves == 4


def test_with_the_search_s_help(question, proof, tmp_path, capsys):
    pytest.importorskip("torch")
    out = tmp_path / "smaller.farkas"
    code, lines, _ = run(capsys, "minimize", *question, proof, "-o", out, "--reoptimise")
    assert (code, lines[0]) == (0, "smaller")


def test_what_is_not_valid_is_not_written(question, proof, tmp_path, capsys):
    query = load_question(*question)
    draft = draft_of(query, read_evidence(proof))
    leaf = next(node for node in draft.nodes() if node.kind is NodeKind.CLOSE)
    leaf.kind = NodeKind.HOLE
    write_proof(proof, written(draft)[0])
    out = tmp_path / "smaller.farkas"
    code, lines, _ = run(capsys, "minimize", *question, proof, "-o", out, "--effort", "none")
    assert (code, lines[0]) == (2, "incomplete")
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("absent", "proof.farkas"),
        ("damaged", "proof.farkas"),
        ("witness", "is a witness"),
        ("question", "another question"),
        ("folder", "cannot write"),
        ("files", "takes a question and one proof"),
        ("effort", "invalid choice"),
        ("timeout", "must be a positive"),
        ("abbreviated", "unrecognized arguments"),
    ],
)
def test_bad_input(change, says, question, proof, tmp_path, capsys):
    out, options = tmp_path / "smaller.farkas", []
    if change == "absent":
        proof.unlink()
    elif change == "damaged":
        proof.write_bytes(proof.read_bytes()[:200])
    elif change == "witness":
        write_witness(proof, Witness("0", 0, 0, ()))
    elif change == "question":
        question = VIOLATED
    elif change == "folder":
        out = tmp_path / "no" / "such"
    elif change == "files":
        question = [*question, question[1]]
    elif change == "effort":
        options = ["--effort", "much"]
    elif change == "abbreviated":
        options = ["--reopt"]
    else:
        options = ["--timeout", "0"]
    code, lines, err = run(capsys, "minimize", *question, proof, "-o", out, *options)
    assert (code, lines) == (3, [])
    assert says in err
    assert not out.exists()
