"""Questions with ``[probability]`` in files, their evidence, and the command line."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import farkas
from proofs.format import read_evidence, write_arrays
from proofs.partitions.evidence import PartitionEvidence
from proofs.signature import content_hash
from specs.errors import InputError
from specs.probability import load_probability_question
from tests.partition_models import model, partition

REGION = "lower = [-1, 0.1]\nupper = [1, 0.3]"
STATEMENT = '[statement]\nkind = "unsafe"\nformula = "(>= Y_0 0.49)"'


@pytest.fixture
def folder(tmp_path):
    model(tmp_path / "net.onnx", np.array([[1.0], [0.0]]), np.array([[1.0]]))
    return tmp_path


def write(folder: Path, claim: str, region: str = REGION, statement: str = STATEMENT) -> Path:
    path = folder / "question.toml"
    text = f'[models]\nnet = "net.onnx"\n[region]\n{region}\n{statement}\n[probability]\n{claim}\n'
    path.write_text(text)
    return path


def evidence(folder: Path, claims: str = "unsat") -> Path:
    asked = load_probability_question(folder / "question.toml")
    made = partition(asked, "/s/ou", (0, 0.0), (0, 0.5), claims=claims)
    write_arrays(folder / "question.farkas", made)
    return folder / "question.farkas"


def paths(content: object, path: str = "") -> set[str]:
    """Paths to what is no object, in objects and lists of them."""
    if isinstance(content, dict) and path != "facts":
        parts = (paths(value, f"{path}.{name}".lstrip(".")) for name, value in content.items())
        return set().union(*parts)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return paths(content[0], f"{path}[]")
    return {path}


def test_command_line(folder, capsys):
    question = write(folder, "at_most = 0.5\nat_least = 0.25")
    files = [str(question), str(evidence(folder))]
    assert farkas.main(["check", *files, "--json", str(folder / "c.json")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("valid unsat\nproved (the claim holds)")
    assert "P(unsafe) lies between 0.25 and 0.5" in out
    found = json.loads((folder / "c.json").read_text())
    assert found["nature"] == "proved"
    page = Path("docs/probability.md").read_text().partition("## The certificate")[2]
    cells = re.findall(r"^\| (`[^|]*`) \|", page.partition("\n## ")[0], re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)} == paths(found)
    (folder / "c.json").unlink()
    assert farkas.main(["check", *files, "--arithmetic", "exact"]) == 0
    assert "arithmetic: exact" in capsys.readouterr().out
    assert farkas.main(["check", *files, "--expect", "sat"]) == 1
    assert farkas.main(["show", *files]) == 0
    out = capsys.readouterr().out
    assert "claimed, to be proved" in out
    assert "about a partition of a box" in out
    assert farkas.main(["show", files[1]]) == 0
    assert farkas.main(["check", str(folder)]) == 0
    assert farkas.main(["check", *files, "--semantics", "float32"]) == 3
    assert farkas.main(["check", *files, "--timeout", "1e-9"]) == 2
    assert farkas.main(["verify", files[0]]) == 3
    assert "farkas certify" in capsys.readouterr().err
    write(folder, "at_most = 0.4")
    assert farkas.main(["check", *files]) == 3
    evidence(folder)
    assert farkas.main(["check", *files]) == 2


def test_statistical_claims_are_called_so(folder, capsys):
    question = write(folder, "at_most = 0.4\nconfidence = 0.99\nsamples = 200\nseed = 3")
    files = [str(question), str(evidence(folder))]
    assert farkas.main(["check", *files, "--json", str(folder / "c.json")]) == 0
    out = capsys.readouterr().out
    assert "STATISTICAL, not proved" in out.splitlines()[1]
    assert "measured, both with confidence 0.99" in out
    assert json.loads((folder / "c.json").read_text())["nature"] == "measured"
    assert farkas.main(["check", str(folder)]) == 0
    line, total = capsys.readouterr().out.splitlines()
    assert line.startswith("valid unsat (statistical): ")
    assert total == "1 checked: 1 valid unsat, 1 of these statistical, not proved"


def test_a_partition_is_read_as_it_was_written(folder):
    write(folder, "at_most = 0.5")
    made = read_evidence(evidence(folder))
    assert isinstance(made, PartitionEvidence)
    assert made.integers("kind").tolist() == [0, 1, 0, 3, 2]
    again = PartitionEvidence(made.question, made.claims, made.arrays)
    assert content_hash(again) == content_hash(made)
    assert content_hash(PartitionEvidence(made.question, "sat", made.arrays)) != content_hash(made)


def test_evidence_of_another_kind_is_unreadable(folder):
    question = write(folder, "at_most = 0.5")
    plain = folder / "plain.toml"
    plain.write_text(question.read_text().partition("[probability]")[0])
    files = [str(plain), str(evidence(folder))]
    assert farkas.main(["check", *files]) == 3
    (folder / "none.json").write_text("{}")
    assert farkas.main(["check", str(question), str(folder / "none.json")]) == 3


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        ("", "needs 'at_most' or 'at_least'"),
        ("at_most = 1.5", "must be a probability"),
        ("at_most = 0.1\nat_least = 0.2", "is above"),
        ("at_most = true", "must be an integer or a number"),
        ("at_most = 0.1\nwidth = 1", "unknown key 'width'"),
        ('at_most = 0.1\ndistribution = "cauchy"', "neither 'uniform' nor 'normal'"),
        ("at_most = 0.1\nmean = 0", "is for distribution 'normal'"),
        ('at_most = 0.1\ndistribution = "normal"\nmean = 0', "needs 'deviation'"),
        ('at_most = 0.1\ndistribution = "normal"\nmean = [0]\ndeviation = 1', "1 entries, not 2"),
        ('at_most = 0.1\ndistribution = "normal"\nmean = 0\ndeviation = 0', "must be positive"),
        ("at_most = 0.1\nsamples = 10", "goes with 'confidence'"),
        ("at_most = 0.1\nconfidence = 0.9", "needs 'samples'"),
        ("at_most = 0.1\nconfidence = 1\nsamples = 10", "between 0 and 1"),
        ("at_most = 0.1\nconfidence = 0.9\nsamples = 0", "needs 'samples'"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[:40],
)
def test_what_is_wrong_is_said(folder, claim, says):
    with pytest.raises(InputError, match=re.escape(says)):
        load_probability_question(write(folder, claim))


def test_the_region_must_be_one_box(folder):
    text = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)\n"
    box = "(assert (and (>= X_0 {}) (<= X_0 1) (>= X_1 0) (<= X_1 1)))"
    several = (
        "(assert (or (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (>= Y_0 2)) "
        "(and (>= X_0 {}) (<= X_0 1) (>= X_1 0) (<= X_1 1) (<= Y_0 -2))))"
    )
    region = 'file = "p.vnnlib"'
    (folder / "p.vnnlib").write_text(text + several.format("0"))
    asked = load_probability_question(write(folder, "at_most = 0", region, ""))
    assert len(asked.case.unsafe) == 2
    (folder / "p.vnnlib").write_text(text + several.format("0.5"))
    with pytest.raises(InputError, match="states several"):
        load_probability_question(write(folder, "at_most = 0", region, ""))
    cut = "(assert (<= (+ X_0 X_1) 1))(assert (>= Y_0 1))"
    (folder / "p.vnnlib").write_text(text + box.format("0") + cut)
    with pytest.raises(InputError, match="must be a box"):
        load_probability_question(write(folder, "at_most = 0", region, ""))


def test_everything_that_is_asked_is_hashed(folder):
    claims = [
        "at_most = 0.5", "at_most = 0.25", "at_least = 0.5", "at_most = 0.5\nat_least = 0.25",
        "at_most = 0.5\nconfidence = 0.9\nsamples = 10",
        "at_most = 0.5\nconfidence = 0.9\nsamples = 10\nseed = 1",
        "at_most = 0.5\nconfidence = 0.9\nsamples = 11",
        'at_most = 0.5\ndistribution = "normal"\nmean = 0\ndeviation = 1',
        'at_most = 0.5\ndistribution = "normal"\nmean = 0\ndeviation = [1, 2]',
    ]  # fmt: skip
    digests = [load_probability_question(write(folder, claim)).digest for claim in claims]
    assert len(set(digests)) == len(claims)
    asked = load_probability_question(
        write(folder, "at_most = 0.5", "lower = [-1, 0.1]\nupper = 1")
    )
    assert asked.digest not in digests
    assert asked.case.lower[1] == Fraction(1, 10)


def test_a_box_that_a_property_file_states_beside_outputs_is_printed(folder):
    text = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0"))
    text += "".join(f"(assert (>= {x} -1))\n(assert (<= {x} 1))\n" for x in ("X_0", "X_1"))
    text += "(assert (or (and (>= X_0 0.5) (>= Y_0 0.75))))\n"
    (folder / "p.vnnlib").write_text(text)
    # On all four quarters of [-1, 1] x [-1, 1] that would be 1/8.
    question = write(folder, "at_least = 0.5", 'file = "p.vnnlib"', "")
    asked = load_probability_question(question)
    assert asked.theorem()[1] == "the box: X_0 from 0.5 to 1, X_1 from -1 to 1"
    assert any("no larger one" in line for line in asked.assumed())
