"""The claim of a symmetry, from its file to its verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import farkas
from proofs.format import write_mark
from proofs.watermarks.check import check_mark
from specs.errors import InputError
from specs.watermarks.question import load_mark_question
from tests.layered_models import chain_of, drawn, layered, moved
from verifier.watermarks.matching import match


def asked(folder: Path, *, kind: str = "conv", exact: bool = True, more: str = "") -> Path:
    """A question file about an owner and a suspect."""
    owner = layered(kind, 2)
    chain = chain_of(owner)
    (folder / "owner.onnx").write_bytes(owner)
    (folder / "suspect.onnx").write_bytes(moved(chain, *drawn(chain, 4, exact=exact)))
    path = folder / "question.toml"
    path.write_text(
        '[models]\nowner = "owner.onnx"\nsuspect = "suspect.onnx"\n'
        f'[claim]\nkind = "symmetry"\n{more}\n'
    )
    return path


def evidence_for(path: Path):
    question = load_mark_question(path)
    return question, match(question.claim.owner, question.claim.suspect).evidence(question.digest)


def test_an_exact_symmetry_holds(tmp_path, capsys):
    path = asked(tmp_path)
    _, made = evidence_for(path)
    write_mark(tmp_path / "question.farkas", made)
    assert farkas.main(["check", str(path), str(tmp_path / "question.farkas")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("valid unsat\n")
    assert "same function of real numbers" in out
    assert "relative deviation of weights: 0\n" in out
    assert "not covered: units that were split" in out


def test_rounded_factors_hold_within_a_deviation_only(tmp_path):
    for more, wanted in (("", "invalid"), ("relative = 0.00001", "valid unsat")):
        question, made = evidence_for(asked(tmp_path, exact=False, more=more))
        assert check_mark(question, made)[0].verdict == wanted


def test_outputs_within_a_distance(tmp_path, capsys):
    ends = "inputs = [-1, 1]\n"
    for more, wanted in (("within = 0.01\n", "valid unsat"), ("within = 0.000001\n", "invalid")):
        path = asked(tmp_path, exact=False, more=more + ends)
        question, made = evidence_for(path)
        assert check_mark(question, made)[0].verdict == wanted
    path = asked(tmp_path, exact=False, more="within = 0.01\nrelative = 0\n" + ends)
    question, made = evidence_for(path)
    assert check_mark(question, made)[0].verdict == "invalid"
    assert farkas.main(["show", str(path)]) == 0
    assert "For every input with entries from -1 to 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("order", np.array([np.nan])),
        ("order", np.zeros(9, np.int64)),
        ("order", np.full(9, 2**40)),
        ("order", -np.ones(9, np.int64)),
        ("factor", np.full(9, np.nan)),
        ("factor", np.full(9, -1.0)),
        ("factor", np.full(9, 5e-324)),
        ("factor", np.full(9, 1e308)),
        ("factor", np.ones(8)),
        ("more", np.ones(1)),
    ],
    ids=["floats", "repeated", "large", "negative", "nan", "sign", "tiny", "huge", "short", "more"],
)
def test_hostile_hints_prove_nothing(tmp_path, name, array):
    question, made = evidence_for(asked(tmp_path))
    arrays = {**made.arrays, name: array}
    found = check_mark(question, type(made)(question.digest, "unsat", arrays))[0]
    assert found.verdict == "invalid"


def test_nothing_shows_that_there_is_no_symmetry(tmp_path):
    question, made = evidence_for(asked(tmp_path))
    refuting = type(made)(question.digest, "sat", made.arrays)
    assert check_mark(question, refuting)[0].verdict == "invalid"


def test_which_model_is_which_belongs_to_the_question(tmp_path):
    path = asked(tmp_path)
    before = load_mark_question(path).digest
    text = path.read_text()
    swapped = text.replace('owner = "owner.onnx"', 'owner = "suspect.onnx"')
    swapped = swapped.replace('suspect = "suspect.onnx"', 'suspect = "owner.onnx"')
    path.write_text(swapped)
    assert load_mark_question(path).digest != before


@pytest.mark.parametrize("what", ["one", "other", "relative", "shape", "ends"])
def test_faults_of_the_file_are_said(tmp_path, what):
    more = {"relative": "relative = 1", "ends": "within = 1\ninputs = [1, 0]"}
    path = asked(tmp_path, more=more.get(what, ""))
    if what == "one":
        path.write_text(path.read_text().replace('suspect = "suspect.onnx"\n', ""))
    elif what == "other":
        path.write_text(path.read_text().replace("suspect =", "thief ="))
    elif what == "shape":
        (tmp_path / "suspect.onnx").write_bytes(layered("dense"))
    with pytest.raises(InputError, match=r"question\.toml"):
        load_mark_question(path)
