"""Random formulas: the property read from their text agrees with their direct meaning."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs import vnnlib1, vnnlib1_fast
from specs.boxes import BoxDisjunction
from specs.enclosure import Enclosure, zeros
from specs.errors import PropertyError
from specs.linear import MatMul
from specs.network import Input, Linear, Network, Term
from specs.property import Property
from specs.source import Source
from specs.vnnlib1 import read_unsafe, read_vnnlib1
from specs.vnnlib2 import read_vnnlib2

INPUTS, OUTPUTS = 3, 2
LITERALS = ["-2.0", "-1.5", "-1.0", "-0.50", "0.0", "0.5", "1.0", "01.0", "1.5", "2.0"]
RELATIONS = {
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
Tree = tuple

constants = st.sampled_from(LITERALS).map(lambda s: ("const", s))
variables = st.one_of(
    st.integers(0, INPUTS - 1).map(lambda i: ("x", i)),
    st.integers(0, OUTPUTS - 1).map(lambda j: ("y", j)),
)
scaled = st.one_of(
    st.tuples(st.just("*"), st.tuples(constants, variables)),
    st.tuples(st.just("*"), st.tuples(variables, constants, constants)),
)
leaves = st.one_of(variables, constants, scaled)
terms = st.one_of(
    leaves,
    st.tuples(st.just("+"), st.lists(leaves, min_size=1, max_size=3)),
    st.tuples(st.just("-"), st.lists(leaves, min_size=1, max_size=3)),
    st.tuples(st.just("+"), st.tuples(leaves, st.tuples(st.just("-"), st.tuples(leaves, leaves)))),
)


def formulas(relations: Sequence[str]) -> st.SearchStrategy[Tree]:
    atoms = st.one_of(
        st.tuples(st.sampled_from(relations), variables, constants),
        st.tuples(st.sampled_from(relations), constants, variables),
        st.tuples(st.sampled_from(relations), terms, terms),
    )
    return st.recursive(
        atoms,
        lambda inner: st.tuples(
            st.sampled_from(("and", "or")), st.lists(inner, min_size=1, max_size=3)
        ),
        max_leaves=10,
    )


grid = st.integers(-4, 4).map(lambda k: Fraction(k, 2)) | st.fractions(-3, 3, max_denominator=7)
points = st.lists(
    st.tuples(*[st.tuples(*[grid] * INPUTS), st.tuples(*[grid] * OUTPUTS)]), min_size=5, max_size=12
)


def holds(tree: Tree, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
    if tree[0] in ("and", "or"):
        parts = [holds(part, x, y) for part in tree[1]]
        return all(parts) if tree[0] == "and" else any(parts)
    return RELATIONS[tree[0]](value(tree[1], x, y), value(tree[2], x, y))


def value(tree: Tree, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
    kind, body = tree
    if kind in ("x", "y"):
        return (x if kind == "x" else y)[body]
    if kind == "const":
        return Fraction(body)
    parts = [value(part, x, y) for part in body]
    if kind == "-" and len(parts) == 1:
        return -parts[0]
    total = parts[0]
    for part in parts[1:]:
        total = {"+": total + part, "-": total - part, "*": total * part}[kind]
    return total


def written(tree: Tree, version: int) -> str:
    kind = tree[0]
    if kind == "const":
        return tree[1]
    if kind in ("x", "y"):
        return f"{kind.upper()}_{tree[1]}" if version == 1 else f"{kind.upper()}[0,{tree[1]}]"
    if kind in RELATIONS:
        symbol = "==" if kind == "=" and version == 2 else kind
        return f"({symbol} {written(tree[1], version)} {written(tree[2], version)})"
    return f"({kind} {' '.join(written(part, version) for part in tree[1])})"


def network() -> Network:
    weight = MatMul(Enclosure(np.ones((INPUTS, OUTPUTS))))
    layer = Linear("out", (1, OUTPUTS), (Term(0, weight),), zeros(OUTPUTS))
    return Network((Input("in", (1, INPUTS)), layer), (1,))


def bounds(version: int, low: str, high: str) -> list[str]:
    names = [written(("x", i), version) for i in range(INPUTS)]
    return [f"(assert (<= {n} {high}))\n(assert (>= {n} {low}))" for n in names]


def document(assertions: list[str], version: int) -> str:
    if version == 1:
        head = [f"(declare-const X_{i} Real)" for i in range(INPUTS)]
        head += [f"(declare-const Y_{j} Real)" for j in range(OUTPUTS)]
    else:
        head = ["(vnnlib-version <2.0>)", "(declare-network net"]
        head += [f"(declare-input X float32 [1,{INPUTS}])"]
        head += [f"(declare-output Y float32 [1,{OUTPUTS}]))"]
    return "\n".join([*head, "; the assertions", *assertions]) + "\n"


def read(text: str, version: int) -> Property:
    source = Source("test.vnnlib", text)
    if version == 1:
        return read_vnnlib1(source, INPUTS, OUTPUTS)
    return read_vnnlib2(source, network())


def check(trees: list[Tree], samples: list, version: int) -> None:
    low, high = "-2.0", "1.5"
    asserted = [f"(assert {written(tree, version)})" for tree in trees]
    text = document(bounds(version, low, high) + asserted, version)
    try:
        stated = read(text, version)
    except PropertyError as error:
        if "contradict each other" not in str(error):
            raise
        stated = Property(INPUTS, OUTPUTS, ())
    for x, y in samples:
        inside = all(Fraction(low) <= entry <= Fraction(high) for entry in x)
        expected = inside and all(holds(tree, x, y) for tree in trees)
        assert stated.violated(x, y) == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(formulas(["<=", "<", ">=", ">", "="]), min_size=1, max_size=3), points)
def test_version_1_agrees_with_the_formula(trees: list[Tree], samples: list) -> None:
    check(trees, samples, 1)


@settings(max_examples=80, deadline=None)
@given(st.lists(formulas(list(RELATIONS)), min_size=1, max_size=3), points)
def test_version_2_agrees_with_the_formula(trees: list[Tree], samples: list) -> None:
    check(trees, samples, 2)


@settings(max_examples=60, deadline=None)
@given(formulas(["<=", "<", ">=", ">", "="]), points)
def test_a_formula_on_its_own_agrees(tree: Tree, samples: list) -> None:
    unsafe = read_unsafe(Source("formula", written(tree, 1)), INPUTS, OUTPUTS)
    for x, y in samples:
        expected = holds(tree, x, y)
        assert any(all(c.holds(x, y) for c in d) for d in unsafe) == expected


simple = st.one_of(
    st.tuples(st.sampled_from(["<=", ">=", "<", ">"]), variables, constants),
    st.tuples(st.sampled_from(["<=", ">=", "<", ">"]), constants, variables),
    st.tuples(st.sampled_from(["<=", "<"]), st.just(("y", 0)), st.just(("y", 1))),
)
box_clause = st.tuples(
    st.just("and"),
    st.tuples(
        *[
            side
            for i in range(INPUTS)
            for side in (
                st.tuples(st.sampled_from([">=", ">"]), st.just(("x", i)), constants),
                st.tuples(st.sampled_from(["<=", "<"]), st.just(("x", i)), constants),
            )
        ],
        st.tuples(st.sampled_from(["<=", ">"]), st.just(("y", 0)), constants),
    ),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        box_clause | st.tuples(st.just("and"), st.lists(simple, min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
    points,
)
def test_the_fast_path_agrees(clauses: list[Tree], bounded: bool, samples: list) -> None:
    tree = ("or", clauses)
    parts = bounds(1, "-2.0", "2.0") if bounded else []
    text = document([*parts, f"(assert {written(tree, 1)})"], 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vnnlib1_fast, "MIN_LENGTH", 0)
        fast, fast_error = attempt(text)
        patch.setattr(vnnlib1, "read_disjunction", lambda *_: None)
        slow, slow_error = attempt(text)
    assert fast_error == slow_error
    if fast is None or slow is None:
        return
    assert len(fast.cases) == len(slow.cases)
    assert bool(fast.notes) == bool(slow.notes)
    for x, y in samples:
        inside = not bounded or all(-2 <= entry <= 2 for entry in x)
        assert fast.violated(x, y) == slow.violated(x, y) == (inside and holds(tree, x, y))


def test_an_empty_box_needs_no_bounds_in_the_fast_path_either() -> None:
    full = " ".join(f"(>= X_{i} 0.0) (<= X_{i} 1.0)" for i in range(INPUTS))
    clauses = f"(and {full} (<= Y_0 0)) (and (>= X_0 2.0) (<= X_0 1.0))"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vnnlib1_fast, "MIN_LENGTH", 0)
        fast = read(document([f"(assert (or {clauses}))"], 1), 1)
        patch.setattr(vnnlib1, "read_disjunction", lambda *_: None)
        slow = read(document([f"(assert (or {clauses}))"], 1), 1)
    assert fast.cases == slow.cases
    assert fast.notes == slow.notes == ("1 of the regions have an empty box and were dropped: 2",)
    assert fast.digest == slow.digest


def test_an_open_box_of_width_zero_is_empty_in_the_fast_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest = " ".join(f"(>= X_{i} 0.0) (<= X_{i} 1.0)" for i in range(1, INPUTS))
    clauses = [f"(and (>{e} X_0 0.5) (<= X_0 0.50) {rest})" for e in ("", "=")]
    monkeypatch.setattr(vnnlib1_fast, "MIN_LENGTH", 0)
    fast = read(document([f"(assert (or {' '.join(clauses)}))"], 1), 1)
    assert [case.lower[0] for case in fast.cases] == [Fraction(1, 2)]
    assert "dropped: 1" in fast.notes[0]


def attempt(text: str) -> tuple[Property | None, bool]:
    try:
        return read(text, 1), False
    except PropertyError:
        return None, True


def test_the_fast_path_is_taken() -> None:
    clause = "(and (>= X_0 0.5) (<= X_0 1.0) (<= Y_0 -2.5) (<= Y_1 Y_0))"
    text = f"(or {clause}\n {clause} ))"
    found = vnnlib1_fast.read_disjunction(" " * 30_000 + text, 0, lambda *_: True)
    assert found is not None
    boxes, end = found
    assert isinstance(boxes, BoxDisjunction)
    assert end == 30_000 + len(text)
    assert len(boxes) == 1


@pytest.mark.parametrize(
    "text",
    [
        "(or (and (>= X_0 0.5) (<= X_0 #0)) (and (>= X_0 0.5))))",
        "(or (and (>= X_0 #0)) (and (>= X_0 #0))))",
        "(or (and (>= X_0 0.5)) (and (<= X_9 1.0))))",
        "(or (and (>= X_0 0.5)",
        "(or (and (>= X_0 0.5))))",
        "(or )) ",
        "(or (and (>= X_0 0.5)) (and (= X_0 0.5))))",
        "(or (and (>= X_0 0.5)) (and (>= X_0 0.5) (>= X_0 0.6))))",
        "(or (and (>= X_0 0.5)) (and (>= X_0 (+ 0.5 1)))))",
        "(or (and (>= X_0 0.5)) (and (>= X_0 X_1))))",
        "(or (and (>= X_0 0.5)) (and (>= X_0 1e99999))))",
        "(or (and (>= X_0 0.5)) (>= X_0 0.5)))",
        "(or (and (>= X_0 0.5)) (and ; comment\n (<= X_0 1.0))))",
    ],
)
def test_the_fast_path_leaves_other_forms_alone(text: str) -> None:
    padded = " " * 30_000 + text
    assert vnnlib1_fast.read_disjunction(padded, 0, lambda _, i: i < 9) is None
