"""Counterexamples of sections beside what they are near: samples, or the middle of a region."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from specs.enclosure import FloatArray
from specs.network import Network
from verifier.certify.data import Data, Pixels
from verifier.certify.delivery import Pair, image_shape
from verifier.certify.questions import Box
from verifier.faults.floats import Floats, joined

SHOWN = 12
"""Counterexamples that a part shows."""

Paired = Callable[[FloatArray], Pair]
"""From the point of a witness, the pair."""


@dataclass(frozen=True, eq=False)
class Near:
    """What a counterexample is shown beside.

    Attributes:
        name: of the region.
        point: ``(size,)``.
        kind: what the point is, in words.
        shape: of an image, with its channels; ``None``: it is none.
        pixels: what it was before ``mean`` and ``std``.
    """

    name: str
    point: FloatArray
    kind: str = "original"
    shape: tuple[int, int, int] | None = None
    pixels: Pixels | None = None

    @classmethod
    def samples(cls, data: Data) -> tuple[Near, ...]:
        """The samples."""
        shape = image_shape(data.shape)
        return tuple(
            cls(f"sample {number}", point, shape=shape, pixels=data.pixels)
            for number, point in zip(data.numbers, data.points, strict=True)
        )

    @classmethod
    def middle(cls, name: str, box: Box, shape: tuple[int, int, int] | None = None) -> Near:
        """The middle of a box, rounded to floats."""
        point = np.array([float((low + high) / 2) for low, high in zip(*box, strict=True)])
        return cls(name, point, "middle of the region", shape)

    def pair(self, changed: FloatArray, before: str = "", after: str = "", add: str = "") -> Pair:
        """It, and a counterexample.

        Args:
            changed: ``(size,)`` the counterexample.
            before, after: what the model says of each.
            add: to the name.
        """
        kinds = (self.kind, "counterexample")
        name = self.name + add
        return Pair(name, self.point, changed, self.shape, before, after, kinds, self.pixels)


def pairs(found: Iterable[tuple[Mapping[str, Any], Paired | None]]) -> Iterator[Pair]:
    """The pairs of the first counterexamples.

    Args:
        found: of each question, the values of its result, and what pairs its witness.
    """
    count = 0
    for values, paired in found:
        if values["answer"] == "sat" and paired is not None and count < SHOWN:
            count += 1
            yield paired(point_of(values["witness"]))


def point_of(witness: Sequence[str]) -> FloatArray:
    """The point of a witness, rounded to floats."""
    return np.array([float(Fraction(x)) for x in witness])


def class_words(network: Network, point: FloatArray) -> str:
    """The class that a network gives a point, in words."""
    values = outputs_at(network, point)
    best = np.flatnonzero(values == values.max())
    return f"class {best[0]}" if len(best) == 1 else f"a tie of {len(best)} classes"


def outputs_at(network: Network, point: FloatArray) -> FloatArray:
    """``(output_size,)`` the outputs of a network at a point, in floats: to look at."""
    tensors = Floats(network).run(point[None])
    return np.asarray(joined([tensors[number] for number in network.outputs]).value[0])
