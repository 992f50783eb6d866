"""Theorems in readable mathematics: exact, and not too long."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from fractions import Fraction

import pytest

import farkas
from proofs.theorem import FIRST, relation, theorem
from specs.property import Case, constraint
from specs.query import Query
from tests.proofs.helpers import Net, at_least, at_most, query

F = Fraction


def identity(size: int, *cases: Case) -> Query:
    net = Net(size)
    net.dense(0, [[float(i == j) for j in range(size)] for i in range(size)])
    return query(net.done(), cases)


@pytest.mark.parametrize(
    ("inputs", "outputs", "constant", "strict", "text"),
    [
        ({}, {0: 1}, -2, False, "y_0 ≤ 2"),
        ({}, {0: -2}, 1, False, "y_0 ≥ 0.5"),
        ({}, {0: -2}, 1, True, "y_0 > 0.5"),
        ({3: 1}, {}, 0, True, "x_3 < 0"),
        ({}, {0: 1, 1: -1}, 0, False, "y_0 ≤ y_1"),
        ({0: F(1, 2)}, {2: -3}, F(-1, 4), False, "0.5 x_0 ≤ 3 y_2 + 0.25"),
        ({0: 1, 1: 1}, {}, 1, True, "x_0 + x_1 + 1 < 0"),
        ({}, {}, 5, False, "5 ≤ 0"),
        ({}, {}, -5, True, "0 < 5"),
        ({}, {}, 0, False, "0 ≤ 0"),
    ],
)
def test_constraints_are_comparisons(inputs, outputs, constant, strict, text):
    made = constraint(
        {k: F(v) for k, v in inputs.items()},
        {k: F(v) for k, v in outputs.items()},
        F(constant),
        strict,
    )
    assert relation(made) == text


def test_cases_are_implications_and_disjuncts_conjunctions():
    both = (*at_least(0, 1), *at_most(1, 0, strict=True))
    cut = (constraint({0: F(1), 1: F(1)}, {}, F(-1)),)
    first = Case((F(0), F(0)), (F(1), F(1)), (both, at_least(1, 2)), cut, frozenset({0}))
    second = Case((F(2), F(1, 3)), (F(2), F(3)), ())
    lines = theorem(identity(2, first, second))
    assert lines[0] == "N : ℝ² → ℝ² is the network of built"
    assert lines[4:] == [
        "",
        "  case 0: if",
        "      0 < x_0 ≤ 1",
        "      0 ≤ x_1 ≤ 1",
        "      x_0 + x_1 ≤ 1",
        "    then",
        "      not (y_0 ≥ 1 and y_1 < 0)",
        "      and y_1 < 2",
        "",
        "  case 1: if",
        "      x_0 = 2",
        "      1/3 ≤ x_1 ≤ 3",
        "    then",
        "      nothing is asked",
    ]


def test_without_cases_there_is_nothing_to_show():
    assert theorem(identity(1))[-1] == "There is nothing to show: the property has no case."
    everywhere = Case((F(0),), (F(1),), ((),))
    assert theorem(identity(1, everywhere))[-1] == "      not (true)"


def test_strict_ends_are_neighbours_of_their_own():
    case = Case((F(0),) * 4, (F(1),) * 4, (at_least(0, 1),), (), frozenset(), frozenset({1, 2}))
    lines = [line.strip() for line in theorem(identity(4, case))]
    assert "0 ≤ x_i < 1   for i = 1 … 2" in lines
    assert "0 ≤ x_0 ≤ 1" in lines
    equal = Case((F(1),), (F(1),), (at_least(0, 1),), (), frozenset(), frozenset({0}))
    assert "1 ≤ x_0 < 1" in [line.strip() for line in theorem(identity(1, equal))]


def test_long_lists_are_shortened_and_said_to_be():
    size = 784
    low = tuple(F(k, 1000) for k in range(size))
    unsafe = tuple(at_least(k, 1) for k in range(20))
    case = Case(low, tuple(x + 1 for x in low), unsafe)
    made = identity(size, *[case] * 30)
    short, full = theorem(made), theorem(made, full=True)
    assert len(short) < 30 * FIRST
    text = "\n".join(short)
    assert f"... ({size - FIRST} more lines of bounds of {size}; --full shows all)" in text
    assert "(all 784 inputs lie between 0 and 1.783)" in text
    assert f"({20 - FIRST} more unsafe sets of 20; --full shows all)" in text
    assert f"... ({30 - FIRST} more cases of 30; --full shows all)" in text
    assert len(full) > 30 * size
    assert not any("--full" in line for line in full)
    equal = Case((F(0),) * size, (F(1),) * size, unsafe[:1])
    assert "      0 ≤ x_i ≤ 1   for i = 0 … 783" in theorem(identity(size, equal))


def show(capsys, *argv: object) -> tuple[int, str, str]:
    code = farkas.main(["show", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_tells_questions_from_evidence(examples, tmp_path, capsys):
    question = [examples / "digits.onnx", examples / "holds.vnnlib"]
    proof = tmp_path / "p.farkas"
    assert farkas.main(["verify", *map(str, question), "--proof", str(proof)]) == 0
    capsys.readouterr()
    code, alone, _ = show(capsys, *question)
    assert code == 0
    assert alone.startswith("N : ")
    assert show(capsys, *question, "--statement")[1] == alone
    assert len(show(capsys, *question, "--full")[1]) > len(alone)
    assert "float32" in show(capsys, *question, "--semantics", "float32")[1]
    toml = tmp_path / "q.toml"
    toml.write_text(f'[models]\nnet = "{question[0]}"\n[region]\nfile = "{question[1]}"\n')
    assert show(capsys, toml)[1].splitlines()[1:] == alone.splitlines()[1:]
    of_proof = show(capsys, proof)[1]
    assert of_proof.startswith("proof for question")
    both = show(capsys, *question, proof)[1]
    made = "The evidence was made for this question; farkas check judges it."
    assert both == f"{alone}\n{made}\n\n{of_proof}"
    assert "leaves" not in show(capsys, *question, proof, "--statement")[1]
    other = [question[0], examples / "violated.vnnlib"]
    assert "made for ANOTHER question" in show(capsys, *other, proof, "--statement")[1]
    digest = show(capsys, proof, "--hash")[1]
    assert re.fullmatch(r"[0-9a-f]{64}\n", digest)
    assert digest.strip() in of_proof


def test_usage_that_makes_no_sense(examples, tmp_path, capsys):
    question = [examples / "digits.onnx", examples / "holds.vnnlib"]
    for argv in (
        [question[0]],
        [tmp_path / "absent"],
        [*question, *question],
        [*question, "--hash"],
        [tmp_path / "absent", "--statement"],
        [tmp_path / "absent", "--full"],
        [tmp_path / "absent", "--semantics", "float32"],
        [*question, "--semantics", "float8"],
    ):
        code, out, err = show(capsys, *argv)
        assert (code, out) == (3, ""), argv
        assert err.startswith("farkas: ")


def test_mathematics_reaches_terminals_that_lack_its_signs(examples):
    question = [examples / "digits.onnx", examples / "holds.vnnlib"]
    program = "import sys, farkas; sys.exit(farkas.main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "show", *map(str, question)],
        cwd=examples.parent,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"0 \u2264 x_i \u2264 0.08" in done.stdout
