"""Checking under float semantics: what real numbers prove and floats do not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from proofs.check import ARITHMETICS, check_proof, check_witness
from proofs.proof import ProofBuilder
from proofs.statement import established, statement
from proofs.witness import Witness
from specs.onnx_reader import read_model_bytes
from specs.perturbation import FORMATS, SEMANTICS, rounding_of
from specs.query import Query
from tests.networks import onnxruntime_outputs, serialised
from tests.proofs.helpers import at_least, at_most, box_case

BIG = 2.0**24


def model(nodes, constants, shape=(1, 1), kind=TensorProto.FLOAT):
    made = [helper.make_node(op, list(i), [o], **a) for op, i, o, a in nodes]
    stored = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants.items()]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(made[-1].output[0], kind, None)],
        stored,
    )
    return serialised(graph)


CANCELLING = model([("Add", ("x", "c"), "h", {}), ("Sub", ("h", "c"), "y", {})], {"c": [[BIG]]})
"""``(x + 2**24) - 2**24``: x over the reals, an even number in float32."""


def asked(content, cases, semantics):
    from specs.property import Property

    format = rounding_of(semantics)
    network = read_model_bytes(content, None, "m", format)
    stated = Property(network.input_size, network.output_size, tuple(cases))
    perturbations = () if format is None else (format,)
    return Query(network, stated, (), stated.digest, perturbations)


def test_onnxruntime_shows_that_the_cancelling_network_is_not_the_identity():
    (found,) = onnxruntime_outputs(CANCELLING, [np.full((1, 1), 0.75, dtype=np.float32)])
    assert found.item() == 0.0


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_real_numbers_prove_what_float32_does_not(arithmetic):
    cases = [box_case([0.5], [1.0], at_most(0, Fraction(1, 4)))]
    real = check_proof(asked(CANCELLING, cases, "real"), None, arithmetic=arithmetic)
    assert real.verdict == "valid unsat"
    for semantics in FORMATS:
        if semantics == "float16":
            continue
        found = check_proof(asked(CANCELLING, cases, semantics), None, arithmetic=arithmetic)
        assert found.verdict == "invalid"


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_what_rounding_cannot_reach_is_proved(arithmetic):
    cases = [box_case([0.5], [1.0], at_most(0, -4))]
    found = check_proof(asked(CANCELLING, cases, "float32"), None, arithmetic=arithmetic)
    assert found.verdict == "valid unsat"
    tight = [box_case([0.5], [1.0], at_most(0, Fraction(-1)))]
    assert check_proof(asked(CANCELLING, tight, "float32"), None).verdict == "invalid"


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("number", [1, 2])
def test_networks_that_may_overflow_are_never_proved(arithmetic, number):
    """Even where a clip behind the overflow hides it: NaN passes through."""
    content = model(
        [("Mul", ("x", "c"), "h", {}), ("Clip", ("h", "low", "high"), "y", {})],
        {"c": [[3e4]], "low": np.float32(0.0), "high": np.float32(6.0)},
    )
    cases = [box_case([0.0], [top], at_least(0, 7)) for top in (4.0, 3.6)[:number]]
    assert check_proof(asked(content, cases, "real"), None).verdict == "valid unsat"
    found = check_proof(asked(content, cases, "float16"), None, arithmetic=arithmetic)
    assert found.verdict == "invalid"
    assert "overflow is not excluded at tensor 'h'" in found.reason
    below = [box_case([0.0], [top], at_least(0, 7)) for top in (2.0, 1.0)[:number]]
    found = check_proof(asked(content, below, "float16"), None, arithmetic=arithmetic)
    assert found.verdict == "valid unsat"


def test_a_sweep_may_exclude_what_intervals_do_not():
    """x - x is 0 by substitution alone; its square is not 1e40."""
    content = model(
        [
            ("Mul", ("x", "c"), "a", {}),
            ("Relu", ("a",), "p", {}),
            ("Sub", ("p", "p"), "d", {}),
            ("Mul", ("d", "d"), "y", {}),
        ],
        {"c": [[1e20]]},
    )
    cases = [box_case([1.0], [2.0], at_least(0, Fraction(10) ** 30))]
    found = check_proof(asked(content, cases, "float32"), None)
    assert found.verdict == "valid unsat"


def test_an_empty_region_is_vacuous_even_where_there_is_overflow():
    content = model([("Mul", ("x", "c"), "y", {})], {"c": [[1e38]]})
    found = check_proof(asked(content, [box_case([9.0], [8.0], at_least(0, 7))], "float32"), None)
    assert found.verdict == "valid unsat"
    assert found.vacuous == (0,)


def test_evidence_made_under_other_semantics_is_refused():
    cases = [box_case([0.5], [1.0], at_most(0, -40))]
    queries = {name: asked(CANCELLING, cases, name) for name in SEMANTICS if name != "float16"}
    for made, maker in queries.items():
        proof = ProofBuilder(maker).finish()
        witness = Witness(maker.digest, 0, 0, (Fraction(1, 2),))
        for name, query in queries.items():
            verdict = check_proof(query, proof).verdict
            assert (verdict == "unreadable") is (name != made)
            assert (check_witness(query, witness).verdict == "unreadable") is (name != made)


def witnessed(content, case, semantics, *point):
    query = asked(content, [case], semantics)
    return check_witness(query, Witness(query.digest, 0, 0, tuple(map(Fraction, point))))


def test_a_witness_must_violate_in_every_evaluation():
    far = box_case([0.5], [1.0], at_most(0, 4))
    assert witnessed(CANCELLING, far, "float32", 0.75).verdict == "valid sat"
    near = box_case([0.5], [1.0], at_most(0, 1))
    assert witnessed(CANCELLING, near, "real", 0.75).verdict == "valid sat"
    found = witnessed(CANCELLING, near, "float32", 0.75)
    assert found.verdict == "invalid"
    assert "constraint 0 of the unsafe set is not satisfied" in found.reason


def test_a_witness_is_made_of_numbers_of_the_format():
    far = box_case([0], [1], at_most(0, 4))
    assert witnessed(CANCELLING, far, "real", "1/3").verdict == "valid sat"
    found = witnessed(CANCELLING, far, "float32", "1/3")
    assert found.verdict == "invalid"
    assert "no number of float32" in found.reason
    assert witnessed(CANCELLING, far, "float32", Fraction(np.float32(1 / 3).item())).valid
    assert not witnessed(CANCELLING, far, "bfloat16", Fraction(np.float32(1 / 3).item())).valid


def test_a_witness_at_which_something_may_overflow_is_refused():
    content = model([("Mul", ("x", "c"), "y", {})], {"c": [[1e38]]})
    case = box_case([0.0], [4.0], at_least(0, 7))
    assert witnessed(content, case, "float32", 3.0).valid
    found = witnessed(content, case, "float32", 4.0)
    assert found.verdict == "invalid"
    assert "overflow is not excluded at the witness" in found.reason


def test_the_statement_names_the_semantics_and_what_it_leaves_out():
    cases = [box_case([0.5], [1.0], at_most(0, -40))]
    real, floats = (asked(CANCELLING, cases, name) for name in ("real", "float32"))
    assert "semantics: real, stored weights, no perturbation" in statement(real)
    lines = "\n".join(statement(floats))
    assert "semantics: float32: every float32 evaluation of the stored graph" in lines
    assert "not modelled: TensorFloat-32" in lines
    assert "Winograd" in lines
    assert "over the reals" in established(real, check_proof(real, None))
    found = established(floats, check_proof(floats, None))
    assert "over the reals" not in found
    assert "in every evaluation in float32" in found
