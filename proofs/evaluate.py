"""Exact evaluation of a network at a rational point.

Every value is an integer over a common denominator, ``centre / (q * 2 ** shift)``, with a
radius in the same units where constants of the network are enclosures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.arithmetic import Numbers
from proofs.exact import integers
from proofs.functions import function
from proofs.limbs import product
from specs.enclosure import Enclosure, FloatArray
from specs.errors import EvidenceError
from specs.network import Error, Input, Linear, Network, Node, Perturbed, Product, Univariate

PRECISION = 512
"""Bits after the point where a value cannot be kept exactly."""

LONGEST = 4096
"""Most bits after the point of a product that is kept exactly."""

ERROR_PRECISION = 192
"""Bits after the point to which errors are rounded up, unless the tensor has more."""

Value = tuple[Fraction, Fraction]
"""A centre and a radius."""


@dataclass(frozen=True, eq=False)
class _Tensor:
    centre: Numbers
    radius: Numbers | None
    shift: int


def evaluate(network: Network, point: Sequence[Fraction]) -> list[Value]:
    """The network's outputs at a point, each within a radius of a rational.

    The radius is 0 unless constants of the network are enclosures, values irrational, or
    tensors perturbed: then the radius covers every error that is allowed.

    Raises:
        EvidenceError: a function is not defined there, or something may overflow.
    """
    common = math.lcm(*(x.denominator for x in point)) if point else 1
    tensors: list[_Tensor] = []
    start = 0
    for number, node in enumerate(network.nodes):
        if isinstance(node, Input):
            entries = point[start : start + network.sizes[number]]
            start += network.sizes[number]
            whole = [x.numerator * (common // x.denominator) for x in entries]
            tensors.append(_Tensor(_row(whole), None, 0))
        elif isinstance(node, Linear):
            tensors.append(_linear(node, tensors, common))
        elif isinstance(node, Product):
            tensors.append(_product(tensors[node.left], tensors[node.right], common))
        elif isinstance(node, Perturbed):
            before = network.nodes[node.source]
            tensors.append(_perturbed(node, before, tensors, common))
        else:
            tensors.append(_univariate(node, tensors[node.source], common))
    values: list[Value] = []
    for output in network.outputs:
        tensor = tensors[output]
        scale = common << tensor.shift
        radii = np.zeros_like(tensor.centre) if tensor.radius is None else tensor.radius
        for centre, radius in zip(tensor.centre[0], radii[0], strict=True):
            values.append((Fraction(int(centre), scale), Fraction(int(radius), scale)))
    return values


def _univariate(node: Univariate, source: _Tensor, common: int) -> _Tensor:
    rule = function(node.function, node.parameters)
    if not rule.homogeneous:
        source = _refined(source, PRECISION)
    unit = common << source.shift
    centre, radius = rule.at_point(source.centre, source.radius, unit)
    return _Tensor(centre, radius, source.shift)


def _product(left: _Tensor, right: _Tensor, common: int) -> _Tensor:
    """Without loss as long as that is short; else rounded, at a radius of one unit."""
    centre, shift = left.centre * right.centre, left.shift + right.shift
    radius: Numbers | None = None
    if left.radius is not None or right.radius is not None:
        own, other = (
            part.centre * 0 if part.radius is None else part.radius for part in (left, right)
        )
        radius = own * (np.abs(right.centre) + other) + np.abs(left.centre) * other
    if common == 1 and shift <= LONGEST:
        return _Tensor(centre, radius, shift)
    kept = max(left.shift, right.shift, PRECISION)
    up, down = max(kept - shift, 0), common << max(shift - kept, 0)
    rounding = centre * 0 + 1
    spread = rounding if radius is None else -((-radius << up) // down) + rounding
    return _Tensor((centre << up) // down, spread, kept)


def _refined(tensor: _Tensor, shift: int) -> _Tensor:
    """The same in units of at most ``2 ** -shift``."""
    more = max(0, shift - tensor.shift)
    radius = None if tensor.radius is None else tensor.radius << more
    return _Tensor(tensor.centre << more, radius, tensor.shift + more)


def _perturbed(node: Perturbed, before: Node, tensors: Sequence[_Tensor], common: int) -> _Tensor:
    """The error's radius, from magnitudes at the point, on top of the source's."""
    source, error = tensors[node.source], node.error
    if not isinstance(error, Error):
        raise EvidenceError(f"'{node.name}': a faulty network is evaluated with its faults only")
    own, zero = _magnitude(source), source.centre * 0
    read = [_magnitude(tensors[t]) for t in before.sources]
    size = own
    if isinstance(before, Linear):
        size = _sum([*_sizes(before, read), _constants(error.base, zero, common)])
    parts = [_constants(error.floor, zero, common), _times(error.own, own)]
    parts += [_times(error.spread, size), _times(error.peak, _largest([own], zero))]
    parts += [_times(error.lean, other) for other in read if error.lean]
    total = _sum(parts)
    reached = [_sum([size, total])]
    if error.reach and read:
        reached.append(_times(error.reach, _largest(read, zero)))
    for each in reached:
        if error.limit < math.inf and int(each.centre.max()) > Fraction(error.limit) * (
            common << each.shift
        ):
            raise EvidenceError(f"overflow is not excluded at the witness, in '{node.name}'")
    kept = max(source.shift, ERROR_PRECISION)
    spread = -((-total.centre) >> max(0, total.shift - kept))
    return _sum([source, _Tensor(zero, spread, min(total.shift, kept))])


def _magnitude(tensor: _Tensor) -> _Tensor:
    size = np.abs(tensor.centre)
    return _Tensor(size if tensor.radius is None else size + tensor.radius, None, tensor.shift)


def _times(factor: float, tensor: _Tensor) -> _Tensor:
    numerator, denominator = factor.as_integer_ratio()
    return _Tensor(tensor.centre * numerator, None, tensor.shift + denominator.bit_length() - 1)


def _constants(values: FloatArray, zero: Numbers, common: int) -> _Tensor:
    centre, shift = integers(Enclosure(values), "value")
    return _Tensor(zero if centre is None else zero + centre[None, :] * common, None, shift)


def _largest(parts: Sequence[_Tensor], zero: Numbers) -> _Tensor:
    shift = max(part.shift for part in parts)
    tops = [int(part.centre.max()) << (shift - part.shift) for part in parts]
    return _Tensor(zero + max(tops), None, shift)


def _sizes(node: Linear, read: Sequence[_Tensor]) -> list[_Tensor]:
    """Sums of ``|weight| * magnitude``, with the radii of weights on top."""
    found = []
    for term, magnitude in zip(node.terms, read, strict=True):
        for part in ("magnitude", "radius"):
            weight, shift = integers(term.map.weight, part)
            if part == "magnitude" or weight is not None:
                size = term.map.forward(magnitude.centre, weight, product)
                found.append(_Tensor(size, None, magnitude.shift + shift))
    return found


def _linear(node: Linear, tensors: Sequence[_Tensor], common: int) -> _Tensor:
    parts: list[_Tensor] = [_offset(node.offset, common)]
    for term in node.terms:
        source, weight = tensors[term.source], term.map.weight
        stored, shift = integers(weight, "value")
        centre = term.map.forward(source.centre, stored, product)
        parts.append(_Tensor(centre, None, source.shift + shift))
        if source.radius is not None:
            size, _ = integers(weight, "magnitude")
            spread = term.map.forward(source.radius, size, product)
            parts.append(_Tensor(centre * 0, spread, source.shift + shift))
        if weight is not None and weight.radius is not None:
            radii, more = integers(weight, "radius")
            reach = np.abs(source.centre)
            if source.radius is not None:
                reach = reach + source.radius
            spread = term.map.forward(reach, radii, product)
            parts.append(_Tensor(spread * 0, spread, source.shift + more))
    return _sum(parts)


def _offset(offset: Enclosure, common: int) -> _Tensor:
    centre, shift = integers(offset, "value")
    if centre is None:
        centre = np.zeros(offset.shape, dtype=object)
    stored = _Tensor(centre[None, :] * common, None, shift)
    radius, more = integers(offset, "radius")
    if radius is None:
        return stored
    return _sum([stored, _Tensor(centre[None, :] * 0, radius[None, :] * common, more)])


def _sum(parts: Sequence[_Tensor]) -> _Tensor:
    shift = max(part.shift for part in parts)
    centre = parts[0].centre << (shift - parts[0].shift)
    for part in parts[1:]:
        centre = centre + (part.centre << (shift - part.shift))
    radii = [part.radius << (shift - part.shift) for part in parts if part.radius is not None]
    return _Tensor(centre, sum(radii[1:], radii[0]) if radii else None, shift)


def _row(values: Sequence[int]) -> Numbers:
    out = np.empty((1, len(values)), dtype=object)
    out[0, :] = values
    return out
