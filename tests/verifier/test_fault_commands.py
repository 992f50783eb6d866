"""Commands on questions about faulty networks: each works, from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import farkas
from proofs.format import write_proof
from proofs.proof import ProofBuilder
from specs.question import load_question
from tests.proofs.faulty import tiny_dense

TEXT = """
[models]
net = "net.onnx"
[faults]
model = "bit_flips"
k = {k}
format = "int4"
[region]
lower = 0
upper = 0.5
[statement]
kind = "range"
output = 0
maximum = {maximum}
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    code = farkas.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Questions that differ in their budgets and bounds, and a proof of the first."""
    (tmp_path / "net.onnx").write_bytes(tiny_dense(3, (2, 3, 2)))
    for name, k, maximum in (("q", 2, 13), ("one", 1, 13), ("three", 3, 13), ("less", 2, 9)):
        (tmp_path / f"{name}.toml").write_text(TEXT.format(k=k, maximum=maximum))
    made = ProofBuilder(load_question(tmp_path / "q.toml"))
    made.begin_case(0)
    made.begin_tree()
    made.split_faults(6, 3)
    for _ in range(3):
        made.split_input(0)
        for _ in range(2):
            made.sweep()
            made.close()
    (tmp_path / "proofs").mkdir()
    write_proof(tmp_path / "proofs/q.farkas", made.finish())
    return tmp_path


def test_check_and_its_report(folder, capsys):
    proof, report = folder / "proofs/q.farkas", folder / "report.json"
    code, out, _ = run(capsys, "check", folder / "q.toml", proof, "--json", report)
    assert (code, out[0]) == (0, "valid unsat")
    assert any(line.startswith("faults: bit_flips 2 anywhere int4") for line in out)
    found = json.loads(report.read_text())
    assert found["question"]["faults"].startswith("bit_flips 2")
    assert any("bit_flips 2" in line for line in found["theorem"])
    code, out, _ = run(capsys, "check", folder / "three.toml", proof)
    assert (code, out[0]) == (3, "unreadable")


def test_check_of_a_folder(folder, capsys):
    for path in (folder / "proofs/q.farkas", folder / "net.onnx", folder / "q.toml"):
        (folder / "all").mkdir(exist_ok=True)
        (folder / "all" / path.name).write_bytes(path.read_bytes())
    code, out, _ = run(capsys, "check", folder / "all")
    assert code == 0
    assert "1 valid unsat" in out[-1]


def test_show_states_the_faults(folder, capsys):
    proof = folder / "proofs/q.farkas"
    code, out, _ = run(capsys, "show", folder / "q.toml", proof, "--statement")
    assert code == 0
    assert any("with any fault of" in line for line in out)
    assert out[-1].startswith("The evidence was made for this question")
    code, out, _ = run(capsys, "show", proof)
    assert code == 0
    assert any("1 SPLIT_FAULTS" in line for line in out)


def test_minimize(folder, capsys):
    smaller = folder / "smaller.farkas"
    code, out, _ = run(
        capsys, "minimize", folder / "q.toml", folder / "proofs/q.farkas", "-o", smaller
    )
    assert (code, out[0]) == (0, "smaller")
    assert run(capsys, "check", folder / "q.toml", smaller)[1][0] == "valid unsat"
    code, _, err = run(
        capsys, "minimize", folder / "one.toml", folder / "proofs/q.farkas", "-o", folder / "x"
    )
    assert code == 3
    assert "another question" in err
    assert not (folder / "x").exists()


def test_explain(folder, capsys):
    question, proof, out_file = folder / "q.toml", folder / "proofs/q.farkas", folder / "e.farkas"
    picture = folder / "tree.svg"
    code, out, _ = run(capsys, "explain", question, proof, "--out", out_file, "--tree", picture)
    assert (code, out[0]) == (0, "minimal")
    assert picture.stat().st_size
    assert run(capsys, "check", question, out_file)[1][0] == "valid unsat"


def test_a_wider_region_is_proved_of_the_same_faults(folder, capsys):
    wider, proof = folder / "wider.vnnlib", folder / "wider.farkas"
    options = ["--inputs", "--domain", "0,1", "--property", wider, "--out", proof]
    code, out, _ = run(capsys, "explain", folder / "q.toml", folder / "proofs/q.farkas", *options)
    assert (code, out[0]) == (0, "minimal")
    assert "with faults: bit_flips 2 anywhere int4" in wider.read_text()
    head = (folder / "q.toml").read_text().partition("[region]")[0]
    (folder / "wider.toml").write_text(f'{head}[region]\nfile = "wider.vnnlib"\n')
    assert run(capsys, "check", folder / "wider.toml", proof)[1][0] == "valid unsat"
    code, out, _ = run(capsys, "check", folder / "net.onnx", wider, proof)
    assert (code, out[0]) == (3, "unreadable")  # the faults are no part of a property's file


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("q", "old proof: 6 of 6 leaves"),
        ("one", "old proof: 4 of 6 leaves close as they are (66.7%); without a place"),
        ("three", "old proof: 4 of 6 leaves"),
        ("less", "old proof: 5 of 6 leaves"),
    ],
)
def test_an_old_proof_is_tried_again(folder, capsys, name, words):
    question, made = folder / f"{name}.toml", folder / "new.farkas"
    options = ["--reuse", folder / "proofs/q.farkas", "--proof", made, "--timeout", 20]
    _, out, _ = run(capsys, "verify", question, *options)
    assert out[0] == "unsat"  # what the old proof leaves open, the search proves
    assert any(words in line for line in out)
    assert run(capsys, "check", question, made)[1][0] == "valid unsat"


def test_more_effort_for_a_smaller_proof(folder, capsys):
    (folder / "easy.toml").write_text(TEXT.format(k=1, maximum=100))
    made = folder / "new.farkas"
    options = ["--proof", made, "--proof-effort", "high"]
    assert run(capsys, "verify", folder / "easy.toml", *options)[1][0] == "unsat"
    assert run(capsys, "check", folder / "easy.toml", made)[1][0] == "valid unsat"
