"""All evidence of the other sections checked again, without torch, and tampered with.

A section of ``benchmarks.watermarks``.  ``farkas check`` runs on every folder in a process in which
torch and the solvers cannot be imported.  Then hints of claims that hold are put to the same claim
with a larger budget, at which a counterexample is known, and counterexamples to the claim that was
proved: as they are, with entries changed at random, cut short, and without numbers.  Every one
that is accepted would be a falsehood.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import table
from proofs.format import read_evidence
from proofs.watermarks.check import check_mark
from proofs.watermarks.evidence import MarkEvidence
from specs.watermarks.question import load_mark_question

FOLDERS = ("marked", "margins", "survival", "removal")
CHANGED = 10
"""Copies of each piece of evidence with other numbers."""
WITHOUT = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "scipy", "highspy", "z3", "onnxruntime"):
            raise ImportError(name)
sys.meta_path.insert(0, Refused())
import farkas
sys.exit(farkas.main(["check", sys.argv[1], "--json", sys.argv[2]]))
"""


def checked(folder: Path, note: Path) -> Counter[str]:
    """Verdicts of ``farkas check`` on a folder."""
    note.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(folder), str(note)], capture_output=True, text=True
    )
    if not note.exists():
        raise RuntimeError(f"farkas check {folder}: {done.stderr[-500:]}")
    return Counter(piece["verdict"] for piece in json.loads(note.read_text()))


def tampered(made: MarkEvidence, rng: np.random.Generator) -> Iterator[MarkEvidence]:
    """The evidence itself, and copies with other numbers and other lengths."""
    yield made
    for name, array in made.arrays.items():
        yield replace(made, arrays={**made.arrays, name: array[:-1]})
        if array.dtype.kind == "f":
            yield replace(made, arrays={**made.arrays, name: np.full_like(array, np.nan)})
    for _ in range(CHANGED if made.arrays else 0):
        arrays = {}
        for name, array in made.arrays.items():
            held = array.copy()
            if held.size:
                at = rng.integers(0, held.size, max(1, held.size // 8))
                held[at] = rng.permutation(held)[: at.size] * rng.choice([0, -1, 2, 1000])
            arrays[name] = held
        yield replace(made, arrays=arrays)


def opposites(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Questions that hold, and the same with a budget at which a counterexample is known."""
    for path in sorted(folder.glob("*.toml")):
        for ends, other in (("-holds", "-fails"), ("", "-removed")):
            beside = path.with_name(f"{path.stem.removesuffix(ends)}{other}.toml")
            if path.stem.endswith(ends) and beside != path and beside.exists():
                yield path, beside


def attempts(true: Path, false: Path, rng: np.random.Generator) -> tuple[int, int]:
    """Evidence of each of two opposite questions put to the other: how often, and how often taken.

    Hints are put to the claim that is known to be false, counterexamples to the one that is proved;
    any that is accepted is a fault of the kernel.
    """
    copies = taken = 0
    for source, target in ((true, false), (false, true)):
        question = load_mark_question(target)
        made = read_evidence(source.with_suffix(".farkas"))
        assert isinstance(made, MarkEvidence)
        for copy in tampered(replace(made, question=question.digest), rng):
            copies += 1
            taken += check_mark(question, copy)[0].verdict == f"valid {made.claims}"
    return copies, taken


def section(out: Path) -> tuple[str, dict[str, Any]]:
    """Counts."""
    rng = np.random.default_rng(0)
    lines, pairs, copies, taken = [], 0, 0, 0
    for name in FOLDERS:
        folder = out / name
        if not folder.exists():
            continue
        verdicts = checked(folder, out / f"recheck-{name}.json")
        lines.append(
            {
                "folder": name,
                "pieces": sum(verdicts.values()),
                **{v: verdicts.get(v, 0) for v in ("valid unsat", "valid sat")},
                "others": sum(n for v, n in verdicts.items() if not v.startswith("valid")),
            }
        )
        for true, false in opposites(folder):
            some, wrong = attempts(true, false, rng)
            pairs, copies, taken = pairs + 1, copies + some, taken + wrong
    text = (
        f"{table(lines)}\nEvidence of {pairs} pairs of opposite questions put to the other one, "
        f"as it is and tampered with: {copies} times, {taken} accepted.\n"
    )
    data = {"folders": lines, "pairs": pairs, "copies": copies, "accepted": taken}
    return text, data
