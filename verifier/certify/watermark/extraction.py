"""How many bits of a linear mark the model carries: read exactly, with their margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from proofs.watermarks.signs import forms, margins, matching
from specs.errors import InputError
from specs.query import ModelFile
from specs.watermarks.mark import LinearMark
from specs.watermarks.weights import marked_tensor
from verifier.certify.section import Part, Place, Record, Rows, Task, at_least
from verifier.certify.table import Table
from verifier.certify.watermark.common import Marked, ask_claim


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
        mark = linear(self.marked)
        found = read_bits(self.marked.model, mark)
        models = {"net": self.marked.model}
        wanted = sorted({found["matches"], self.at_least or 0} - {0}) or [0]
        evidence: list[str] = []
        for count in wanted:
            claim = {"kind": "extraction", "at_least": count}
            asked = ask_claim(place, models, self.marked, claim)
            evidence += asked.evidence
        values = {**found, "assumed": list(asked.assumed), "evidence": sorted(set(evidence))}
        return Record(values)

    def conclude(self, records: Sequence[Record]) -> Part:
        """How many bits match."""
        values = records[0].values
        mark = linear(self.marked)
        count, size = values["matches"], mark.size
        lines = [
            f"{count} of {size} bits of the {mark.scheme} mark, read from '{mark.tensor}', are "
            "those of the key",
            *mark.commitment.in_words(),
        ]
        if values["least"] is not None:
            lines.append(f"least margin of a matching bit: {values['least']:.6g}")
        judged = []
        if self.at_least is not None:
            judged = [at_least("matching bits", Fraction(self.at_least), count, count)]
        rows = tuple(
            (str(number), str(int(bit)), str(int(bit) if same else 1 - int(bit)), f"{margin:.4g}")
            for number, (bit, same, margin) in enumerate(
                zip(values["key"], values["same"], values["margins"], strict=True)
            )
        )
        return Part(
            "Extraction",
            tuple(lines),
            tuple(values["assumed"]),
            tuple(judged),
            {key: values[key] for key in ("matches", "key", "same", "margins")},
            (Rows("Bits", ("bit", "key", "read", "margin"), rows),),
        )


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
        "matches": sum(same),
        "key": [bool(bit) for bit in system.bits],
        "same": same,
        "margins": [float(margin) for margin in sizes],
        "least": least,
    }


def matches_of(marked: Marked, place: Place) -> int:
    """How many places of a mark the model matches."""
    del place
    matches: int = read_bits(marked.model, linear(marked))["matches"]
    return matches


def read(marked: Marked, table: Table) -> Extraction:
    """Keys: ``at_least``."""
    marked.need(table)
    mark = linear(marked)
    found = Extraction(marked, table.integer("at_least"))
    if found.at_least is not None and found.at_least > mark.size:
        raise table.error("at_least", f"'at_least' must be at most {mark.size}, the bits there are")
    _checked(marked, mark)
    return found


def _checked(marked: Marked, mark: LinearMark) -> None:
    """The tensor is there and large enough."""
    try:
        mark.system(marked_tensor(marked.model, mark.tensor).shape)
    except InputError as error:
        raise marked.table.error("tensor", str(error)) from None
