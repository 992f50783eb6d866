"""Maps of single faults over regions, and proofs over where faults strike."""

from __future__ import annotations

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest

from proofs.check import check_proof, check_witness
from proofs.format import read_evidence, write_proof
from proofs.proof import Proof
from proofs.witness import Witness
from specs import builders
from specs.errors import InputError, QuestionError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.formats import FLOAT16, FixedFormat
from specs.faults.memory import Quantised
from specs.faults.models import (
    ActivationFaults,
    BitFlips,
    Spared,
    StuckAt,
    WeightBox,
    Where,
    followed,
)
from specs.faults.placed import read_placed
from specs.faults.struck import WordFaults
from specs.property import Case, Property
from specs.query import Query
from specs.question import load_question
from tests.faulty_models import conv_model, dense_model
from verifier.attack_forward import NumpyEvaluator
from verifier.faults.branching import prove
from verifier.faults.candidates import BENIGN, CRITICAL, UNDECIDED
from verifier.faults.question_text import question_text
from verifier.faults.radius import certified_radius, robust_region
from verifier.faults.region import Settings, map_region
from verifier.faults.word_attack import WordAttack

INT8 = Quantised(8)


def region(faults: WordFaults, centre, radius) -> Property:
    """That the prediction at the centre stands around it."""
    network = faults.intact
    y, _ = NumpyEvaluator(network).evaluate(np.asarray(centre, dtype=float)[None])
    label = int(np.argmax(y[0]))
    low, high = builders.ball(network.input_size, list(map(Fraction, centre)), Fraction(radius))
    unsafe = builders.misclassified(network.output_size, label=label)
    return Property(network.input_size, network.output_size, (Case(low, high, unsafe),))


def asked(faults: WordFaults, stated: Property) -> Query:
    return Query(faults.network, stated, (faults.placed.model,), stated.digest, (faults,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("region")
    (made / "net.onnx").write_bytes(dense_model((5, 6, 4, 3), seed=3))
    (made / "conv.onnx").write_bytes(conv_model())
    return made


@pytest.fixture(scope="module")
def placed(folder):
    return read_placed(folder / "net.onnx")


CENTRE = [0.5, -0.25, 0.125, 1.0, -0.75]

MODELS = [
    BitFlips(1, INT8),
    BitFlips(1, FixedFormat(3, 4)),
    BitFlips(1),
    StuckAt(1, INT8, reads=1),
    StuckAt(1, Quantised(4), Where(bits=(0, 2, 3))),
    BitFlips(1, FLOAT16, Where(tensors=("w1", "b2"), bits=(5, 6, 7, 8, 9, 15))),
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.text[:40])
def mapped(request, placed):
    faults = WordFaults(placed, request.param)
    stated = region(faults, CENTRE, "1/50")
    return faults, stated, map_region(faults, stated, Settings(words=64, points=4))


def test_every_cell_has_one_state(mapped):
    faults, _, found = mapped
    totals = found.totals
    assert totals["cells"] == faults.cells.count
    assert sum(v for k, v in totals.items() if k != "cells") == totals["cells"]
    assert totals["benign"] > 0
    assert found.decided > 0.5


def test_benign_cells_are_covered_by_one_proof(mapped, folder, tmp_path):
    """The kernel says so of the question's file, in both arithmetics; and of its cells no other."""
    _, _, found = mapped
    assert found.checked.verdict == "valid unsat"
    assert check_proof(found.query, found.proof, arithmetic="exact").verdict == "valid unsat"
    path = folder / "map.toml"
    path.write_text(question_text(found.query, "net.onnx", "a map"))
    query = load_question(path)
    assert query.digest == found.query.digest
    write_proof(tmp_path / "map.farkas", found.proof)
    assert check_proof(query, read_evidence(tmp_path / "map.farkas")).verdict == "valid unsat"
    left = set(query.perturbations[0].model.spared.cells)
    for name, table in found.cells.items():
        cells = zip(
            table.faults.entry.tolist(), table.faults.bit.tolist(), table.state, strict=True
        )
        for entry, bit, state in cells:
            assert ((name, entry, bit) in left) == (state in (CRITICAL, UNDECIDED))


def test_no_benign_cell_is_contradicted(mapped):
    """Every benign flip at corners and samples, by plain evaluation."""
    faults, stated, found = mapped
    low, high = (
        np.array([float(v) for v in ends])
        for ends in (stated.cases[0].lower, stated.cases[0].upper)
    )
    corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
    rng = np.random.default_rng(0)
    points = np.concatenate([corners, low + rng.random((20, low.size)) * (high - low)])
    intact, _ = NumpyEvaluator(faults.intact).evaluate(points)
    label = int(np.argmax(intact[0]))
    for name, table in found.cells.items():
        for cell in np.flatnonzero(table.state == BENIGN):
            flip = WordFault(name, int(table.faults.entry[cell]), (int(table.faults.bit[cell]),))
            y, _ = NumpyEvaluator(faulted_network(faults, [flip])).evaluate(points)
            assert np.all(np.argmax(y, axis=1) == label), flip


def test_critical_cells_have_witnesses(mapped):
    faults, stated, found = mapped
    query = asked(faults, stated)
    critical = {
        (name, int(table.faults.entry[cell]), int(table.faults.bit[cell]))
        for name, table in found.cells.items()
        for cell in np.flatnonzero(table.state == CRITICAL)
    }
    assert critical == set(found.witnesses)
    for (name, entry, bit), x in list(found.witnesses.items())[:20]:
        point, fault = tuple(Fraction(float(v)) for v in x), WordFault(name, entry, (bit,))
        made = (Witness(query.digest, 0, d, point, (fault,)) for d in range(2))
        assert any(check_witness(query, witness).verdict == "valid sat" for witness in made)


def test_maps_of_convolutions_and_batch_normalisation(folder):
    placed = read_placed(folder / "conv.onnx")
    faults = WordFaults(placed, BitFlips(1, INT8, Where(bits=(0, 1, 2, 6))))
    centre = np.random.default_rng(2).integers(-8, 8, 72) / 8
    found = map_region(faults, region(faults, centre, "1/500"), Settings(words=0, points=2))
    assert found.checked.verdict == "valid unsat"
    states = {name: table.state for name, table in found.cells.items()}
    assert {"k0", "k1", "gamma", "mean", "var", "w"} <= states.keys()
    assert all(np.any(states[name] == BENIGN) for name in ("k0", "k1", "gamma", "mean", "w"))


def test_a_map_does_not_depend_on_the_run(placed):
    faults = WordFaults(placed, BitFlips(1, INT8))
    stated = region(faults, CENTRE, "1/50")
    first, second = (map_region(faults, stated, Settings(words=8, points=4, seed=1)) for _ in "ab")
    assert first.query.digest == second.query.digest
    for name, table in first.cells.items():
        assert np.array_equal(table.state, second.cells[name].state)


def test_nothing_is_benign_where_the_network_itself_is_not_proved(placed):
    faults = WordFaults(placed, BitFlips(1, INT8))
    found = map_region(faults, region(faults, CENTRE, 20), Settings(points=4))
    assert found.query is None
    assert found.totals["benign"] == 0
    assert "without faults" in found.reason


def test_a_deadline_leaves_cells_undecided(placed):
    faults = WordFaults(placed, BitFlips(1, INT8))
    found = map_region(faults, region(faults, CENTRE, "1/50"), Settings(seconds=0.0))
    assert found.checked is None or found.checked.verdict == "valid unsat"
    assert found.totals["benign"] == 0 or found.proof is not None


def test_what_no_map_speaks_of(placed):
    box = WordFaults(placed, WeightBox(Fraction(1, 100)))
    with pytest.raises(InputError, match="bit_flips and stuck_at"):
        map_region(box, region(box, CENTRE, "1/50"))
    faults = WordFaults(placed, BitFlips(1, INT8))
    stated = region(faults, CENTRE, "1/50")
    twice = Property(stated.input_size, stated.output_size, stated.cases * 2)
    with pytest.raises(InputError, match="one region"):
        map_region(faults, twice)
    third = Case((Fraction(1, 3),) * 5, (Fraction(2, 3),) * 5, stated.cases[0].unsafe)
    odd = asked(faults, Property(stated.input_size, stated.output_size, (third,)))
    with pytest.raises(QuestionError, match="no decimal"):
        question_text(odd, "net.onnx")


@pytest.mark.parametrize(
    "model",
    [
        BitFlips(2, INT8, Where(bits=(0, 1, 2, 3))),
        BitFlips(4, INT8, Where(layers=("z1",), bits=(0, 1, 2, 3))),
        BitFlips(3, INT8, Where(bits=(0, 1, 2, 3, 4)), per_word=True),
        WeightBox(Fraction(1, 200), Fraction(1, 100)),
        ActivationFaults(1, Fraction(0), Fraction(1, 10), Where(tensors=("h1",))),
        BitFlips(2, INT8, spared=Spared.of(("w0", e, b) for e in range(30) for b in (4, 5, 6, 7))),
    ],
    ids=["k2", "k4-layer", "per-word", "box", "activations", "spared"],
)
def test_several_faults_are_proved_or_violated(folder, model):
    """A proof that the kernel accepts or a witness that it confirms; never both."""
    faults = WordFaults(read_placed(folder / "net.onnx", *followed(model)), model)
    query = asked(faults, region(faults, CENTRE, "1/100"))
    deadline = time.monotonic() + 20
    found = WordAttack(query, faults).run(deadline)
    proved = prove(query, faults, deadline, leaves=300)
    assert found is None or proved.proof is None
    assert found is not None or proved.proof is not None or proved.reason
    if found is not None:
        assert check_witness(query, found.witness).verdict == "valid sat"
    if proved.proof is not None:
        assert check_proof(query, proved.proof, arithmetic="exact").verdict == "valid unsat"


@pytest.mark.parametrize(("k", "top"), [(1, 6), (2, 5), (3, 5)], ids=["one", "two", "three"])
def test_budgets_are_split_where_one_bound_does_not_do(placed, k, top):
    model = BitFlips(k, INT8, Where(bits=tuple(range(top + 1))))
    faults = WordFaults(placed, model)
    query = asked(faults, region(faults, CENTRE, "1/100"))
    proved = prove(query, faults, time.monotonic() + 20)
    assert proved.closed > 1
    assert check_proof(query, proved.proof).verdict == "valid unsat"
    assert check_proof(query, proved.proof, arithmetic="exact").verdict == "valid unsat"
    # The same tree with all hints proves nothing of a larger budget.
    more = WordFaults(placed, BitFlips(k + 1, INT8, Where(bits=tuple(range(top + 1)))))
    other = asked(more, query.property)
    assert check_proof(other, proved.proof).verdict == "unreadable"
    moved = Proof(other.digest, proved.proof.tensors, proved.proof.arrays)
    assert check_proof(other, moved).verdict == "invalid"


def test_the_certified_radius_has_two_digits(placed):
    faults = WordFaults(placed, BitFlips(1, INT8))
    centre = [Fraction(v) for v in CENTRE]
    y, _ = NumpyEvaluator(faults.intact).evaluate(np.array(CENTRE)[None])
    label = int(np.argmax(y[0]))
    radius = certified_radius(faults, centre, label, (Fraction(-1), Fraction(2)))
    assert 0 < radius < 1
    digits = f"{float(radius):.12g}".replace("0.", "").strip("0")
    assert len(digits) <= 2
    for share, verdict in ((1, "valid unsat"), (Fraction(6, 5), "invalid")):
        stated = robust_region(faults, centre, label, radius * share, (Fraction(-1), Fraction(2)))
        query = Query(faults.intact, stated, (placed.model,), stated.digest)
        assert check_proof(query, None).verdict == verdict
    assert certified_radius(faults, centre, (label + 1) % 3) == 0
