"""Diagonal matrices that exceed a symmetric one: proposed in floats, repaired in integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from flint import fmpz_mat

from specs.enclosure import FloatArray

FACTOR_BITS = 48
"""Of the largest entry of a triangular factor."""

MARGIN = 2.0**-30
"""By how much, relatively, proposals are raised so that floats can factorise them."""

Whole = npt.NDArray[np.object_]


def exceeding(matrix: Whole, proposal: Sequence[int]) -> list[int]:
    """A diagonal ``D``, at least the proposal, such that ``D - matrix`` is positive semidefinite.

    For any triangular ``L``, with ``R = D - matrix - L L'``, adding to each ``D_i`` what the
    absolute values of the rest of row ``i`` of ``R`` exceed ``R_ii`` by makes ``R`` diagonally
    dominant.  Floats choose ``L``; nothing rests on how well they do.

    Args:
        matrix: ``(n, n)`` symmetric, of Python integers.
        proposal: ``n`` positive integers, of at most 900 bits.
    """
    diagonal, factor = _factor(matrix, proposal)
    largest = float(np.abs(factor).max(initial=0.0))
    shift = FACTOR_BITS - int(np.frexp(largest)[1]) if largest else 0
    shift = max(0, shift)
    size = len(diagonal)
    with_bits = [int(entry) for entry in np.rint(np.ldexp(factor, shift)).reshape(-1).tolist()]
    lower = fmpz_mat(size, size, with_bits)
    square = np.array((lower * lower.transpose()).entries(), dtype=object).reshape(size, size)
    rest = -(matrix * (1 << (2 * shift))) - np.vectorize(int, otypes=[object])(square)
    found = []
    for place, row in enumerate(rest):
        own = row[place] + (diagonal[place] << (2 * shift))
        others = sum(map(abs, row.tolist())) - abs(row[place])
        short = max(0, others - own)
        found.append(diagonal[place] - (-short >> (2 * shift)))  # rounded up
    return found


def _factor(matrix: Whole, proposal: Sequence[int]) -> tuple[list[int], FloatArray]:
    """A proposal that is raised enough for floats, and a triangular factor; zeros if none."""
    size = len(proposal)
    nothing = np.zeros((size, size))
    plain = matrix.astype(np.float64)
    roots = np.sqrt(np.array([float(entry) for entry in proposal]))
    scaled = plain / roots[:, None] / roots[None, :]
    if not np.all(np.isfinite(scaled)):
        return list(proposal), nothing
    try:
        most = max(1.0, float(np.linalg.eigvalsh(scaled)[-1])) * (1.0 + MARGIN)
        raised = [-(-entry * int(most * 2**40) >> 40) for entry in proposal]
        lower = np.linalg.cholesky(np.eye(size) - scaled / most)
    except np.linalg.LinAlgError:
        return list(proposal), nothing
    found = lower * (roots * np.sqrt(most))[:, None]
    usable = np.all(np.isfinite(found))
    return (raised, found) if usable else (list(proposal), nothing)
