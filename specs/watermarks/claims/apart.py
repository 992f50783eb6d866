"""``apart``: no sample of one file lies near one of another, in every entry.

samples      "FILE.npz" with the triggers; those of the mark where left out
others       "FILE.npz" with honest samples
radius       every distance, the largest difference of entries, exceeds it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from specs.document import Document
from specs.numerals import numeral
from specs.query import ModelFile
from specs.watermarks.claims.removal import read_labelled, triggers_of
from specs.watermarks.mark import Mark
from specs.watermarks.reading import CLAIM, Keys
from specs.watermarks.samples import Labelled


@dataclass(frozen=True, eq=False)
class Apart:
    """The claim.

    Attributes:
        triggers, others: of the same number of entries; labels do not matter.
        radius: that all distances exceed.
    """

    triggers: Labelled
    others: Labelled
    radius: Fraction

    kind = "apart"

    @property
    def text(self) -> str:
        """What it depends on."""
        return f"{self.triggers.text} farther than {self.radius} from {self.others.text}"

    def theorem(self) -> list[str]:
        """In words."""
        return [
            f"Each of the {len(self.triggers.points)} triggers differs from each of the "
            f"{len(self.others.points)} other samples by more than "
            f"{numeral(self.radius)} in some entry."
        ]

    def assumed(self) -> list[str]:
        """What it does not cover."""
        return ["other inputs than these samples may be near a trigger"]


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> Apart:
    """The claim of a file."""
    allowed: dict[str, tuple[type, ...]] = {
        "kind": (str,),
        "samples": (str,),
        "others": (str,),
        "radius": (int, Fraction),
    }
    table = Keys.of(document, CLAIM, allowed)
    table.need("others")
    triggers, others = triggers_of(table, mark), read_labelled(table, "others")
    sizes = triggers.points.shape[1], others.points.shape[1]
    if sizes[0] != sizes[1]:
        raise table.error("others", f"samples of {sizes[1]} entries, and triggers of {sizes[0]}")
    return Apart(triggers, others, table.positive("radius"))
