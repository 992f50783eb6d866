"""``removal``: no small change of the last layer takes the labels from so many triggers.

samples      "FILE.npz" with the triggers; those of the mark where left out
removed      how many must lose their label; all where left out
radius       of the changes
norm         "linf", "l2" or "l1"; "linf" where left out
bias         true: the bias may change, too
others       "FILE.npz" with samples that keep their label
keep         how many of them; all where left out
tensors      initializers to be followed, among them the last layer's; all where left out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from specs.document import Document
from specs.errors import InputError, QuestionError
from specs.faults.placed import place_model
from specs.numerals import numeral
from specs.query import ModelFile
from specs.watermarks.last_layer import LastLayer, last_layer
from specs.watermarks.mark import Mark
from specs.watermarks.question import at, only
from specs.watermarks.reading import CLAIM, Keys
from specs.watermarks.samples import Labelled, labelled, read_samples

NORMS = ("linf", "l2", "l1")
KEYS: Mapping[str, tuple[type, ...]] = {
    "kind": (str,),
    "samples": (str,),
    "removed": (int,),
    "radius": (int, Fraction),
    "norm": (str,),
    "bias": (bool,),
    "others": (str,),
    "keep": (int,),
    "tensors": (list,),
}


@dataclass(frozen=True, eq=False)
class LastLayerRemoval:
    """The claim.

    Attributes:
        layer: the last one.
        triggers: and the labels that they are to have.
        others: samples that keep theirs; ``None``: nothing is said of any.
        removed, keep: how many at least.
        norm, radius: of the changes.
        bias: whether it may change.
    """

    layer: LastLayer
    triggers: Labelled
    others: Labelled | None
    removed: int
    keep: int
    norm: str
    radius: Fraction
    bias: bool

    kind = "removal"

    @property
    def text(self) -> str:
        """What it depends on."""
        others = "none" if self.others is None else self.others.text
        moves = f"{self.layer.weight!r} {self.layer.bias!r} bias {self.bias}"
        ball = f"{self.norm} {self.radius}"
        return f"{moves}; {ball}; {self.removed} of {self.triggers.text}; {self.keep} of {others}"

    def theorem(self) -> list[str]:
        """In words."""
        which = f"'{self.layer.weight}'"
        if self.bias:
            which += f" and '{self.layer.bias}'"
        also = ""
        if self.others is not None:
            also = f" while {self.keep} of {len(self.others.points)} other samples keep theirs"
        return [
            f"No change of {which} whose {self.norm} norm is at most {numeral(self.radius)} takes "
            f"the label from {self.removed} or more of the {len(self.triggers.points)} "
            f"triggers{also}."
        ]

    def assumed(self) -> list[str]:
        """What it does not cover."""
        return [
            "a label is lost when some other class has at least its logit, a tie included, and "
            "kept when it exceeds all others",
            "logits are real numbers: nothing is said of rounding in a runtime",
            "no other layer changes, and the change is no larger than stated",
        ]


def read(
    document: Document, models: Mapping[str, ModelFile], mark: Mark | None
) -> LastLayerRemoval:
    """The claim of a file."""
    table = Keys.of(document, CLAIM, KEYS)
    names = table.values.get("tensors")
    if names is not None and not all(isinstance(name, str) for name in names):
        raise table.error("tensors", "'tensors' must be a list of strings")
    try:
        followed = None if names is None else tuple(names)
        layer = last_layer(place_model(only(document, models), followed))
    except InputError as error:
        raise at(document, "tensors" if names else "kind", error) from None
    triggers = triggers_of(table, mark)
    _fits(table, "samples", triggers, layer)
    others = None
    if "others" in table.values:
        others = read_labelled(table, "others")
        _fits(table, "others", others, layer)
    elif "keep" in table.values:
        raise table.error("keep", "'keep' goes with 'others', a file of samples")
    norm = table.values.get("norm", NORMS[0])
    if norm not in NORMS:
        raise table.error("norm", f"norm '{norm:.40}': use {', '.join(NORMS)}")
    bias = bool(table.values.get("bias", False))
    if bias and layer.bias is None:
        raise table.error("bias", "the last layer has no bias")
    many, count = len(triggers.points), 0 if others is None else len(others.points)
    return LastLayerRemoval(
        layer,
        triggers,
        others,
        table.whole("removed", 1, many, many),
        table.whole("keep", 0, count, count) if others is not None else 0,
        norm,
        table.positive("radius"),
        bias,
    )


def triggers_of(table: Keys, mark: Mark | None) -> Labelled:
    """The samples that ``samples`` names, or those of a mark.

    Raises:
        QuestionError: there are none, or they cannot be read.
    """
    if "samples" in table.values:
        return read_labelled(table, "samples")
    points, labels = getattr(mark, "points", None), getattr(mark, "labels", None)
    if points is None or labels is None:
        raise table.error("kind", "name a file of 'samples', or give a mark of triggers")
    return labelled(points, labels, "the mark")


def read_labelled(table: Keys, key: str) -> Labelled:
    """The samples of the file that a key names.

    Raises:
        QuestionError: they cannot be read.
    """
    try:
        return read_samples(table.document.folder / table.values[key])
    except QuestionError as error:
        raise table.error(key, str(error)) from None


def _fits(table: Keys, key: str, samples: Labelled, layer: LastLayer) -> None:
    width, classes = layer.placed.network.input_size, layer.classes
    at_key = key if key in table.values else "kind"
    if samples.points.shape[1] != width:
        found = samples.points.shape[1]
        raise table.error(at_key, f"samples of {found} entries; the network reads {width}")
    if samples.labels.max() >= classes:
        raise table.error(at_key, f"label {samples.labels.max()}: there are {classes} classes")
