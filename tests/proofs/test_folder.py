"""Folders of questions and evidence: everything in them is checked or named."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import farkas
from proofs import folder as folders
from proofs.folder import check_pieces, pieces
from proofs.format import write_proof, write_witness
from proofs.proof import ProofBuilder
from proofs.witness import Witness
from specs.errors import InputError
from specs.question import load_question
from tests.networks import serialised

ROOT = Path(__file__).resolve().parents[2]


def model() -> bytes:
    """y = relu(x) - relu(-x) / 2, whose maximum over [-1, 1] is 1."""
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1]), ("y", [1]))
    ]
    stored = [
        numpy_helper.from_array(np.array([[1.0, -1.0]], dtype=np.float32), "w"),
        numpy_helper.from_array(np.array([[1.0], [-0.5]], dtype=np.float32), "v"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1]) for n in ("x", "y")]
    return serialised(helper.make_graph(nodes, "g", ends[:1], ends[1:], stored))


QUESTION = """
[models]
net = "{net}"
[region]
lower = -1
upper = 1
[statement]
kind = "range"
output = 0
maximum = {maximum}
"""


def ask(folder: Path, stem: str, maximum: float, net: str = "net.onnx") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.onnx").write_bytes(model())
    (folder / f"{stem}.toml").write_text(QUESTION.format(net=net, maximum=maximum))


def prove(question: Path, evidence: Path) -> None:
    """Correct where the maximum is 3: one leaf, with a sweep."""
    made = ProofBuilder(load_question(question))
    made.begin_case(0)
    made.begin_tree()
    made.sweep()
    made.close()
    write_proof(evidence, made.finish())


def violate(question: Path, evidence: Path, at: Fraction = Fraction(1)) -> None:
    write_witness(evidence, Witness(load_question(question).digest, 0, 0, (at,)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A proof and two witnesses that are valid, one in a folder below."""
    made = tmp_path / "folder"
    ask(made, "holds", 3)
    prove(made / "holds.toml", made / "holds.farkas")
    ask(made, "breaks", 0.5)
    violate(made / "breaks.toml", made / "breaks.json")
    ask(made / "below", "breaks", 0.25)
    violate(made / "below/breaks.toml", made / "below/breaks.witness.json")
    return made


def run(capsys, *argv: object) -> tuple[int, list[str], str]:
    one = [] if "--processes" in argv else ["--processes", "1"]  # each takes time to start
    code = farkas.main(["check", *map(str, argv), *one])
    captured = capsys.readouterr()
    return (
        code,
        sorted(captured.out.splitlines()[:-1]) + captured.out.splitlines()[-1:],
        captured.err,
    )


def test_what_lies_beside_its_question_is_checked(folder, tmp_path, capsys):
    for processes in (1, 2):
        report = tmp_path / "report.json"
        code, out, err = run(capsys, folder, "--processes", processes, "--json", report)
        assert (code, err) == (0, "")
        assert [line.rsplit(":", 1)[0] for line in out] == [
            "valid sat: below/breaks.witness.json for below/breaks.toml",
            "valid sat: breaks.json for breaks.toml",
            "valid unsat: holds.farkas for holds.toml",
            "3 checked",
        ]
        assert out[-1] == "3 checked: 2 valid sat, 1 valid unsat"
        data = json.loads(report.read_text())
        assert [d["piece"] for d in data] == sorted(d["piece"] for d in data)
        assert all(d["as_expected"] and d["certificate"]["verdict"] == d["verdict"] for d in data)


def test_exit_codes_are_the_worst_of_all(folder, capsys):
    assert run(capsys, folder, "--expect", "unsat")[0] == 1
    violate(folder / "breaks.toml", folder / "breaks.json", Fraction(1, 4))
    code, out, _ = run(capsys, folder, "--expect", "unsat")
    assert code == 2
    assert any(line.startswith("invalid: breaks.json for breaks.toml: ") for line in out)
    (folder / "holds.farkas").write_bytes(b"PK nonsense")
    code, out, _ = run(capsys, folder)
    assert code == 3
    assert out[-1] == "3 checked: 1 invalid, 1 unreadable, 1 valid sat"
    (folder / "breaks.json").unlink()
    assert (
        "incomplete: breaks.toml: no evidence lies beside this question" in run(capsys, folder)[1]
    )


def test_evidence_without_a_question_is_never_left_out(folder, capsys):
    shutil.copy(folder / "holds.farkas", folder / "alone.farkas")
    shutil.copy(folder / "breaks.json", folder / ".hidden.json")
    (folder / "settings.json").write_text("{}")  # no evidence
    code, out, _ = run(capsys, folder)
    assert code == 3
    assert sum("it belongs to no question" in line for line in out) == 2
    assert not any("settings" in line for line in out)


def listed(folder: Path, *rows: tuple[str, ...], header: str) -> None:
    with (folder / "evidence.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def test_a_list_says_what_belongs_together_and_what_is_expected(folder, tmp_path, capsys):
    header = "question,evidence,expect,semantics"
    rows = [("holds.toml", "holds.farkas", "unsat", ""), ("breaks.toml", "breaks.json", "sat", "")]
    listed(folder, *rows, header=header)
    assert run(capsys, folder)[0] == 0  # the third lies beside its question still
    listed(folder, rows[0], ("breaks.toml", "breaks.json", "unsat", ""), header=header)
    code, out, _ = run(capsys, folder)
    assert code == 1
    assert any(line.startswith("valid sat (expected unsat): breaks.json") for line in out)
    listed(folder, ("holds.toml", "holds.farkas", "unsat", "float32"), header=header)
    assert run(capsys, folder)[0] == 3  # made for real semantics
    listed(folder, ("holds.toml", "absent.farkas", "", ""), header=header)
    code, out, _ = run(capsys, folder)
    assert code == 3
    assert any("unreadable: absent.farkas" in line for line in out)


def test_questions_may_lie_elsewhere(folder, tmp_path, capsys):
    """As those of ``farkas bench`` do."""
    questions = tmp_path / "questions"
    shutil.copytree(folder, questions)
    for path in (*folder.rglob("*.toml"), *folder.rglob("*.onnx")):
        path.unlink()
    shutil.rmtree(folder / "below")
    rows = [("holds.toml", "holds.farkas"), ("breaks.toml", "breaks.json")]
    listed(folder, *rows, header="question,evidence")
    assert run(capsys, folder)[0] == 3
    assert run(capsys, folder, "--questions", questions)[0] == 0
    listed(folder, ("../questions/holds.toml", "holds.farkas"), header="question,evidence")
    code, out, _ = run(capsys, folder, "--questions", questions)
    assert code == 3
    assert any("leads out of the folder of questions" in line for line in out)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../outside.farkas", "leads out of the folder"),
        ("/etc/passwd", "leads out of the folder"),
        ("link.farkas", "leads out of the folder"),
        ("links/outside.farkas", "leads out of the folder"),
        ("loop.farkas", ""),
        ("nul\0.farkas", ""),
        ("x" * 5000, ""),
        ("pipe.farkas", "no regular file"),
        (".", "no regular file"),
        ("\x1b[2J.farkas", ""),
    ],
)
def test_names_that_lead_out_are_refused(folder, tmp_path, capsys, name, says):
    shutil.copy(folder / "holds.farkas", tmp_path / "outside.farkas")
    (folder / "link.farkas").symlink_to(tmp_path / "outside.farkas")
    (folder / "links").symlink_to(tmp_path)
    (folder / "loop.farkas").symlink_to(folder / "loop.farkas")
    os.mkfifo(folder / "pipe.farkas")
    listed(folder, ("holds.toml", name), header="question,evidence")
    code, out, _ = run(capsys, folder)
    assert code == 3
    assert all(line.isprintable() for line in out)
    assert any(line.startswith("unreadable: evidence.csv:2") and says in line for line in out) or (
        not says and any(line.startswith("unreadable") for line in out)
    )
    assert "unreadable: links: a link to a folder, which is not followed" in out
    assert any(line.startswith("unreadable: link.farkas") for line in out)
    assert not any("outside" in line and line.startswith("valid") for line in out)


@pytest.mark.parametrize(
    "net", ["../net.onnx", "pipe.onnx", "/dev/zero", "out/net.onnx", "packed.onnx"]
)
def test_questions_name_nothing_outside(folder, tmp_path, capsys, net):
    (tmp_path / "net.onnx").write_bytes(model())
    os.mkfifo(folder / "pipe.onnx")
    (folder / "packed.onnx.gz").symlink_to(tmp_path / "net.onnx")
    (folder / "out").symlink_to(tmp_path)
    ask(folder, "holds", 3, net)
    code, out, _ = run(capsys, folder)
    assert code == 3
    assert any(line.startswith("unreadable: holds.farkas") for line in out)


@pytest.mark.parametrize(
    ("name", "listing"), [("holds.toml", False), ("holds.toml", True), ("holds.toml.gz", True)]
)
def test_gzipped_questions_name_nothing_outside_either(folder, tmp_path, capsys, name, listing):
    (tmp_path / "net.onnx").write_bytes(model())
    for net, code in (("net.onnx", 0), ("../net.onnx", 3)):
        (folder / "holds.toml").unlink(missing_ok=True)
        text = QUESTION.format(net=net, maximum=3).encode()
        (folder / name).write_bytes(gzip.compress(text))
        if listing:
            listed(folder, ("holds.toml", "holds.farkas"), header="question,evidence")
        found, out, _ = run(capsys, folder)
        says = "leads out of the folder" if code else "valid unsat: holds.farkas"
        assert any(says in line for line in out), (net, out)
        assert found == code


@pytest.mark.parametrize(
    "text",
    ["", "evidence\nholds.farkas\n", "question,evidence,evidence\n", "onnx,evidence\n",
     "question,evidence,colour\n", "\x00", '"' + "x" * 200_000],
)  # fmt: skip
def test_lists_that_make_no_sense(folder, capsys, text):
    (folder / "evidence.csv").write_text(text)
    assert farkas.main(["check", str(folder)]) == 3
    assert "evidence.csv" in capsys.readouterr().err


def test_rows_that_make_no_sense_cost_a_piece_each(folder, capsys):
    (folder / "evidence.csv").write_text(
        "question,evidence,expect\nholds.toml,holds.farkas\nholds.toml,holds.farkas,maybe\n"
        "absent.toml,holds.farkas,unsat\nholds.toml,holds.farkas,unsat\n"
    )
    code, out, _ = run(capsys, folder)
    assert code == 3
    assert out[-1] == "6 checked: 3 unreadable, 2 valid sat, 1 valid unsat"


def test_folders_without_evidence(tmp_path, capsys):
    assert farkas.main(["check", str(tmp_path)]) == 3
    assert "no evidence in it" in capsys.readouterr().err
    ask(tmp_path, "holds", 3)
    assert farkas.main(["check", str(tmp_path)]) == 2
    assert farkas.main(["check", str(tmp_path), str(tmp_path / "holds.toml")]) == 3
    file = tmp_path / "holds.toml"
    assert farkas.main(["check", str(file), str(file), "--questions", str(tmp_path)]) == 3


def test_a_process_that_ends_costs_one_piece(folder, monkeypatch):
    """Here it ends on what it is sent first, whatever that is."""
    broken = folders._START.replace("serve()", "serve") + "; sys.stdin.readline(); sys.exit(9)"
    listed_pieces = pieces(folder)
    monkeypatch.setattr(folders, "_START", broken)
    reports = check_pieces(listed_pieces, 2)
    assert [report.verdict for report in reports] == ["error"] * 3
    assert {report.code for report in reports} == {4}
    assert "ended early" in reports[0].reason
    monkeypatch.undo()
    assert all(report.code == 0 for report in check_pieces(listed_pieces, 2))


def test_a_process_that_starts_while_all_are_stopped_is_ended(folder, monkeypatch):
    helper, started = folders._Helper(), []

    def start(*args, **options):
        helper.stop()  # as an interruption does, which finds no process yet
        started.append(popen(*args, **options))
        return started[0]

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    assert helper.ask({})["verdict"] == "error"
    assert started[0].poll() == -signal.SIGKILL


def test_who_works_for_a_process_that_is_gone_ends():
    """It was terminated or killed, and could end no other."""
    busy = (
        "import time; from proofs import folder; "
        "folder._answer = lambda task: print('busy', flush=True) or time.sleep(600); "
        "folder.serve()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", busy], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            process.stdin.write("{}\n")
            process.stdin.flush()
            assert process.stderr.readline() == "busy\n"
            process.stdin.close()
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_questions_that_are_of_no_use_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="one of the two"):
        pieces(folder, tmp_path)  # there is no list
    listed(folder, ("holds.toml", "holds.farkas"), header="question,evidence")
    with pytest.raises(InputError, match="one of the two"):
        pieces(folder, tmp_path / "absent")
    assert pieces(folder, tmp_path)


def test_a_folder_that_is_not_there():
    with pytest.raises(InputError, match="cannot read the folder"):
        pieces(Path("/no/such/folder"))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupting_ends_all_processes_and_writes_nothing(folder, tmp_path):
    source = folder / "holds.farkas"
    rows = [("holds.toml", "holds.farkas")] * 5000
    listed(folder, *rows, header="question,evidence")
    assert source.is_file()
    program = "import sys, farkas; sys.exit(farkas.main())"
    report = tmp_path / "report.json"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "check", str(folder), "--json", str(report)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("valid")
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert time.monotonic() - started < 30
    assert not report.exists()
