"""How much of which kind of change is certain not to remove a linear mark, and what does remove it.

Each kind has a certified budget, with hints that the kernel checks, and the cheapest change that
was found to remove the mark, a counterexample for its own cost: between both lies the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

from specs.watermarks.changes import Ball, Flips, Pruned
from specs.watermarks.claims.persistence import ChangedWeights
from specs.watermarks.question import MarkQuestion
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
from verifier.certify.watermark.common import Marked, ask_claim, at_once, in_words, stated
from verifier.certify.watermark.extraction import checked, linear, read_bits
from verifier.certify.watermark.false_claim import level_in, threshold_of
from verifier.watermarks.problem import Problem
from verifier.watermarks.stated import problem_of, proof_of, witness_of

if TYPE_CHECKING:  # with torch and scipy, which kept results do without
    from verifier.watermarks.margin_attack import Removal
    from verifier.watermarks.persistence import Certified

NORMS = ("linf", "l2", "l1")
MOST_FLIPS = 64
SECOND = ("second_seed", "second_at_least")


@dataclass(frozen=True, eq=False)
class Persistence:
    """The answer ``[watermark.persistence]``.

    Attributes:
        marked: the model and the mark.
        at_least: matches at which the mark stands.
        kinds: of changes whose largest budget is sought: norms, ``"pruned"``, ``"flips"``.
        asked: thresholds of budgets, by kind.
        stated: what is to hold as it stands: for each the keys of its claim.
        more: keys of every claim (``bits``, a second key).
    """

    marked: Marked
    at_least: int
    kinds: tuple[str, ...]
    asked: Mapping[str, Fraction]
    stated: tuple[Mapping[str, Any], ...]
    more: Mapping[str, Any]

    def tasks(self) -> Sequence[Task]:
        """One for each kind of change, and for each statement."""
        own = (self.marked.text, str(self.at_least), repr(sorted(self.more.items(), key=str)))
        found = [
            Task(
                f"persistence, {kind}",
                ("watermark.persistence 1", *own, kind),
                partial(self._largest, kind),
            )
            for kind in self.kinds
        ]
        for each in self.stated:
            depends = ("watermark.replay 1", *own, repr(sorted(each.items(), key=str)))
            found.append(Task(f"persistence, {_words(each)}", depends, partial(self._one, each)))
        return found

    def _claim(self, kind: str, budget: Fraction | int) -> dict[str, Any]:
        bits = {"bits": self.more["bits"]} if kind == "flips" and "bits" in self.more else {}
        return {**self._common, kind: budget, **bits}

    @property
    def _common(self) -> dict[str, Any]:
        second = {key: self.more[key] for key in SECOND if key in self.more}
        return {"kind": "persistence", "at_least": self.at_least, **second}

    def _largest(self, kind: str, place: Place) -> Record:
        values: dict[str, Any] = {"certified": "0", "met": None, "alone": "0", "evidence": []}
        models = {"net": self.marked.model}
        question = stated(place, models, self.marked, self._claim(kind, 1))
        assert isinstance(question.claim, ChangedWeights)
        values["assumed"] = question.claim.assumed()
        values["reason"] = ""
        asked = problem_of(question.claim)
        found = _certified(kind, asked, question.claim)
        values["alone"] = str(found.alone)
        if found.budget > 0:
            claim = self._claim(kind, _whole(kind, found.budget))
            answer = ask_claim(place, models, self.marked, claim, partial(_proof, found))
            if answer.answer == "unsat":
                values["certified"], values["reason"] = str(found.budget), answer.reason
                values["evidence"] += answer.evidence
        met = _attacked(kind, asked, question.claim, found)
        if met is not None:
            claim = self._claim(kind, _whole(kind, met.cost))
            answer = ask_claim(place, models, self.marked, claim, partial(_witness, met))
            if answer.answer == "sat":
                values["met"] = str(met.cost)
                values["evidence"] += answer.evidence
        values["evidence"] = sorted(set(values["evidence"]))
        return Record(values)

    def _one(self, keys: Mapping[str, Any], place: Place) -> Record:
        from verifier.watermarks.margin_attack import cheapest_ball
        from verifier.watermarks.persistence import certified_ball

        models = {"net": self.marked.model}
        claim = {**self._common, **keys}

        def search(question: MarkQuestion) -> Sequence[Any]:
            found = list(at_once(question))
            assert isinstance(question.claim, ChangedWeights)
            if question.claim.sets:
                asked = problem_of(question.claim)
                for each in question.claim.sets:
                    if isinstance(each, Ball):
                        best = certified_ball(asked, each.norm)
                        found.append(proof_of(question, best))
                        met = cheapest_ball(asked, each.norm, best.shares)
                        found += [] if met is None else [witness_of(question, met)]
            return found

        return Record(ask_claim(place, models, self.marked, claim, search).values)

    def conclude(self, records: Sequence[Record]) -> Part:
        """Certified budgets beside attacks."""
        mark = linear(self.marked)
        have = read_bits(self.marked.model, mark)["matches"]
        lines = [
            f"the mark stands while at least {self.at_least} of {mark.size} bits match; {have} do"
        ]
        judged, rows, drawn, facts = [], [], list[Budget](), {}
        for kind, record in zip(self.kinds, records, strict=False):
            low = Fraction(record.values["certified"])
            high = None if record.values["met"] is None else Fraction(record.values["met"])
            ratio = "" if high is None or not high else f"{float(low / high):.3f}"
            name = KINDS[kind]
            drawn.append(Budget(f"{name} of the change" if kind in NORMS else name, low, high))
            if kind in self.asked:
                drawn[-1] = replace(drawn[-1], asked=self.asked[kind])
                judged.append(_judged(name, self.asked[kind], low, high))
            lines.append(
                f"{name}: proved: no change up to {below(low)} removes it; "
                + ("no attack succeeded" if high is None else f"refuted: one of {above(high)} does")
            )
            alone = below(Fraction(record.values["alone"]))
            rows.append((name, below(low), alone, "" if high is None else above(high), ratio))
            facts[kind] = [str(low), None if high is None else str(high)]
        for each, record in zip(self.stated, records[len(self.kinds) :], strict=True):
            answer = record.values["answer"]
            lines.append(f"{_words(each)}: the mark stands: {in_words(answer)}")
            facts[_words(each)] = answer
            verdict = {"unsat": PROVED, "sat": REFUTED}.get(answer, UNDECIDED)
            judged.append(
                Judged(f"the mark stands after {_words(each)}", in_words(answer), verdict)
            )
        assumed = [line for record in records for line in record.values["assumed"]]
        head = ("change", "proved up to", "bit by bit", "removed by", "proved / removed")
        return Part(
            "Persistence of the mark",
            tuple(lines),
            tuple(dict.fromkeys((*assumed, TENSOR))),
            tuple(judged),
            facts,
            (Rows("Budgets", head, tuple(rows)),) if rows else (),
            (
                (
                    "Changes that are proved to leave the mark, and that remove it",
                    draw(drawn),
                ),
            )
            if drawn
            else (),
            basis=(BY_EVIDENCE,),
        )


TENSOR = (
    "budgets are of the marked tensor: changes of other tensors do not touch the mark, and are free"
)


def _certified(kind: str, asked: Problem, claim: ChangedWeights) -> Certified:
    from verifier.watermarks.persistence import certified_ball, certified_count

    if kind in NORMS:
        return certified_ball(asked, kind)
    many, make = _counted(kind, asked, claim)
    return certified_count(asked, make, many)


def _attacked(kind: str, asked: Problem, claim: ChangedWeights, found: Certified) -> Removal | None:
    from verifier.watermarks.margin_attack import cheapest_ball, cheapest_count

    if kind in NORMS:
        return cheapest_ball(asked, kind, found.shares)
    many, make = _counted(kind, asked, claim)
    return cheapest_count(asked, make(1), many)


def _counted(
    kind: str, asked: Problem, claim: ChangedWeights
) -> tuple[int, Callable[[int], Pruned | Flips]]:
    """The most that is looked at, and the set of a number."""
    if kind == "pruned":
        return asked.weights.size, Pruned
    (flips,) = (each for each in claim.sets if isinstance(each, Flips))
    return MOST_FLIPS, lambda count: Flips(count, flips.format, flips.channel, flips.bits)


def _proof(found: Certified, question: MarkQuestion) -> Sequence[Any]:
    return [proof_of(question, found)]


def _witness(met: Removal, question: MarkQuestion) -> Sequence[Any]:
    return [witness_of(question, met)]


def _whole(kind: str, budget: Fraction) -> Fraction | int:
    return budget if kind in NORMS else int(budget)


def _words(keys: Mapping[str, Any]) -> str:
    """What is stated, for people."""
    ((key, value),) = keys.items()
    words = {
        "smallest": f"the {value} smallest weights set to 0",
        "format": f"rounding to {value}",
        "rounding": f"any rounding to steps of {_short(value)}",
        "relative_l2": f"fine-tuning by {_short(value)} of the weights' length",
    }
    return words[key]


def _short(value: Any) -> str:
    return shown(Fraction(value)) if not isinstance(value, str) else value


def _judged(name: str, asked: Fraction, low: Fraction, high: Fraction | None) -> Judged:
    verdict = PROVED if low >= asked else UNDECIDED
    found = f"at least {below(low)}"
    if high is not None:
        found += f", less than {above(high)}"
        verdict = REFUTED if high <= asked else verdict
    return Judged(f"certified budget, {name}, at least {shown(asked)}", found, verdict)


def read(marked: Marked, table: Table) -> Persistence:
    """Keys: ``at_least`` or ``level``; ``norms``, ``linf``, ``l2``, ``l1``, ``pruned``, ``flips``,
    ``bits``; ``smallest``, ``formats``, ``rounding``, ``fine_tuning``; ``second_seed``,
    ``second_at_least``.
    """
    mark = linear(marked)
    checked(marked)
    wanted, level = table.integer("at_least", None, 1), level_in(table)
    if (wanted is None) == (level is None):
        raise table.error("at_least", "say at which matches the mark stands: at_least or level")
    count = wanted if wanted is not None else threshold_of(mark, level or Fraction(1))
    if count > mark.size:
        raise table.error("at_least", f"{count} matches of {mark.size}: the mark has too few bits")
    have = read_bits(marked.model, mark)["matches"]
    if have < count:
        raise table.error(
            "at_least" if wanted is not None else "level",
            f"{have} bits match, fewer than {count}: there is nothing to persist",
        )
    asked: dict[str, Fraction] = {}
    for kind in NORMS:
        found = table.number(kind, None, 0)
        asked |= {} if found is None else {kind: found}
    for kind in ("pruned", "flips"):
        number = table.integer(kind, None, 0)
        asked |= {} if number is None else {kind: Fraction(number)}
    norms = table.strings("norms")
    if any(norm not in NORMS for norm in norms):
        raise table.error("norms", f"'norms' must hold some of {', '.join(NORMS)}")
    said = [kind for kind in (*NORMS, "pruned", "flips") if kind in asked or kind in norms]
    stated_keys: list[dict[str, Any]] = [{"smallest": n} for n in table.integers("smallest")]
    stated_keys += [{"format": name} for name in table.strings("formats")]
    stated_keys += [{"rounding": step} for step in table.numbers("rounding")]
    tuning = table.number("fine_tuning", None, 0)
    stated_keys += [] if tuning is None else [{"relative_l2": tuning}]
    more: dict[str, Any] = {}
    bits = list(table.integers("bits"))
    if bits:
        if "flips" not in said:
            raise table.error("bits", "'bits' goes with 'flips'")
        more["bits"] = bits
    seed, second = table.text("second_seed"), table.integer("second_at_least", None, 1)
    if (seed is None) != (second is None):
        raise table.error("second_seed", "'second_seed' and 'second_at_least' go together")
    more |= {} if seed is None else {"second_seed": seed, "second_at_least": second}
    kinds = tuple(said) if said or stated_keys else NORMS
    return Persistence(marked, count, kinds, asked, tuple(stated_keys), more)
