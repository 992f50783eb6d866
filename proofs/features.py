"""Features of inputs: single ones or rectangles of pixels, and what frees them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from specs.enclosure import FloatArray
from specs.errors import InputError, PropertyError
from specs.faults.struck import faults_of
from specs.network import Network
from specs.property import Case, Property
from specs.query import Query
from specs.vnnlib_writer import vnnlib

SMALLEST = 64
"""Entries from which on a flat square input is taken for an image."""


@dataclass(frozen=True)
class Feature:
    """Entries of a tensor (of all inputs, in their order) that are kept or dropped together."""

    name: str
    entries: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """How the inputs make up an image; ``index (channels, height, width)`` says which is where."""

    index: npt.NDArray[np.int64]

    def features(self, height: int, width: int) -> tuple[Feature, ...]:
        """Rectangles of so many pixels, smaller at the right and at the bottom edge.

        Raises:
            InputError: a side is not positive.
        """
        if height < 1 or width < 1:
            raise InputError(f"regions of {height}x{width} pixels: both must be positive")
        rows, columns = self.index.shape[1:]
        found = []
        for top in range(0, rows, height):
            for left in range(0, columns, width):
                part = self.index[:, top : top + height, left : left + width]
                name = f"rows {_span(top, height, rows)}, columns {_span(left, width, columns)}"
                found.append(Feature(name, tuple(part.reshape(-1).tolist())))
        return tuple(found)


def _span(start: int, size: int, end: int) -> str:
    last = min(start + size, end) - 1
    return str(start) if last == start else f"{start}-{last}"


def layout(network: Network, shape: tuple[int, int, int] | None = None) -> Layout | None:
    """The image that a network's input is; ``None`` where it is none as far as can be told.

    An input of shape (1, C, H, W) or (1, H, W, C) with C = 1 or 3 is one, and a flat one
    whose size is a square, or three times a square, from 8 x 8 pixels on.

    Args:
        network: the network.
        shape: ``(channels, height, width)``, to say it.

    Raises:
        InputError: the shape does not fit.
    """
    size = network.input_size
    order = np.arange(size)
    if shape is not None:
        if math.prod(shape) != size or min(shape) < 1:
            raise InputError(f"an image of {'x'.join(map(str, shape))} has not {size} inputs")
        return Layout(order.reshape(shape))
    if len(network.inputs) != 1:
        return None
    stated = network.nodes[network.inputs[0]].shape
    if len(stated) == 4 and stated[0] == 1:
        if stated[1] in (1, 3):
            return Layout(order.reshape(stated[1:]))
        if stated[3] in (1, 3):
            return Layout(order.reshape(stated[1:]).transpose(2, 0, 1))
    if sum(side > 1 for side in stated) > 1:
        return None
    for channels in (1, 3):
        side = math.isqrt(size // channels)
        if channels * side * side == size and side * side >= SMALLEST:
            return Layout(order.reshape(channels, side, side))
    return None


def single_inputs(network: Network) -> tuple[Feature, ...]:
    """Each input entry alone."""
    return tuple(
        Feature(f"{network.nodes[tensor].name}[{i}]", (start + i,))
        for tensor, start in _starts(network)
        for i in range(network.sizes[tensor])
    )


def _starts(network: Network) -> list[tuple[int, int]]:
    ends = np.cumsum([0, *(network.sizes[t] for t in network.inputs)]).tolist()
    return list(zip(network.inputs, ends, strict=False))


class Frees:
    """Wider questions, in which dropped features may take any value of a domain.

    Args:
        query: the question.
        features: groups of inputs.
        domain: ends for every input; ``None``: the smallest box around all cases.

    Raises:
        InputError: an end is not finite or they are reversed, or the domain frees nothing.
    """

    def __init__(
        self, query: Query, features: Sequence[Feature], domain: tuple[Fraction, Fraction] | None
    ) -> None:
        self._query, self._features = query, features
        cases, size = query.property.cases, query.property.input_size
        if domain is None:
            zero = Fraction(0)
            self._lower = [min((c.lower[i] for c in cases), default=zero) for i in range(size)]
            self._upper = [max((c.upper[i] for c in cases), default=zero) for i in range(size)]
        else:
            if domain[0] > domain[1]:
                raise InputError(f"the domain {domain[0]},{domain[1]} is empty")
            self._lower, self._upper = [domain[0]] * size, [domain[1]] * size
        if all(self._widened(case, range(size)) == case for case in cases):
            raise InputError(
                "the domain frees no input: say what values a dropped input may take with "
                "--domain LOW,HIGH (for images, 0,1)"
            )

    def property(self, kept: Sequence[int]) -> Property:
        """The property with all features freed but those kept."""
        held = set(kept)
        freed = [i for k, f in enumerate(self._features) if k not in held for i in f.entries]
        stated = self._query.property
        return replace(stated, cases=[self._widened(case, freed) for case in stated.cases])

    def query(self, kept: Sequence[int]) -> Query:
        """The wider question, under the digest of the given one."""
        return replace(self._query, property=self.property(kept))

    def stated(self, kept: Sequence[int]) -> tuple[Query, str | None]:
        """The wider question as a property file states it, and the text of that file.

        Where no file would be read as the same cases (two have become one, say), there is
        no text, and the question is the one that the property's canonical text states.
        """
        held = set(kept)
        names = [feature.name for k, feature in enumerate(self._features) if k in held]
        wider = self.property(kept)
        remarks: tuple[str, ...] = (
            f"{self._query.title}, with {len(self._features) - len(names)} of "
            f"{len(self._features)} features freed",
        )
        if faults := faults_of(self._query):
            stated = f"the network is one with faults: {faults.model.text}"
            remarks = (*remarks, stated, "(a file with [faults] and this one in [region] says so)")
        try:
            text = vnnlib(wider, remarks)
        except PropertyError:
            return replace(self._query, property=wider, property_digest=wider.digest), None
        digest = hashlib.sha256(text.encode()).hexdigest()
        return replace(self._query, property=wider, property_digest=digest), text

    def order(self, sensitivity: FloatArray) -> list[int]:
        """Features by what freeing them may cost, the least first.

        Args:
            sensitivity: by input, what a unit more of width costs.
        """
        gains = np.zeros(sensitivity.size)
        for case in self._query.property.cases:
            low, high = case.box()
            wide_low, wide_high = self._widened(case, range(gains.size)).box()
            gains += (low - wide_low) + (wide_high - high)
        costs = [float((gains * sensitivity)[list(f.entries)].sum()) for f in self._features]
        return [int(k) for k in np.argsort(np.array(costs), kind="stable")]

    def _widened(self, case: Case, freed: Sequence[int] | range) -> Case:
        lower, upper = list(case.lower), list(case.upper)
        below, above = set(case.strict_lower), set(case.strict_upper)
        for i in freed:
            if self._lower[i] < lower[i]:
                lower[i] = self._lower[i]
                below.discard(i)
            if self._upper[i] > upper[i]:
                upper[i] = self._upper[i]
                above.discard(i)
        if lower == list(case.lower) and upper == list(case.upper):
            return case
        return replace(
            case,
            lower=lower,
            upper=upper,
            strict_lower=frozenset(below),
            strict_upper=frozenset(above),
        )
