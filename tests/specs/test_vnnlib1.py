from __future__ import annotations

import contextlib
import gzip
import hashlib
import time
from fractions import Fraction
from pathlib import Path

import pytest

from specs import source as source_module
from specs.errors import PropertyError
from specs.property import Property, constraint
from specs.source import Source, read_source
from specs.vnnlib1 import read_unsafe, read_vnnlib1

ONE = Fraction(1)
HEAD = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n"
BOX = "".join(f"(assert (>= X_{i} 0))\n(assert (<= X_{i} 1.0))\n" for i in range(2))


def read(text: str, inputs: int = 2, outputs: int = 1) -> Property:
    return read_vnnlib1(Source("p.vnnlib", text), inputs, outputs)


def test_a_plain_file() -> None:
    stated = read(HEAD + BOX + "(assert (<= Y_0 0.1)) ; unsafe\n")
    (case,) = stated.cases
    assert case.lower == (0, 0)
    assert case.upper == (1, 1)
    assert case.unsafe == ((constraint({}, {0: ONE}, Fraction(-1, 10)),),)
    assert not case.constraints
    assert not stated.notes


def test_without_outputs_the_region_itself_is_unsafe() -> None:
    assert read(HEAD + BOX).cases[0].unsafe == ((),)


def test_bounds_intersect_and_keep_their_strictness() -> None:
    text = "(assert (> X_0 0.5))(assert (>= X_0 0.5))(assert (< X_1 1.0))(assert (< X_1 2))"
    (case,) = read(HEAD + BOX + text).cases
    assert case.lower == (Fraction(1, 2), 0)
    assert case.strict_lower == {0}
    assert case.strict_upper == {1}


def test_a_tighter_bound_replaces_strictness() -> None:
    text = "(assert (> X_0 -1.0))(assert (< X_1 0.75))(assert (<= X_1 0.5))"
    (case,) = read(HEAD + BOX + text).cases
    assert case.strict_lower == case.strict_upper == frozenset()
    assert case.upper[1] == Fraction(1, 2)


def test_scaled_bounds_become_the_box() -> None:
    (case,) = read(HEAD + BOX + "(assert (<= (* -3 X_0) -1))").cases
    assert case.lower[0] == Fraction(1, 3)


def test_equality_is_two_constraints() -> None:
    (case,) = read(HEAD + BOX + "(assert (= X_0 0.25))(assert (= Y_0 X_1))").cases
    assert case.lower[0] == case.upper[0] == Fraction(1, 4)
    assert {str(c) for c in case.unsafe[0]} == {
        "-1 * x1 + 1 * y0 + 0 <= 0",
        "1 * x1 + -1 * y0 + 0 <= 0",
    }


def test_constraints_between_inputs_cut_the_region() -> None:
    (case,) = read(HEAD + BOX + "(assert (<= (+ X_0 (* 2.0 X_1)) 1.5))").cases
    assert case.constraints == (constraint({0: ONE, 1: 2 * ONE}, {}, Fraction(-3, 2)),)


def test_two_boxes_and_a_disjunction_over_outputs() -> None:
    boxes = "(assert (or (and (<= X_0 0.25)) (and (>= X_0 0.75))))"
    outputs = "(assert (or (<= Y_0 0) (and (>= Y_0 2) (<= Y_0 3))))"
    stated = read(HEAD + BOX + boxes + outputs)
    assert [(c.lower[0], c.upper[0]) for c in stated.cases] == [
        (0, Fraction(1, 4)),
        (Fraction(3, 4), 1),
    ]
    assert [[len(d) for d in c.unsafe] for c in stated.cases] == [[1, 2], [1, 2]]


def test_disjuncts_over_one_region_are_one_case() -> None:
    pairs = "".join(f"(and (<= X_0 0.5{'0' * k}) (<= Y_0 {k}))" for k in range(4))
    (case,) = read(HEAD + BOX + f"(assert (or {pairs}))").cases
    assert len(case.unsafe) == 4


def test_an_empty_box_among_others_is_dropped_and_noted() -> None:
    text = "(assert (or (and (>= X_0 0.6) (<= X_0 0.4)) (<= X_0 0.5)))"
    stated = read(HEAD + BOX + text)
    assert len(stated.cases) == 1
    assert "1 of the regions" in stated.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "(assert (or (>= X_0 3) (<= X_0 -1)))",
        "(assert (or (<= 2 1) (< X_0 X_0)))",
        "(assert (<= 2 1))",
        "(assert (or (and (> X_0 1) (<= Y_0 0)) (>= X_0 2)))",
    ],
)
def test_vacuous_files_say_so(text: str) -> None:
    stated = read(HEAD + BOX + text)
    assert stated.vacuous
    assert stated.notes


def test_other_commands_and_chains() -> None:
    text = "(set-logic QF_LRA)" + HEAD.replace("(declare-const Y_0", "(declare-fun Y_0 ()")
    (case,) = read(text + BOX + "(assert (<= 0.25 X_0 0.5))(check-sat)").cases
    assert (case.lower[0], case.upper[0]) == (Fraction(1, 4), Fraction(1, 2))


def test_arithmetic_on_constants_is_exact() -> None:
    (case,) = read(HEAD + BOX + "(assert (<= (- (* 3 X_0) (/ 1 7)) (- (- 0.1) (- 1))))").cases
    assert case.upper[0] == (Fraction(1, 7) + Fraction(9, 10)) / 3


REFUSED = [
    (HEAD + BOX.replace("(assert (<= X_1 1.0))", ""), "2:16: input X_1 has no upper bound"),
    (HEAD + "(assert (or (<= X_0 1) (and (>= X_0 0) (<= X_0 1))))", "no lower bound"),
    (HEAD + BOX + "(assert (<= X_0 -0.5))", "8:9: the bounds of X_0 contradict each other"),
    (HEAD + BOX + "(assert (< X_0 0))", "contradict"),
    (HEAD + BOX + "(assert (<= X_2 1))", "8:13: unknown variable X_2"),
    (HEAD + BOX + "(assert (<= Z 1))", "8:13: unknown variable 'Z'"),
    (HEAD + BOX + "(assert (<= X_00 1))", "unknown variable"),
    (HEAD + "(declare-const X_2 Real)", "4:16: X_2 is out of range: the network has 2 inputs"),
    (HEAD + "(declare-const Y_1 Real)", "Y_1 is out of range: the network has 1 outputs"),
    (HEAD + "(declare-const X_0 Real)", "declared twice"),
    (HEAD + "(declare-const X_-1 Real)", "'X_-1' is no variable"),
    (HEAD + "(declare-const Z Real)", "'Z' is no variable"),
    (HEAD.replace("Y_0 Real", "Y_0 Int"), "sort 'Int' instead of 'Real'"),
    ("(declare-const X_0 Real)\n(declare-const Y_0 Real)\n", "X_1 is not declared"),
    ("(declare-const X_0 Real)\n(declare-const X_1 Real)\n", "Y_0 is not declared"),
    (HEAD + "(assert (<= (* X_0 X_1) 1))", "nonlinear term"),
    (HEAD + "(assert (<= (/ 1 X_1) 1))", "nonlinear term"),
    (HEAD + "(assert (<= (/ X_1 0) 1))", "division by zero"),
    (HEAD + "(assert (<= X_0 1e999999999))", "exponent"),
    (HEAD + "(assert (<= X_0 1.2.3))", "4:17: '1.2.3' is not a decimal"),
    (HEAD + "(assert (<= X_0 -inf))", "not a decimal"),
    (HEAD + "(assert (<= X_0))", "at least 2 operands"),
    (HEAD + "(assert (and))", "at least 1 operands"),
    (HEAD + "(assert (or))", "at least 1 operands"),
    (HEAD + "(assert (not (<= X_0 1)))", "'not' is none of the operators"),
    (HEAD + "(assert (<= X_0 (and (<= X_0 1))))", "a formula instead of a number"),
    (HEAD + "(assert (and X_0))", "a number instead of a formula"),
    (HEAD + "(assert X_0)", "a number instead of a comparison"),
    (HEAD + "(assert (<= X_0 1)", "instead of ')'"),
    (HEAD + "(assert (and (<= X_0 1)", "4:9: the file ends before the ')'"),
    (HEAD + "(assert (<= X_0 1)))", "')' instead of '('"),
    (HEAD + "(assert)", "')' instead of a formula"),
    (HEAD + "(asert (<= X_0 1))", "4:1: unknown command 'asert'"),
    (HEAD + "(assert ((<= X_0 1)))", "'(' is none of the operators"),
    ("hello", "1:1: 'hello' instead of '('"),
    ("\0", "instead of '('"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(PropertyError) as error:
        read(text)
    assert message in str(error.value)
    assert str(error.value).startswith("p.vnnlib:")


@pytest.mark.parametrize(
    "text",
    [
        "(assert " + "(and " * 200_000,
        "(assert " + "(and " * 100_000 + "(<= X_0 1)" + ")" * 100_000,
        "(assert (<= " + "(+ 1 " * 100_000 + "X_0" + ")" * 100_000 + " 3))",
        "(assert " + "(and (<= Y_0 1) (or (<= Y_0 0) " * 3000 + "(<= Y_0 2)" + "))" * 3000 + ")",
        "(assert (<= (* " + "1e999 " * 20_000 + ") X_0))",
        "(assert (<= (+ " + "".join(f"(/ 1 {k}) " for k in range(1, 60_000)) + ") X_0))",
        "".join(f"(assert (or (<= Y_0 {k}) (>= X_0 {k})))" for k in range(40)),
        ")" * 1_000_000,
    ],
    ids=["open", "and", "plus", "alternating", "product", "harmonic", "blow-up", "close"],
)
def test_bombs_end_soon(text: str) -> None:
    start = time.process_time()
    with contextlib.suppress(PropertyError):
        read(HEAD + BOX + text)
    assert time.process_time() - start < 20


def test_blow_up_is_refused_with_a_remedy() -> None:
    text = "".join(f"(assert (or (<= Y_0 {k}) (>= Y_0 -{k})))" for k in range(40))
    with pytest.raises(PropertyError, match="too large once written as cases"):
        read(HEAD + BOX + text)


def test_a_formula_alone() -> None:
    unsafe = read_unsafe(Source("f", "(or (<= Y_0 0) (and (>= Y_0 1) (<= X_0 0)))"), 1, 1)
    assert [len(d) for d in unsafe] == [1, 2]


@pytest.mark.parametrize("text", ["", "(<= Y_0 0) (<= Y_0 1)", "(<= Y_9 0)", "Y_0", "(<= Y_0 0"])
def test_a_formula_alone_refused(text: str) -> None:
    with pytest.raises(PropertyError, match=r"^f:1:"):
        read_unsafe(Source("f", text), 1, 1)


def test_files_may_be_gzipped_and_named_without_gz(tmp_path: Path) -> None:
    content = (HEAD + BOX).encode()
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(content))
    (tmp_path / "q.vnnlib").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    for name in ("p.vnnlib", "p.vnnlib.gz", "q.vnnlib"):
        source, digest = read_source(tmp_path / name)
        assert digest == expected
        assert source.text == HEAD + BOX


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git-LFS"),
        "latin": (b"; caf\xe9\n", ":1:6: byte 0xe9 is not UTF-8"),
        "damaged": (gzip.compress(b"x" * 1000)[:-20], "damaged gzip"),
        "garbled": (b"\x1f\x8b" + b"\0" * 30, "damaged gzip"),
        "bomb": (gzip.compress(b"0" * 5000), "larger than 1000 bytes"),
        "large": (b"0" * 5000, "larger than 1000 bytes"),
    }
    monkeypatch.setattr(source_module, "MAX_BYTES", 1000)
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PropertyError, match=message):
            read_source(tmp_path / name)
    with pytest.raises(PropertyError, match="no such file"):
        read_source(tmp_path / "absent")
    with pytest.raises(PropertyError, match="cannot be read"):
        read_source(tmp_path)


def test_a_large_file_reads_fast() -> None:
    clauses = "\n".join(
        f"(and (>= X_0 0.{k:05}1234567890) (<= X_0 0.{k:05}2234567890) (>= X_1 0.0) (<= X_1 1.0) "
        f"({op} Y_0 0.5))"
        for k in range(10_000)
        for op in ("<=", ">=")
    )
    start = time.process_time()
    stated = read(HEAD + f"(assert (or {clauses}))")
    assert time.process_time() - start < 10
    assert len(stated.cases) == 10_000
    case = stated.cases[4321]
    assert case.lower[0] == Fraction("0.043211234567890")
    assert case.upper == (Fraction("0.043212234567890"), 1)
    assert len(case.unsafe) == 2
    assert case.box()[0][0] == pytest.approx(0.043211234567890)
    assert case.lower[-1] == 0
    assert case.lower[0:1] == case.lower[:1]
    with pytest.raises(IndexError):
        case.lower[2]
    with pytest.raises(IndexError):
        case.lower[-3]
