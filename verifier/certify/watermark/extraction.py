"""How many places of a mark match in the model: bits of a tensor, or answers to secret inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from proofs.watermarks.answers import answers
from proofs.watermarks.signs import forms, margins, matching
from specs.errors import InputError
from specs.network import Network
from specs.query import ModelFile
from specs.watermarks.mark import AnswerMark, LinearMark
from specs.watermarks.weights import marked_tensor
from verifier.certify.delivery import BY_EVIDENCE
from verifier.certify.section import Part, Place, Record, Rows, Task, at_least
from verifier.certify.table import Table
from verifier.certify.watermark.common import Marked, ask_claim, plain


@dataclass(frozen=True, eq=False)
class Extraction:
    """The answer ``[watermark.extraction]``.

    Attributes:
        marked: the model and the mark.
        at_least: threshold of matching bits.
    """

    marked: Marked
    at_least: int | None

    def tasks(self) -> Sequence[Task]:
        """One."""
        depends = ("watermark.extraction 1", self.marked.text, str(self.at_least))
        return [Task("extraction of the mark", depends, self._run)]

    def _run(self, place: Place) -> Record:
        found = read_mark(self.marked, place)
        models = {"net": self.marked.model}
        wanted = sorted({found["matches"], self.at_least or 0} - {0}) or [0]
        evidence: list[str] = []
        assumed: list[str] = []
        for count in wanted:
            claim = {"kind": found["kind"], "at_least": count}
            asked = ask_claim(place, models, self.marked, claim)
            evidence += asked.evidence
            assumed = list(asked.assumed)
        return Record({**found, "assumed": assumed, "evidence": sorted(set(evidence))})

    def conclude(self, records: Sequence[Record]) -> Part:
        """How many places match."""
        values, mark = records[0].values, self.marked.known
        count, unknown = values["matches"], values["unknown"]
        where = f"bits, read from '{values['where']}'"
        if values["kind"] == "answers":
            where = "answers to secret inputs"
        lines = [
            f"{count} of {mark.size} places of the {mark.scheme} mark match: {where}",
            *mark.commitment.in_words(),
        ]
        if unknown:
            lines.append(f"{unknown} answers are ties, or too close to tell, and count as misses")
        if values["least"] is not None:
            lines.append(f"least margin of a matching bit: {values['least']:.6g}")
        judged = []
        if self.at_least is not None:
            asked = Fraction(self.at_least)
            judged = [at_least("matching places", asked, count, count + unknown)]
        rows = tuple(
            (str(number), "yes" if same else "no", *([f"{margin:.4g}"] if margin else []))
            for number, (same, margin) in enumerate(
                zip(values["same"], values["margins"] or [None] * mark.size, strict=True)
            )
        )
        head = ("place", "matches", "margin") if values["margins"] else ("place", "matches")
        return Part(
            "Extraction",
            tuple(lines),
            tuple(values["assumed"]),
            tuple(judged),
            {key: values[key] for key in ("matches", "unknown", "same", "margins")},
            (Rows("Places", head, rows),),
            basis=(BY_EVIDENCE,),
        )


def read_mark(marked: Marked, place: Place) -> dict[str, Any]:
    """Which places of a mark match in its model, as plain data."""
    if hasattr(marked.known, "matching"):
        return _answered(marked, place)
    return read_bits(marked.model, linear(marked))


def matches_of(marked: Marked, place: Place) -> int:
    """How many places match for certain."""
    matches: int = read_mark(marked, place)["matches"]
    return matches


def _answered(marked: Marked, place: Place) -> dict[str, Any]:
    """Answers to secret inputs, evaluated exactly."""
    mark: AnswerMark = marked.known  # type: ignore[assignment]
    network = answering(marked, mark)
    done = 0

    def tick() -> None:
        nonlocal done
        place.progress.count("secret inputs", done, mark.size)
        done += 1

    found = answers(network, mark.points, tick)
    right = mark.matching([0 if answer is None else answer for answer in found])
    same = [good and answer is not None for good, answer in zip(right, found, strict=True)]
    return {
        "kind": "answers",
        "matches": sum(same),
        "unknown": found.count(None),
        "same": same,
        "margins": None,
        "least": None,
        "where": "",
    }


def answering(marked: Marked, mark: AnswerMark) -> Network:
    """The network, which has the mark's inputs and outputs.

    Raises:
        QuestionError: it has not.
    """
    network = plain(marked).plain.network
    wanted, found = (mark.points.shape[1], mark.classes), (network.input_size, network.output_size)
    if wanted != found:
        raise marked.table.error(
            "scheme",
            f"the mark is of {wanted[0]} inputs and {wanted[1]} classes, the model has {found[0]} "
            f"inputs and {found[1]} outputs",
        )
    return network


def linear(marked: Marked) -> LinearMark:
    """A mark that is read from parameters.

    Raises:
        QuestionError: it is not.
    """
    mark = marked.mark
    if mark is None or not hasattr(mark, "system"):
        name = "none" if mark is None else f"'{mark.scheme}'"
        raise marked.table.error("scheme", f"wanted: a scheme read from parameters; it is {name}")
    return mark  # type: ignore[return-value]


def read_bits(model: ModelFile, mark: LinearMark) -> dict[str, Any]:
    """Bits of a mark in a model, as plain data; margins are rounded, for people."""
    parameter = marked_tensor(model, mark.tensor)
    system = mark.system(parameter.shape)
    values = forms(system, parameter.values[system.positions])
    same, sizes = matching(values, system.bits), margins(values, system.bits)
    least = min((float(m) for m, good in zip(sizes, same, strict=True) if good), default=None)
    return {
        "kind": "extraction",
        "matches": sum(same),
        "unknown": 0,
        "same": same,
        "where": mark.tensor,
        "margins": [float(margin) for margin in sizes],
        "least": least,
    }


def read(marked: Marked, table: Table) -> Extraction:
    """Keys: ``at_least``."""
    mark = marked.need(table)
    found = Extraction(marked, table.integer("at_least"))
    if found.at_least is not None and found.at_least > mark.size:
        raise table.error(
            "at_least", f"'at_least' must be at most {mark.size}, the places there are"
        )
    checked(marked)
    return found


def checked(marked: Marked) -> None:
    """The mark fits its model.

    Raises:
        QuestionError: it does not.
    """
    if hasattr(marked.known, "matching"):
        answering(marked, marked.known)  # type: ignore[arg-type]
        return
    mark = linear(marked)
    try:
        mark.system(marked_tensor(marked.model, mark.tensor).shape)
    except InputError as error:
        raise marked.table.error("tensor", str(error)) from None
