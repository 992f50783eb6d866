"""Exact linear forms over tensor entries: constraints, facts and their combinations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from specs.network import Network
from specs.property import Constraint

Place = tuple[int, int]
"""A tensor and a flat index in it."""


ONE, MINUS_ONE = Fraction(1), Fraction(-1)
"""Where a weight or a multiplier is one of these very objects, products are made faster."""


def exactly(value: float) -> Fraction:
    """A finite float as a rational."""
    if value == 1.0:
        return ONE
    return MINUS_ONE if value == -1.0 else Fraction(*value.as_integer_ratio())


@dataclass(frozen=True)
class Form:
    """``sum(weights[t, i] * tensor_t[i]) + constant``; as a fact, it is at most 0.

    Attributes:
        strict: as a fact, it is less than 0.
    """

    weights: Mapping[Place, Fraction]
    constant: Fraction
    strict: bool = False


def combine(parts: Iterable[tuple[Fraction, Form]]) -> Form:
    """The combination of facts with non-negative multipliers, itself a fact.

    It is strict when a strict fact has a positive multiplier.
    """
    weights: dict[Place, Fraction] = {}
    constant, strict = Fraction(0), False
    for multiplier, form in parts:
        if multiplier.numerator <= 0:  # clamped to its right sign
            continue
        strict = strict or form.strict
        once = multiplier is ONE
        if form.constant.numerator:
            constant += form.constant if once else multiplier * form.constant
        if once and not weights:
            weights.update(form.weights)
            continue
        for place, weight in form.weights.items():
            if once:
                product = weight
            elif weight is ONE:  # most facts speak of one neuron
                product = multiplier
            elif weight is MINUS_ONE:
                product = -multiplier
            else:
                product = multiplier * weight
            known = weights.get(place)
            weights[place] = product if known is None else known + product
    return Form(weights, constant, strict)


def of_constraint(network: Network, constraint: Constraint) -> Form:
    """A property's constraint over tensor entries, scaled to integer coefficients."""
    coefficients = [c for _, c in (*constraint.inputs, *constraint.outputs)]
    scale = math.lcm(*(c.denominator for c in coefficients))
    weights: dict[Place, Fraction] = {}
    for tensors, listed in (
        (network.inputs, constraint.inputs),
        (network.outputs, constraint.outputs),
    ):
        for index, coefficient in listed:
            place = _place(network, tensors, index)
            weight = coefficient if scale == 1 else coefficient * scale
            weights[place] = weights[place] + weight if place in weights else weight
    return Form(weights, constraint.constant * scale, constraint.strict)


def _place(network: Network, tensors: tuple[int, ...], index: int) -> Place:
    for tensor in tensors:
        if index < network.sizes[tensor]:
            return tensor, index
        index -= network.sizes[tensor]
    raise IndexError("a constraint speaks of an entry that the network does not have")
