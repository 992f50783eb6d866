"""All evidence of the other sections checked again, without torch, and tampered with.

A section of ``benchmarks.watermarks``.  ``farkas check`` runs on every folder in a process in which
torch and the solvers cannot be imported.  Then copies of evidence are changed: every array entry by
entry at random, cut short, and put to questions that ask for more; none may be accepted for a claim
that is false.
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
from proofs.watermarks.evidence import FAILS, HOLDS, MarkEvidence
from specs.watermarks.question import MarkQuestion, load_mark_question, states_claim

FOLDERS = ("marked", "margins", "survival", "removal")
CHANGED = 40
"""Tampered copies of each piece of evidence at most."""
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
    """Changed copies: numbers, lengths, and what is claimed."""
    yield replace(made, claims=HOLDS if made.claims == FAILS else FAILS)
    for name, array in made.arrays.items():
        yield replace(made, arrays={**made.arrays, name: array[:-1]})
        if array.dtype.kind == "f":
            yield replace(made, arrays={**made.arrays, name: np.full_like(array, np.nan)})
    for _ in range(CHANGED):
        arrays = {}
        for name, array in made.arrays.items():
            held = array.copy()
            if held.size:
                at = rng.integers(0, held.size, max(1, held.size // 8))
                held[at] = rng.permutation(held)[: at.size] * rng.choice([0, -1, 2, 1000])
            arrays[name] = held
        if not arrays:
            return
        yield replace(made, arrays=arrays)


def attempts(path: Path, rng: np.random.Generator) -> tuple[int, int]:
    """Tampered evidence of one question: how many copies, how many accepted for what is false.

    A copy that claims the same and is accepted is no fault: hints need not be trusted.  Accepted
    for the opposite, it is; and of a counterexample, when it does not show one.
    """
    question = load_mark_question(path)
    made = read_evidence(path.with_suffix(".farkas"))
    assert isinstance(made, MarkEvidence)
    copies = bad = 0
    for copy in tampered(made, rng):
        copies += 1
        verdict = check_mark(question, copy)[0].verdict
        bad += verdict == f"valid {FAILS if made.claims == HOLDS else HOLDS}"
    return copies, bad


def falsified(path: Path) -> tuple[int, int]:
    """Hints of certificates put to a larger budget at which a counterexample is known."""
    stem = path.stem.removesuffix("-holds")
    other = path.with_name(f"{stem}-fails.toml")
    if stem == path.stem or not other.exists():
        return 0, 0
    question: MarkQuestion = load_mark_question(other)
    made = read_evidence(path.with_suffix(".farkas"))
    assert isinstance(made, MarkEvidence)
    moved = replace(made, question=question.digest)
    return 1, int(check_mark(question, moved)[0].verdict == f"valid {HOLDS}")


def section(out: Path) -> tuple[str, dict[str, Any]]:
    """Counts."""
    rng = np.random.default_rng(0)
    lines, copies, bad, asked, lied = [], 0, 0, 0, 0
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
        for path in sorted(folder.glob("*.toml")):
            if not path.with_suffix(".farkas").exists() or not states_claim([path]):
                continue
            some, wrong = attempts(path, rng)
            copies, bad = copies + some, bad + wrong
            some, wrong = falsified(path)
            asked, lied = asked + some, lied + wrong
    text = (
        f"{table(lines)}\n{copies} tampered copies, {bad} accepted for the opposite; "
        f"{asked} proofs put to budgets at which a counterexample is known, {lied} accepted.\n"
    )
    data = {"folders": lines, "copies": copies, "accepted": bad, "asked": asked, "lied": lied}
    return text, data
