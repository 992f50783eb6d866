"""No ``k`` faults within the scope of ``[faults]`` change the prediction: one proof a sample.

At a sample, or on a box around it.  The statement is that the fault-free prediction exceeds every
other output for every input of the box and every fault that the model allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from specs.faults.models import BitFlips, FaultModel, StuckAt
from specs.faults.struck import WordFaults
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVIDENCE, Asked
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, around, in_words, narrowed, point_text, radius_of
from verifier.certify.faults.stand import label_at
from verifier.certify.questions import Question, ask, box_around
from verifier.certify.section import Part, Place, Record, Rows, Task, at_least
from verifier.certify.table import Table


@dataclass(frozen=True, eq=False)
class Certificate:
    """The answer ``[faults.certificate]``.

    Attributes:
        faults: the model.
        data: the samples.
        radius: of the boxes; 0: at the samples.
        clip: ends that boxes are cut at.
        certified: threshold of the share of samples.
    """

    faults: Faults
    data: Data
    radius: Fraction
    clip: tuple[Fraction, Fraction] | None
    certified: Fraction | None

    def tasks(self) -> Sequence[Task]:
        """One for each sample."""
        found = []
        for index, point in enumerate(self.data.points):
            depends = (
                "faults.certificate 1",
                self.faults.text,
                repr(dict(self.faults.stated)),
                point_text(point),
                f"{self.radius} {self.clip} {self.faults.setting.timeout}",
            )
            name = f"certificate of sample {self.data.numbers[index]}"
            found.append(Task(name, depends, partial(self._run, index)))
        return found

    def _run(self, index: int, place: Place) -> Record:
        point = self.data.points[index]
        network = WordFaults(self.faults.placed, _model(self.faults)).intact
        label = label_at(network, point)
        if label is None:
            reason = "no output exceeds every other without faults"
            return Record({"answer": "unknown", "reason": reason, "seconds": 0.0, "label": None})
        question = Question(
            box_around(point.tolist(), self.radius, self.clip),
            {"kind": "robust", "label": label},
            self.faults.stated,
        )
        answered = ask(place, self.faults.placed.model, question, self.faults.setting.timeout)
        return Record({**answered.values, "label": label})

    def conclude(self, records: Sequence[Record]) -> Part:
        """How many samples are certified."""
        total = len(records)
        answers = [record.values["answer"] for record in records]
        proved, refuted = proved_of(records), answers.count("sat")
        where = around(self.radius, self.clip) if self.radius else "at the sample"
        stated = _model(self.faults)
        lines = (
            f"{in_words(stated)}: no such fault changes the prediction {where}",
            f"proved for {proved} of {total} samples, refuted for {refuted}, open for "
            f"{total - proved - refuted}; each proof is in the folder evidence",
        )
        judged = []
        if self.certified is not None:
            certain, possible = Fraction(proved, total), Fraction(total - refuted, total)
            judged = [at_least("certified share of samples", self.certified, certain, possible)]
        words = {"unsat": "proved", "sat": "refuted"}
        rows = tuple(
            (
                str(int(number)),
                words.get(record.values["answer"], "undecided"),
                f"{record.values['seconds']:.2f}",
                record.values["reason"],
            )
            for number, record in zip(self.data.numbers, records, strict=True)
        )
        facts = {
            "faults": stated.text,
            "radius": str(self.radius),
            "proved": proved,
            "refuted": refuted,
            "samples": total,
        }
        noticed = (common.NOTICED,) if isinstance(stated, BitFlips | StuckAt) else ()
        return Part(
            "Certificates",
            lines,
            (common.REAL_ARITHMETIC, *noticed, common.INTACT, common.SAMPLES),
            tuple(judged),
            facts,
            (Rows("By sample", ("sample", "verdict", "seconds", "why"), rows),),
            asked=tuple(
                Asked.of(f"sample {number}", record.values)
                for number, record in zip(self.data.numbers, records, strict=True)
            ),
            basis=(BY_EVIDENCE,),
        )


def read(faults: Faults, table: Table) -> Certificate:
    """Keys, beside those of the fault model: ``first``, ``radius``, ``clip``, ``certified``."""
    faults = narrowed(faults, table)
    data = faults.samples(table)
    radius, clip = radius_of(table)
    certified = table.share("certified")
    return certificate_of(faults, data, radius or Fraction(0), clip, certified)


def certificate_of(
    faults: Faults,
    data: Data,
    radius: Fraction = Fraction(0),
    clip: tuple[Fraction, Fraction] | None = None,
    certified: Fraction | None = None,
) -> Certificate:
    """Certificates for samples.

    Raises:
        QuestionError: the fault model has no rule in proofs.
    """
    model = _model(faults)
    faults.table.placed("model", lambda: WordFaults(faults.placed, model).network)
    return Certificate(faults, data, radius, clip, certified)


def proved_of(records: Sequence[Record]) -> int:
    """How many samples are certified."""
    return sum(record.values["answer"] == "unsat" for record in records)


def _model(faults: Faults) -> FaultModel:
    if faults.fault is None:
        raise faults.table.error("model", "a certificate needs a fault model: [faults] model = ...")
    return faults.fault
