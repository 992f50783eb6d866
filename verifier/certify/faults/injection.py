"""Random injections (``verifier.faults.campaign``) as an answer: counted, never proved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

from verifier.certify.data import Data
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, narrowed, predictions
from verifier.certify.section import Part, Place, Record, Rows, Task, above, below
from verifier.certify.table import Table
from verifier.faults.campaign import Campaign, Outcomes, Plan
from verifier.resumed import or_anew

ESTIMATE = (
    "a campaign estimates shares over its own distribution of faults and samples; it proves "
    "nothing, and no threshold speaks of it"
)


@dataclass(frozen=True, eq=False)
class Injection:
    """The answer ``[faults.campaign]``.

    Attributes:
        faults: the model.
        data: the samples.
        plan: what is injected.
        confidence: of the intervals.
    """

    faults: Faults
    data: Data
    plan: Plan
    confidence: float

    def tasks(self) -> Sequence[Task]:
        """One, which resumes within itself."""
        depends = ("faults.campaign 1", self.faults.text, repr(self.plan), self.data.digest)
        return (Task("injections", depends, self._run),)

    def _run(self, place: Place) -> Record:
        predictions(self.faults.memory, self.data)
        file = place.scratch / "campaign.json"
        campaign = Campaign(
            self.faults.cells,
            self.plan,
            self.data.points,
            self.data.labels,
            file,
            place.progress,
        )
        return Record({"outcomes": asdict(or_anew(campaign.run, file, place.progress))})

    def conclude(self, records: Sequence[Record]) -> Part:
        """Shares with their intervals."""
        counted = Outcomes(**records[0].values["outcomes"])
        injected = f"{self.plan.k} failed cells each"
        if self.plan.rate is not None:
            injected = f"bit error rate {self.plan.rate:g}"
        kinds = ["sdc", "due"] + ([] if self.data.labels is None else ["correct"])
        rows, facts = [], {}
        for kind in kinds:
            low, high = counted.interval(kind, self.confidence)
            count = getattr(counted, kind)
            name = "accuracy" if kind == "correct" else kind.upper()
            rows.append((name, str(count), below(low, 4), above(high, 4)))
            facts[kind] = {"count": count, "interval": [low, high]}
        lines = (
            f"{counted.trials} trials, {injected}, seed {self.plan.seed}; {counted.clean} without "
            f"any changed bit, {counted.undecided} undecided",
            *(
                f"{name}: {count} of {counted.trials}, in [{low}, {high}] at confidence "
                f"{self.confidence:g}"
                for name, count, low, high in rows
            ),
            ESTIMATE,
        )
        head = ("what", "trials", "at least", "at most")
        facts["outcomes"] = asdict(counted)
        return Part(
            "Random injections",
            lines,
            (common.REAL_ARITHMETIC, common.NOTICED),
            (),
            facts,
            (Rows("Shares, with the intervals of Clopper and Pearson", head, tuple(rows)),),
        )


def read(faults: Faults, table: Table) -> Injection:
    """Keys, beside those of the fault model: ``trials``, ``rate`` or ``k``,
    ``seed``, ``confidence``, ``first``.
    """
    faults = narrowed(faults, table, without=("k",))
    trials = table.integer("trials", None, 1)
    rate, k = table.share("rate"), table.integer("k", None, 1)
    seed, confidence = table.integer("seed", 0), table.share("confidence")
    if trials is None or (rate is None) == (k is None):
        raise table.error("", f"[{table.name}] needs trials, and either rate or k")
    if confidence is not None and not 0 < confidence < 1:
        raise table.error("confidence", "'confidence' must lie between 0 and 1")
    data = faults.samples(table)
    if k is not None and k > faults.cells.count:
        raise table.error("k", f"{k} faults in {faults.cells.count} cells")
    plan = Plan(trials, None if rate is None else float(rate), k, seed or 0)
    return Injection(faults, data, plan, float(confidence or Fraction(95, 100)))
