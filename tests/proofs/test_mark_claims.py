"""Extraction and false claims: exact answers, both ways, and evidence that is refused."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import marks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import farkas
from proofs.format import read_evidence, write_mark
from proofs.signature import content_hash
from proofs.watermarks.check import check_mark
from proofs.watermarks.evidence import MarkEvidence
from proofs.watermarks.signs import dyadics, forms, margins, matching
from specs.errors import EvidenceError
from specs.watermarks.key import Key
from specs.watermarks.mark import LinearSystem


@pytest.fixture
def folder(tmp_path):
    marks.model(tmp_path / "net.onnx", np.random.default_rng(3).normal(size=(6, 5)))
    return tmp_path


def verdict(asked, made):
    return check_mark(asked, made)[0].verdict


def counted(folder) -> int:
    """Matches, by numbers that are exact in another way."""
    claim = marks.question(folder, 'kind = "extraction"\nat_least = 0').claim
    system, weights = claim.system, claim.weights
    total = [
        sum(Fraction(r) * Fraction(w) for r, w in zip(row.tolist(), weights.tolist(), strict=True))
        for row in system.rows
    ]
    return sum((t > 0) == bool(bit) for t, bit in zip(total, system.bits, strict=True))


def test_extraction_says_how_many_bits_match(folder):
    count = counted(folder)
    assert 0 < count < 8
    for at_least in range(9):
        asked = marks.question(folder, f'kind = "extraction"\nat_least = {at_least}')
        holds, fails = marks.evidence(asked), marks.evidence(asked, "sat")
        wanted = ("valid unsat", "invalid") if at_least <= count else ("invalid", "valid sat")
        assert (verdict(asked, holds), verdict(asked, fails)) == wanted


def test_false_claim_compares_the_tail_with_the_level(folder):
    claim = 'kind = "false_claim"\nat_least = {}\nkeys = {}\nlevel = {}'
    cases = [  # P[Bin(8, 1/2) >= 7] = 9 / 256
        ((7, 1, "0.03515625"), True),
        ((7, 1, "0.0351"), False),
        ((7, 2, "0.0703125"), True),
        ((7, 2, "0.0703"), False),
        ((8, 1, '"2^-8"'), True),
        ((8, 2, '"2^-8"'), False),
        ((0, 1, "1"), True),
        ((0, 1, "0.99"), False),
    ]
    for numbers, holds in cases:
        asked = marks.question(folder, claim.format(*numbers))
        assert verdict(asked, marks.evidence(asked)) == ("valid unsat" if holds else "invalid")
        other = verdict(asked, marks.evidence(asked, "sat"))
        assert other == ("invalid" if holds else "valid sat")


def test_evidence_with_arrays_that_mean_nothing_is_refused(folder):
    asked = marks.question(folder, 'kind = "extraction"\nat_least = 0')
    made = marks.evidence(asked, weights=np.ones(3))
    assert verdict(asked, made) == "invalid"
    assert verdict(asked, MarkEvidence("0" * 64, "unsat")) == "unreadable"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("nan", np.array([np.nan])),
        ("infinite", np.array([1.0, np.inf])),
        ("short", np.zeros(1)),
        ("whole", np.zeros(2, np.int64)),
        ("matrix", np.zeros((2, 1))),
    ],
    ids=["nan", "infinite", "short", "whole", "matrix"],
)
def test_floats_are_finite_and_of_the_size_wanted(name, array):
    made = MarkEvidence("0", "unsat", {"a": array})
    with pytest.raises(EvidenceError, match="array 'a'"):
        made.floats("a", 2)
    assert MarkEvidence("0", "unsat", {"a": np.array([1.0, 2.0])}).floats("a", 2).tolist() == [1, 2]


def test_a_file_is_read_as_it_was_written(folder):
    asked = marks.question(folder, 'kind = "extraction"\nat_least = 0')
    made = marks.evidence(asked, a=np.array([0.5, -1.0]), b=np.array([3, 2**40], np.int64))
    write_mark(folder / "e.farkas", made)
    read = read_evidence(folder / "e.farkas")
    assert isinstance(read, MarkEvidence)
    assert read.question == asked.digest
    assert read.floats("a").tolist() == [0.5, -1.0]
    assert read.integers("b").tolist() == [3, 2**40]
    assert content_hash(read) == content_hash(made)
    assert content_hash(made) != content_hash(marks.evidence(asked, "sat", **made.arrays))


def paths(content: object, path: str = "") -> set[str]:
    """Paths to what is no object, in objects and lists of them."""
    if isinstance(content, dict) and path != "facts":
        parts = (paths(value, f"{path}.{name}".lstrip(".")) for name, value in content.items())
        return set().union(*parts)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return paths(content[0], f"{path}[]")
    return {path}


def test_command_line(folder, capsys):
    asked = marks.question(folder, 'kind = "extraction"\nat_least = 1')
    write_mark(folder / "question.farkas", marks.evidence(asked))
    files = [str(folder / "question.toml"), str(folder / "question.farkas")]
    assert farkas.main(["check", *files, "--json", str(folder / "c.json")]) == 0
    assert capsys.readouterr().out.startswith("valid unsat\n")
    found = json.loads((folder / "c.json").read_text())
    assert found["question"]["watermark"]["scheme"] == "uchida"
    assert found["facts"]["matches"].endswith("of 8")
    page = Path("docs/watermarks.md").read_text().partition("## The certificate")[2]
    cells = re.findall(r"^\| (`[^|]*`) \|", page.partition("\n## ")[0], re.MULTILINE)
    described = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert described - {"question.watermark"} == paths(found)
    (folder / "c.json").unlink()
    assert farkas.main(["check", *files, "--expect", "sat"]) == 1
    assert farkas.main(["show", *files]) == 0
    assert "at least 1 are those of the key" in capsys.readouterr().out
    assert farkas.main(["check", str(folder)]) == 0
    assert farkas.main(["check", *files, "--semantics", "float32"]) == 3
    assert farkas.main(["verify", files[0]]) == 3
    assert "farkas check" in capsys.readouterr().err
    marks.question_file(folder, 'kind = "extraction"\nat_least = 2')
    assert farkas.main(["check", *files]) == 3
    assert capsys.readouterr().out.startswith("unreadable\n")


def test_a_proof_is_no_evidence_about_a_mark_nor_the_other_way(folder, capsys):
    asked = marks.question(folder, 'kind = "extraction"\nat_least = 0')
    write_mark(folder / "mark.farkas", marks.evidence(asked))
    example = ["examples/digits.onnx", "examples/holds.vnnlib"]
    assert farkas.main(["check", *example, str(folder / "mark.farkas")]) == 3
    assert capsys.readouterr().out.startswith("unreadable\n")
    query = farkas.load_question(*example)
    from proofs.proof import ProofBuilder

    farkas.write_proof(folder / "p.farkas", ProofBuilder(query).finish())
    files = [str(folder / "question.toml"), str(folder / "p.farkas")]
    assert farkas.main(["check", *files]) == 3
    assert capsys.readouterr().out.startswith("unreadable\n")


@settings(deadline=None)
@given(st.data())
def test_forms_are_exact(data):
    size = data.draw(st.integers(1, 6))
    finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
    weights = np.array(data.draw(st.lists(finite, min_size=size, max_size=size)))
    whole = st.integers(-(2**40), 2**40)
    rows = np.array([data.draw(st.lists(whole, min_size=size, max_size=size))], dtype=np.float64)
    system = LinearSystem(np.arange(size), rows, Fraction(1, 3), np.array([False]))
    (found,) = forms(system, weights)
    exact = [
        Fraction(r) * Fraction(w) for r, w in zip(rows[0].tolist(), weights.tolist(), strict=True)
    ]
    assert found == sum(exact) / 3
    assert margins([found], system.bits) == [-found]
    assert matching([found], system.bits) == [found <= 0]


def test_numbers_that_are_not_finite_have_no_dyadics():
    with pytest.raises(EvidenceError):
        dyadics(np.array([np.inf]))


def test_keys_depend_on_seed_and_purpose():
    key = Key.of(marks.SEED)
    drawn = key.gaussian("a", 50, 40)
    assert np.array_equal(drawn, Key.of(marks.SEED).gaussian("a", 50, 40))
    assert not np.array_equal(drawn, key.gaussian("b", 50, 40))
    assert abs(drawn.mean()) < 0.1
    assert abs(drawn.std() - 1) < 0.1
    assert np.array_equal(drawn * 2.0**16, np.rint(drawn * 2.0**16))
    assert key.gaussian("a", 1, 2).tolist() == drawn[:1, :2].tolist()
    assert key.commitment("a") != key.commitment("b") != Key.of("00" * 16).commitment("b")
