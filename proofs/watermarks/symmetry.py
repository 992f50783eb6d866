"""When two chains of layers are one network up to a symmetry, in exact arithmetic.

**Theorem.**  Let owner and suspect be chains of the same structure (``specs.watermarks.chain``).
Write layer ``k`` in its folded form, ``a_k = act(G_k a_(k-1) + h_k)``, with ``G = gain W`` and
``h = offset + gain (b - mean)``, ``gain = scale / sqrt(variance + epsilon)``.  For each layer but
the last let ``o_k`` be a permutation of its units and ``c_k`` factors that its activation lets
pass: positive behind Relu, LeakyRelu, maxima and where there is none, 1 or -1 behind an odd
function, 1 behind others; for the input and the last layer ``o`` is the identity and ``c`` is 1.
If for every layer

    G'_k[i, j] = c_k[i] G_k[o_k(i), o_(k-1)(j)] / c_(k-1)[j]   and   h'_k[i] = c_k[i] h_k[o_k(i)]

then both compute the same function of real numbers.  *Proof*, by induction: ``a'_k[i] = c_k[i]
a_k[o_k(i)]``.  The linear part of the suspect's layer is ``c_k[i]`` times that of the owner's;
the activation, and what pools channels, commutes with the factor; padding with zeros, too.

Signs and scales that a batch normalisation undoes are gone in the folded form, and so is the
difference between a normalisation and a convolution that it was folded into.  Roots are compared
by squares, or enclosed by rationals; a *deviation* is an upper bound of the relative error, and 0
only where the equations hold exactly.

**Theorem 2.**  Let the equations hold up to a relative ``d`` of every entry of ``G``, and up to
``e`` times ``size`` of every ``h`` (:class:`Deviation`).  On inputs whose entries are at most
``M_0`` in magnitude, with ``E_0 = 0``, and for activations that are 0 at 0 and have the Lipschitz
constant 1,

    M_k = |G_k| M_(k-1) + size_k,   E_k = |G_k| ((1 + d) E_(k-1) + d M_(k-1)) + e size_k

bound magnitudes of ``a_k`` and differences between ``a_k[o_k(i)]`` and ``a'_k[i] / c_k[i]``, so
``E`` of the last layer bounds how far the outputs are apart.  *Proof*: the suspect's layer,
divided by its factors, is ``G (1 + t) (a + r) + h + b`` with ``|t| <= d``, ``|r| <= E_(k-1)`` and
``|b| <= e size``.  Bounds of a channel hold at all its places, so pooling and padding keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import isqrt

import numpy as np

from specs.errors import EvidenceError
from specs.linear import IndexArray
from specs.watermarks.chain import FIXED, SIGNED, Chain, Layer, differing

ROOT_BITS = 160
"""Square roots are enclosed to a relative width of ``2**-ROOT_BITS``."""

SHORT_BITS = 80
"""Of bounds, which are rounded up layer by layer."""

Tick = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A permutation and factors for each layer but the last.

    Attributes:
        orders: for each layer ``(units,)``: which unit of the owner each of the suspect's is.
        factors: for each layer ``(units,)``: what it is multiplied by.
    """

    orders: tuple[IndexArray, ...]
    factors: tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class Deviation:
    """How far a suspect is from the owner's network, moved by a symmetry.

    Attributes:
        weights: upper bound of the relative error of every entry of ``G``; ``None``: no bound,
            for one is 0 or has another sign where the other is not.
        biases: of ``h``, relative to ``|offset| + |gain (b - mean)|``.
        where: of the largest, in words.
    """

    weights: Fraction | None
    biases: Fraction | None
    where: str

    @property
    def most(self) -> Fraction | None:
        """Of both."""
        if self.weights is None or self.biases is None:
            return None
        return max(self.weights, self.biases)


def fault_of(owner: Chain, suspect: Chain, symmetry: Symmetry) -> str | None:
    """Why a symmetry is none of these chains, in words; ``None``: it is one."""
    found = differing(owner, suspect)
    if found is not None:
        return found
    hidden = owner.layers[:-1]
    if not len(symmetry.orders) == len(symmetry.factors) == len(hidden):
        return f"{len(symmetry.orders)} permutations for {len(hidden)} layers"
    pairs = zip(hidden, suspect.layers[:-1], symmetry.orders, symmetry.factors, strict=True)
    for place, (layer, other, order, factors) in enumerate(pairs):
        if sorted(order.tolist()) != list(range(layer.units)):
            return f"layer {place}: no permutation of {layer.units} units"
        if len(factors) != layer.units:
            return f"layer {place}: {len(factors)} factors of {layer.units} units"
        for factor in factors:
            if not _passes(factor, {layer.factors, other.factors}):
                return f"layer {place}: its activation does not let the factor {factor} pass"
    return None


def _passes(factor: Fraction, kinds: set[str]) -> bool:
    if FIXED in kinds:
        return factor == 1
    if SIGNED in kinds:
        return abs(factor) == 1
    return factor > 0


def deviation(
    owner: Chain, suspect: Chain, symmetry: Symmetry, tick: Tick = lambda: None
) -> Deviation:
    """How far the theorem's equations are from holding.

    Args:
        owner, suspect: of the same structure.
        symmetry: one that :func:`fault_of` finds no fault with.
        tick: called for each unit.
    """
    weights, biases, where = Fraction(0), Fraction(0), "nowhere"
    before = Outer.of(owner.layers[0].weight.shape[1])
    last = len(owner.layers) - 1
    for place, (layer, other) in enumerate(zip(owner.layers, suspect.layers, strict=True)):
        own = Outer.of(layer.units)
        if place < last:
            own = Outer(symmetry.orders[place], symmetry.factors[place])
        inputs = before.spread(layer.spread)
        for unit in range(layer.units):
            tick()
            name = f"layer {place}, unit {unit} of the suspect"
            a, b = Unit(layer, int(own.order[unit])), Unit(other, unit)
            found = _weights(a, b, own.factors[unit], inputs)
            if found is None:
                return Deviation(None, None, name)
            offset = _bias(a, b, own.factors[unit])
            if offset is None:
                return Deviation(None, None, f"{name}, bias")
            if max(found, offset) > max(weights, biases):
                where = name
            weights, biases = max(weights, found), max(biases, offset)
        before = own
    return Deviation(weights, biases, where)


@dataclass(frozen=True, eq=False)
class Outer:
    """Where inputs of a layer come from, and their factors."""

    order: IndexArray
    factors: tuple[Fraction, ...]

    @classmethod
    def of(cls, units: int) -> Outer:
        """In their places, with the factor 1."""
        return cls(np.arange(units), (Fraction(1),) * units)

    def spread(self, each: int) -> Outer:
        """Of inputs, ``each`` of which in a row belong to a unit."""
        order = (self.order[:, None] * each + np.arange(each)).reshape(-1)
        return Outer(order, tuple(f for f in self.factors for _ in range(each)))


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit of a layer in its folded form; see the theorem."""

    layer: Layer
    number: int

    @cached_property
    def scale(self) -> Fraction:
        """The gain without its root."""
        norm = self.layer.norm
        return Fraction(1) if norm is None else _exact(norm.scale[self.number])

    @cached_property
    def square(self) -> Fraction:
        """What the gain's root is of; positive."""
        norm = self.layer.norm
        return Fraction(1) if norm is None else _exact(norm.variance[self.number]) + norm.epsilon

    @cached_property
    def bias(self) -> tuple[Fraction, Fraction]:
        """``(p, q)`` with ``h = p + q / sqrt(square)``."""
        norm, own = self.layer.norm, _exact(self.layer.bias[self.number])
        if norm is None:
            return own, Fraction(0)
        centred = own - _exact(norm.mean[self.number])
        return _exact(norm.offset[self.number]), self.scale * centred


def _weights(owner: Unit, suspect: Unit, factor: Fraction, inputs: Outer) -> Fraction | None:
    """The largest relative error of a row of ``G``; ``None``: there is no bound."""
    image = owner.layer.weight[owner.number][inputs.order].reshape(inputs.order.size, -1)
    held = suspect.layer.weight[suspect.number].reshape(image.shape)
    if owner.scale == 0 or suspect.scale == 0:
        nothing = [
            unit.scale == 0 or not row.any() for unit, row in ((owner, image), (suspect, held))
        ]
        return Fraction(0) if all(nothing) else None
    if not np.array_equal(image == 0, held == 0):
        return None
    least = most = None
    base = suspect.scale / (factor * owner.scale)
    for own, row, other in zip(inputs.factors, image, held, strict=True):
        ratios = [_exact(b) / _exact(a) for a, b in zip(row, other, strict=True) if a]
        if not ratios:
            continue
        ends = [own * base * ratio for ratio in (min(ratios), max(ratios))]
        low, high = min(ends), max(ends)
        if low < 0:
            return None
        least = low if least is None else min(least, low)
        most = high if most is None else max(most, high)
    if least is None or most is None:
        return Fraction(0)
    share = owner.square / suspect.square
    low, high = least * least * share, most * most * share
    return max(_above_one(high), _below_one(low), Fraction(0))


def _above_one(square: Fraction) -> Fraction:
    """An upper bound of ``sqrt(square) - 1``; exact for 1."""
    return Fraction(0) if square == 1 else 1 / inverse_root(square)[0] - 1


def _below_one(square: Fraction) -> Fraction:
    """An upper bound of ``1 - sqrt(square)``; exact for 1."""
    return Fraction(0) if square == 1 else 1 - 1 / inverse_root(square)[1]


def _bias(owner: Unit, suspect: Unit, factor: Fraction) -> Fraction | None:
    """The relative error of ``h``; ``None``: there is no bound."""
    (p, q), (other, rest) = owner.bias, suspect.bias
    p, q = factor * p, factor * q
    if p == other and _same_roots(q, owner.square, rest, suspect.square):
        return Fraction(0)
    one, two = inverse_root(owner.square), inverse_root(suspect.square)
    wanted = _times(q, one)
    found = _times(rest, two)
    low = other - p + found[0] - wanted[1]
    high = other - p + found[1] - wanted[0]
    if low == high == 0:
        return Fraction(0)
    size = abs(p) + abs(q) * one[0]
    return None if size == 0 else max(abs(low), abs(high)) / size


def _same_roots(p: Fraction, s: Fraction, q: Fraction, t: Fraction) -> bool:
    """Whether ``p / sqrt(s)`` and ``q / sqrt(t)`` are equal."""
    return (p > 0) == (q > 0) and (p < 0) == (q < 0) and p * p * t == q * q * s


def _times(number: Fraction, ends: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    found = (number * ends[0], number * ends[1])
    return (min(found), max(found))


def inverse_root(square: Fraction) -> tuple[Fraction, Fraction]:
    """Rationals around ``1 / sqrt(square)``; both are it where it is rational.

    >>> inverse_root(Fraction(4, 9))
    (Fraction(3, 2), Fraction(3, 2))
    """
    top, bottom = square.numerator, square.denominator
    # 1 / sqrt(top / bottom) = sqrt(top bottom) / top
    whole = (top * bottom) << (2 * ROOT_BITS)
    root = isqrt(whole)
    unit = top << ROOT_BITS
    exact = root * root == whole
    return Fraction(root, unit), Fraction(root if exact else root + 1, unit)


def _exact(number: float) -> Fraction:
    return Fraction(float(number))


def factors_of(numbers: Sequence[float]) -> tuple[Fraction, ...]:
    """Finite floats as exact factors."""
    return tuple(_exact(number) for number in numbers)


STEADY = ("", "Relu", "LeakyRelu", "Tanh")
"""Activations that are 0 at 0, and have the Lipschitz constant 1 (LeakyRelu: if its slope is)."""


def apart(owner: Chain, found: Deviation, size: Fraction, tick: Tick = lambda: None) -> Fraction:
    """Theorem 2: how far the outputs of owner and suspect are apart, at most.

    Args:
        owner: the chain.
        found: how far the suspect deviates from it; bounded.
        size: of the entries of inputs, in magnitude.
        tick: called for each unit.

    Raises:
        EvidenceError: there is no bound, or the theorem does not speak of such a chain.
    """
    if found.weights is None or found.biases is None:
        raise EvidenceError("parameters deviate without a bound")
    if owner.computes or any(not _steady(layer) for layer in owner.layers):
        raise EvidenceError(
            "how far outputs are apart is known for chains whose activations are Relu, LeakyRelu "
            "of a slope of at most 1, or Tanh, and whose inputs nothing changes before"
        )
    inputs = owner.layers[0].weight.shape[1]
    sizes, gaps = [size] * inputs, [Fraction(0)] * inputs
    for layer in owner.layers:
        sizes = [each for each in sizes for _ in range(layer.spread)]
        gaps = [each for each in gaps for _ in range(layer.spread)]
        moved = [
            (1 + found.weights) * gap + found.weights * each
            for gap, each in zip(gaps, sizes, strict=True)
        ]
        after, off = [], []
        for number in range(layer.units):
            tick()
            unit = Unit(layer, number)
            root = inverse_root(unit.square)[1]
            row = layer.weight[number].reshape(len(sizes), -1)
            gains = [sum(map(_magnitude, entries), Fraction(0)) for entries in row.tolist()]
            gains = [gain * abs(unit.scale) * root for gain in gains]
            own = abs(unit.bias[0]) + abs(unit.bias[1]) * root
            after.append(_short(_dot(gains, sizes) + own))
            off.append(_short(_dot(gains, moved) + found.biases * own))
        sizes, gaps = after, off
    return max(gaps)


def _steady(layer: Layer) -> bool:
    return layer.activation in STEADY and abs(layer.slope) <= 1


def _magnitude(number: float) -> Fraction:
    return abs(Fraction(number))


def _dot(one: Sequence[Fraction], other: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(one, other, strict=True)), Fraction(0))


def _short(number: Fraction) -> Fraction:
    """Rounded up to few bits."""
    if number == 0:
        return number
    shift = SHORT_BITS - number.numerator.bit_length() + number.denominator.bit_length()
    scaled = number * Fraction(2) ** shift
    return Fraction(-(-scaled.numerator // scaled.denominator)) / Fraction(2) ** shift
