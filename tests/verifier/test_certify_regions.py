"""Maps over boxes: what a search says is benign is said only of what the kernel accepts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from proofs.check import check_file
from proofs.proof import ProofBuilder
from specs.errors import InputError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.struck import WordFaults
from specs.query import Query
from specs.question import load_question
from tests.verifier.certify_files import folder_with, part, run
from verifier.certify.config import load_config
from verifier.certify.faults import bitmap, regionmap
from verifier.certify.faults.stand import label_at
from verifier.certify.questions import box_around

TEXT = (
    '[limits]\ntimeout = 20\n[faults]\nmodel = "bit_flips"\nformat = "int8"\nbits = [0, 1]\n'
    "[faults.map]\nradius = 0.001\ndecided = 0.5\n"
)


@dataclass
class Table:
    faults: Any
    state: Any


@dataclass
class Found:
    cells: dict
    query: Any
    proof: Any
    unchanged: int = 0
    reason: str = ""
    witnesses: dict = field(default_factory=dict)


def search(change=lambda faults: faults):
    """All cells benign, by the empty proof of a question that may be another one."""

    def run_(faults, region, seconds, progress):
        asked = change(faults)
        query = Query(asked.network, region, (faults.placed.model,), region.digest, (asked,))
        proof = ProofBuilder(query).finish()
        cells = {}
        for name in faults.parameters:
            own = faults.cells.singles(name)
            cells[name] = Table(own, np.full(len(own), regionmap.BENIGN))
        return Found(cells, query, proof)

    return run_


@pytest.fixture
def mapped(monkeypatch, tmp_path):
    def with_search(found):
        monkeypatch.setattr(bitmap, "mapper", lambda: found)
        return run(folder_with(tmp_path, TEXT, sizes=(2, 3, 2), count=2, seed=1))

    return with_search


def evidence(tmp_path):
    return sorted((tmp_path / "out/evidence").glob("*.toml"))


def test_benign_cells_have_a_proof_that_checks(mapped, tmp_path):
    outcome = mapped(search())
    facts = part(outcome).facts
    for own in facts["boxes"]:
        assert own["benign"] in (0, facts["cells"])
        assert own["benign"] + own["undecided"] == facts["cells"]
    proved = sum(own["benign"] > 0 for own in facts["boxes"])
    assert proved > 0
    files = evidence(tmp_path)
    assert len(files) == proved
    for file in files:
        checked = check_file(load_question(file), file.with_suffix(".farkas"))
        assert checked.verdict == "valid unsat"


def narrower(faults):
    """The faults of one bit only."""
    where = replace(faults.model.where, bits=(0,))
    return WordFaults(faults.placed, replace(faults.model, where=where))


def test_a_proof_of_less_shows_nothing(mapped, tmp_path):
    outcome = mapped(search(narrower))
    for own in part(outcome).facts["boxes"]:
        assert own == {"benign": 0, "critical": 0, "no number": 0, "undecided": 34}
    assert outcome.verdict == "refuted"  # the share that is decided is known: none
    assert not evidence(tmp_path)


def test_no_proof_shows_nothing(mapped, tmp_path):
    def nothing(*given):
        found = search()(*given)
        return Found(found.cells, None, None, 0, "why not")

    outcome = part(mapped(nothing))
    assert all(own["benign"] == 0 for own in outcome.facts["boxes"])
    assert {row[-1] for row in outcome.tables[0].rows} == {"why not"}
    assert not evidence(tmp_path)


def test_thresholds_of_points_do_not_go_with_a_radius(tmp_path, monkeypatch):
    monkeypatch.setattr(bitmap, "mapper", lambda: search())
    path = folder_with(tmp_path, TEXT.replace("decided", "certified_benign"))
    with pytest.raises(InputError, match=r"c.toml:15:1: .*does not go with a radius"):
        load_config(path)
    path = folder_with(tmp_path, TEXT.replace("radius = 0.001\n", ""))
    with pytest.raises(InputError, match="'decided' goes with a radius"):
        load_config(path)


def test_what_is_critical_is_evaluated_again(mapped):
    """Half of the cells are said to be critical, at a sample or at a point far away."""

    def claims(faults, region, seconds, progress):
        found = search()(faults, region, seconds, progress)
        inside = np.array([float(end) for end in region.cases[0].lower])
        for k, (name, own) in enumerate(found.cells.items()):
            own.state[:] = regionmap.CRITICAL
            for entry, bit in zip(own.faults.entry.tolist(), own.faults.bit.tolist(), strict=True):
                found.witnesses[name, entry, bit] = inside + (1e6 if k % 2 else 0.0)
        return found

    outcome = mapped(claims)
    assert all(own["critical"] == 0 for own in part(outcome).facts["boxes"])


def test_witnesses_are_of_the_box_and_change_the_prediction(tmp_path):
    path = folder_with(tmp_path, TEXT.replace("bits = [0, 1]", "bits = [6, 7]"), count=2, seed=1)
    config = load_config(path)
    (answer,) = config.answers["faults"]
    faults = WordFaults(answer.faults.placed, answer.faults.cells.model)
    point = answer.data.points[0]
    label = label_at(faults.intact, point)
    box = box_around(point.tolist(), answer.radius, answer.clip)
    cells = [
        (name, int(entry), int(bit))
        for name in faults.parameters
        for own in [faults.cells.singles(name)]
        for entry, bit in zip(own.entry, own.bit, strict=True)
    ]
    found, points = regionmap.witnessed(faults, dict.fromkeys(cells, point), box, label)
    assert 0 < len(found) < len(cells)
    assert len(points) == 1
    for cell in cells:
        network = faulted_network(faults, [WordFault(*cell[:2], cell[2:])])
        assert (label_at(network, point) != label) == (cell in found)
    outside = regionmap.witnessed(faults, dict.fromkeys(cells, point + 1.0), box, label)
    assert outside == ({}, [])


def test_the_search_over_fault_sites_is_taken(tmp_path):
    path = folder_with(tmp_path, TEXT, sizes=(2, 3, 2), count=2, seed=1)
    outcome = run(path)
    facts = part(outcome).facts
    assert outcome.verdict == "proved"
    assert len(evidence(tmp_path)) == sum(own["benign"] > 0 for own in facts["boxes"])
