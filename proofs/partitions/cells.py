"""The samples that a question and a partition determine: tiny cells of open leaves.

Each side of an open leaf is cut into ``2 ** CELL_BITS`` parts of the same probability, and one of
them is drawn.  An input of the open leaves, drawn as the question says, lies in exactly such a
cell.  Sample ``i`` takes its numbers from place ``i`` of one stream, whatever the batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from proofs.arrays import HOLDS, ArrayEvidence
from proofs.frame import IndexArray
from proofs.partitions.measure import Measure, Share, quantiles
from proofs.signature import content_hash
from specs.decimals import outward
from specs.enclosure import FloatArray
from specs.probability import NORMAL, ProbabilityQuestion

CELL_BITS = 40
"""Each side of an open leaf has so many bits of cells."""
LEAF_BITS = 62
"""Of the number that chooses a leaf."""
WORD = 64
BLOCK = 1 << 20
"""Bytes that are taken from the stream at a time."""
TINY = 2.0**-900

Words = npt.NDArray[np.uint64]


class Draw:
    """Draws cells, one after the other.

    Args:
        question: states box, distribution and seed.
        evidence: the partition.
        lower, upper: ``(leaves, inputs)`` the boxes of the open leaves.
        shares: their probabilities.
    """

    def __init__(
        self,
        question: ProbabilityQuestion,
        evidence: ArrayEvidence,
        lower: FloatArray,
        upper: FloatArray,
        shares: Sequence[Share],
    ) -> None:
        case = question.case
        self.free = np.array([i for i, low in enumerate(case.lower) if low != case.upper[i]])
        self.free = self.free.astype(np.int64)
        self._fixed = case.box()
        self._lower, self._upper = lower[:, self.free], upper[:, self.free]
        self._measure = Measure(question)
        self._normal = question.distribution.kind == NORMAL
        self._first, self._end = _thresholds(shares)
        arrays = {name: held for name, held in evidence.arrays.items() if held.size}  # as in files
        splits = content_hash(replace(evidence, question="", claims=HOLDS, arrays=arrays))
        seed = f"farkas-samples-2\n{question.draws}\n{splits}\n".encode()
        self._blocks = _blocks(seed)
        self._held: Words = np.zeros(0, dtype=np.uint64)

    def take(self, count: int) -> tuple[FloatArray, FloatArray]:
        """So many samples more, without those of which it is not certain in which leaf they lie.

        Returns:
            lower, upper: ``(count, free)`` around their cells, inside of their leaves, of the
                inputs that vary.
        """
        words = self._words(count * (1 + len(self.free))).reshape(count, -1)
        place, certain = self._leaves(words[:, 0] >> np.uint64(WORD - LEAF_BITS))
        place, parts = place[certain], words[certain, 1:] >> np.uint64(WORD - CELL_BITS)
        low, high = self._lower[place], self._upper[place]
        return self._normals(low, high, parts) if self._normal else _uniform(low, high, parts)

    def boxes(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``(B, inputs)`` of ``(B, free)``: with the sides that are points, rounded outward."""
        made = []
        for fixed, varying in zip(self._fixed, (lower, upper), strict=True):
            whole = np.repeat(fixed[None], len(varying), axis=0)
            whole[:, self.free] = varying
            made.append(whole)
        return made[0], made[1]

    def _words(self, count: int) -> Words:
        parts = [self._held]
        missing = count - len(self._held)
        while missing > 0:
            parts.append(next(self._blocks))
            missing -= len(parts[-1])
        found = np.concatenate(parts)
        self._held = found[count:]
        return found[:count]

    def _leaves(self, numbers: Words) -> tuple[IndexArray, npt.NDArray[np.bool_]]:
        """The leaves of numbers of ``LEAF_BITS`` bits, and where it is certain which it is."""
        number = numbers.astype(np.int64)
        place = np.searchsorted(self._end, number, side="right")
        certain = place < len(self._end)
        certain[certain] = number[certain] >= self._first[place[certain]]
        return place, certain

    def _normals(
        self, low: FloatArray, high: FloatArray, parts: Words
    ) -> tuple[FloatArray, FloatArray]:
        """Cells between quantiles that are enclosed one by one."""
        below, above = low.copy(), high.copy()
        for row, own in enumerate(parts.tolist()):
            sides = zip(self.free.tolist(), low[row].tolist(), high[row].tolist(), own, strict=True)
            ends = [
                quantiles(self._measure, axis, a, b, part, CELL_BITS) for axis, a, b, part in sides
            ]
            least, most = outward([end for end, _ in ends], [end for _, end in ends])
            below[row] = np.maximum(least, below[row])
            above[row] = np.minimum(most, above[row])
        return below, above


def _uniform(low: FloatArray, high: FloatArray, parts: Words) -> tuple[FloatArray, FloatArray]:
    """Cells of equal length.

    The ends of a leaf are floats, or next to the true ends of the box, off by ``2 ** -52`` of
    their size at most; with the roundings here an end is off by less than ``2 ** -50`` of the sum
    of both magnitudes.
    """
    side, pad = high - low, (np.abs(low) + np.abs(high)) * 2.0**-50 + TINY
    step = parts.astype(np.float64)  # exact, as is what follows
    below = low + side * (step * 2.0**-CELL_BITS) - pad
    above = low + side * ((step + 1) * 2.0**-CELL_BITS) + pad
    return np.maximum(low, below), np.minimum(high, above)


def _blocks(seed: bytes) -> Iterator[Words]:
    """The stream: SHAKE-256 of seed and number of the block, in little-endian words."""
    block = 0
    while True:
        content = hashlib.shake_256(seed + str(block).encode()).digest(BLOCK)
        yield np.frombuffer(content, dtype="<u8").astype(np.uint64)
        block += 1


def _thresholds(shares: Sequence[Share]) -> tuple[IndexArray, IndexArray]:
    """From which numbers on, and up to which, a number certainly means a leaf.

    With exact shares whose sums ``c_k`` are, leaf ``k`` is that of the numbers ``u`` with
    ``c_(k-1) <= u c_n < c_k``; here the sums are between two rationals, and ``u`` is known to
    ``LEAF_BITS`` bits.
    """
    below = list(accumulate(low for low, _ in shares))
    above = list(accumulate(high for _, high in shares))
    count = 1 << LEAF_BITS
    if not below or below[-1] <= 0:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    first = [0, *(min(count, -_floor(-count * end / below[-1])) for end in above[:-1])]
    end = [_floor(count * end / above[-1]) for end in below]
    return np.array(first, dtype=np.int64), np.array(end, dtype=np.int64)


def _floor(value: Fraction) -> int:
    return value.numerator // value.denominator
