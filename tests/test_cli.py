"""The command line from the outside: first lines, exit codes, files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest

import farkas

ROOT = Path(__file__).resolve().parent.parent


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    """Exit code, lines of standard output, standard error."""
    code = farkas.main([str(a) for a in argv])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


@pytest.fixture
def holds(examples: Path) -> list[Path]:
    return [examples / "digits.onnx", examples / "holds.vnnlib"]


@pytest.fixture
def violated(examples: Path) -> list[Path]:
    return [examples / "digits.onnx", examples / "violated.vnnlib"]


def test_unsat_with_a_proof_that_checks(
    holds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof, report = tmp_path / "p.farkas", tmp_path / "v.json"
    code, out, err = run(capsys, "verify", *holds, "--proof", proof, "--json", report)
    assert (code, out[0], err) == (0, "unsat", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.farkas", "v.json"]
    data = json.loads(report.read_text())
    assert data["answer"] == "unsat"
    assert data["proof_bytes"] == proof.stat().st_size
    assert data["leaves"] >= 1
    assert data["uncertified_claim"] is None
    for arithmetic in ("outward", "exact"):
        code, out, _ = run(capsys, "check", *holds, proof, "--arithmetic", arithmetic)
        assert (code, out[0]) == (0, "valid unsat")


def test_sat_with_a_witness_that_checks(
    violated: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    witness, report = tmp_path / "w.json", tmp_path / "v.json"
    code, out, err = run(
        capsys,
        "verify",
        *violated,
        "--witness",
        witness,
        "--json",
        report,
        "--proof",
        tmp_path / "p",
    )
    assert (code, out[0], err) == (1, "sat", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.json", "w.json"]
    data = json.loads(report.read_text())
    assert data["replay"]["violated"] is True
    point = [Fraction(v) for v in data["witness"]["point"]]
    query = farkas.load_question(*violated)
    assert query.property.cases[data["witness"]["case"]].contains(point)
    code, out, _ = run(capsys, "check", *violated, witness)
    assert (code, out[0]) == (1, "valid sat")


def test_evidence_for_another_question_is_refused(
    holds: list[Path], violated: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = tmp_path / "p.farkas"
    assert run(capsys, "verify", *holds, "--proof", proof)[0] == 0
    code, out, _ = run(capsys, "check", *violated, proof)
    assert (code, out[0]) == (3, "unreadable")


def test_attack_alone_on_what_holds_is_unknown(
    holds: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "verify", *holds, "--method", "attack", "--timeout", "20")
    assert (code, out[0]) == (2, "unknown")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "magic"], "use one of"),
        (["--device", "tpu"], "use one of"),
        (["--semantics", "float8"], "use one of"),
        (["--reuse", "x.farkas"], "x.farkas"),
        (["--reuse", str(ROOT / "README.md")], "neither a proof nor a witness"),
        (["--proof-effort", "magic"], "use one of"),
        (["--timeout", "0"], "positive"),
        (["--timeout", "soon"], "soon"),
        (["--proof", "no/such/folder/p"], "no/such/folder"),
        (["--json", "."], "cannot write"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(
    options: list[str], says: str, holds: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "verify", *holds, *options)
    assert (code, out) == (3, [])
    assert says in err


def test_an_old_proof_is_tried_first_and_a_witness_refused(
    holds: list[Path], violated: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof, witness, report = (tmp_path / name for name in ("p", "w", "v.json"))
    assert run(capsys, "verify", *holds, "--proof", proof)[0] == 0
    code, out, _ = run(capsys, "verify", *holds, "--reuse", proof, "--json", report)
    assert (code, out[0]) == (0, "unsat")
    assert any(line.startswith("old proof: ") and "100.0%" in line for line in out)
    assert json.loads(report.read_text())["reused"]["share"] == 1.0
    assert run(capsys, "verify", *violated, "--witness", witness, "--reuse", proof)[0] == 1
    code, out, err = run(capsys, "verify", *holds, "--reuse", witness)
    assert (code, out) == (3, [])
    assert "witness" in err


def test_settings_are_taken_shown_and_recorded(
    holds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "v.json"
    given = ["--set", "attack.steps=3", "--set", "policy.attack_share=0"]
    code, out, _ = run(capsys, "verify", *holds, *given, "--json", report)
    assert (code, out[0]) == (0, "unsat")
    assert "settings: attack.steps=3 policy.attack_share=0.0" in out
    data = json.loads(report.read_text())
    assert data["settings"] == {"attack.steps": 3, "policy.attack_share": 0.0}
    assert "attack" not in {stage["name"] for stage in data["stages"]}


@pytest.mark.parametrize("command", ["verify", "bench"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("attack.stps=3", "attack.steps"),
        ("attack.steps=many", "whole number"),
        ("policy.attack_share=1.5", "at most 1"),
        ("attack.steps", "NAME=VALUE"),
    ],
)
def test_settings_that_there_are_not_are_refused_before_any_work(
    command: str, given: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files do not exist, and that is not what the message says."""
    pytest.importorskip("torch")
    files = ["absent.onnx", "absent.vnnlib"][: 2 if command == "verify" else 1]
    code, out, err = run(capsys, command, *files, "--set", given)
    assert (code, out) == (3, [])
    assert says in err


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_settings_are_listed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    code, out, _ = run(capsys, command, "--list-settings")
    assert code == 0
    names = {line.split()[0] for line in out}
    assert {"policy.kernel_share", "attack.steps", "search.batch"} <= names


@pytest.mark.parametrize(
    "command",
    ["verify", "check", "minimize", "explain", "show", "reach", "certify", "harden", "bench"],
)
def test_the_read_me_names_the_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "README.md").read_text()
    usage = re.search(rf"^ {{4}}farkas {command} .*\n( {{5,}}.*\n)*", page, re.MULTILINE)
    assert usage is not None
    code, out, _ = run(capsys, command, "--help")
    taken = set(re.findall(r"--[a-z-]+", "\n".join(out))) - {"--help"}
    assert code == 0
    assert set(re.findall(r"--[a-z-]+", usage[0])) == taken


def test_missing_and_malformed_files_are_the_input_s_fault(
    holds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_model, bad_property = tmp_path / "n.onnx", tmp_path / "p.vnnlib"
    bad_model.write_bytes(b"nonsense")
    bad_property.write_text("(assert (<= X_0 1.0)")
    for question in (
        [tmp_path / "absent.onnx", holds[1]],
        [holds[0], tmp_path / "absent.vnnlib"],
        [bad_model, holds[1]],
        [holds[0], bad_property],
        [holds[0]],
        [*holds, holds[1]],
    ):
        code, out, err = run(capsys, "verify", *question)
        assert (code, out) == (3, []), question
        assert err.startswith("farkas: ")
        assert "Traceback" not in err


def entry(*argv: object) -> subprocess.CompletedProcess[str]:
    program = "import sys, farkas; sys.exit(farkas.main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, argv)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_kernel_alone_starts_neither_torch_nor_onnxruntime(
    holds: list[Path], tmp_path: Path
) -> None:
    easy = tmp_path / "easy.vnnlib"
    names = [f"X_{i}" for i in range(64)] + [f"Y_{i}" for i in range(10)]
    lines = [f"(declare-const {name} Real)" for name in names]
    lines += [f"(assert (>= {name} 0.5)) (assert (<= {name} 0.6))" for name in names[:64]]
    easy.write_text("\n".join([*lines, "(assert (>= Y_0 1000000.0))"]))
    program = (
        "import sys, farkas\n"
        "code = farkas.main(sys.argv[1:])\n"
        "print(code, sorted({'torch', 'onnxruntime'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "verify", str(holds[0]), str(easy)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_progress_stays_off_what_is_no_terminal(holds: list[Path]) -> None:
    done = entry("verify", *holds)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "unsat"
    assert done.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupting_leaves_nothing_half_written(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.verifier.small import random_mlp

    network, model = random_mlp([24, 60, 60, 60, 2], 0)
    assert network.input_size == 24
    net, prop = tmp_path / "n.onnx", tmp_path / "p.vnnlib"
    net.write_bytes(model.content)
    lines = [f"(declare-const X_{i} Real)" for i in range(24)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(2)]
    for i in range(24):
        lines += [f"(assert (>= X_{i} -1.0))", f"(assert (<= X_{i} 1.0))"]
    lines += ["(assert (>= Y_0 4.0))"]
    prop.write_text("\n".join(lines))
    out = tmp_path / "out"
    out.mkdir()
    program = "import sys, farkas; sys.exit(farkas.main())"
    argv = ["verify", net, prop, "--proof", out / "p.farkas", "--json", out / "v.json"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, argv)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs, and all they start, ignore interrupts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        time.sleep(4)
        assert process.poll() is None, "the question was meant to be too hard"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, stdout) == (130, "")
    assert "interrupted" in stderr
    assert list(out.iterdir()) == []
