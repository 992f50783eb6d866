"""``symmetry``: a suspect is the owner's network up to a permutation and factors of its units.

relative     how far effective parameters may differ, relatively; where this and 'within' are left
             out, 0: exactly equal
within       outputs differ by at most this
inputs       [LOW, HIGH]: on these inputs

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
        relative: how far effective parameters may differ, relatively; ``None``: not said.
        within: how far outputs may differ; ``None``: not said.
        inputs: the least and the greatest entry of the inputs that ``within`` is about.
    """

    owner: Chain
    suspect: Chain
    relative: Fraction | None
    within: Fraction | None = None
    inputs: tuple[Fraction, Fraction] = (Fraction(0), Fraction(0))

    kind = "symmetry"

    @property
    def text(self) -> str:
        """What it depends on; which file is which, too."""
        digests = f"{OWNER} {self.owner.model.digest} {SUSPECT} {self.suspect.model.digest}"
        low, high = self.inputs
        return f"{digests} relative {self.relative} within {self.within} on {low} {high}"

    def theorem(self) -> list[str]:
        """In words."""
        moved = "the owner's network with its units permuted, and multiplied by factors that the "
        moved += "next layer divides by"
        lines = []
        if self.relative == 0:
            lines.append(f"The suspect is {moved}: both compute the same function of real numbers.")
        elif self.relative is not None:
            lines += [
                f"Every effective weight and bias of the suspect differs from that of {moved}, by "
                f"a relative {float(self.relative):.6g} at most.",
                "Effective: with batch normalisation folded in; a bias relative to the sum of the "
                "magnitudes of its two parts.",
            ]
        if self.within is not None:
            low, high = (float(end) for end in self.inputs)
            lines.append(
                f"For every input with entries from {low:.6g} to {high:.6g} the outputs of suspect "
                f"and owner differ by at most {float(self.within):.6g}."
            )
        return lines

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
        if self.relative != 0 and self.within is None:
            lines.append("nothing is said of how far outputs are apart ('within' does)")
        return lines


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> SameNetwork:
    """The claim of a file.

    Raises:
        InputError: the models are not such, or are no chains of the same structure.
    """
    number = (int, Fraction)
    allowed = {"kind": (str,), "relative": number, "within": number, "inputs": (list,)}
    table = Keys.of(document, CLAIM, allowed)
    if set(models) != {OWNER, SUSPECT}:
        raise document.error("models", "", f"wanted: two models, {OWNER} and {SUSPECT}")
    relative = within = None
    inputs = (Fraction(0), Fraction(0))
    if "within" in table.values:
        within, ends = Fraction(table.need("within")), table.need("inputs")
        if len(ends) != 2 or ends[0] > ends[1] or within < 0:
            raise table.error("inputs", "'inputs' must be [LOW, HIGH], and 'within' not negative")
        inputs = (Fraction(ends[0]), Fraction(ends[1]))
    elif "inputs" in table.values:
        raise table.error("inputs", "'inputs' goes with 'within'")
    if within is None or "relative" in table.values:
        relative = Fraction(table.values.get("relative", 0))
        if not 0 <= relative < 1:
            raise table.error("relative", "'relative' must be at least 0 and less than 1")
    owner, suspect = read_chain(models[OWNER]), read_chain(models[SUSPECT])
    found = differing(owner, suspect)
    if found is not None:
        raise document.error("models", SUSPECT, f"no symmetry can make them one: {found}")
    return SameNetwork(owner, suspect, relative, within, inputs)
