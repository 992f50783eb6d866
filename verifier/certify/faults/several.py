"""Any ``k`` failing bits at once, at the samples: by costs that may be added up.

``verifier.faults.several`` gives each bit a cost; bits whose costs add up to less than 1 may fail
together.  It is an evaluation with rigorous bounds and no proof that another program could check;
``[faults.certificate]`` makes those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from typing import Any

import numpy as np

from specs.enclosure import FloatArray
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVALUATION
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, in_words, narrowed, point_text, predictions
from verifier.certify.section import Part, Place, Record, Rows, Task, at_least, below
from verifier.certify.table import Table
from verifier.faults.binomial import tail_above as binomial_tail
from verifier.faults.judge import Judge, Target
from verifier.faults.several import (
    GRID,
    SHARES,
    any_faults,
    certified_sets,
    costs,
    histogram,
    tails_above,
    targets,
    words_apart,
)

USUAL = Fraction(1, 10**6)
"""The rate at which what is supposed of tensors is chosen, for each sample."""
MOST = 64
"""Failing bits that are counted up to."""


@dataclass(frozen=True, eq=False)
class Several:
    """The answer ``[faults.several]``.

    Attributes:
        faults: the model.
        data: the samples.
        certified: threshold of the share of samples.
        certified_sets: threshold of the share of sets of ``k`` bits, on average over samples.
    """

    faults: Faults
    data: Data
    certified: Fraction | None = None
    certified_sets: Fraction | None = None

    def tasks(self) -> Sequence[Task]:
        """One for each sample."""
        shared: list[list[Target]] = []
        return [
            Task(
                f"costs of faults, sample {self.data.numbers[index]}",
                ("faults.several 1", self.faults.single_text, point_text(point)),
                partial(self._run, index, shared),
            )
            for index, point in enumerate(self.data.points)
        ]

    def _run(self, index: int, shared: list[list[Target]], place: Place) -> Record:
        cells = self.faults.cells
        data = self.data.part(index, index + 1)
        predictions(cells.memory, data)
        judge = Judge(cells.memory, data.points)
        place.progress.count("costs of faults: samples", index, len(self.data.points))
        if not shared:
            shared.append(targets(judge, cells))
        best, most = np.inf, 0
        # Where nothing is known, every bit may do harm.
        noticed = silent = np.bincount([GRID], [cells.count], GRID + 1).astype(np.int64)
        apart: dict[int, int] = {}
        for share in SHARES:
            found = costs(judge, shared[0], 0, share)
            if found is None:
                continue
            most = max(most, any_faults(found, MOST))
            own = histogram(found, True)
            tail = float(tails_above(own[None], [USUAL])[0, 0])
            if tail < best:
                best, noticed, silent = tail, own, histogram(found, False)
                apart = words_apart(found)
        values = {"any": most, "apart": [[size, count] for size, count in apart.items()]}
        return Record(values, {"noticed": noticed, "silent": silent})

    def conclude(self, records: Sequence[Record]) -> Part:
        """For how many samples any ``k`` failing bits do no harm."""
        model = self.faults.cells.model
        total = len(records)
        most = [int(record.values["any"]) for record in records]
        sure = sum(any_ >= model.k for any_ in most)
        sets = [
            certified_sets(record.arrays["noticed"], dict(record.values["apart"]), model.k)
            for record in records
        ]
        share = sum((Fraction(*each) for each in sets), Fraction(0)) / total
        judged = []
        if self.certified is not None:
            words = f"share of samples at which any {model.k} failing bits do no harm"
            judged = [at_least(words, self.certified, Fraction(sure, total), 1)]
        if self.certified_sets is not None:
            words = f"share of sets of {model.k} bits that do no harm, on average over samples,"
            judged.append(at_least(words, self.certified_sets, share, 1))
        rows = tuple(
            (str(k), str(sum(any_ >= k for any_ in most)))
            for k in (1, 2, 3, 4, 6, 8, 12, 16, 32, MOST)
            if k <= max(*most, model.k)
        )
        facts: dict[str, Any] = {
            "k": model.k,
            "certified": sure,
            "samples": total,
            "any": most,
            "sets": sets[0][1],
            "certified_sets": [good for good, _ in sets],
        }
        return Part(
            "Several faults",
            (
                f"of all sets of {model.k} bits, at a sample: at least {below(100 * share, 8)} % "
                "are certified to do no harm, on average",
                f"{in_words(model)}: none of them changes the prediction, at {sure} of {total} "
                "samples; elsewhere it is open",
                f"any number of failing bits up to {max(most)} does no harm at some sample, up to "
                f"{min(most)} at every one",
            ),
            (common.REAL_ARITHMETIC, common.NOTICED, common.SAMPLES),
            tuple(judged),
            facts,
            (Rows("Samples at which any k failing bits do no harm", ("k", "samples"), rows),),
            basis=(BY_EVALUATION,),
        )


def tails_of(
    records: Sequence[Record], noticed: bool, outside: int, rates: Sequence[Fraction]
) -> FloatArray:
    """Upper bounds of the probability that two or more bits fail and do harm, ``(samples, rates)``.

    Args:
        records: of the samples' tasks.
        noticed: words that are no number are noticed.
        outside: bits without a cost, which count as harmful.
        rates: of bit errors.
    """
    counts = np.stack([record.arrays["noticed" if noticed else "silent"] for record in records])
    counts[:, GRID] += outside
    low = [place for place, rate in enumerate(rates) if rate < Fraction(1, 2)]
    found = np.ones((len(records), len(rates)))
    found[:, low] = tails_above(counts, [rates[place] for place in low])
    for row, record in zip(found, records, strict=True):
        for size, count in record.values["apart"]:
            row += [_twice(size, rate) * count * (1.0 + 2.0**-40) for rate in rates]
    return np.minimum(found, 1.0)


@cache
def _twice(size: int, rate: Fraction) -> float:
    return binomial_tail(size, rate, 2)


def read(faults: Faults, table: Table) -> Several:
    """Keys, beside those of the fault model: ``first``, ``certified``, ``certified_sets``."""
    faults = narrowed(faults, table)
    data = faults.samples(table)
    cells = faults.cells
    if cells.model.k > cells.count:
        raise table.error("k", f"k = {cells.model.k}: there are {cells.count} cells")
    return Several(faults, data, table.share("certified"), table.share("certified_sets"))
