"""Whether a suspect is the marked model with its units permuted and rescaled.

Units are paired and factors estimated; the kernel compares parameters exactly.  The symmetry is
then undone, and the mark is read from what that gives.  Where factors make float32 round, how far
outputs are apart follows from the deviation of parameters (``within``); or it is asked as an
ordinary question (``at_most``, ``classes``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from proofs.watermarks.symmetry import apart, deviation
from specs.errors import EvidenceError, InputError, ModelError
from specs.query import ModelFile
from specs.watermarks.chain import Chain, differing, read_chain
from verifier.certify.delivery import BY_EVIDENCE
from verifier.certify.faults import agreement
from verifier.certify.question_files import in_memory
from verifier.certify.section import (
    PROVED,
    UNDECIDED,
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Task,
    above,
    at_least,
    shown,
)
from verifier.certify.table import Table
from verifier.certify.watermark.common import Marked, ask_claim, plain
from verifier.certify.watermark.extraction import linear, read_bits
from verifier.certify.watermark.utility import Utility
from verifier.watermarks.canonical import canonical, distance
from verifier.watermarks.fold_trap import folding
from verifier.watermarks.matching import Matched, match
from verifier.watermarks.undo import undone

MOST = Fraction(1)
"""Deviations from here on are none of a symmetry."""
DIGITS = 3
"""Of the deviation that is claimed."""
KEYS = ("at_most", "classes", "margin", "domain", "first", "radius", "clip", "agreed")
"""Of an agreement, if one is asked for."""


@dataclass(frozen=True, eq=False)
class Suspicion:
    """The answer ``[watermark.symmetry]``.

    Attributes:
        marked: the owner's model, and the mark if there is one.
        suspect: the name of the other model.
        relative: threshold of the deviation.
        at_least: threshold of bits that match after undoing.
        inputs: the least and the greatest entry; ``None``: outputs are not asked for.
        within: threshold of how far outputs are apart there.
        agreement: of both models; ``None``: not asked.
    """

    marked: Marked
    suspect: str
    relative: Fraction | None
    at_least: int | None
    inputs: tuple[Fraction, Fraction] | None
    within: Fraction | None
    agreement: Utility | None

    @cached_property
    def owner(self) -> Chain:
        """The owner's model."""
        return read_chain(self.marked.model)

    @cached_property
    def thief(self) -> Chain:
        """The suspect."""
        return read_chain(self.marked.other(self.suspect))

    def tasks(self) -> Sequence[Task]:
        """The comparison, then the questions about regions."""
        depends = (
            "watermark.symmetry 1",
            self.marked.text,
            self.thief.model.digest,
            f"{self.relative} {self.at_least} {self.inputs}",
        )
        found = [Task(f"symmetry of {self.suspect}", depends, self._run)]
        return found + list([] if self.agreement is None else self.agreement.tasks())

    def _run(self, place: Place) -> Record:
        matched = match(self.owner, self.thief)
        found = deviation(self.owner, self.thief, matched.symmetry).most
        values: dict[str, Any] = {
            "deviation": None if found is None else str(found),
            "claimed": None,
            "gap": None,
            "answer": "unknown",
            "assumed": [],
            "permuted": [int(np.sum(own != np.arange(own.size))) for own in matched.orders],
            "scaled": [int(np.sum(own != 1.0)) for own in matched.factors],
            "alike": [float(own.min(initial=1.0)) for own in matched.alike],
            "canonical": distance(canonical(self.owner), canonical(self.thief)),
            "before": self._read(self.thief.model)[0],
            "evidence": [],
        }
        if found is not None and found < MOST:
            claimed = rounded_up(found)
            if self.relative is not None and found <= self.relative:
                claimed = min(claimed, self.relative)
            self._claim(place, values, self.owner.model, matched, claimed)
            values["claimed"] = str(claimed)
            self._outputs(place, values, matched)
        self._undo(place, values, matched)
        values["evidence"] = sorted(set(values["evidence"]))
        return Record(values)

    def _outputs(self, place: Place, values: dict[str, Any], matched: Matched) -> None:
        """How far outputs are apart on the inputs that are stated."""
        if self.inputs is None:
            return
        found = deviation(self.owner, self.thief, matched.symmetry)
        try:
            gap = rounded_up(apart(self.owner, found, max(map(abs, self.inputs))))
        except EvidenceError as error:
            values["gap"] = str(error)
            return
        claim = {"kind": "symmetry", "within": gap, "inputs": list(self.inputs)}
        models = {"owner": self.owner.model, "suspect": self.thief.model}
        asked = ask_claim(place, models, None, claim, lambda q: [matched.evidence(q.digest)])
        if asked.answer == "unsat":
            values["gap"] = [str(gap)]
            values["evidence"] += asked.evidence

    def _claim(
        self,
        place: Place,
        values: dict[str, Any],
        owner: ModelFile,
        matched: Matched,
        relative: Fraction,
    ) -> None:
        claim: dict[str, Any] = {"kind": "symmetry"}
        if relative:
            claim["relative"] = relative
        models = {"owner": owner, "suspect": self.thief.model}
        asked = ask_claim(place, models, None, claim, lambda q: [matched.evidence(q.digest)])
        values["answer"] = asked.answer
        values["assumed"] = list(asked.assumed)
        values["evidence"] += asked.evidence

    def _undo(self, place: Place, values: dict[str, Any], matched: Matched) -> None:
        """Read the mark from the suspect with the symmetry undone, and keep both."""
        values |= {"undone": None, "after": None, "apart": None}
        try:
            model = in_memory(undone(self.owner, self.thief, matched), place)
        except ModelError as error:
            values["undone"] = str(error)
            return
        back = deviation(read_chain(model), self.thief, matched.symmetry).most
        values["apart"] = None if back is None else str(back)
        if back is not None and back < MOST:
            mine = {"evidence": values["evidence"]}
            self._claim(place, mine, model, matched, rounded_up(back))
        count, reason = self._read(model)
        values["after"], values["undone"] = count, reason
        if count is not None:
            for wanted in sorted({count, self.at_least or 0} - {0}):
                claim = {"kind": "extraction", "at_least": wanted}
                asked = ask_claim(place, {"net": model}, self.marked, claim)
                values["evidence"] += asked.evidence

    def _read(self, model: ModelFile) -> tuple[int | None, str | None]:
        """Matching bits, and why there are none to be read."""
        if not hasattr(self.marked.mark, "system"):
            return None, "the mark is not one that is read from parameters"
        try:
            matches: int = read_bits(model, linear(self.marked))["matches"]
            return matches, None
        except InputError as error:
            return None, str(error)

    def conclude(self, records: Sequence[Record]) -> Part:
        """Whether it is the owner's model, and what the mark then is."""
        values = records[0].values
        lines, judged = self._compared(values)
        lines += self._marked(values, judged)
        tables: tuple[Rows, ...] = (_layers(values),)
        assumed = tuple(values["assumed"]) or (_NOTHING,)
        if self.agreement is not None:
            part = self.agreement.conclude(records[1:])
            lines += [f"agreement: {line}" for line in part.lines]
            judged += part.judged
            tables += part.tables
            assumed += part.assumptions[:-1]
        keys = ("deviation", "gap", "canonical", "before", "after", "permuted", "scaled", "alike")
        facts = {key: values[key] for key in keys}
        facts["same function"] = values["deviation"] == "0" and values["answer"] == "unsat"
        title = f"Symmetry of {self.suspect} with {self.marked.name}"
        return Part(
            title,
            tuple(lines),
            (*assumed, ORBIT),
            tuple(judged),
            facts,
            tables,
            basis=(BY_EVIDENCE,),
        )

    def _compared(self, values: Mapping[str, Any]) -> tuple[list[str], list[Judged]]:
        text = values["deviation"]
        found = None if text is None else Fraction(text)
        proved = values["answer"] == "unsat"
        if proved and found == 0:
            lines = ["the suspect is the owner's network with its units moved: proved, exactly"]
        elif proved:
            lines = [
                "the suspect is the owner's network with its units moved, but for a relative "
                f"deviation of parameters of at most {above(Fraction(values['claimed']))}: proved"
            ]
        else:
            lines = ["no permutation and factors were found that make the suspect the owner's"]
        judged = []
        if self.inputs is not None:
            low, high = map(shown, self.inputs)
            gap = Fraction(values["gap"][0]) if isinstance(values["gap"], list) else None
            seen = "nothing is known" if gap is None else f"at most {above(gap)}"
            lines.append(
                f"outputs of both differ, for inputs from {low} to {high}, by {seen}"
                + (f": {values['gap']}" if isinstance(values["gap"], str) else "")
            )
            if self.within is not None:
                words = f"outputs of both differ by at most {shown(self.within)}"
                sure = gap is not None and gap <= self.within
                judged.append(Judged(words, seen, PROVED if sure else UNDECIDED))
        lines.append(f"canonical forms differ by {values['canonical']:.3g}")
        if self.relative is not None:
            sure = proved and found is not None and found <= self.relative
            words = f"relative deviation after a symmetry at most {shown(self.relative)}"
            seen = "no symmetry" if found is None else f"at most {above(found)}"
            judged.append(Judged(words, seen, PROVED if sure else UNDECIDED))
        return lines, judged

    def _marked(self, values: Mapping[str, Any], judged: list[Judged]) -> list[str]:
        if self.marked.mark is None:
            return []
        size = self.marked.mark.size
        before = "not readable" if values["before"] is None else f"{values['before']} of {size}"
        if values["after"] is None:
            lines = [f"the mark was not read after undoing: {values['undone']}"]
            if self.at_least is not None:
                words = f"matching bits after undoing at least {self.at_least}"
                judged.append(Judged(words, "not readable", UNDECIDED))
            return lines
        after = values["after"]
        lines = [
            f"matching bits in the suspect as it is: {before}; after undoing: {after} of {size}"
        ]
        if self._folded(self.marked.known):
            lines.append(
                "in the suspect, batch normalisation is folded into the tensor: as it is, the mark "
                "must not be read from it"
            )
            lines += self._trap(self.marked.known)
        if values["apart"] == "0":
            lines.append("the undone model is the suspect's function: proved, exactly")
        elif values["apart"] is not None:
            lines.append(
                "the undone model is the suspect up to a relative deviation of "
                f"{above(Fraction(values['apart']))}"
            )
        if self.at_least is not None:
            found = at_least("matching bits after undoing", Fraction(self.at_least), after, after)
            judged.append(found)
        return lines

    def _trap(self, mark: Any) -> list[str]:
        """What the tensor was multiplied by, where it is found."""
        try:
            owner, suspect = self.owner.model.content, self.thief.model.content
            return [folding(owner, suspect, mark.tensor).in_words()]
        except ModelError:
            return []

    def _folded(self, mark: Any) -> bool:
        """The normalisation behind the marked tensor is gone."""
        pairs = zip(self.owner.layers, self.thief.layers, strict=True)
        return any(
            own.weight_name == mark.tensor and own.norm is not None and other.norm is None
            for own, other in pairs
        )


ORBIT = (
    "undoing a symmetry that was fitted to the owner's parameters is evidence only together with "
    "the small deviation that is proved: a mark that was read after matching is not what a "
    "false-claim probability speaks of"
)
_NOTHING = (
    "not covered: that no symmetry was found proves nothing; units that were split, merged, added "
    "or removed are not looked for"
)


def rounded_up(number: Fraction) -> Fraction:
    """A decimal of few digits, not less."""
    if number == 0:
        return number
    context = Context(prec=DIGITS, rounding=ROUND_CEILING)
    return Fraction(context.divide(Decimal(number.numerator), Decimal(number.denominator)))


def _layers(values: Mapping[str, Any]) -> Rows:
    rows = tuple(
        (str(place), str(moved), str(scaled), f"{alike:.6f}")
        for place, (moved, scaled, alike) in enumerate(
            zip(values["permuted"], values["scaled"], values["alike"], strict=True)
        )
    )
    return Rows("Layers", ("layer", "units moved", "units scaled", "least cosine"), rows)


def read(marked: Marked, table: Table) -> Suspicion:
    """Keys: ``suspect``, ``relative``, ``at_least``, ``inputs``, ``within``, and those of an
    agreement, if one is asked for.
    """
    suspect = table.text("suspect")
    models = marked.setting.models
    if suspect is None or models.get(suspect, marked.path) == marked.path:
        known = ", ".join(f"'{name}'" for name, path in models.items() if path != marked.path)
        raise table.error("suspect", f"'suspect' must name a further model of [models]: {known}")
    inputs, within = table.interval("inputs"), table.number("within", None, 0)
    if within is not None and inputs is None:
        raise table.error("within", "'within' goes with 'inputs', [LOW, HIGH]")
    relative, at_least = table.share("relative"), table.integer("at_least")
    found = Suspicion(marked, suspect, relative, at_least, inputs, within, None)
    if found.at_least is not None:
        linear(marked)
    for name, chain in (("net", lambda: found.owner), ("suspect", lambda: found.thief)):
        (marked.table if name == "net" else table).placed(name, chain)
    wrong = differing(found.owner, found.thief)
    if wrong is not None:
        raise table.error("suspect", f"no symmetry can make the models one: {wrong}")
    wanted = [key for key in KEYS if table.has(key)]
    if not wanted:
        return found
    values = {**{key: table.values[key] for key in wanted}, "other": suspect}
    asked = Table(table.document, table.name, values, [], table.index)
    return replace(found, agreement=Utility(agreement.read(plain(marked), asked)))
