from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from specs.enclosure import Enclosure, zeros
from specs.errors import PropertyError
from specs.linear import Identity, MatMul
from specs.network import Input, Linear, Network, Term
from specs.property import Property
from specs.property_reader import read_property
from specs.source import Source
from specs.vnnlib2 import read_vnnlib2

HALF = Fraction(1, 2)
DECLARE = """(vnnlib-version <2.0>)
; a comment (with a parenthesis
(declare-network net
  (declare-input X float32 [1,2])
  (declare-output Y Real [2]))
"""
BOX = """(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0)))
(assert (and (>= X[0,1] 0.0) (<= X[0,1] 1.0)))
"""


def network(shape: tuple[int, ...] = (1, 2), outputs: tuple[int, ...] = (2,)) -> Network:
    weight = MatMul(Enclosure(np.ones((math.prod(shape), math.prod(outputs)))))
    layer = Linear("out", outputs, (Term(0, weight),), zeros(math.prod(outputs)))
    return Network((Input("in", shape), layer), (1,))


def read(text: str, net: Network | None = None) -> Property:
    return read_vnnlib2(Source("p.vnnlib", text), net or network())


def test_a_plain_file() -> None:
    (case,) = read(DECLARE + BOX + "(assert (< (+ Y[0] (* 2.0 X[0,1])) 0.1))").cases
    assert case.lower == (0, 0)
    assert case.upper == (1, 1)
    assert str(case.unsafe[0][0]) == "2 * x1 + 1 * y0 + -1/10 < 0"


def test_not_equal_is_two_strict_disjuncts() -> None:
    (case,) = read(DECLARE + BOX + "(assert (!= Y[0] Y[1]))").cases
    assert [[str(c) for c in d] for d in case.unsafe] == [
        ["1 * y0 + -1 * y1 + 0 < 0"],
        ["-1 * y0 + 1 * y1 + 0 < 0"],
    ]


def test_mixed_conjunctions_and_disjunctions() -> None:
    text = "(assert (and (<= Y[0] 1.0) (or (<= Y[1] 0.0) (and (> Y[1] 1.0) (<= X[0,0] 0.5)))))"
    low, high = sorted(read(DECLARE + BOX + text).cases, key=lambda c: -c.upper[0])
    assert (low.upper[0], len(low.unsafe[0])) == (1, 2)
    assert (high.upper[0], len(high.unsafe[0])) == (HALF, 2)


def test_tensors_of_other_ranks() -> None:
    text = """(vnnlib-version <2.0>) (declare-network n (declare-input X float64 [2,1,3])
      (declare-output Y Real []))"""
    text += "".join(
        f"(assert (and (>= X[{i},0,{j}] {i}.{j}) (<= X[{i},0,{j}] 3)))".replace(" 3)", " 3.0)")
        for i in range(2)
        for j in range(3)
    )
    (case,) = read(text + "(assert (<= Y 0.5))", network((2, 1, 3), ())).cases
    assert case.lower == tuple(Fraction(s) for s in ("0", "0.1", "0.2", "1", "1.1", "1.2"))
    assert str(case.unsafe[0][0]) == "1 * y0 + -1/2 <= 0"


def test_several_tensors_count_through() -> None:
    both = Linear("out", (2,), (Term(0, Identity(2)), Term(1, Identity(2))), zeros(2))
    net = Network((Input("a", (2,)), Input("b", (2,)), both), (2, 2))
    text = """(vnnlib-version <2.0>) (declare-network n (declare-input A Real [2])
      (declare-input B Real [2]) (declare-output Y Real [2]) (declare-output Z Real [2]))"""
    bounds = [
        f"(assert (and (>= {n}[{i}] 0) (<= {n}[{i}] {v})))"
        for n, i, v in (("A", 0, 1), ("A", 1, 2), ("B", 0, 3), ("B", 1, 4))
    ]
    (case,) = read(text + "".join(bounds) + "(assert (<= Z[1] Y[0]))", net).cases
    assert case.upper == (1, 2, 3, 4)
    assert str(case.unsafe[0][0]) == "-1 * y0 + 1 * y3 + 0 <= 0"
    with pytest.raises(PropertyError, match=r"input B\[1\] has no lower bound"):
        read(text + "".join(bounds[:3]), net)


def test_long_literals_stay_exact() -> None:
    digits = "0.1000000000000000055511151231257827021181583404541015624"
    (case,) = read(DECLARE + BOX + f"(assert (<= X[0,0] {digits}))").cases
    assert case.upper[0] == Fraction(digits)
    assert case.upper[0] != Fraction(0.1)


REFUSED = [
    (DECLARE + BOX + "(assert (<= X[0,0] 1e5))", "8:20: '1e5': VNN-LIB 2.0 has no exponents"),
    (DECLARE + BOX + "(assert (<= X[0,0] -1.5E-5))", "no exponents"),
    (DECLARE + BOX + "(assert (<= Z[0] 1.0))", "8:13: Undeclared variable"),
    (DECLARE + BOX + "(assert (<= X[0,2] 1.0))", "8:13: Index out of bounds"),
    (DECLARE + BOX + "(assert (<= X[0] 1.0))", "8:13: Not enough indices"),
    (DECLARE + BOX + "(assert (<= Y[0,1] 1.0))", "8:13: Too many indices"),
    (DECLARE + BOX + "(assert (<= X[0,0] 1))", "Type mismatch"),
    (DECLARE + BOX + "(assert (<= (* X[0,0] X[0,1]) 1.0))", "8:1: a nonlinear term"),
    (DECLARE + BOX + "(assert (<= X[0,0] 1.0)", "8:1: '(' that is never closed"),
    (DECLARE + BOX + "(assert (<= X[0,0] 1.0)))", "8:25: ')' that closes nothing"),
    (DECLARE + BOX + "(assert (<= X[0,0] .5))", "8:20: syntax error"),
    (DECLARE + BOX + "(assert (<= X[0,0] -1.0))", "8:1: the bounds of X[0,0] contradict"),
    (DECLARE + BOX.splitlines()[0], "4:1: input X[0,1] has no lower bound"),
    (DECLARE + BOX + "\0(assert (<= X[0,0] -1.0))", "8:1: a NUL character"),
    (DECLARE + BOX + f"(assert {'(and ' * 300}(<= Y[0] 0.0){')' * 301}", "nested deeper than 200"),
    (DECLARE + BOX + f"(assert (<= X[{10**30},0] 1.0))", "too large for the parser"),
    (DECLARE + BOX + f"(assert (<= Y[0] {10**30}))", "too large for the parser"),
    (DECLARE + BOX + f"(assert (<= Y[0] 0.{'1' * 2000}))", "characters (the limit is 1000)"),
    (DECLARE, "syntax error at the end of the file"),
    (DECLARE.replace("[1,2]", "[2]") + BOX.replace("[0,", "["), "4:18: X is declared with shape"),
    (DECLARE.replace("Y Real [2]", "Y Real [3]") + BOX, "5:19: Y is declared with shape [3]"),
    (DECLARE.replace("float32", "int8") + BOX.replace(".0", ""), "4:18: elements of type 'int8'"),
    (DECLARE.replace("Real", "Rael") + BOX, "5:19: elements of type 'Rael'"),
    (
        DECLARE.replace("[2]))", '[2]) (declare-hidden H Real [2] "h"))').replace(
            '(declare-output Y Real [2]) (declare-hidden H Real [2] "h")',
            '(declare-hidden H Real [2] "h") (declare-output Y Real [2])',
        )
        + BOX,
        "hidden tensors are not supported yet",
    ),
    (
        DECLARE + "(declare-network m (isomorphic-to net) (declare-input A float32 [1,2])"
        "(declare-output B Real [2]))" + BOX,
        "2 networks",
    ),
    (
        DECLARE.replace("(declare-output", "(declare-input W Real [1]) (declare-output") + BOX,
        "2 input tensors are declared",
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(PropertyError) as error:
        read(text)
    assert message in str(error.value)
    assert str(error.value).startswith("p.vnnlib:")


def test_files_are_told_apart_by_their_version(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text("; VNN-LIB\n" + DECLARE + BOX)
    assert read_property(path, network())[0].cases[0].upper == (1, 1)
    declared = "".join(f"(declare-const {v} Real)" for v in ("X_0", "X_1", "Y_0", "Y_1"))
    path.write_text(declared + "".join(f"(assert (<= 0 X_{i} 1))" for i in range(2)))
    assert read_property(path, network())[0].cases[0].upper == (1, 1)
    path.write_text(DECLARE.replace("2.0", "3.0") + BOX)
    with pytest.raises(PropertyError, match=r"p.vnnlib:1:17: version <3.0>"):
        read_property(path, network())
