"""Assertions about models, and the plugin that keeps their evidence."""

from __future__ import annotations

import shutil
from fractions import Fraction
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import farkas
from tests.faulty_models import dense_model
from tests.linear_models import linear_model
from verifier import testing
from verifier.certify import questions
from verifier.verdict import Verdict

pytest_plugins = ["pytester"]

REGISTERED = any(found.name == "farkas" for found in entry_points(group="pytest11"))
PLUGIN = () if REGISTERED else ("-p", "verifier.pytest_plugin")
X = [0.5, -0.25, 1.0, 0.0]

TESTS = """
import farkas

X = [0.5, -0.25, 1.0, 0.0]

def test_near():
    farkas.assert_robust("net.onnx", X, "1/1000")

def test_far():
    farkas.assert_robust("net.onnx", X, 50)
"""


@pytest.fixture
def model(tmp_path) -> Path:
    file = tmp_path / "net.onnx"
    file.write_bytes(dense_model((4, 3, 3), seed=0))
    return file


@pytest.fixture
def evidence(tmp_path) -> Path:
    return tmp_path / "kept"


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def test_of_a_tie_no_output_is_preferred(tmp_path, evidence):
    (tmp_path / "tie.onnx").write_bytes(linear_model([1.0, -1.0], 0.0))
    with pytest.raises(farkas.InputError, match="no output exceeds every other"):
        testing.assert_robust(tmp_path / "tie.onnx", [0.5, 0.5], 0, evidence=evidence)
    assert not evidence.exists()


def test_what_is_proved_passes_and_its_evidence_checks_alone(model, evidence, capsys):
    testing.assert_robust(model, np.array(X, np.float32), 0.001, evidence=evidence)
    assert len(files(evidence, "*.farkas")) == 1
    model.unlink()
    assert farkas.main(["check", str(evidence)]) == 0
    assert "valid unsat" in capsys.readouterr().out


def test_evidence_is_checked_and_not_searched_again(model, evidence, monkeypatch):
    testing.assert_robust(model, X, 0.001, evidence=evidence)

    def searched(*_):
        raise AssertionError("searched")

    monkeypatch.setattr(questions, "verify", searched)
    testing.assert_robust(model, np.reshape(X, (2, 2)), 0.001, evidence=evidence)
    with pytest.raises(AssertionError, match="searched"):
        testing.assert_robust(model, X, 0.002, evidence=evidence)


def test_evidence_that_is_refused_is_found_anew(model, evidence):
    testing.assert_robust(model, X, 0.001, evidence=evidence)
    (proof,) = files(evidence, "*.farkas")
    content = proof.read_bytes()
    proof.write_bytes(b"no proof")
    testing.assert_robust(model, X, 0.001, evidence=evidence)
    assert files(evidence, "*.farkas") == [proof]
    assert proof.read_bytes()[:2] == content[:2]


def test_a_violation_shows_the_counterexample(model, evidence, capsys):
    with pytest.raises(testing.ViolatedError) as raised:
        testing.assert_robust(model, X, 50, evidence=evidence)
    first, second, third, _, check = str(raised.value).splitlines()
    assert first.startswith("violated: net.onnx: label")
    assert "counterexample: x[" in second
    assert "(was " in second
    assert third.startswith("  outputs there: y[0] = ")
    command = check.partition("check it: farkas ")[2].split()
    assert farkas.main(command) == 1
    assert capsys.readouterr().out.startswith("valid sat")


def test_undecided_is_a_failure_of_its_own_kind(model, evidence, monkeypatch):
    monkeypatch.setattr(questions, "verify", lambda *given: Verdict("timeout", "out of time"))
    with pytest.raises(testing.UndecidedError, match=r"undecided: .*\n  timeout: out of time"):
        testing.assert_robust(model, X, 0.001, evidence=evidence)
    assert not issubclass(testing.UndecidedError, testing.ViolatedError)
    assert not files(evidence, "*.toml")


def test_numbers_are_exact(model, evidence):
    testing.assert_robust(model, X, "1/3000", evidence=evidence)
    (property,) = files(evidence, "properties/*")
    query = farkas.load_question(model, property)
    (case,) = query.property.cases
    assert case.upper[0] == Fraction(1, 2) + Fraction(1, 3000)
    assert case.lower[3] == -Fraction(1, 3000)


def test_boxes_and_clips(model, evidence):
    eps = [0, 0.001, "1/1000", 0]
    testing.assert_robust(model, X, eps, clip=(-1, [1, 1, 1, 1]), evidence=evidence)
    (property,) = files(evidence, "properties/*")
    (case,) = farkas.load_question(model, property).property.cases
    assert (case.lower[2], case.upper[2]) == (1 - Fraction(1, 1000), 1)
    assert case.lower[0] == case.upper[0] == Fraction(1, 2)


def test_a_property_file_and_a_query(model, evidence, tmp_path):
    wide = farkas.output_range(model, [0] * 4, [1] * 4, 0, minimum=-1000, maximum=1000)
    testing.assert_holds(wide, evidence=evidence)
    narrow = farkas.output_range(model, [0] * 4, [1] * 4, 0, maximum=-1000)
    with pytest.raises(testing.ViolatedError):
        testing.assert_holds(narrow, evidence=evidence)
    outcomes = []
    for property in files(evidence, "properties/*"):
        shutil.copy(property, tmp_path / "p.vnnlib")
        try:
            testing.assert_holds(model, tmp_path / "p.vnnlib", evidence=evidence)
            outcomes.append("holds")
        except testing.ViolatedError:
            outcomes.append("violated")
    assert sorted(outcomes) == ["holds", "violated"]
    assert len(files(evidence, "*.toml")) == 2  # the same questions, whoever states them


BAD = {
    "no model": lambda net, into: testing.assert_robust("none.onnx", X, 1, evidence=into),
    "size": lambda net, into: testing.assert_robust(net, X[:3], 1, 0, evidence=into),
    "size without a label": lambda net, into: testing.assert_robust(net, X[:3], 1, evidence=into),
    "ragged": lambda net, into: testing.assert_robust(net, [[0.1, 0.2], [0.3]], 1, evidence=into),
    "eps": lambda net, into: testing.assert_robust(net, X, "much", evidence=into),
    "negative": lambda net, into: testing.assert_robust(net, X, -1, evidence=into),
    "nan": lambda net, into: testing.assert_robust(net, [float("nan"), 0, 0, 0], 1, evidence=into),
    "label": lambda net, into: testing.assert_robust(net, X, 1, 7, evidence=into),
    "no property": lambda net, into: testing.assert_holds(net, evidence=into),
    "twice": lambda net, into: testing.assert_holds(
        farkas.output_range(net, [0] * 4, [1] * 4, 0, maximum=1), "p.vnnlib", evidence=into
    ),
    "float": lambda net, into: testing.assert_holds(
        farkas.load_question(net, holds(net), semantics="float32"), evidence=into
    ),
}


def holds(net: Path) -> Path:
    file = net.parent / "holds.vnnlib"
    names = [f"(declare-const X_{k} Real)" for k in range(4)]
    names += [f"(declare-const Y_{k} Real)" for k in range(3)]
    box = [f"(assert (>= X_{k} 0)) (assert (<= X_{k} 1))" for k in range(4)]
    file.write_text("\n".join([*names, *box, "(assert (>= Y_0 1000))"]))
    return file


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_no_verdict_and_leaves_nothing(name, model, evidence):
    with pytest.raises(farkas.InputError) as raised:
        BAD[name](model, evidence)
    assert not isinstance(raised.value, AssertionError)
    assert not files(evidence, "*.toml")


@pytest.fixture
def suite(pytester):
    (pytester.path / "net.onnx").write_bytes(dense_model((4, 3, 3), seed=0))
    pytester.makepyfile(test_model=TESTS)
    return pytester


def run(suite, *arguments):
    return suite.runpytest(*PLUGIN, "-p", "no:cacheprovider", *arguments)


def test_a_suite_of_tests(suite):
    result = run(suite, "--junitxml", "j.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["E*ViolatedError: violated: net.onnx: label*", "farkas: 1 proved*"]
    )
    result.stdout.no_fnmatch_line("*verifier/testing.py*")
    kept = suite.path / ".farkas"
    assert len(files(kept, "*.farkas")) == 1
    assert len(files(kept, "*.witness.json")) == 1
    said = [p.get("value") for p in ElementTree.parse("j.xml").iter("property")]
    assert [text.partition(":")[0] for text in said] == ["proved", "violated"]


def test_where_evidence_is_kept_can_be_said(suite):
    run(suite, "--farkas-evidence", "art/here").assert_outcomes(passed=1, failed=1)
    assert len(files(suite.path / "art/here", "*.toml")) == 2
    assert not (suite.path / ".farkas").exists()
    suite.makeini("[pytest]\nfarkas_evidence = ini\n")
    run(suite, "-k", "near").assert_outcomes(passed=1, deselected=1)
    assert len(files(suite.path / "ini", "*.toml")) == 1


def test_a_suite_that_asks_nothing_hears_nothing(pytester):
    pytester.makepyfile("def test_a(): pass")
    result = pytester.runpytest(*PLUGIN, "-p", "no:cacheprovider")
    result.stdout.no_fnmatch_line("farkas: *")
    assert not (pytester.path / ".farkas").exists()
