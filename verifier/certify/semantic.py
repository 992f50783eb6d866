"""The section ``[semantic]``: images that are turned, moved, or made brighter keep their class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from specs.enclosure import FloatArray
from specs.errors import ModelError
from verifier.certify.balls import about_box
from verifier.certify.data import Data
from verifier.certify.delivery import Pair
from verifier.certify.faults import common
from verifier.certify.images import AMOUNTS, Amounts, Image, Normal, changed, changed_image
from verifier.certify.inquiry import Inquiry, Item, Posed
from verifier.certify.pairs import Near, class_words
from verifier.certify.question_files import in_memory
from verifier.certify.section import Answer, Place, Setting, shown
from verifier.certify.subject import Subject, by_prediction
from verifier.certify.table import Table

NO_CLASS = "no output exceeds every other at the sample"
BETWEEN = (
    "a turned or moved image is the original with bilinear interpolation between its pixels and 0 "
    "outside; one degree is pi / 180 rounded to float32; nothing is rounded to whole pixel values"
)
PIXELS = (
    "amounts and ends of pixels speak of pixels before mean and std, which are part of the changed "
    "model: mean / std, 1 / std and the ends divided by std are rounded to float32 there"
)
UNITS = {
    "shift_y": "moved down by {} pixels",
    "shift_x": "moved to the right by {} pixels",
    "rotation": "turned by {} degrees",
    "contrast": "multiplied by {}",
    "brightness": "with {} added",
}
LABELS = {"shift_y": "place (up and down)", "shift_x": "place (left and right)"}


@dataclass(frozen=True, eq=False)
class _Semantic:
    """Images of a table."""

    subject: Subject
    data: Data
    shape: Image
    amounts: Amounts
    predicted: bool

    def item(self, index: int) -> Item:
        depends = (
            self.subject.model.digest,
            self.data.points[index].tobytes().hex(),
            f"{self.shape} {self.amounts} {self._label(index)}",
        )
        name = f"sample {self.data.numbers[index]}"
        return Item(name, depends, partial(self._pose, index), partial(self._paired, index))

    def _paired(self, index: int, at: FloatArray) -> Pair:
        """The image that a witness makes, beside the sample."""
        point, network = self.data.points[index], self.subject.network
        shape = self.shape if self.shape[0] in (1, 3) else None
        made = changed_image(point, self.shape, self.amounts, at)
        words = ", ".join(
            f"{name} {amount:.4g}" for name, amount in zip(self.amounts.names, at, strict=True)
        )
        name = f"sample {self.data.numbers[index]}"
        near = Near(name, point, shape=shape, pixels=self.data.pixels)
        before, after = (class_words(network, x) for x in (point, made))
        label = self._label(index)
        if label is not None and before != f"class {label}":
            before += f", labelled {label}"
        return near.pair(made, before, after, add=f": {words}")

    def _label(self, index: int) -> int | None:
        labels = self.data.labels
        return None if self.predicted or labels is None else int(labels[index])

    def _pose(self, index: int, place: Place) -> Posed | str:
        point, label = self.data.points[index], self._label(index)
        if label is None:
            label = self.subject.predictions(self.data.points, index)
        if label is None:
            return NO_CLASS
        content = changed(self.subject.model, point, self.shape, self.amounts)
        question = about_box(self.amounts.box, label, self.subject.network.output_size)
        return in_memory(content, place), question


def read(setting: Setting) -> Sequence[Answer]:
    """The answers of one table ``[semantic]`` or of several.

    Raises:
        InputError: one is malformed; the message says where.
    """
    return [_semantic(setting, table) for table in Table.several(setting.document, "semantic")]


def _semantic(setting: Setting, table: Table) -> Inquiry:
    subject = Subject.of(setting, table)
    data = subject.samples(table)
    shape = _shape(table, data)
    amounts = _amounts(table, _normal(table, data, shape))
    predicted = by_prediction(table, data)
    certified = table.share("certified")
    table.done()
    asked = _Semantic(subject, data, shape, amounts, predicted)
    try:
        changed(subject.model, data.points[0], shape, amounts)
    except ModelError as error:
        raise table.error("", str(error)) from None
    words = " and ".join(
        UNITS[name].format(f"{shown(low)} to {shown(high)}")
        for name in amounts.names
        for low, high in (amounts.ranges[name],)
    )
    if amounts.clip is not None:
        words += f", cut to [{shown(amounts.clip[0])}, {shown(amounts.clip[1])}]"
    return Inquiry(
        "semantic",
        f"Images of changed {_listed([LABELS.get(n, n) for n in amounts.names])}, {subject.name}",
        (f"an image keeps its class, {words}: any such amounts together",),
        tuple(asked.item(index) for index in range(len(data.points))),
        setting,
        certified,
        "certified share of images",
        (common.SAMPLES, BETWEEN, *((PIXELS,) if amounts.normal is not None else ())),
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _normal(table: Table, data: Data, shape: Image) -> Normal | None:
    """What ``[data]`` does to pixels, beyond ``scale``."""
    if data.pixels is None:
        return None
    found = Normal(data.pixels.mean, data.pixels.std)
    for key, listed in (("mean", found.mean), ("std", found.std)):
        if len(listed) not in (1, shape[0]):
            raise table.error("shape", f"'{key}' of [data] is of {len(listed)} channels")
    return found


def _amounts(table: Table, normal: Normal | None) -> Amounts:
    ranges: dict[str, tuple[Fraction, Fraction]] = {}
    for name in AMOUNTS:
        found = table.interval(name)
        if found is not None:
            ranges[name] = found
    if not ranges:
        raise table.error("", f"[{table.name}] needs one of {', '.join(AMOUNTS)}")
    clip = table.interval("clip")
    if clip is not None and normal is None and any(Fraction(float(end)) != end for end in clip):
        raise table.error("clip", "'clip' holds a number that is no float: it cannot be stored")
    return Amounts(ranges, clip, normal)


def _shape(table: Table, data: Data) -> Image:
    layout = table.document.table("data").get("layout")
    if layout == "HWC" and len(data.shape) == 3:
        raise table.error(
            "", "images are (channels, height, width) here, and [data] makes them HWC"
        )
    given = table.numbers("shape") if table.has("shape") else tuple(map(Fraction, data.shape))
    extents = [int(x) for x in given if x.denominator == 1 and x > 0]
    size = data.points.shape[1]
    if len(extents) == 2:
        extents = [1, *extents]
    if len(extents) != 3 or extents[0] * extents[1] * extents[2] != size:
        raise table.error(
            "shape", f"'shape' must be [HEIGHT, WIDTH] or [CHANNELS, HEIGHT, WIDTH], {size} in all"
        )
    return extents[0], extents[1], extents[2]
