"""Noise around an input, drawn so that sample ``i`` depends on a seed, a name and ``i`` alone.

The generator is Philox (J. Salmon et al., SC 2011): a function of a key and a counter.  The key is
a hash of the seed and of what the noise is for; samples come in blocks, and block ``b`` has
counters of its own.  So it does not matter in what order, in what batches or in how many runs
samples are drawn.  The streams are those of the installed numpy, which does not promise them
across versions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.decimals import round_down, round_up
from specs.enclosure import FloatArray
from specs.errors import InputError

KINDS = ("uniform", "normal", "laplace")
BLOCK = 64
"""Samples of a block, where inputs are small."""
NUMBERS = 1 << 22
"""Most numbers of a block, and of a batch."""
BATCH = 1024
"""Most samples of a batch."""


@dataclass(frozen=True)
class Stream:
    """Blocks of random numbers.

    Attributes:
        seed: of everything.
        name: what this stream is for; streams of different names are independent.
        size: numbers of one sample.
    """

    seed: int
    name: str
    size: int

    @property
    def block(self) -> int:
        """Samples of a block; it depends on the size alone."""
        return max(1, min(BLOCK, NUMBERS // max(1, self.size)))

    def generator(self, block: int) -> np.random.Generator:
        """What draws a block, from its beginning."""
        digest = hashlib.sha256(f"{self.seed} {self.name}".encode()).digest()
        key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
        counter = np.array([0, 0, 0, block], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, slice]]:
        """The blocks that hold samples ``start`` to ``stop``, and which of each."""
        for block in range(start // self.block, -(-stop // self.block)):
            first = block * self.block
            yield block, slice(max(start - first, 0), min(stop - first, self.block))


@dataclass(frozen=True)
class Around:
    """Random inputs around an input, inside a box.

    ``uniform``: on the box, which is the part of ``[x - radius, x + radius]`` in the valid range.
    ``normal``, ``laplace``: ``x`` plus independent noise of standard deviation, or scale,
    ``spread * radius``, clamped to the box.  What is drawn in float64 is rounded to the type of the
    model's input, and clamped to those of its numbers that lie in the box.

    Attributes:
        kind: one of ``KINDS``.
        radius: of the box, positive.
        spread: of the noise, as a multiple of the radius.
        valid: the range of inputs; ``None``: all numbers.

    Raises:
        InputError: these make no sense.
    """

    kind: str
    radius: Fraction
    spread: Fraction = Fraction(1)
    valid: tuple[Fraction, Fraction] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"noise '{self.kind}'; there are {', '.join(KINDS)}")
        if self.radius <= 0 or self.spread <= 0:
            raise InputError(f"noise of radius {self.radius} and spread {self.spread}")

    @property
    def text(self) -> str:
        """What samples depend on."""
        valid = "" if self.valid is None else f" in {self.valid[0]} {self.valid[1]}"
        spread = "" if self.kind == "uniform" else f" {self.spread}"
        return f"{self.kind} {self.radius}{spread}{valid}"

    def box(self, point: FloatArray, dtype: npt.DTypeLike) -> tuple[FloatArray, FloatArray]:
        """The least and the greatest numbers of a type in the box, as float64.

        Args:
            point: ``(size,)``, or several, ``(n, size)``.
            dtype: of floats.

        Raises:
            InputError: in some place there are none.
        """
        radius, low, high = round_down(self.radius), -np.inf, np.inf
        if self.valid is not None:
            low, high = round_up(self.valid[0]), round_down(self.valid[1])
        # A sum that was rounded may lie outside by less than the distance to the next number.
        lower = np.maximum(np.nextafter(point - radius, np.inf), low)
        upper = np.minimum(np.nextafter(point + radius, -np.inf), high)
        kind: np.dtype[Any] = np.dtype(dtype)
        return _inside(lower, upper, kind)

    def samples(
        self, point: FloatArray, stream: Stream, start: int, stop: int, dtype: npt.DTypeLike
    ) -> Iterator[npt.NDArray[np.floating]]:
        """Samples ``start`` to ``stop``, block by block, each ``(m, size)`` of the type.

        Raises:
            InputError: the box holds no number of the type in some place.
        """
        kind: np.dtype[Any] = np.dtype(dtype)
        lower, upper = self.box(point, kind)
        first, last = lower.astype(kind), upper.astype(kind)
        for block, part in stream.pieces(start, stop):
            shape = (stream.block, stream.size)
            drawn = self._drawn(stream.generator(block), shape, point, lower, upper)[part]
            yield np.clip(drawn.astype(kind), first, last)

    def _drawn(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int],
        point: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
    ) -> FloatArray:
        scale = float(self.spread * self.radius)
        match self.kind:
            case "uniform":
                return lower + rng.random(shape) * (upper - lower)
            case "normal":
                return np.clip(point + scale * rng.standard_normal(shape), lower, upper)
            case _:
                return np.clip(point + scale * rng.laplace(size=shape), lower, upper)


def gaussian(
    point: FloatArray, sigma: float, stream: Stream, start: int, stop: int, dtype: npt.DTypeLike
) -> Iterator[npt.NDArray[np.floating]]:
    """``point`` plus normal noise of standard deviation ``sigma``, block by block, not clamped."""
    for block, part in stream.pieces(start, stop):
        drawn = stream.generator(block).standard_normal((stream.block, stream.size))[part]
        with np.errstate(over="ignore"):
            yield (point + sigma * drawn).astype(dtype)


def batched(
    blocks: Iterable[npt.NDArray[np.floating]],
) -> Iterator[npt.NDArray[np.floating]]:
    """The same samples in fewer pieces."""
    held: list[npt.NDArray[np.floating]] = []
    for block in blocks:
        rows = sum(map(len, held)) + len(block)
        if held and (rows > BATCH or rows * block.shape[1] > NUMBERS):
            yield np.concatenate(held)
            held = []
        held.append(block)
    if held:
        yield np.concatenate(held)


def _inside(
    lower: FloatArray, upper: FloatArray, kind: np.dtype[Any]
) -> tuple[FloatArray, FloatArray]:
    """Ends rounded inward to numbers of a type."""
    with np.errstate(over="ignore"):
        low, high = lower.astype(kind), upper.astype(kind)
    one = kind.type(np.inf)
    low = np.where(low.astype(np.float64) < lower, np.nextafter(low, one), low)
    high = np.where(high.astype(np.float64) > upper, np.nextafter(high, -one), high)
    found = low.astype(np.float64), high.astype(np.float64)
    if not np.all(found[0] <= found[1]):
        place = int(np.argmax(~(found[0] <= found[1])))
        ends = lower.reshape(-1)[place], upper.reshape(-1)[place]
        raise InputError(
            f"no {kind.name} number lies between {ends[0]:g} and {ends[1]:g}, where input "
            f"{place % lower.shape[-1]} is drawn: take a larger radius, or "
            "samples inside the valid range"
        )
    return found
