"""``extraction``: at least so many bits of a linear mark, read from the model, match.

at_least     how many
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specs.document import Document
from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.query import ModelFile
from specs.watermarks.mark import LinearMark, LinearSystem, Mark
from specs.watermarks.question import at, marked, only
from specs.watermarks.reading import CLAIM, MARK, Keys
from specs.watermarks.weights import marked_tensor


@dataclass(frozen=True, eq=False)
class Extraction:
    """The claim.

    Attributes:
        mark: a linear one.
        system: its linear forms.
        weights: ``(m,)`` the entries that they are about, exact.
        at_least: matching bits.
    """

    mark: LinearMark
    system: LinearSystem
    weights: FloatArray
    at_least: int

    kind = "extraction"

    @property
    def text(self) -> str:
        """What it depends on."""
        return f"at least {self.at_least}"

    def theorem(self) -> list[str]:
        """In words."""
        return [
            f"Of the {self.mark.size} bits of the {self.mark.scheme} mark, read from "
            f"'{self.mark.tensor}', at least {self.at_least} are those of the key.",
            *self.mark.commitment.in_words(),
        ]

    def assumed(self) -> list[str]:
        """Nothing but the model file."""
        return ["stored parameters are exact numbers; bits are the exact signs of linear forms"]


def linear_mark(document: Document, mark: Mark | None) -> LinearMark:
    """A mark whose bits are signs of linear forms.

    Raises:
        QuestionError: there is none, or it is of another kind.
    """
    found = marked(document, mark)
    if not hasattr(found, "system"):
        raise document.error(MARK, "scheme", f"'{found.scheme}' is not read from parameters")
    return found  # type: ignore[return-value]


def read_system(
    document: Document, models: Mapping[str, ModelFile], mark: LinearMark
) -> tuple[LinearSystem, FloatArray]:
    """The linear forms of a mark, and the entries of the model's tensor that they are about.

    Raises:
        InputError: the tensor is not there, or does not fit.
    """
    file = only(document, models)
    try:
        parameter = marked_tensor(file, mark.tensor)
        system = mark.system(parameter.shape)
    except InputError as error:
        raise at(document, "tensor", error, MARK) from None
    return system, parameter.values[system.positions]


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> Extraction:
    """The claim of a file."""
    table = Keys.of(document, CLAIM, {"kind": (str,), "at_least": (int,)})
    found = linear_mark(document, mark)
    system, weights = read_system(document, models, found)
    return Extraction(found, system, weights, table.whole("at_least", 0, found.size))
