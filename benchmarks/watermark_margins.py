"""How much a linear mark is certain to bear, and the cheapest change found that removes it.

    python -m benchmarks.watermark_margins QUESTION.toml ... --out runs/margins

Each question file names a model and a linear mark, as ``farkas check`` takes them; its claim is
replaced.  For each, and for thresholds of matches that chance reaches with probabilities of at
most 2^-20 and 2^-40, it looks for the largest certified budget and for the cheapest attack: in
three norms, of pruned weights, and of flipped bits of int8.  Evidence of both lies in the folder:
``farkas check runs/margins`` checks it all again.  An interrupted run goes on.

The table gives the budget that is certified bit by bit (*alone*), that of weighted least squared
margins (*squares*), the best (*certified*), the attack, and certified over attack.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.tables import table
from benchmarks.watermarked import networks
from proofs.format import replacing, write_mark
from proofs.watermarks.check import check_mark
from proofs.watermarks.evidence import MarkEvidence
from proofs.watermarks.tails import threshold
from specs.document import read_document
from specs.faults.formats import IntegerFormat
from specs.watermarks.changes import Flips, Pruned
from specs.watermarks.claims.persistence import ChangedWeights
from specs.watermarks.question import MarkQuestion, load_mark_question
from verifier.progress import Progress
from verifier.toml import toml
from verifier.watermarks.ascent import Settings
from verifier.watermarks.margin_attack import Removal, cheapest_ball, cheapest_count
from verifier.watermarks.persistence import Certified, certified_ball, certified_count
from verifier.watermarks.stated import allowed_keys, problem_of, proof_of, witness_of

LEVELS = (20, 40)
NORMS = ("linf", "l2", "l1")
KINDS = (*NORMS, "pruned", "flips")


@dataclass(frozen=True)
class Asked:
    """A question file, with a claim about changes in place of its own.

    Attributes:
        source: the file.
        stem: of the files that are written.
        least: bits that have to match.
        keys: more keys of the claim.
    """

    source: Path
    stem: str
    least: int
    keys: Mapping[str, str]

    def written(self, folder: Path, what: str, more: Mapping[str, str]) -> MarkQuestion:
        """The question with further keys, as a file."""
        document = read_document(self.source)
        lines = ["[models]"]
        for name, file in document.table("models").items():
            held = folder / f"{self.source.stem}-{Path(file).name}"  # a folder is checked alone
            if not held.exists():
                shutil.copyfile(self.source.parent / file, held)
            lines.append(f"{name} = {toml(held.name)}")
        lines.append("[watermark]")
        lines += [f"{key} = {toml(value)}" for key, value in document.table("watermark").items()]
        lines += ["[claim]", 'kind = "persistence"', f"at_least = {self.least}"]
        lines += [f"{key} = {value}" for key, value in {**self.keys, **more}.items()]
        path = folder / f"{self.stem}-{what}.toml"
        with replacing(path) as file:
            file.write(("\n".join(lines) + "\n").encode())
        return load_mark_question(path)


def measured(asked: Asked, kind: str, out: Path) -> dict[str, Any]:
    """One row: the certificate and the attack, both as checked evidence."""
    claim = asked.written(out, "none", {}).claim
    assert isinstance(claim, ChangedWeights)
    problem = problem_of(claim)
    started = time.process_time()
    found, squares = _certified(claim, kind)
    searched = time.process_time() - started
    removal = _attacked(claim, kind, found)
    row: dict[str, Any] = {
        "mark": asked.stem,
        "bits": problem.margins.size,
        "weights": problem.weights.size,
        "at_least": asked.least,
        "kind": kind,
        "alone": float(found.alone),
        "squares": squares,
        "certified": float(found.budget),
        "attack": None if removal is None else float(removal.cost),
        "ratio": None
        if removal is None or not removal.cost
        else float(found.budget / removal.cost),
        "search s": round(searched, 1),
        "reason": found.reason,
    }
    if found.budget:
        stated = asked.written(out, f"{kind}-holds", allowed_keys(found.changes))
        row["check s"] = _checked(
            out, stated, f"{asked.stem}-{kind}-holds", proof_of(stated, found)
        )
        row["evidence bytes"] = (out / f"{asked.stem}-{kind}-holds.farkas").stat().st_size
    if removal is not None:
        stated = asked.written(out, f"{kind}-fails", allowed_keys(removal.changes))
        _checked(out, stated, f"{asked.stem}-{kind}-fails", witness_of(stated, removal))
    return row


def _certified(claim: ChangedWeights, kind: str) -> tuple[Certified, float | None]:
    problem = problem_of(claim)
    if kind in NORMS:
        found = certified_ball(problem, kind)
        squares = certified_ball(problem, kind, Settings(centre=False))
        return found, float(squares.budget)
    size = problem.weights.size
    if kind == "pruned":
        return certified_count(problem, Pruned, size), None
    of = _flips(claim)
    return certified_count(problem, of, size), None


def _flips(claim: ChangedWeights) -> Callable[[int], Flips]:
    (like,) = claim.sets
    assert isinstance(like, Flips)
    assert isinstance(like.format, IntegerFormat)
    return lambda count: Flips(count, like.format, like.channel)


def _attacked(claim: ChangedWeights, kind: str, found: Certified) -> Removal | None:
    problem = problem_of(claim)
    if kind in NORMS:
        return cheapest_ball(problem, kind, found.shares)
    like = Pruned(1) if kind == "pruned" else _flips(claim)(1)
    return cheapest_count(problem, like, problem.weights.size)


def _checked(out: Path, stated: MarkQuestion, stem: str, made: MarkEvidence) -> float:
    checked, _ = check_mark(stated, made)
    if checked.verdict != f"valid {made.claims}":
        raise RuntimeError(f"{stem}: {checked.verdict}, {checked.reason}")
    write_mark(out / f"{stem}.farkas", made)
    return round(checked.cpu_seconds, 2)


def questions(paths: list[Path]) -> list[Asked]:
    """Every mark at every threshold."""
    found = []
    for path in paths:
        mark = load_mark_question(path).mark
        assert mark is not None
        for level in LEVELS:
            least = threshold(mark.size, Fraction(1, 2), Fraction(1, 1 << level))
            found.append(Asked(path, f"{path.stem}-{level}", least, {}))
    return found


def run(paths: list[Path], out: Path, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """All rows; those that were measured before are read."""
    out.mkdir(parents=True, exist_ok=True)
    progress, rows = Progress(), []
    todo = [(asked, kind) for asked in questions(paths) for kind in kinds]
    for number, (asked, kind) in enumerate(todo):
        progress.count("marks", number, len(todo))
        note = out / f"{asked.stem}-{kind}.json"
        if not note.exists():
            keys = {"format": '"int8"', "flips": "1"} if kind == "flips" else {}
            here = Asked(asked.source, asked.stem, asked.least, keys)
            row = measured(here, kind, out)
            with replacing(note) as file:
                file.write(json.dumps(row, indent=1).encode())
        rows.append(json.loads(note.read_text()))
    for extra in out.glob("*-none.toml"):
        extra.unlink()
    progress.clear()
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """The table, and medians of certified over attack."""
    text = table([{key: _shown(row.get(key)) for key in rows[0]} for row in rows])
    for kind in KINDS:
        for name in ("alone", "squares", "certified"):
            ratios = [
                row[name] / row["attack"]
                for row in rows
                if row["kind"] == kind and row["attack"] and row[name] is not None
            ]
            if ratios:
                median = statistics.median(ratios)
                text += (
                    f"{kind}, {name} over attack: median {median:.3f}, least {min(ratios):.3f}\n"
                )
    return text


def _shown(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def section(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """A section of ``benchmarks.watermarks``: all linear marks of its models."""
    nets = networks(out / "marked", Progress())
    paths = [net.present for net in nets if hasattr(net.mark, "system")]
    rows = run(paths, out / "margins", KINDS)
    return summary(rows), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("questions", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/margins"))
    parser.add_argument("--only", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    given = parser.parse_args()
    rows = run(given.questions, given.out, tuple(given.only.split(",")))
    text = summary(rows)
    (given.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
