"""Proofs with squares beside products: what they prove, and hostile ones."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof, check_witness
from proofs.format import read_evidence, write_proof
from proofs.proof import ARRAYS, Proof, Side, SlopeHint
from proofs.witness import Witness
from specs.network import Network
from specs.query import Query
from specs.squares import with_squares
from tests.proofs.helpers import BOTH, Net, at_least, at_most, box_case, builder, query, with_arrays

PRODUCT, RATIO = 3, 1.0


def against() -> Network:
    """``x y`` with ``x = u + v / 16`` and ``y = w / 16 - u``: between -1.13 and 0.004."""
    net = Net(3)
    left = net.dense(0, [[1.0, 0.0625, 0.0], [1.0, 0.0625, 0.0]])
    right = net.dense(0, [[-1.0, 0.0, 0.0625], [-1.0, 0.0, 0.0625]])
    net.dense(net.product(left, right), [[0.5, 0.5]])
    return net.done()


def asked(unsafe) -> Query:
    return query(against(), [box_case([-1] * 3, [1] * 3, unsafe)])


HOLDS, FAILS = at_least(0, Fraction(1, 20)), at_most(0, -1)
NEARLY = at_least(0, Fraction(1, 300))


def with_ratios(stated: Query, scale) -> Query:
    return replace(stated, network=with_squares(stated.network, {PRODUCT: np.asarray(scale)}))


def leaf(stated: Query, hints=()) -> Proof:
    made = builder(stated)
    made.begin_tree()
    made.close(made.substitution(hints) if hints else None)
    return made.finish()


def squared(stated: Query, scale=(RATIO, RATIO)) -> Proof:
    return leaf(with_ratios(stated, scale))


@pytest.mark.parametrize("arithmetic", BOTH)
def test_squares_prove_what_the_same_tree_does_not_prove_without(arithmetic: str) -> None:
    stated = asked(HOLDS)
    assert check_proof(stated, squared(stated), arithmetic=arithmetic).verdict == "valid unsat"
    for proof in (None, leaf(stated), squared(stated, (2.0**-30, 2.0**30))):
        assert check_proof(stated, proof, arithmetic=arithmetic).verdict == "invalid"


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_hint_moves_the_tangent(arithmetic: str) -> None:
    """``x y + x - y`` with ``x = u = -y`` is at most 1, by the tangent of ``r^2`` at its end."""
    net = Net(1)
    product = net.product(net.dense(0, [[1.0]]), net.dense(0, [[-1.0]]))
    net.add(product, net.dense(0, [[2.0]]))
    stated = query(net.done(), [box_case([-1], [1], at_least(0, Fraction(11, 10)))])
    wide = replace(stated, network=with_squares(stated.network, {product: np.ones(1)}))
    assert check_proof(stated, leaf(wide), arithmetic=arithmetic).verdict == "invalid"
    for weight, verdict in ((1.0, "valid unsat"), (0.6, "invalid"), (0.0, "invalid")):
        proof = leaf(wide, [SlopeHint(product + 2, Side.UPPER, np.array([weight]))])
        assert check_proof(stated, proof, arithmetic=arithmetic).verdict == verdict


@pytest.mark.parametrize("arithmetic", BOTH)
def test_a_form_is_split_like_a_neuron(arithmetic: str) -> None:
    """On either side of ``r = 0`` the tangent of ``r^2`` there is at an end of its bounds."""
    stated = asked(HOLDS)
    wide = with_ratios(stated, (RATIO, RATIO))
    for ends, verdict in (((1.0, 0.0), "valid unsat"), ((0.0, 1.0), "invalid")):
        made = builder(wide)
        made.begin_tree()
        made.split_neuron(PRODUCT + 1, 0)
        for end in ends:
            hint = SlopeHint(PRODUCT + 2, Side.UPPER, np.array([end, 0.5]))
            made.close(made.substitution([hint]))
        assert check_proof(stated, made.finish(), arithmetic=arithmetic).verdict == verdict


def test_squares_are_read_as_they_were_written(tmp_path) -> None:
    stated = asked(HOLDS)
    proof = squared(stated, (0.75, 1.5))
    write_proof(tmp_path / "proof", proof)
    read = read_evidence(tmp_path / "proof")
    assert isinstance(read, Proof)
    assert read.arrays["square_scale"].tolist() == [0.75, 1.5]
    assert [read.tensors[k] for k in read.arrays["square_tensor"]] == ["n3"]
    assert check_proof(stated, read).verdict == check_proof(stated, proof).verdict
    assert {"square_tensor", "square_scale"} < set(ARRAYS)


ONE = np.ones(2, dtype=np.float32)


def at(*places: int) -> np.ndarray:
    return np.array(places, dtype=np.uint32)


NAMES = ("n3", "n1", "x0", "n4", "again")
FURTHER = ("nowhere", "farkas:n3/sum")
HOSTILE = {
    "beside an input": (at(2), np.ones(3, np.float32)),
    "beside a linear tensor": (at(1), ONE),
    "beside an output": (at(3), ONE[:1]),
    "beside a tensor that the model lacks": (at(5), ONE),
    "beside a form of squares": (at(6), ONE),
    "beside a form of squares and its product": (at(0, 6), np.ones(4, np.float32)),
    "twice beside one": (at(0, 0), np.ones(4, np.float32)),
    "twice beside one under two names": (at(0, 4), np.ones(4, np.float32)),
    "beyond the names": (at(9), ONE),
    "far beyond the names": (at(2**32 - 1), ONE),
    "places of a wrong sign": (np.array([-1], dtype=np.int64), ONE),
    "places that are signed": (np.array([0], dtype=np.int32), ONE),
    "places that are reals": (np.array([0.0]), ONE),
    "places in a table": (at(0)[None], ONE),
    "one place without an axis": (np.uint32(0).reshape(()), ONE),
    "too few ratios": (at(0), ONE[:1]),
    "no ratios": (at(0), ONE[:0]),
    "too many ratios": (at(0), np.ones(3, np.float32)),
    "ratios of nothing": (at(), ONE),
    "ratios that are whole": (at(0), np.ones(2, np.uint32)),
    "ratios that are complex": (at(0), np.ones(2, np.complex64)),
    "ratios in a table": (at(0), ONE[None]),
    "NaN": (at(0), ONE * np.nan),
    "NaN once": (at(0), np.array([1.0, np.nan], np.float32)),
    "zero": (at(0), ONE * 0),
    "negative zero": (at(0), -0.0 * ONE),
    "negative": (at(0), -ONE),
    "infinite": (at(0), ONE * np.inf),
    "too large": (at(0), ONE * np.float32(2.0**61)),
    "too small": (at(0), ONE * np.float32(2.0**-61)),
    "subnormal": (at(0), ONE * np.float32(1e-45)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed_squares_are_unreadable(name: str) -> None:
    stated = asked(HOLDS)
    network = replace(stated.network, aliases={"again": PRODUCT})
    stated = replace(stated, network=network)
    places, ratios = HOSTILE[name]
    proof = replace(leaf(stated), tensors=NAMES)
    more = FURTHER if np.any(places >= len(NAMES)) else ()
    changed = with_arrays(
        replace(proof, tensors=NAMES + more), square_tensor=places, square_scale=ratios
    )
    found = check_proof(stated, changed)
    assert found.verdict == "unreadable"
    assert "squares" in found.reason
    usual = with_arrays(proof, square_tensor=at(0), square_scale=ONE)
    assert check_proof(stated, usual).verdict == "valid unsat"


@pytest.mark.parametrize("missing", ["square_tensor", "square_scale"])
def test_a_missing_array_is_unreadable(missing: str) -> None:
    stated = asked(HOLDS)
    proof = squared(stated)
    arrays = {name: array for name, array in proof.arrays.items() if name != missing}
    assert check_proof(stated, replace(proof, arrays=arrays)).verdict == "unreadable"


def test_a_name_of_the_model_may_be_that_of_a_form() -> None:
    """Then the form has no name left, and the proof is refused."""
    stated = asked(HOLDS)
    for label in ("sum", "difference"):
        network = replace(stated.network, aliases={f"farkas:n3/{label}": 1})
        crowded = replace(stated, network=network)
        assert check_proof(crowded, squared(stated)).verdict == "unreadable"


def test_without_a_product_squares_are_unreadable() -> None:
    net = Net(1)
    net.dense(net.relu(0), [[1.0]])
    stated = query(net.done(), [box_case([-1], [1], at_least(0, 2))])
    proof = replace(leaf(stated), tensors=("n1",))
    assert check_proof(stated, proof).verdict == "valid unsat"
    changed = with_arrays(proof, square_tensor=at(0), square_scale=ONE[:1])
    assert check_proof(stated, changed).verdict == "unreadable"


RATIOS = st.floats(2.0**-60, 2.0**60, width=32)
WEIGHTS = st.floats(allow_nan=False, width=32, min_value=-8.0, max_value=8.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.tuples(RATIOS, RATIOS), st.tuples(WEIGHTS, WEIGHTS), st.sampled_from(BOTH))
def test_a_false_property_is_refused_with_any_squares(ratios, weights, arithmetic) -> None:
    for unsafe in (FAILS, NEARLY):
        stated = asked(unsafe)
        wide = with_ratios(stated, ratios)
        product = PRODUCT + 2
        hints = [SlopeHint(product, side, np.array(weights)) for side in Side]
        found = check_proof(stated, leaf(wide, hints), arithmetic=arithmetic)
        assert found.verdict == "invalid"


ARRAY = st.sampled_from(["u4", "u1", "i4", "f4", "f8", "?", "O"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 9), max_size=3),
    ARRAY,
    st.lists(st.floats(width=32) | RATIOS, max_size=5),
    ARRAY,
)
def test_arbitrary_squares_neither_raise_nor_prove_what_is_false(places, kind, ratios, real):
    stated = asked(FAILS)
    try:
        with np.errstate(all="ignore"):
            arrays = np.array(places).astype(kind), np.array(ratios, dtype="f8").astype(real)
    except (OverflowError, ValueError):
        return
    proof = replace(leaf(stated), tensors=NAMES)
    changed = with_arrays(proof, square_tensor=arrays[0], square_scale=arrays[1])
    assert check_proof(stated, changed).verdict in ("unreadable", "invalid")


def test_the_false_properties_are_false() -> None:
    """Else the tests above would say nothing."""
    for point, unsafe in (((1, 1, -1), FAILS), ((0, 1, 1), NEARLY)):
        stated = asked(unsafe)
        witness = Witness(stated.digest, 0, 0, tuple(map(Fraction, point)))
        assert check_witness(stated, witness).verdict == "valid sat"
