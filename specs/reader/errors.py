"""What rounding may add to the result of an elementary step.

Every bound covers that numbers below the smallest normal one are flushed to zero: where an
operator reads them (its inputs; stored weights are enclosures that contain 0), where it
writes them, and in between.  Operators that do not round (Relu, Max, Reshape) may flush as
well.  They give a number that equals the exact result or lies below the smallest normal
number with it; maxima, minima and moved entries keep that relation, and whoever reads such
a number pays for the difference as for flushing it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.linear import Gather, Identity
from specs.network import Error, Linear
from specs.perturbation import Rounding, above

FloatArray = npt.NDArray[np.float64]


def weight_sums(node: Linear) -> FloatArray:
    """At least the sum of the magnitudes of a node's weights, entry by entry."""
    total = np.zeros(math.prod(node.shape))
    for term in node.terms:
        ones, weight = np.ones((1, term.map.source_size)), term.map.weight
        size: FloatArray | None = None
        if weight is not None:
            size = np.abs(weight.value)
            size = size if weight.radius is None else size + weight.radius
        total = total + term.map.forward(ones, size, np.matmul)[0]
    return above(total)


def is_exact(node: Linear) -> bool:
    """Whether a node only moves entries, adds 0 to them or changes their signs."""
    moves = all(isinstance(term.map, Identity | Gather) for term in node.terms)
    single = len(node.terms) == 1
    constant = bool(np.any(node.offset.value)) or not node.offset.exact
    if not moves or (single and not constant):
        return moves
    count = sum(
        term.map.forward(np.ones((1, term.map.source_size)), None, np.matmul)[0]
        for term in node.terms
    )
    count = count + ((node.offset.value != 0) | (_radius(node) != 0))
    return bool(np.all(count <= 1))


def linear_error(
    node: Linear,
    rounding: Rounding,
    factors: int,
    *,
    base: FloatArray | None = None,
    constants: int = 1,
    reach: float = 0.0,
    amplified: float = 1.0,
) -> Error:
    """The error of a sum of products, in whatever order it is taken.

    Args:
        node: the sum.
        rounding: the format.
        factors: how many roundings of products, quotients and factors a term goes through.
        base: magnitudes of the constant terms where they are not the offset's.
        constants: how many of them there are.
        reach: see :class:`specs.network.Error`.
        amplified: by how much a later factor may stretch what was flushed before.
    """
    if base is None:
        base = np.abs(node.offset.value) + _radius(node)
    terms = sum(term.map.fan_in for term in node.terms)
    terms += constants if np.any(base) else 0
    spread = rounding.share(terms, factors)
    flushes = (factors + 2.0) * terms + weight_sums(node)
    return Error(
        spread=spread,
        floor=above(above(flushes * rounding.tiny * amplified) * (1.0 + spread)),
        base=above(base),
        reach=reach * (1.0 + spread),
        limit=rounding.largest,
    )


def own_error(rounding: Rounding, factors: int, stretch: float = 0.0) -> Error:
    """The error of a result that goes through ``factors`` roundings.

    A flushed argument moves it by ``stretch`` times the smallest normal number at most.
    """
    return Error(
        own=rounding.share(1, factors),
        floor=above([rounding.tiny * (2.0 + stretch)]),
        limit=rounding.largest,
    )


def product_error(rounding: Rounding) -> Error:
    """The error of a product of two tensors; a flushed factor costs at most the other's."""
    return Error(
        own=rounding.share(1, 1),
        lean=rounding.tiny,
        floor=above([2.0 * rounding.tiny]),
        limit=rounding.largest,
    )


def factor_error(rounding: Rounding) -> Error:
    """What flushing the factors costs a product that is rounded later, in a sum."""
    return Error(lean=rounding.tiny, limit=rounding.largest)


def flush_error(rounding: Rounding) -> Error:
    """Numbers below the smallest normal one may be 0."""
    return Error(floor=np.array([rounding.tiny]))


def gap_error(rounding: Rounding) -> Error:
    """Errors of ``x_j - x_i`` where both are differences to the row's maximum, rounded.

    Each is at most the largest difference in magnitude.
    """
    return Error(
        peak=2.0 * rounding.share(2, 0),
        floor=above([8.0 * rounding.tiny]),
        limit=rounding.largest,
    )


def _radius(node: Linear) -> Any:
    return 0.0 if node.offset.radius is None else node.offset.radius
