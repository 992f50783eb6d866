"""What a bit error rate can do: upper bounds of SDC, and residual failure rates (FIT).

Both rest on the single-fault maps (``bitmap.py``), and on k-fault certificates at the same samples
where ``[faults.certificate]`` has some.  Every stored bit of the model counts; what ``[faults]``
leaves out is not certified.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from specs.decimals import round_up
from specs.faults.models import BitFlips, StuckAt
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVALUATION, BY_EVIDENCE
from verifier.certify.faults import common
from verifier.certify.faults.bitmap import BitMap
from verifier.certify.faults.certificate import Certificate, certificate_of
from verifier.certify.faults.common import Faults, narrowed
from verifier.certify.faults.several import Several, tails_of
from verifier.certify.section import Judged, Part, Record, Rows, Task, above, at_most, below, shown
from verifier.certify.table import Table
from verifier.faults.binomial import several_above, single_above, tail_above

INDEPENDENT = (
    "every stored bit of the initializers fails with the same probability, independently of the "
    "others and of the sample, and stays so for one inference"
)
UNIFORM = "the probability of SDC is the average over the samples, each as likely as the others"
SPFM = ((Fraction(99, 100), "D"), (Fraction(97, 100), "C"), (Fraction(9, 10), "B"))
"""Shares that ISO 26262-5 recommends of the single-point fault metric, by ASIL."""
SWEEP = tuple(Fraction(1, 10**power) for power in (10, 8, 7, 6, 5, 4))
MBIT = 10**6
UP = 1.0 + 2.0**-40
"""Pays for the rounding of a few operations."""


@dataclass(frozen=True)
class Limit:
    """A threshold: at this bit error rate, SDC at most so probable."""

    rate: Fraction
    most: Fraction


@dataclass(frozen=True, eq=False)
class Counts:
    """What bounds are made of.

    Attributes:
        bits: ``N``, all stored bits.
        harmful: cells that are not certified, averaged over samples.
        safe: cells certified at every sample.
        exposed: cells that the fault model speaks of.
        noticed: words that are no number are noticed.
        costs: by sample, the record of the costs of its faults.
        proved: by sample, whether up to ``k`` failures among ``certified`` cells are proved to do
            no harm.
        certified, k: see there.
    """

    bits: int
    harmful: Fraction
    safe: int
    exposed: int
    noticed: bool
    costs: tuple[Record, ...] = ()
    proved: tuple[bool, ...] = ()
    certified: int = 0
    k: int = 1

    @property
    def safe_mean(self) -> Fraction:
        """Cells that are certified, averaged over samples."""
        return self.bits - self.harmful

    def several(self, rates: Sequence[Fraction]) -> list[float]:
        """Of the probability that two or more bits fail and may do harm, averaged over samples."""
        if not self.costs:
            return [several_above(self.bits, rate) for rate in rates]
        tails = tails_of(self.costs, self.noticed, self.bits - self.exposed, rates)
        for place, rate in enumerate(rates):
            plain = several_above(self.bits, rate)
            proved = several_above(self.bits, rate, self.certified, self.k)
            other = np.where(self.proved, proved, plain)
            tails[:, place] = np.minimum(tails[:, place], other)
        return [math.fsum(column) / len(column) * UP for column in tails.T.tolist()]

    def bounds(self, rates: Sequence[Fraction]) -> list[float]:
        """Of the probability of SDC at bit error rates."""
        alone = [single_above(self.bits, rate, self.harmful) for rate in rates]
        return [
            min(1.0, (one + more) * UP)
            for one, more in zip(alone, self.several(rates), strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Probability:
    """The answer ``[faults.probability]``.

    Attributes:
        map: single faults at the samples.
        rates: bit error rates.
        limits: thresholds.
        raw_fit: FIT for a Mbit; ``None``: not asked.
        residual: threshold of the residual FIT.
        noticed: words that are no number are taken to be noticed.
        certificate: that several faults do no harm at the samples, if it is asked for.
    """

    map: BitMap
    rates: tuple[Fraction, ...]
    limits: tuple[Limit, ...]
    raw_fit: Fraction | None
    residual: Fraction | None
    noticed: bool
    certificate: Certificate | None = None

    def tasks(self) -> Sequence[Task]:
        """Those of the map, of costs and of the certificates."""
        proofs = [] if self.certificate is None else self.certificate.tasks()
        return (*self.map.tasks(), *self._several.tasks(), *proofs)

    @property
    def _several(self) -> Several:
        return Several(self.map.faults, self.map.data)

    def counts(self, records: Sequence[Record]) -> Counts:
        """How many cells are certified, and what several failures do."""
        single, samples = len(self.map.tasks()), len(self.map.data.points)
        found = self.map.summary(records[:single])
        costs, proofs = records[single : single + samples], records[single + samples :]
        faults = self.map.faults
        lost = 0
        if not self.noticed:
            lost = sum(int((~one.number).sum()) for one in found.layers.values())
        outside = faults.stored_bits - faults.cells.count
        # A cell with two faults (stuck at either) that are both critical counts twice: an
        # upper bound.
        harmful = Fraction(found.events, found.samples) + lost + outside
        safe = found.cells["safe" if self.noticed else "benign"]
        bits, exposed = faults.stored_bits, faults.cells.count
        counts = Counts(
            bits,
            min(harmful, Fraction(bits)),
            safe,
            exposed,
            self.noticed,
            tuple(costs),
            (False,) * samples,
        )
        if self.certificate is None:
            return counts
        cells = self.certificate.faults.cells
        proved = tuple(record.values["answer"] == "unsat" for record in proofs)
        return replace(counts, proved=proved, certified=cells.count, k=cells.model.k)

    def conclude(self, records: Sequence[Record]) -> Part:
        """Bounds, residual FIT, thresholds."""
        counts = self.counts(records)
        bounds = dict(zip(self.rates, counts.bounds(self.rates), strict=True))
        several = dict(zip(self.rates, counts.several(self.rates), strict=True))
        lines = [
            f"N = {counts.bits} stored bits, of which [faults] exposes "
            f"{self.map.faults.cells.count}; the others count as not certified",
            f"c = {shown(counts.harmful)} bits not certified, on average over "
            f"{len(self.map.data.points)} samples",
            "P(SDC) <= c p (1-p)^(N-1) + P(two or more fail, and their costs reach 1), rounded up; "
            "a cost is what a bit may use up of the margins",
            *self._proofs_in_words(counts),
            *(f"p = {shown(rate)}: P(SDC) <= {above(bound, 4)}" for rate, bound in bounds.items()),
        ]
        judged = [self._judged(counts, limit) for limit in self.limits]
        facts: dict[str, Any] = {
            "bits": counts.bits,
            "exposed": self.map.faults.cells.count,
            "not_certified_mean": str(counts.harmful),
            "certified_at_all_samples": counts.safe,
            "bounds": {shown(rate): bound for rate, bound in bounds.items()},
            "several": {shown(rate): bound for rate, bound in several.items()},
            "two_or_more": {shown(rate): tail_above(counts.bits, rate, 2) for rate in self.rates},
            "noticed": self.noticed,
        }
        if self.raw_fit is not None:
            lines += self._fit(counts, self.raw_fit, facts, judged)
        stuck = isinstance(self.map.faults.fault, StuckAt)
        return Part(
            "Probability of silent data corruption",
            tuple(lines),
            self._assumed(stuck),
            tuple(judged),
            facts,
            (self._rows(bounds, several, counts),),
            (("Upper bound of P(SDC) by bit error rate", partial(_draw, counts)),),
            basis=(BY_EVALUATION,) if self.certificate is None else (BY_EVALUATION, BY_EVIDENCE),
        )

    def _proofs_in_words(self, counts: Counts) -> tuple[str, ...]:
        if self.certificate is None:
            return ()
        return (
            f"up to {counts.k} failures among {counts.certified} bits are proved to do no harm at "
            f"{sum(counts.proved)} of {len(counts.proved)} samples, and are left out there",
        )

    def _assumed(self, stuck: bool) -> tuple[str, ...]:
        lasting = (
            "a failed cell reads 0 or 1, as [faults] says, whatever was written"
            if stuck
            else "a failed cell reads the opposite of what was written"
        )
        found = [INDEPENDENT, UNIFORM, lasting, common.INTACT, common.REAL_ARITHMETIC]
        return (*found, common.NOTICED) if self.noticed else tuple(found)

    def _judged(self, counts: Counts, limit: Limit) -> Judged:
        words = f"P(SDC) at bit error rate {shown(limit.rate)}"
        return at_most(words, limit.most, counts.bounds([limit.rate])[0])

    def _fit(
        self, counts: Counts, raw: Fraction, facts: dict[str, Any], judged: list[Judged]
    ) -> list[str]:
        """Residual failure rates: in 10**9 hours, at a raw rate for a million bits."""
        whole = raw * counts.bits / MBIT
        shares = {
            "at every sample": Fraction(counts.safe, counts.bits),
            "on average": counts.safe_mean / counts.bits,
        }
        kinds = "benign or no number (noticed)" if self.noticed else "benign"
        lines = [
            f"raw: {shown(raw)} FIT for a Mbit (10^6 bits), {shown(whole)} FIT for {counts.bits} "
            "bits",
            f"safe fraction: stored bits whose single faults are certified {kinds}, of all N bits",
        ]
        for name, share in shares.items():
            left = _above(whole * (1 - share))
            lines.append(f"safe fraction {name}: {below(share)}; residual: {above(left)} FIT")
            facts[f"fit {name}"] = {"safe_fraction": str(share), "residual": left}
        share = shares["at every sample"]
        classes = [level for least, level in SPFM if share >= least]
        reached = f"reaches what ASIL {classes[0]}" if classes else "is below 90 %, what ASIL B"
        lines.append(
            f"for orientation only: the safe fraction at every sample {reached} asks of the "
            "single-point fault metric of a whole element; this one speaks of stored bits alone"
        )
        if self.residual is not None:
            left = _above(whole * (1 - share))
            judged.append(at_most("residual FIT", self.residual, left))
        return lines

    def _rows(
        self, bounds: Mapping[Fraction, float], several: Mapping[Fraction, float], counts: Counts
    ) -> Rows:
        rows = tuple(
            (
                shown(rate),
                above(bound, 4),
                above(several[rate], 4),
                above(tail_above(counts.bits, rate, 2), 4),
            )
            for rate, bound in bounds.items()
        )
        return Rows(
            "Bounds",
            ("bit error rate", "P(SDC) at most", "of it: several", "any two or more"),
            rows,
        )


def read(faults: Faults, table: Table) -> Probability:
    """Keys, beside those of the fault model: ``rates``, ``sdc_at``, ``raw_fit``,
    ``residual_fit``, ``noticed``, ``proved``, ``first``.
    """
    faults = narrowed(faults, table)
    rates = table.numbers("rates")
    limits = []
    for each in table.tables("sdc_at"):
        rate, most = each.number("rate", None, 0, 1), each.share("at_most")
        each.done()
        if rate is None or most is None:
            raise table.error("sdc_at", "'sdc_at' must be { rate = P, at_most = SHARE }")
        limits.append(Limit(rate, most))
    if any(not 0 <= rate <= 1 for rate in rates):
        raise table.error("rates", "'rates' must hold numbers between 0 and 1")
    raw, residual = table.number("raw_fit", None, 0), table.number("residual_fit", None, 0)
    if residual is not None and raw is None:
        raise table.error("residual_fit", "'residual_fit' needs raw_fit, in FIT for a Mbit")
    if not rates and not limits and raw is None:
        raise table.error("", f"[{table.name}] needs rates, sdc_at or raw_fit")
    noticed = table.flag("noticed", True)
    data = faults.samples(table)
    faults.cells  # noqa: B018  errors of the fault model come before any work
    certificate, stated = None, table.tables("proved")
    if len(stated) > 1:
        raise table.error("proved", "'proved' must be one table")
    for each in stated:
        certificate = _proved(faults, each, data, noticed)
        each.done()
    found = BitMap(faults, data, {})
    return Probability(found, rates, tuple(limits), raw, residual, noticed, certificate)


def _proved(faults: Faults, table: Table, data: Data, noticed: bool) -> Certificate:
    """The certificates for several faults at the same samples."""
    own = narrowed(faults, table)
    fault = own.fault
    if not isinstance(fault, BitFlips | StuckAt) or fault.k < 2 or fault.per_word or not noticed:
        raise table.error(
            "proved",
            "'proved' counts on certificates for k = 2 or more bits anywhere, and on noticed = "
            "true: state such a k, without per_word",
        )
    one, two = faults.memory.stored, own.memory.stored
    same = one.keys() == two.keys() and all(
        one[name].format.text == two[name].format.text for name in one
    )
    reads = (getattr(model, "reads", None) for model in (fault, faults.fault))
    if not same or type(fault) is not type(faults.fault) or not _covers(*reads):
        raise table.error("proved", "'proved' must speak of the same stored words and faults")
    return certificate_of(own, data)


def _covers(proved: int | None, reads: int | None) -> bool:
    """Whether a proof about cells that read ``proved``, ``None``: either, speaks of ``reads``."""
    return proved in (None, reads)


def _above(number: Fraction) -> float:
    return float(round_up(number))


def _draw(counts: Counts, figure: Any) -> None:
    panel = figure.add_subplot()
    rates = [float(rate) for rate in SWEEP]
    nothing = Counts(counts.bits, Fraction(counts.bits), 0, 0, counts.noticed)
    singles = replace(counts, costs=(), proved=())
    for found, label in (
        (counts, "all that is certified"),
        (singles, "single faults certified only"),
        (nothing, "nothing certified"),
    ):
        panel.plot(rates, found.bounds(SWEEP), marker=".", label=label)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("bit error rate")
    panel.set_ylabel("upper bound of P(SDC)")
    panel.legend(frameon=False)
