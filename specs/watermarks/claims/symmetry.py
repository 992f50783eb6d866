"""``symmetry``: a suspect is the owner's network up to a permutation and factors of its units.

relative     how far effective parameters may differ, relatively; 0 where left out: exactly equal

The models are called ``owner`` and ``suspect``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from specs.document import Document
from specs.query import ModelFile
from specs.watermarks.chain import Chain, differing, read_chain
from specs.watermarks.mark import Mark
from specs.watermarks.reading import CLAIM, Keys

OWNER, SUSPECT = "owner", "suspect"


@dataclass(frozen=True, eq=False)
class SameNetwork:
    """The claim.

    Attributes:
        owner, suspect: chains of the same structure.
        relative: how far effective parameters may differ, relatively.
    """

    owner: Chain
    suspect: Chain
    relative: Fraction

    kind = "symmetry"

    @property
    def text(self) -> str:
        """What it depends on; which file is which, too."""
        digests = f"{OWNER} {self.owner.model.digest} {SUSPECT} {self.suspect.model.digest}"
        return f"{digests} relative {self.relative}"

    def theorem(self) -> list[str]:
        """In words."""
        moved = "the owner's network with its units permuted, and multiplied by factors that the "
        moved += "next layer divides by"
        if self.relative == 0:
            return [f"The suspect is {moved}: both compute the same function of real numbers."]
        return [
            f"Every effective weight and bias of the suspect differs from that of {moved}, by a "
            f"relative {float(self.relative):.6g} at most.",
            "Effective: with batch normalisation folded in; a bias relative to the sum of the "
            "magnitudes of its two parts.",
        ]

    def assumed(self) -> list[str]:
        """What is compared, and what is not covered."""
        lines = [
            "networks are real-valued functions with exactly the stored values",
            "not covered: units that were split, merged, added or removed, layers that were merged "
            "or inserted, and any other change that preserves the function; nothing follows from a "
            "symmetry that was not found",
            "nothing is said of a mark: it is read after undoing the symmetry, by a claim of its "
            "own",
        ]
        if self.relative != 0:
            lines.append("that both compute nearly the same is another question (agreement)")
        return lines


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> SameNetwork:
    """The claim of a file.

    Raises:
        InputError: the models are not such, or are no chains of the same structure.
    """
    table = Keys.of(document, CLAIM, {"kind": (str,), "relative": (int, Fraction)})
    if set(models) != {OWNER, SUSPECT}:
        raise document.error("models", "", f"wanted: two models, {OWNER} and {SUSPECT}")
    relative = Fraction(table.values.get("relative", 0))
    if not 0 <= relative < 1:
        raise table.error("relative", "'relative' must be at least 0 and less than 1")
    owner, suspect = read_chain(models[OWNER]), read_chain(models[SUSPECT])
    found = differing(owner, suspect)
    if found is not None:
        raise document.error("models", SUSPECT, f"no symmetry can make them one: {found}")
    return SameNetwork(owner, suspect, relative)
