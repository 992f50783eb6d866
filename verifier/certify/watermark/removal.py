"""The least change of the last layer that takes the labels of triggers: certified, and met.

With ``others`` the statement is the joint one: within the radius, the mark cannot be removed *and*
these samples keep their labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from specs.watermarks.claims.removal import LastLayerRemoval
from specs.watermarks.samples import Labelled, read_samples
from verifier.certify.delivery import BY_EVIDENCE
from verifier.certify.section import (
    PROVED,
    REFUTED,
    UNDECIDED,
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Task,
    above,
    below,
    shown,
)
from verifier.certify.table import Table
from verifier.certify.watermark.budgets import KINDS, Budget, draw
from verifier.certify.watermark.common import (
    FILES,
    Marked,
    ask_claim,
    stated,
    stored_triggers,
    triggers_of,
)
from verifier.watermarks.removal_lp import LP_NORMS, NoAnswerError
from verifier.watermarks.removal_question import fails, holds, least_change

DIGITS = 5
"""Of the radius at which a change is shown, rounded up."""


@dataclass(frozen=True, eq=False)
class Removal:
    """The answer ``[watermark.removal]``.

    Attributes:
        marked: the model and the mark.
        triggers: and their labels.
        counts: how many triggers are to lose theirs; one search for each.
        others: samples that keep theirs; ``None``: not asked.
        claim: keys of all claims.
        radius: threshold of the certified radius.
    """

    marked: Marked
    triggers: Labelled
    counts: tuple[int, ...]
    others: Labelled | None
    claim: dict[str, Any]
    radius: Fraction | None

    def tasks(self) -> Sequence[Task]:
        """One for each number of triggers."""
        others = "" if self.others is None else self.others.text
        given = {
            key: _digest(value) if key in FILES else value for key, value in self.claim.items()
        }
        return [
            Task(
                f"removal of {count} triggers",
                (
                    "watermark.removal 2",
                    self.marked.text,
                    self.triggers.text,
                    others,
                    f"{count} {sorted(given.items(), key=str)}",
                ),
                partial(self._run, count),
            )
            for count in self.counts
        ]

    def _run(self, count: int, place: Place) -> Record:
        models = {"net": self.marked.model}
        common = {"kind": "removal", "removed": count, **self.claim}
        if "samples" not in common and not hasattr(self.marked.mark, "labels"):
            common["samples"] = str(stored_triggers(self.triggers, place))
        question = stated(place, models, self.marked, {**common, "radius": 1})
        assert isinstance(question.claim, LastLayerRemoval)
        limit = self.marked.setting.timeout
        values: dict[str, Any] = {"certified": "0", "met": None, "reason": "", "evidence": []}
        values["assumed"] = question.claim.assumed()
        try:
            found = least_change(question.claim, limit, place.progress)
        except NoAnswerError as error:
            return Record({**values, "reason": f"the search ended without an answer: {error}"})
        if not found.closed:
            values["reason"] = "the time limit came before the search was done"
        tree, moved = found.tree, found.moved
        if tree is not None and found.radius > 0:
            claim = {**common, "radius": found.radius}
            asked = ask_claim(place, models, self.marked, claim, lambda q: [holds(q, tree)])
            if asked.answer == "unsat":
                values["certified"] = str(found.radius)
                values["evidence"] += asked.evidence
        if moved is not None and moved.radius > 0:
            met = rounded_up(Fraction(moved.radius) * (1 + Fraction(1, 10**4)))
            claim = {**common, "radius": met}

            def search(question: Any) -> list[Any]:
                made = fails(question, moved)
                return [] if made is None else [made]

            asked = ask_claim(place, models, self.marked, claim, search)
            if asked.answer == "sat":
                values["met"] = str(met)
                values["evidence"] += asked.evidence
        values["evidence"] = sorted(set(values["evidence"]))
        return Record(values)

    def conclude(self, records: Sequence[Record]) -> Part:
        """Certified radii and the changes that were found."""
        total, norm = len(self.triggers.points), self.claim["norm"]
        lines, rows, drawn, facts, judged = [], [], [], {}, []
        name = KINDS[norm]
        kept = "" if self.others is None else ", while the other samples keep theirs"
        for count, record in zip(self.counts, records, strict=True):
            low = Fraction(record.values["certified"])
            high = None if record.values["met"] is None else Fraction(record.values["met"])
            found = "none was found" if high is None else f"refuted: one of {above(high)} does"
            drawn.append(
                Budget(f"{name}, label lost by {count} of {total} triggers", low, high, self.radius)
            )
            lines.append(
                f"proved: no change of the last layer of {name} at most {below(low)} takes the "
                f"label from {count} of {total} triggers{kept}; {found}"
            )
            why = record.values["reason"]
            rows.append((str(count), below(low), "" if high is None else above(high), why))
            facts[str(count)] = [str(low), None if high is None else str(high)]
            if self.radius is not None:
                words = f"radius of removal of {count} triggers at least {shown(self.radius)}"
                seen = f"at least {below(low)}"
                verdict = PROVED if low >= self.radius else UNDECIDED
                if high is not None:
                    seen += f", at most {above(high)}"
                    verdict = REFUTED if high < self.radius else verdict
                judged.append(Judged(words, seen, verdict))
        return Part(
            "Removal by the last layer",
            tuple(lines),
            (*records[0].values["assumed"], BEYOND),
            tuple(judged),
            facts,
            (Rows("Radii", ("triggers", "proved up to", "removed by", "why"), tuple(rows)),),
            (
                (
                    "Changes that are proved to leave the labels, and that take them",
                    draw(drawn, alike=True),
                ),
            ),
            basis=(BY_EVIDENCE,),
        )


BEYOND = (
    "not covered: changes of other layers ([watermark.survival]), and networks that were trained "
    "anew from this one's answers"
)


def rounded_up(number: Fraction) -> Fraction:
    """A decimal of few digits, not less."""
    context = Context(prec=DIGITS, rounding=ROUND_CEILING)
    return Fraction(context.divide(Decimal(number.numerator), Decimal(number.denominator)))


def _digest(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def read(marked: Marked, table: Table) -> Removal:
    """Keys: ``samples``, ``removed``, ``norm``, ``bias``, ``others``, ``keep``, ``tensors``,
    ``radius``.
    """
    triggers = triggers_of(marked, table)
    total = len(triggers.points)
    counts = table.integers("removed") or (total,)
    if any(not 1 <= count <= total for count in counts):
        raise table.error("removed", f"'removed' must hold numbers from 1 to {total}")
    norm = table.text("norm", "linf", LP_NORMS) or "linf"
    claim: dict[str, Any] = {"norm": norm}
    folder = table.document.folder
    names = table.text("samples"), table.text("others")
    for key, name in zip(("samples", "others"), names, strict=True):
        if name is not None:
            claim[key] = str((folder / name).resolve())
    if table.flag("bias"):
        claim["bias"] = True
    tensors = table.strings("tensors")
    if tensors:
        claim["tensors"] = list(tensors)
    others = None
    if names[1] is not None:
        path = Path(claim["others"])
        others = table.placed("others", lambda: read_samples(path))
    keep = table.integer("keep")
    if keep is not None:
        if others is None:
            raise table.error("keep", "'keep' goes with 'others', a file of samples")
        claim["keep"] = keep
    return Removal(marked, triggers, counts, others, claim, table.number("radius", None, 0))
