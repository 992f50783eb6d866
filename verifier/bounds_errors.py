"""The errors that a search reckons with: the kernel's own, over all cases at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proofs.bounds import propagate, sweep
from proofs.frame import Batch, Frame
from proofs.outward import Outward
from proofs.tree import hull
from specs.enclosure import FloatArray
from specs.errors import FarkasError, UnsupportedOperatorError
from specs.query import Query


class OverflowPossibleError(FarkasError):
    """Overflow is not excluded, so nothing can be proved."""


def error_radii(
    query: Query, tick: Callable[[], None] = lambda: None
) -> dict[int, FloatArray] | None:
    """By perturbed tensor the largest errors in any case; ``None`` without perturbations.

    The kernel takes them case by case, from magnitudes that are no larger.

    Args:
        query: the question.
        tick: called between pieces of work; may raise to stop.

    Raises:
        OverflowPossibleError: for the first tensor at which it is not excluded.
        UnsupportedOperatorError: words of the network may be faulty, which searches know
            nothing of.
    """
    network = query.network
    if network.struck:
        raise UnsupportedOperatorError("no search has a rule for faulty parameters yet")
    if not network.perturbed:
        return None
    frame = Frame(network, Outward())
    low, high = (side[None, :] for side in hull(query.property.cases))
    batch = Batch(low, high, {}, np.zeros(1, dtype=bool))
    with np.errstate(all="ignore"):
        propagate(frame, batch, record=True)
        sweep(frame, batch, record=True, tick=tick)
        tensor = frame.overflow()
        if tensor is not None:
            raise OverflowPossibleError(f"overflow is not excluded at tensor '{tensor}'")
        return {t: frame.arithmetic.floats_up(frame.radius(t)) for t in network.perturbed}
