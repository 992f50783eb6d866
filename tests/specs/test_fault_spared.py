"""Memory cells that a fault model leaves out: ``except``."""

from __future__ import annotations

import time

import numpy as np
import pytest

from proofs.check import check_proof, check_witness
from proofs.statement import statement
from proofs.theorem import theorem
from proofs.witness import Witness
from specs.errors import QuestionError
from specs.faults.exact import WordFault, faulted_values
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips, Spared, StuckAt, Where
from specs.faults.placed import place_model
from specs.faults.sites import cells
from specs.faults.struck import WordFaults
from specs.question import load_question
from tests.faulty_models import conv_model, dense_model, model_file

INT8 = Quantised(8)

QUESTION = """
[models]
net = "net.onnx"
[faults]
model = "bit_flips"
format = "int8"
{more}
[region]
lower = 0
upper = 0.01
[statement]
kind = "range"
output = 0
maximum = {maximum}
"""


@pytest.fixture(scope="module")
def placed():
    return place_model(model_file(dense_model()))


def asked(folder, more: str, maximum: float = 1000):
    (folder / "net.onnx").write_bytes(dense_model())
    path = folder / "question.toml"
    path.write_text(QUESTION.format(more=more, maximum=maximum))
    return load_question(path)


@pytest.mark.parametrize("make", [BitFlips, StuckAt], ids=["flips", "stuck"])
def test_spared_cells_are_no_sites(placed, make):
    whole = cells(store(placed, INT8), make(format=INT8))
    left = Spared.of([("w0", 4, 7), ("b2", 0, 0), ("w0", 4, 6), ("w0", 5, 0)])
    part = cells(store(placed, INT8), make(format=INT8, spared=left))
    assert part.count == whole.count - 4
    for name in whole.exposed:
        kept = {(e, b) for f in part.batches(name) for e, b in zip(f.entry, f.bit, strict=True)}
        every = {(e, b) for f in whole.batches(name) for e, b in zip(f.entry, f.bit, strict=True)}
        assert every - kept == {(e, b) for tensor, e, b in left.cells if tensor == name}
        narrow, wide = part.hull(name), whole.hull(name)
        assert np.all(narrow.lower >= wide.lower)
        assert np.all(narrow.upper <= wide.upper)


def test_a_word_without_its_top_bits_moves_less(placed):
    whole = cells(store(placed, INT8), BitFlips(format=INT8))
    spared = Spared.of(("w0", entry, bit) for entry in range(30) for bit in (5, 6, 7))
    part = cells(store(placed, INT8), BitFlips(format=INT8, spared=spared))
    width = part.hull("w0").upper - part.hull("w0").lower
    wide = whole.hull("w0").upper - whole.hull("w0").lower
    # Bits 4 to 0 move by at most 16 of 128 steps, bits 7 and 6 together by 192 of them.
    assert np.all(width * 6 <= wide)


def test_a_witness_may_not_use_them(tmp_path, placed):
    query = asked(tmp_path, 'except = [["w0", 3, 7]]', maximum=-1000)
    faults = query.perturbations[0]
    with pytest.raises(QuestionError, match="may be faulty"):
        faulted_values(faults, [WordFault("w0", 3, (7,))])
    assert faulted_values(faults, [WordFault("w0", 3, (6,))])
    point = (0,) * 6
    for bit, verdict in ((7, "invalid"), (6, "valid sat")):
        witness = Witness(query.digest, 0, 0, point, (WordFault("w0", 3, (bit,)),))
        assert check_witness(query, witness).verdict == verdict


def test_proofs_speak_of_the_rest_only(tmp_path):
    """With the top bits spared the empty proof closes what it leaves open otherwise."""
    names = {"w0": 30, "b0": 5, "w1": 20, "b1": 4, "w2": 12, "b2": 3}
    top = [f'["{name}", {e}, {b}]' for name, n in names.items() for e in range(n) for b in (6, 7)]
    bound = 2.5
    assert check_proof(asked(tmp_path, "", bound), None).verdict == "invalid"
    spared = asked(tmp_path, f"except = [{', '.join(top)}]", bound)
    assert check_proof(spared, None).verdict == "valid unsat"
    assert check_proof(spared, None, arithmetic="exact").verdict == "valid unsat"


def test_the_digest_and_the_words_cover_them(tmp_path):
    digests = set()
    for more in ("", 'except = [["w0", 3, 7]]', 'except = [["w0", 3, 6]]'):
        digests.add(asked(tmp_path, more).digest)
    one = asked(tmp_path, 'except = [["w0", 3, 7], ["b0", 0, 1]]')
    other = asked(tmp_path, 'except = [["b0", 0, 1], ["w0", 3, 7], ["b0", 0, 1]]')
    assert one.digest == other.digest
    assert len(digests | {one.digest}) == 4
    said = "\n".join(statement(one))
    assert "faults of 2 memory cells, those of 'except'" in said
    assert "bit 7 of 'w0'[3]" in "\n".join(theorem(one))
    assert "except" not in asked(tmp_path, "except = []").perturbations[0].model.text


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('["w9", 0, 0]', "7:1: except: there is no tensor 'w9'"),
        ('["w0", 30, 0]', "7:1: except: there is no cell .'w0', 30, 0"),
        ('["w0", 0, 8]', "bits 0 to 7"),
    ],
    ids=["tensor", "entry", "bit"],
)
def test_a_cell_that_is_not_there_is_an_error(tmp_path, cell, message):
    with pytest.raises(QuestionError, match=message):
        asked(tmp_path, f"\nexcept = [{cell}]".strip())


def test_nothing_left_is_an_error(placed):
    every = Spared.of(("b2", entry, bit) for entry in range(3) for bit in range(8))
    with pytest.raises(QuestionError, match="no stored bit is left"):
        WordFaults(placed, BitFlips(1, INT8, Where(tensors=("b2",)), spared=every)).network  # noqa: B018


@pytest.mark.parametrize(
    "listed",
    [(("b", 0, 0), ("a", 0, 0)), (("a", 0, 0), ("a", 0, 0)), (("a", -1, 0),)],
    ids=["order", "twice", "negative"],
)
def test_lists_that_make_no_sense(listed):
    with pytest.raises(QuestionError, match="except"):
        Spared(listed)


def test_many_cells_are_read_quickly(tmp_path):
    model = conv_model()
    size = {p.name: p.size for p in place_model(model_file(model)).parameters.values()}
    listed = [f'["k1", {e}, {b}]' for e in range(size["k1"]) for b in range(32)] * 8
    (tmp_path / "net.onnx").write_bytes(model)
    path = tmp_path / "many.toml"
    path.write_text(
        QUESTION.format(more=f"except = [{', '.join(listed)}]", maximum=9).replace(
            "int8", "float32"
        )
    )
    began = time.perf_counter()
    query = load_question(path)
    assert len(query.perturbations[0].model.spared) == size["k1"] * 32
    assert time.perf_counter() - began < 5.0
