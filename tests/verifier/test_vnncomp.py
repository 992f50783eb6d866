"""Results as VNN-COMP wants them, in both versions of VNN-LIB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import farkas
from benchmarks.vnncomp_rules import MalformedError, as_version_2, judge, parse_results
from specs.errors import InputError
from specs.question import load_question
from verifier import vnncomp
from verifier.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def files(tmp_path, examples) -> dict[str, Path]:
    """The bundled model, and properties that hold and are violated, in both versions."""
    model = tmp_path / "net.onnx"
    shutil.copy(examples / "digits.onnx", model)
    found = {"net": model}
    for name in ("holds", "violated"):
        text = (examples / f"{name}.vnnlib").read_text()
        found[f"{name} 1"] = tmp_path / f"{name}.vnnlib"
        found[f"{name} 1"].write_text(text)
        network = load_question(model, found[f"{name} 1"]).network
        found[f"{name} 2"] = tmp_path / f"{name}_2.vnnlib"
        found[f"{name} 2"].write_text(as_version_2(text, network))
    return found


def run(files, name, tmp_path, timeout="60", field=None) -> Path:
    results = tmp_path / "results.txt"
    code = vnncomp.main(
        ["digits", field or str(files["net"]), str(files[name]), str(results), timeout]
    )
    assert code == 0
    return results


ANSWERS = {
    "holds 1": "unsat",
    "holds 2": "unsat",
    "violated 1": "sat, correct",
    "violated 2": "sat, correct",
}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_results_that_the_rules_accept(name, files, tmp_path):
    results = run(files, name, tmp_path)
    assert judge(results, files["net"], files[name]) == ANSWERS[name]


def test_both_versions_state_the_same(files):
    for name in ("holds", "violated"):
        first, second = (load_question(files["net"], files[f"{name} {k}"]) for k in (1, 2))
        assert first.property.digest == second.property.digest


def damaged(content: str) -> dict[str, str]:
    return {
        "word": content.replace("sat", "SAT", 1),
        "nothing": "",
        "no brackets": content.replace("((", "(").replace("))", ")"),
        "missing": content.replace("(X_3 ", "(X_4 ", 1),
        "order": content.replace("(X_0 ", "(X_1 ", 1),
        "no output": content[: content.index("(Y_0")].rstrip() + ")",
        "nan": content.replace("(X_0 ", "(X_0 nan)(", 1),
        "more": content.rstrip() + " (X_0 1)",
        "unsat with more": content.replace("sat", "unsat", 1),
    }


def refused(content, network, text) -> bool:
    try:
        parse_results(content, network, text)
    except MalformedError:
        return True
    return False


def test_damaged_results_are_not_accepted(files, tmp_path):
    content = run(files, "violated 1", tmp_path).read_text()
    query = load_question(files["net"], files["violated 1"])
    text = files["violated 1"].read_text()
    assert parse_results(content, query.network, text)[0] == "sat"
    for name, wrong in damaged(content).items():
        assert refused(wrong, query.network, text), name


def test_damaged_tensors_are_not_accepted(files, tmp_path):
    content = run(files, "violated 2", tmp_path).read_text()
    query = load_question(files["net"], files["violated 2"])
    text = files["violated 2"].read_text()
    lines = content.splitlines()
    wrong = {
        "type": content.replace("float32", "float64", 1),
        "shape": content.replace("[1,64]", "[64]", 1),
        "name": content.replace("X ", "Z ", 1),
        "value": "\n".join([*lines[:2], "x", *lines[3:]]),
        "short": "\n".join(lines[:-1]),
        "long": content + "1.0\n",
    }
    for name, given in wrong.items():
        assert given != content, name
        assert refused(given, query.network, text), name


def test_a_counterexample_that_violates_nothing_is_found_out(files, tmp_path):
    results = run(files, "violated 1", tmp_path)
    query = load_question(files["net"], files["holds 1"])
    low, _ = query.property.cases[0].box()
    pairs = [f"(X_{k} {float(value)!r})" for k, value in enumerate(low)]
    outputs = " ".join(f"(Y_{k} 0)" for k in range(10))
    results.write_text(f"sat\n({' '.join(pairs)} {outputs})\n")
    assert judge(results, files["net"], files["holds 1"]) == "sat, WRONG"


def test_inputs_are_what_was_replayed(files, tmp_path):
    content = run(files, "violated 1", tmp_path).read_text()
    query = load_question(files["net"], files["violated 1"])
    _, inputs = parse_results(content, query.network, files["violated 1"].read_text())
    assert np.array_equal(inputs.astype(np.float32).astype(np.float64), inputs)


def test_an_answer_in_time(files, tmp_path, monkeypatch):
    seen = []

    def slow(query, options):
        seen.append(options)
        return Verdict("timeout", "no time is left")

    monkeypatch.setattr("verifier.verify.verify", slow)
    monkeypatch.setenv(vnncomp.STARTED, str(time.time() - 5))
    assert run(files, "holds 1", tmp_path, "50").read_text() == "timeout\n"
    assert 30 < seen[0].timeout < 43.001
    assert run(files, "holds 1", tmp_path, "5").read_text() == "timeout\n"
    assert len(seen) == 1


def test_what_goes_wrong_is_said_so(files, tmp_path, monkeypatch):
    files["bad"] = tmp_path / "bad.vnnlib"
    files["bad"].write_text("(assert (>= X_0")
    assert run(files, "bad", tmp_path).read_text() == "unknown\n"
    two = f"[('f', '{files['net']}'), ('g', '{files['net']}')]"
    assert run(files, "holds 1", tmp_path, field=two).read_text() == "unknown\n"

    def broken(*_):
        raise farkas.FarkasError("broken")

    monkeypatch.setattr("verifier.verify.verify", broken)
    assert run(files, "holds 1", tmp_path).read_text() == "error\n"


def test_the_network_may_be_named():
    assert vnncomp.single_model("[('f', 'a/b.onnx')]") == Path("a/b.onnx")
    for field in ("[1]", "[", "[]", "[('f',)]"):
        with pytest.raises(InputError):
            vnncomp.single_model(field)


def test_evidence_is_kept_where_it_is_wanted(files, tmp_path, monkeypatch):
    monkeypatch.setenv(vnncomp.EVIDENCE, str(tmp_path / "kept"))
    run(files, "holds 1", tmp_path)
    (proof,) = (tmp_path / "kept").iterdir()
    question = [files["net"], files["holds 1"]]
    assert farkas.check(question, proof).verdict == "valid unsat"


def script(name, *arguments):
    environment = os.environ | {"FARKAS_PYTHON": sys.executable}
    command = [ROOT / "vnncomp" / name, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True).returncode


def test_a_clock_with_a_comma(tmp_path):
    source = (ROOT / "vnncomp/run_instance.sh").read_text()
    changed = tmp_path / "run_instance.sh"
    # As bash has it where the locale's decimal sign is a comma.
    changed.write_text(
        source.replace(
            "set -euo pipefail", "unset EPOCHREALTIME; EPOCHREALTIME=1700000000,25"
        ).replace("exec ", "echo ")
        + 'echo "$FARKAS_STARTED"\n'
    )
    said = subprocess.run(
        ["bash", changed, "v1", "digits", "m", "p", "r", "1"], capture_output=True, text=True
    )
    assert said.stdout.splitlines()[-1] == "1700000000.25"


HINDERED = {
    "no model": ("none.onnx", "none.onnx: there is no such file"),
    "two networks": ("[('f', 'a.onnx'), ('g', 'b.onnx')]", "2 networks"),
    "no list": ("[('f', 'a.onnx'", "no list of names and paths"),
}


@pytest.mark.parametrize("name", list(HINDERED))
def test_an_instance_without_an_answer_does_not_end_its_benchmark(name, files, tmp_path, capsys):
    """The competition skips what follows in a benchmark after a preparation that failed."""
    model, words = HINDERED[name]
    given = ["digits", model, str(files["holds 1"])]
    assert vnncomp.main(["--prepare", *given]) == 0
    assert words in capsys.readouterr().err
    results = tmp_path / "r.txt"
    assert vnncomp.main([*given, str(results), "10"]) == 0
    assert results.read_text() == "unknown\n"


def test_the_scripts(files, tmp_path):
    given = ("digits", files["net"], files["violated 2"])
    results = tmp_path / "r.txt"
    assert script("prepare_instance.sh", "v1", *given) == 0
    assert script("run_instance.sh", "v1", *given, results, 60) == 0
    assert judge(results, files["net"], files["violated 2"]) == "sat, correct"
    for name in ("prepare_instance.sh", "run_instance.sh", "install_tool.sh"):
        assert script(name, "v2", *given, results, 60) == 1
