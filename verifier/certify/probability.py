"""The section ``[probability]``: how probable a violation is on a box, proved.

net              one of the models
distribution     "uniform" or "normal"; with mean and deviation as in ``specs/probability.py``
width            of an interval that is enough
leaves           of a partition, at most
confidence       what is left open is sampled as well; of all intervals together
samples, seed    of each question; as many samples as the time is for where it is left out
[[probability.question]]
title            how to call it
property         a property file; or
lower, upper     a box, and the keys of [statement]; or
radius, clip     boxes around samples, where an input is unsafe if its class is not the sample's
at_most          T: the probability is at most this
at_least         T: it is at least this
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from proofs.format import read_evidence, write_arrays
from proofs.partitions.evidence import PartitionEvidence, read_tree
from proofs.partitions.probability import enough
from specs.errors import EvidenceError
from specs.numerals import numeral
from specs.onnx_reader import read_model
from specs.probability import TABLE, ProbabilityQuestion, load_probability_question
from specs.query import ModelFile
from verifier.certify.delivery import BY_EVIDENCE, BY_SAMPLES, Measured
from verifier.certify.regions import regions_of
from verifier.certify.rehearsal import rehearse
from verifier.certify.section import (
    CONTRADICTED,
    PROVED,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Setting,
    Task,
    above,
    below,
    shown,
)
from verifier.certify.table import Table
from verifier.probability.files import Asked, Kept, ask, first_and_largest, keep
from verifier.probability.mixture import mixed
from verifier.probability.search import Limits, Result, State, search

STATEMENT = ("kind", "label", "target", "output", "minimum", "maximum", "formula")
"""Keys of ``[statement]``."""
ASSUMED = (
    "inputs are distributed as stated, independently of each other, on the box and nowhere else",
    "proved: intervals follow from a partition of the box that the kernel replays; measured: all "
    "of the section hold together with the stated confidence, for all but that share of draws",
)
Ends = tuple[Fraction, Fraction]
"""Of an interval."""
ROUNDED = Fraction(1, 10**9)
"""By how much, relatively, sums of floats are taken to be off; the kernel's sums are exact."""


@dataclass(frozen=True, eq=False)
class Probability:
    """A table ``[[probability.question]]``.

    Attributes:
        title: of it.
        model: what is asked about.
        asked: its questions: one, or one for each sample.
        at_most, at_least: thresholds of each.
        sampling: the keys of a statistical claim, of which ``samples`` may be missing: as many as
            there is time for; ``None``: nothing is sampled.
        together: of all intervals of the section that rest on samples, their confidence.
        limits: of the search, and of a check with as many samples as there is time for.
    """

    title: str
    model: Path
    asked: tuple[Asked, ...]
    at_most: Fraction | None
    at_least: Fraction | None
    sampling: Mapping[str, Any] | None
    together: Fraction | None
    limits: Limits

    def tasks(self) -> Sequence[Task]:
        """One for each question."""
        _, model = read_model(self.model)
        return [self._task(model, asked) for asked in self.asked]

    def _task(self, model: ModelFile, asked: Asked) -> Task:
        thresholds = self.at_most, self.at_least
        depends = (
            "probability-2",
            model.digest,
            asked.text("net", {}),
            "" if asked.beside is None else asked.beside.hex(),
            *map(str, thresholds),
            str(self.sampling),
            str(self.limits),
        )
        return Task(asked.title, depends, lambda place: self._run(place, model, asked))

    def _run(self, place: Place, model: ModelFile, asked: Asked) -> Record:
        started = time.perf_counter()
        question = replace(
            ask(place, model, asked, load_probability_question),
            at_most=self.at_most,
            at_least=self.at_least,
        )
        try:
            found, sampling = _searched(place, question, self.limits, asked.title, self.sampling)
        except EvidenceError as error:  # the kernel cannot bound the network on the whole box
            place.progress.clear()
            return _left_open(str(error), time.perf_counter() - started)
        interval = _outward(found.state.low, found.state.high)
        place.progress.stage(f"{asked.title}: checking {found.state.leaves} leaves")
        kept = _kept(place, model, asked, found.evidence, interval)
        files, measured = list(kept.files), None
        replayed = kept.replayed.found
        if replayed is None:
            raise EvidenceError("the kernel's check says nothing of an interval")
        if sampling is not None and replayed.interval[0] < replayed.interval[1]:
            place.progress.stage(f"{asked.title}: {sampling['samples']} samples of what is open")
            # A hopeless claim first: the check then says what the samples support.
            claim = replayed.interval[0], replayed.interval[0]
            second = _kept(place, model, asked, found.evidence, claim, sampling)
            files += [name for name in second.files if name not in files]
            measured = second.replayed.found and second.replayed.found.measured
        place.progress.clear()
        values = {
            "proved": [str(end) for end in replayed.interval],
            "measured": None if measured is None else [str(end) for end in measured],
            "samples": None if sampling is None or measured is None else sampling["samples"],
            "leaves": replayed.leaves,
            "unproved": replayed.unproved,
            "ended": found.ended,
            "seconds": time.perf_counter() - started,
            "evidence": files,
        }
        return Record(values)

    def conclude(self, records: Sequence[Record]) -> Part:
        """Intervals, and thresholds judged on what is proved; where that is open, on samples."""
        judged: list[Judged] = []
        rows, lines, facts = [], [], []
        for asked, record in zip(self.asked, records, strict=True):
            low, high = map(Fraction, record.values["proved"])
            sampled = record.values["measured"]
            ends = None if sampled is None else (Fraction(sampled[0]), Fraction(sampled[1]))
            words = f"proved: P(unsafe) is at least {below(low)} and at most {above(high)}"
            if not record.values["evidence"]:
                words = f"nothing was proved: {record.values['ended']}"
            cells = [asked.title, below(low), above(high)]
            if ends is not None and self.together is not None:
                words += (
                    f"; measured on {record.values['samples']} samples, with confidence "
                    f"{numeral(self.together)}: at least {below(ends[0])} and at most "
                    f"{above(ends[1])}"
                )
                cells.append(f"{below(ends[0])} to {above(ends[1])}")
            else:
                cells.append("")
            cells += [str(record.values["leaves"]), f"{record.values['seconds']:.1f}"]
            rows.append(tuple(cells))
            lines.append(f"{asked.title}: {words}")
            judged += self._judged(asked.title, (low, high), ends)
            facts.append({"title": asked.title, **record.values})
        drawn = sum(record.values["measured"] is not None for record in records)
        measured: tuple[Measured, ...] = ()
        if drawn and self.sampling is not None:
            sure = Fraction(self.sampling["confidence"])
            used = any(each.verdict in (SUPPORTED, CONTRADICTED) for each in judged)
            measured = (Measured("measured intervals", sure, drawn, used),)
        head = ("question", "proved: at least", "proved: at most", "measured", "leaves", "seconds")
        return Part(
            self.title,
            tuple(lines),
            ASSUMED,
            tuple(judged),
            {"questions": facts},
            (Rows("Probability of a violation", head, tuple(rows)),),
            basis=(BY_EVIDENCE, *((BY_SAMPLES,) if measured else ())),
            measured=measured,
        )

    def _judged(self, title: str, proved: Ends, measured: Ends | None) -> list[Judged]:
        made = []
        for threshold, most in ((self.at_most, True), (self.at_least, False)):
            if threshold is None:
                continue
            found = f"proved: from {below(proved[0])} to {above(proved[1])}"
            verdict = _verdict(proved, threshold, most, (PROVED, REFUTED))
            if verdict == UNDECIDED and measured is not None and self.together is not None:
                verdict = _verdict(measured, threshold, most, (SUPPORTED, CONTRADICTED))
                found += (
                    f"; measured: from {below(measured[0])} to {above(measured[1])} with "
                    f"confidence {numeral(self.together)}"
                )
            words = f"{title}: P(unsafe) at {'most' if most else 'least'} {shown(threshold)}"
            made.append(Judged(words, found, verdict))
        return made


def _left_open(reason: str, seconds: float) -> Record:
    """Of a question of which nothing is known."""
    values = {
        "proved": ["0", "1"],
        "measured": None,
        "samples": None,
        "leaves": 0,
        "unproved": 0,
        "ended": reason,
        "seconds": seconds,
        "evidence": [],
    }
    return Record(values)


def _verdict(ends: Ends, threshold: Fraction, most: bool, words: tuple[str, str]) -> str:
    """What an interval says of a threshold; ``words``: it is met, it is not."""
    low, high = ends
    holds, fails = (
        (high <= threshold, low > threshold) if most else (low >= threshold, high < threshold)
    )
    return words[0] if holds else words[1] if fails else UNDECIDED


def _outward(low: float, high: float) -> tuple[Fraction, Fraction]:
    return Fraction(low) * (1 - ROUNDED), Fraction(high) * (1 + ROUNDED)


def _searched(
    place: Place,
    question: ProbabilityQuestion,
    limits: Limits,
    title: str,
    sampling: Mapping[str, Any] | None,
) -> tuple[Result, Mapping[str, Any] | None]:
    """A partition, and how it is sampled; one that an interrupted run left is gone on with."""
    file = place.scratch / "partition.farkas"
    start = None
    try:
        before = read_evidence(file)
        inputs, disjuncts = question.query.network.input_size, len(question.case.unsafe)
        if isinstance(before, PartitionEvidence):
            start = read_tree(before, inputs, disjuncts)
    except EvidenceError:
        pass  # there is none, or it is damaged

    def report(state: State) -> None:
        words = f"{title}: width {state.high - state.low:.3g}"
        place.progress.leaves(words, state.open, state.leaves - state.open)

    def save(evidence: PartitionEvidence) -> None:
        write_arrays(file, evidence)

    if sampling is None or "samples" in sampling:
        found = search(question, limits, report, start, save)
    else:
        both = mixed(question, limits, report, start, save)
        found = both.found
        sampling = {**sampling, "samples": both.samples} if both.samples else None
    write_arrays(file, found.evidence)
    return found, sampling


def _kept(
    place: Place,
    model: ModelFile,
    asked: Asked,
    evidence: PartitionEvidence,
    interval: Ends,
    sampling: Mapping[str, Any] | None = None,
) -> Kept:
    """A question that claims an interval, and the partition, written and checked.

    What the kernel proves is claimed instead where it is less.

    Args:
        sampling: ``confidence``, ``samples`` and ``seed`` of a statistical claim.

    Raises:
        EvidenceError: the kernel does not accept what it proved itself.
    """
    for _ in range(2):
        ends = {
            "at_least": Fraction(enough(max(Fraction(0), interval[0]))),
            "at_most": min(Fraction(1), Fraction(enough(interval[1], up=True))),
        }
        kept = keep(place, model, asked, {**ends, **(sampling or {})}, evidence)
        found = kept.replayed.found
        if kept.files or found is None:
            break
        interval = (found.measured if sampling else None) or found.interval or interval
    if not kept.files:
        raise EvidenceError(f"a partition is not accepted: {kept.replayed.checked.reason}")
    return kept


def read(setting: Setting) -> Sequence[Probability]:
    """The answers that ``[probability]`` asks for.

    Raises:
        InputError: it is malformed; the message says where.
    """
    table = Table.of(setting.document, "probability")
    name = setting.named(table, "net")
    shared = _distribution(table)
    sampling = _sampling(table)
    width = table.number("width", Fraction(0), 0, 1)
    leaves = table.integer("leaves", Limits(1.0).leaves, 1)
    asked = table.tables("question")
    table.done()
    if not asked:
        raise table.error("", "[probability] asks nothing: add [[probability.question]]")
    limits = Limits(setting.timeout, float(width or 0), int(leaves or 1))
    model = table.placed("net", lambda: read_model(setting.models[name])[1])
    stated = []
    for number, each in enumerate(asked):
        title = each.text("title") or f"Probability of a violation {number + 1}"
        at_most, at_least = each.share("at_most"), each.share("at_least")
        questions = tuple(_questions(setting, each, title, shared))
        each.done()
        for one in first_and_largest(questions):
            rehearse(each, lambda place, one=one: ask(place, model, one, load_probability_question))
        if at_most is not None and at_least is not None and at_least > at_most:
            raise each.error("at_least", "'at_least' is above 'at_most'")
        stated.append((title, questions, at_most, at_least))
    together = None if sampling is None else Fraction(sampling["confidence"])
    if sampling is not None and together is not None:
        every = sum(len(questions) for _, questions, _, _ in stated)
        sampling = {**sampling, "confidence": 1 - Fraction(enough((1 - together) / every))}
    return [
        Probability(
            title,
            setting.models[name],
            questions,
            at_most,
            at_least,
            sampling,
            together,
            replace(limits, decide=at_most is not None or at_least is not None),
        )
        for title, questions, at_most, at_least in stated
    ]


def _distribution(table: Table) -> dict[str, Any]:
    kind = table.text("distribution", "uniform", ("uniform", "normal"))
    made: dict[str, Any] = {"distribution": kind}
    for key in ("mean", "deviation"):
        if table.has(key):
            made[key] = table.numeric(key)
        elif kind == "normal":
            raise table.error("distribution", f"distribution 'normal' needs '{key}'")
    if kind == "uniform" and len(made) > 1:
        raise table.error("distribution", "'mean' and 'deviation' are for distribution 'normal'")
    return made


def _sampling(table: Table) -> dict[str, Any] | None:
    confidence = table.number("confidence")
    samples, seed = table.integer("samples", None, 1), table.integer("seed", 0)
    if confidence is None:
        if samples is not None:
            raise table.error("samples", "'samples' goes with 'confidence'")
        return None
    if not 0 < confidence < 1:
        raise table.error("confidence", "'confidence' must lie between 0 and 1")
    many = {} if samples is None else {"samples": samples}
    return {"confidence": confidence, **many, "seed": seed}


def _questions(
    setting: Setting, table: Table, title: str, shared: Mapping[str, Any]
) -> Sequence[Asked]:
    regions = regions_of(setting, table, title, labelled=True)
    statement = {key: table.values[key] for key in STATEMENT if table.has(key)}
    if statement and not (table.has("lower") or table.has("upper")):
        raise table.error(next(iter(statement)), "goes with 'lower' and 'upper' only")
    made = []
    for region in regions:
        tables: dict[str, Mapping[str, Any]] = {"region": region.stated}
        if region.label is not None:
            tables["statement"] = {"kind": "robust", "label": region.label}
        elif region.beside is None:
            tables["statement"] = statement
        tables[TABLE] = shared
        made.append(Asked(region.title, tables, TABLE, region.beside))
    return made
