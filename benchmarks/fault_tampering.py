"""Proofs of maps over boxes, put to false questions and tampered with: none may be accepted.

A section of ``benchmarks.faults``.  A box's proof covers all cells but those of ``except``.  A
*false* question leaves one critical cell less out, so that a witness refutes it; the proof is said
to be of that question.  It is put as it is, and with numbers in its arrays changed at random:
split words and numbers of children, hints, bounds to compute, shapes of the tree.  A proof that is
changed and put to its own question may stay valid: hints prove nothing false.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks import digits
from benchmarks.fault_regions import boxes
from benchmarks.tables import table
from proofs.check import check_proof
from proofs.proof import Proof
from specs.errors import EvidenceError
from specs.faults.models import BitFlips, Spared
from specs.faults.struck import WordFaults
from specs.query import Query
from verifier.faults.candidates import CRITICAL
from verifier.faults.radius import certified_radius, robust_region
from verifier.faults.region import RegionMap, Settings, map_region

IMAGES = 3
CELLS = 10
"""Critical cells of each box that are said to be benign."""

CHANGED = 20
"""Changed proofs for each of them."""

SECONDS = 20.0
CLIP = (Fraction(0), Fraction(1))


@dataclass
class Counts:
    """What was tried, and what was accepted.

    Attributes:
        accepted: true questions, by the proof of the map.
        false, changed: false questions, with the proof as it is and changed.
        wrong: false questions that were accepted.
        mismatched: false questions for which the proof was not made to be: refused unread.
    """

    boxes: int = 0
    accepted: int = 0
    false: int = 0
    changed: int = 0
    mismatched: int = 0
    wrong: int = 0


def accepted(query: Query, proof: Proof) -> bool:
    """Whether the kernel says that it proves the question."""
    try:
        return check_proof(query, proof).valid
    except EvidenceError:
        return False


def false_questions(found: RegionMap, query: Query) -> Iterator[Query]:
    """The question with one critical cell less left out."""
    (faults,) = query.perturbations
    if not isinstance(faults, WordFaults) or not isinstance(faults.model, BitFlips):
        return
    critical = [
        (name, int(own.faults.entry[k]), int(own.faults.bit[k]))
        for name, own in found.cells.items()
        for k in np.flatnonzero(own.state == CRITICAL)
    ]
    for cell in critical[:CELLS]:
        left = Spared.of(set(faults.model.spared.cells) - {cell})
        more = WordFaults(faults.placed, replace(faults.model, spared=left))
        models, stated = query.models, query.property
        yield Query(more.network, stated, models, stated.digest, (more,))


def changed(proof: Proof, rng: np.random.Generator) -> Proof:
    """The proof with some numbers in one of its arrays replaced."""
    names = [name for name, array in proof.arrays.items() if array.size]
    arrays = dict(proof.arrays)
    for _ in range(int(rng.integers(1, 4))):
        name = names[int(rng.integers(len(names)))]
        array = arrays[name].copy()
        flat = array.reshape(-1)
        place = int(rng.integers(flat.size))
        near = flat[int(rng.integers(flat.size))]
        flat[place] = near if rng.random() < 0.5 else flat[place] + flat.dtype.type(1)
        arrays[name] = array
    return replace(proof, arrays=arrays)


def section(out: Path) -> tuple[str, object]:
    """Counts by network."""
    rng, rows = np.random.default_rng(0), []
    for kind in digits.KINDS:
        counts = Counts()
        for _, faults, _, image, label in [own for own in boxes(out) if own[0] == kind][:IMAGES]:
            centre = [Fraction(float(pixel)) for pixel in image]
            radius = certified_radius(faults, centre, label, CLIP) / 2
            stated = robust_region(faults, centre, label, radius, CLIP)
            found = map_region(faults, stated, Settings(seconds=SECONDS, words=0, rounds=3))
            if found.query is None or found.proof is None:
                continue
            counts.boxes += 1
            counts.accepted += accepted(found.query, found.proof)
            for query in false_questions(found, found.query):
                counts.mismatched += 1
                counts.wrong += accepted(query, found.proof)
                proof = replace(found.proof, question=query.digest)
                counts.false += 1
                counts.wrong += accepted(query, proof)
                for _ in range(CHANGED):
                    counts.changed += 1
                    counts.wrong += accepted(query, changed(proof, rng))
        rows.append({"network": kind, **vars(counts)})
    return table(rows), rows
