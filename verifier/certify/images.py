"""What may happen to an image, as a network in front of a classifier.

The inputs are the amounts: an angle, offsets, a factor and a summand.  The image's pixels are
constants, so that a box of amounts is a box of two or three inputs, and a proof speaks of every
amount in it, not of a grid.

A turned or moved image is the original, interpolated bilinearly between its pixels and 0 outside:
the output at ``p`` is ``sum_kl relu(1 - |y(p) - k|) relu(1 - |x(p) - l|) X[k, l]`` with the
place ``(y(p), x(p))`` that comes to lie at ``p``.  As a function of an offset that is piecewise
bilinear; of an angle, ``x`` and ``y`` are linear in its sine and cosine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from specs.enclosure import FloatArray
from specs.errors import ModelError
from specs.query import ModelFile
from verifier.certify.prefix import PARAMETERS, Builder, Piece, prefixed

AMOUNTS = ("shift_y", "shift_x", "rotation", "contrast", "brightness")
"""In the order in which they happen, and of the inputs: pixels downwards and to the right, degrees
counterclockwise about the middle, a factor, a summand."""

DEGREE = float(np.float32(math.pi / 180))
"""What an angle in degrees is multiplied by; a float32 number, not exactly pi / 180."""

PARTS = 3
"""Constants of float32 whose sum is any number of float64 that is not tiny."""

OPSET = 13
"""Of the operators, where they stand for themselves."""

Image = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True)
class Normal:
    """What was done to pixels ``p`` to make samples: ``(p - mean) / std``.

    The operators in front compute with ``mean / std`` and ``1 / std``, rounded to float32.

    Attributes:
        mean, std: one for each channel, or one for all.
    """

    mean: tuple[Fraction, ...] = (Fraction(0),)
    std: tuple[Fraction, ...] = (Fraction(1),)

    @property
    def offset(self) -> FloatArray:
        """``mean / std``, ``(c, 1, 1)`` or ``(1, 1, 1)``."""
        mean, std = (np.array([float(x) for x in own]) for own in (self.mean, self.std))
        return _planes(mean / std)

    @property
    def factor(self) -> FloatArray:
        """``1 / std``, likewise."""
        return _planes(1 / np.array([float(x) for x in self.std]))


def _planes(values: FloatArray) -> FloatArray:
    return values.astype(np.float32).astype(np.float64).reshape(-1, 1, 1)


@dataclass(frozen=True)
class Amounts:
    """How much may happen.

    Attributes:
        ranges: by name; what is left out does not happen.
        clip: ends that pixels are cut at afterwards, if any.
        normal: how samples were made of the pixels that are spoken of; ``None``: they are these.
    """

    ranges: Mapping[str, tuple[Fraction, Fraction]]
    clip: tuple[Fraction, Fraction] | None = None
    normal: Normal | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, in order."""
        return tuple(name for name in AMOUNTS if name in self.ranges)

    @property
    def box(self) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
        """Of the inputs."""
        ends = [self.ranges[name] for name in self.names]
        return tuple(low for low, _ in ends), tuple(high for _, high in ends)


def changed(file: ModelFile, image: FloatArray, shape: Image, amounts: Amounts) -> bytes:
    """The model of a classifier on one image, by the amounts of what happens to it.

    Args:
        file: the classifier.
        image: ``(c * h * w,)`` the pixels.
        shape: of the image.
        amounts: what happens.

    Raises:
        ModelError: the model has several inputs, or a pixel cannot be stored.
    """

    def make(name: str, extents: tuple[int, ...], kind: type) -> Piece:
        if math.prod(extents) != image.size:
            raise ModelError(f"an image of {image.size} numbers for an input of shape {extents}")
        build = _Changes(kind, image.reshape(shape), amounts)
        build.shaped(build.cut(build.photometric(build.geometric())), extents, name)
        return build.piece

    return prefixed(file, len(amounts.names), make)


def changed_image(image: FloatArray, shape: Image, amounts: Amounts, at: FloatArray) -> FloatArray:
    """The image ``(c * h * w,)`` that given amounts make, by the operators of :func:`changed`.

    Args:
        image: ``(c * h * w,)`` the pixels.
        shape: of the image.
        amounts: what happens.
        at: how much, in the order of ``amounts.names``.
    """
    build = _Changes(np.float64, image.reshape(shape), amounts)
    build.shaped(build.cut(build.photometric(build.geometric())), [image.size], "image")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, [size])
        for name, size in ((PARAMETERS, at.size), ("image", image.size))
    ]
    graph = helper.make_graph(build.nodes, "image", ends[:1], ends[1:], build.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    (found,) = ReferenceEvaluator(model).run(None, {PARAMETERS: at})
    return np.asarray(found, dtype=np.float64)


class _Changes(Builder):
    """The operators, one after the other, on pixels divided by ``std``: sample plus offset."""

    def __init__(self, kind: type, image: FloatArray, amounts: Amounts) -> None:
        super().__init__(kind)
        self.image, self.amounts = image, amounts

    def amount(self, name: str) -> str | None:
        """An input, ``(1,)``; ``None``: it does not happen."""
        if name not in self.amounts.names:
            return None
        return self.part(PARAMETERS, [self.amounts.names.index(name)])

    def pixels(self, channel: int | None = None) -> list[str]:
        """Constants whose sum are the pixels, of a channel or of all."""
        chosen = slice(None) if channel is None else channel
        found = self.parts(self.image[chosen])
        if self.amounts.normal is not None:
            offset = np.broadcast_to(self.amounts.normal.offset, self.image.shape)
            found.append(self.constant(offset[chosen]))
        return found

    def parts(self, values: FloatArray) -> list[str]:
        """Constants whose sum is given, exactly."""
        left, found = values, []
        for _ in range(PARTS):
            held = left.astype(self.kind).astype(np.float64)
            found.append(self.constant(held))
            left = left - held
            if not np.any(left):
                return found
        raise ModelError("a pixel has more digits than can be stored")

    def summed(self, names: list[str]) -> str:
        """A sum."""
        total = names[0]
        for name in names[1:]:
            total = self.node("Add", total, name)
        return total

    def geometric(self) -> list[str]:
        """Parts of the turned and moved image, ``(c, h, w)`` each."""
        angle = self.amount("rotation")
        moves = [self.amount("shift_y"), self.amount("shift_x")]
        if angle is not None:
            return [self._turned(angle, moves)]
        if any(moves):
            return [self._moved(moves)]
        return self.pixels()

    def _moved(self, moves: list[str | None]) -> str:
        """``A X B`` with the weights of rows and of columns."""
        _, height, width = self.image.shape
        sides = []
        for move, extent in zip(moves, (height, width), strict=True):
            steps = np.subtract.outer(np.arange(extent), np.arange(extent)).astype(float)
            sides.append(None if move is None else self._weights(self._less(steps, move)))
        names = []
        for part in self.pixels():
            if sides[0] is not None:
                part = self.node("MatMul", sides[0], part)
            names.append(part)
        total = self.summed(names)
        if sides[1] is None:
            return total
        return self.node("MatMul", total, self.node("Transpose", sides[1], perm=[1, 0]))

    def _less(self, places: FloatArray, move: str | None) -> str:
        """Where each comes from: what is moved by ``move`` came from as much before."""
        constant = self.constant(places)
        return constant if move is None else self.node("Sub", constant, move)

    def _turned(self, angle: str, moves: list[str | None]) -> str:
        """One row of weights for each pixel; the centre of the image stays where it is."""
        channels, height, width = self.image.shape
        radians = self.node("Mul", angle, self.constant(DEGREE))
        cosine, sine = self.node("Cos", radians), self.node("Sin", radians)
        down = np.arange(height) - (height - 1) / 2
        right = np.arange(width) - (width - 1) / 2
        y, x = (grid.reshape(-1) for grid in np.meshgrid(down, right, indexing="ij"))
        weights = []
        for (a, b), move, middle, extent in (
            ((y, x), moves[0], (height - 1) / 2, height),
            ((x, -y), moves[1], (width - 1) / 2, width),
        ):
            along = self.node("Mul", cosine, self.constant(a))
            across = self.node("Mul", sine, self.constant(b))
            place = self.node("Add", along, across)
            if move is not None:
                place = self.node("Sub", place, move)
            column = self.shaped(place, (height * width, 1))
            offsets = self.constant(middle - np.arange(extent)[None].astype(float))
            weights.append(self._weights(self.node("Add", column, offsets)))
        by_row, by_column = weights
        planes = []
        for channel in range(channels):
            names = [self.node("MatMul", by_row, part) for part in self.pixels(channel)]
            mixed = self.node("Mul", self.summed(names), by_column)
            ones = self.constant(np.ones((width, 1)))
            planes.append(self.shaped(self.node("MatMul", mixed, ones), (1, height, width)))
        return planes[0] if channels == 1 else self.node("Concat", *planes, axis=0)

    def _weights(self, distances: str) -> str:
        """``relu(1 - |d|)``."""
        return self.node("Relu", self.node("Sub", self.constant(1.0), self.node("Abs", distances)))

    def photometric(self, parts: list[str]) -> str:
        """Contrast and brightness."""
        factor, summand = self.amount("contrast"), self.amount("brightness")
        if factor is not None:
            parts = [self.node("Mul", part, factor) for part in parts]
        if summand is not None:
            if self.amounts.normal is not None:
                summand = self.node("Mul", summand, self.constant(self.amounts.normal.factor))
            parts = [*parts, summand]
        return self.summed(parts)

    def cut(self, name: str) -> str:
        """Ends of the pixels: ``low + relu(x - low)``, then the same from above; a sample again."""
        normal = self.amounts.normal
        if self.amounts.clip is not None:
            ends = [np.array(float(end)) for end in self.amounts.clip]
            if normal is not None:
                ends = [_planes(end * normal.factor) for end in ends]
            low, high = map(self.constant, ends)
            above = self.node("Add", self.node("Relu", self.node("Sub", name, low)), low)
            name = self.node("Sub", high, self.node("Relu", self.node("Sub", high, above)))
        return name if normal is None else self.node("Sub", name, self.constant(normal.offset))
