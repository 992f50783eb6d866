"""A witness of a faulty network names its faults, and the kernel rebuilds the network."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from proofs.check import check_proof, check_witness
from proofs.cli import shown
from proofs.format import read_evidence, write_witness
from proofs.signature import content_hash
from proofs.statement import statement
from proofs.theorem import theorem
from proofs.witness import Witness
from specs.errors import EvidenceError
from specs.faults.exact import WordFault
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, Pruning, StuckAt, WeightBox, Where
from tests.proofs.faulty import every_fault, faults_in, faulty_query, outputs, tiny_conv, tiny_dense
from tests.proofs.helpers import at_least, box_case

F = Fraction
X = (F(1, 2), F(1))


def listed(cells) -> tuple[WordFault, ...]:
    found: dict[tuple[str, int], list[int]] = {}
    for name, entry, bit in cells:
        found.setdefault((name, entry), []).append(bit)
    return tuple(WordFault(*place, tuple(sorted(bits))) for place, bits in found.items())


def violated(model, content=None):
    """A query that only some faults violate, and the worst of them."""
    content = tiny_dense(4) if content is None else content
    faults = faults_in(content, model)
    x = X if faults.network.input_size == 2 else (*X, *X)
    strikes = list(every_fault(faults))
    worth = [outputs(s.network, x)[0][0] for s in strikes]
    place = max(range(len(worth)), key=worth.__getitem__)
    query = faulty_query(content, model, [box_case(x, x, at_least(0, worth[place]))])
    return query, Witness(query.digest, 0, 0, x, listed(strikes[place].cells))


@pytest.mark.parametrize(
    "model",
    [
        BitFlips(1, Quantised(4)),
        BitFlips(2, Quantised(3)),
        BitFlips(2, Quantised(4), per_word=True),
        StuckAt(1, Quantised(4), reads=0),
        BitFlips(1, None, Where(bits=(22, 23, 30, 31))),
    ],
    ids=str,
)
def test_the_worst_fault_is_a_witness(model, tmp_path):
    query, witness = violated(model)
    assert check_witness(query, witness).verdict == "valid sat"
    write_witness(tmp_path / "w", witness)
    assert read_evidence(tmp_path / "w") == witness
    assert check_witness(query, replace(witness, faults=())).verdict == "invalid"
    assert check_proof(query, None).verdict == "invalid"
    assert any("inverted" in line for line in shown(witness))
    assert content_hash(witness) != content_hash(replace(witness, faults=()))


def test_enclosures_of_a_faulted_network_count():
    """Roots of variances are no dyadic numbers: a tie is not shown, a little less is."""
    query, witness = violated(BitFlips(1, Quantised(4)), tiny_conv(2))
    (case,) = query.property.cases
    (((row,),),) = (case.unsafe,)
    easier = replace(row, constant=row.constant - F(1, 2**20))
    query = replace(
        query, property=replace(query.property, cases=(replace(case, unsafe=((easier,),)),))
    )
    assert check_witness(query, replace(witness, question=query.digest)).verdict == "valid sat"


TWO = BitFlips(2, Quantised(3), Where(("w0", "b0"), bits=(0, 2)))


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ([WordFault("w0", 0, (0, 1))], "not all of the bits"),
        ([WordFault("w1", 0, (0,))], "no parameter 'w1' may be faulty"),
        ([WordFault("w9", 0, (0,))], "no parameter 'w9' may be faulty"),
        ([WordFault("w0", 4, (0,))], "no entry 4"),
        ([WordFault("w0", -1, (0,))], "no entry -1"),
        ([WordFault("w0", 0, (2, 0))], "not ascending"),
        ([WordFault("w0", 0, (0, 0))], "not ascending"),
        ([WordFault("w0", 0, (-1,))], "not ascending"),
        ([WordFault("w0", 0, (0, 1 << 70))], "no bits of a word"),
        ([WordFault("w0", 0, ())], "needs bits"),
        ([WordFault("w0", 0, (), F(1))], "needs bits"),
        ([WordFault("w0", 0, (0,), F(1))], "needs bits"),
        ([WordFault("w0", 0, (0, 2)), WordFault("b0", 1, (0,))], "3 faults, of at most 2"),
        ([WordFault("w0", 0, (0,)), WordFault("w0", 0, (2,))], "a faulty word twice"),
    ],
)
def test_faults_that_are_not_allowed(faults, why):
    query = faulty_query(tiny_dense(4), TWO, [box_case(X, X, at_least(0, -(10**6)))])
    assert check_witness(query, Witness(query.digest, 0, 0, X)).verdict == "valid sat"
    checked = check_witness(query, Witness(query.digest, 0, 0, X, tuple(faults)))
    assert checked.verdict == "invalid"
    assert why in checked.reason


def test_flips_in_two_words_are_not_in_one():
    model = BitFlips(2, Quantised(3), per_word=True)
    query = faulty_query(tiny_dense(4), model, [box_case(X, X, at_least(0, -(10**6)))])
    faults = (WordFault("w0", 0, (0,)), WordFault("w0", 1, (0,)))
    assert "2 words" in check_witness(query, Witness(query.digest, 0, 0, X, faults)).reason


def test_a_word_that_is_no_number_is_no_witness():
    model = BitFlips(1, None, Where(("w0",)))
    content = tiny_dense(5)
    faults = faults_in(content, model)
    word = int(np.flatnonzero(np.abs(faults.values("w0")) == 1.0)[0])  # exponent 0111 1111
    query = faulty_query(content, model, [box_case(X, X, at_least(0, -(10**6)))])
    checked = check_witness(query, Witness(query.digest, 0, 0, X, (WordFault("w0", word, (30,)),)))
    assert "a class of its own" in checked.reason
    assert any("Inf or NaN" in line for line in statement(query))
    assert any("Inf or" in line for line in theorem(query))
    assert any("Inf or" in what for what in query.not_modelled)


def test_boxes_of_weights():
    content, model = tiny_dense(4), WeightBox(F(1, 8), where=Where(("w0",)))
    query = faulty_query(content, model, [box_case(X, X, at_least(0, -(10**6)))])
    stored = Fraction(float(faults_in(content, model).values("w0")[1]))
    for value, why in (
        (stored + F(1, 8), None),
        (stored - F(1, 8), None),
        (stored + F(1, 8) + F(1, 2**40), "outside its interval"),
        (stored + F(1, 10), "no number of 64 bits"),
        (F(10) ** 400, "outside its interval"),
        (None, "needs a value"),
    ):
        faults = (WordFault("w0", 1, (), value),)
        checked = check_witness(query, Witness(query.digest, 0, 0, X, faults))
        assert (checked.verdict == "valid sat") == (why is None), value
        assert why is None or why in checked.reason


def test_pruned_parameters():
    content, model = tiny_dense(4), Pruning(2, Where(("w0",), channels=(1,)))
    query = faulty_query(content, model, [box_case(X, X, at_least(0, -(10**6)))])
    zero = Fraction(0)
    for listed, why in (
        ([(2, zero), (3, zero)], None),
        ([(2, zero)], None),
        ([(0, zero)], "may not be faulty"),
        ([(2, F(1, 8))], "its value must be 0"),
        ([(2, None)], "needs a value"),
        ([(4, zero)], "has no entry"),
        ([(2, zero), (2, zero)], "twice"),
    ):
        faults = tuple(WordFault("w0", entry, (), value) for entry, value in listed)
        checked = check_witness(query, Witness(query.digest, 0, 0, X, faults))
        assert (checked.verdict == "valid sat") == (why is None), listed
        assert why is None or why in checked.reason
    one = faulty_query(content, Pruning(1), [box_case(X, X, at_least(0, -(10**6)))])
    faults = tuple(WordFault("w0", entry, (), zero) for entry in (2, 3))
    checked = check_witness(one, Witness(one.digest, 0, 0, X, faults))
    assert "it prunes 2 parameters, of at most 1" in checked.reason


def test_a_question_without_faults_takes_no_faulty_witness():
    faults = faults_in(tiny_dense(4), TWO)
    query = faulty_query(tiny_dense(4), TWO, [box_case(X, X, at_least(0, -(10**6)))])
    plain = replace(query, network=faults.intact, perturbations=())
    witness = Witness(plain.digest, 0, 0, X, (WordFault("w0", 0, (0,)),))
    assert "the question allows none" in check_witness(plain, witness).reason


@pytest.mark.parametrize(
    "fault",
    [
        [],
        {"tensor": "w0", "entry": 0},
        {"tensor": "w0", "entry": 0, "bits": [0], "value": "1"},
        {"tensor": "w0", "entry": True, "bits": [0]},
        {"tensor": 3, "entry": 0, "bits": [0]},
        {"tensor": "w0", "entry": 0, "bits": [0.5]},
        {"tensor": "w0", "entry": 0, "bits": 1},
        {"tensor": "w0", "entry": 0, "value": None},
        {"tensor": "w0", "entry": 0, "value": "1e3"},
        {"tensor": "w0", "entry": 0, "value": "1" * 4001},
    ],
)
def test_malformed_faults_are_refused(fault, tmp_path):
    write_witness(tmp_path / "w", Witness("0" * 64, 0, 0, X))
    content = json.loads((tmp_path / "w").read_text())
    (tmp_path / "w").write_text(json.dumps({**content, "faults": [fault]}))
    with pytest.raises(EvidenceError):
        read_evidence(tmp_path / "w")
    (tmp_path / "w").write_text(json.dumps({**content, "faults": {}}))
    with pytest.raises(EvidenceError, match="no list"):
        read_evidence(tmp_path / "w")
