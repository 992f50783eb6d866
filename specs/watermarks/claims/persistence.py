"""``persistence``: whatever change of a set is made, so many bits of a linear mark still match.

at_least         how many
second_seed, second_at_least
                 changes count only if so many bits of a second key match after them: the same
                 scheme with another seed (left out: all changes count)

What may change is in ``specs.watermarks.allowed``: several keys, all of which bind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from specs.document import Document
from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.faults.placed import Parameter
from specs.query import ModelFile
from specs.watermarks.allowed import KEYS, Allowed, read_allowed
from specs.watermarks.changes import Changes
from specs.watermarks.claims.extraction import linear_mark
from specs.watermarks.mark import LinearMark, LinearSystem, Mark
from specs.watermarks.question import at, only
from specs.watermarks.reading import CLAIM, MARK, Keys
from specs.watermarks.rows import Demand, lost, rows_of_system
from specs.watermarks.schemes import scheme
from specs.watermarks.weights import marked_tensor

BEYOND = (
    "nothing is said of other changes: permuting, rescaling or splitting neurons and flipping "
    "signs through batch normalisation keep what a network computes, and can be as large as one "
    "likes in any norm"
)


@dataclass(frozen=True, eq=False)
class ChangedWeights:
    """The claim that no allowed change makes bits of marks what they are demanded to be.

    Attributes:
        kind: ``persistence`` or ``overwriting``.
        mark: a linear one.
        demands: on bits, all of which a change would have to meet.
        allowed: what may change.
        says: the claim in words.
        second: a key that overwrites.
    """

    kind: str
    mark: LinearMark
    demands: tuple[Demand, ...]
    allowed: Allowed
    says: str
    second: LinearMark | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """``(len(demands),)``: what bits that a demand counts are called."""
        if self.kind == "overwriting":
            return ("bits that match",)
        return ("bits that do not match", "bits of the second key that match")[: len(self.demands)]

    @property
    def sets(self) -> tuple[Changes, ...]:
        """Of changes; a change must be in each.  Without any, nothing may change."""
        return self.allowed.sets

    @property
    def weights(self) -> FloatArray:
        """``(N,)``, all entries of the tensor, exact."""
        return self.allowed.weights

    @property
    def text(self) -> str:
        """What it depends on."""
        demands = " ".join(str(demand.least) for demand in self.demands)
        second = ""
        if self.second is not None:
            second = f" second {self.second.commitment.hash}"
        return f"demands {demands}{second} {self.allowed.text}"

    def theorem(self) -> list[str]:
        """In words."""
        lines = [self.says, *self.allowed.in_words(), *self.mark.commitment.in_words()]
        if self.second is not None:
            lines.append(f"second key: commitment {self.second.commitment.hash}")
        return lines

    def assumed(self) -> list[str]:
        """What is not covered."""
        exact = "stored parameters are exact numbers; bits are the exact signs of linear forms"
        return [exact, *self.allowed.assumed, BEYOND]


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> ChangedWeights:
    """The claim of a file."""
    own = {"at_least": (int,), "second_seed": (str,), "second_at_least": (int,)}
    table = Keys.of(document, CLAIM, {**KEYS, **own})
    found, parameter, system = read_tensor(document, models, mark)
    kept = table.whole("at_least", 1, found.size)
    demands, second = [lost(rows_of_system(system, parameter.size), system.bits, kept)], None
    which = "Every allowed change"
    if "second_seed" in table.values or "second_at_least" in table.values:
        written = table.whole("second_at_least", 1, found.size)
        second, other = _second(table, found, parameter)
        rows = rows_of_system(other, parameter.size)
        demands.append(Demand(rows, other.bits, written))
        which += f" after which at least {written} of {found.size} bits of a second key match"
    says = (
        f"{which} leaves at least {kept} of the {found.size} bits of the {found.scheme} mark, "
        f"read from '{found.tensor}', those of its key."
    )
    allowed = read_allowed(table, parameter)
    return ChangedWeights("persistence", found, tuple(demands), allowed, says, second)


def read_tensor(
    document: Document, models: Mapping[str, ModelFile], mark: Mark | None
) -> tuple[LinearMark, Parameter, LinearSystem]:
    """A linear mark, the tensor that carries it and its linear forms.

    Raises:
        InputError: the mark is of another kind, or the tensor is not there or does not fit.
    """
    found = linear_mark(document, mark)
    file = only(document, models)
    try:
        parameter = marked_tensor(file, found.tensor)
        return found, parameter, found.system(parameter.shape)
    except InputError as error:
        raise at(document, "tensor", error, MARK) from None


def _second(table: Keys, mark: LinearMark, parameter: Parameter) -> tuple[LinearMark, LinearSystem]:
    """The same scheme with another seed, and its linear forms."""
    document = table.document
    stated = {k: v for k, v in document.table(MARK).items() if k not in ("commitment", "time")}
    tables = {**document.tables, MARK: {**stated, "seed": table.need("second_seed")}}
    try:
        found = scheme(mark.scheme).read(dataclasses.replace(document, tables=tables))
        return found, found.system(parameter.shape)
    except InputError as error:
        raise table.error("second_seed", f"the second key: {error}") from None
