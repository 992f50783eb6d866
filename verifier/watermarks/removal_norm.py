"""Least changes of a last layer in the l2 norm, by non-negative least squares.

Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23: the shortest ``x`` with
``A x >= b`` comes from the residual of ``[A^T; b^T] u = (0, ..., 0, 1)`` with ``u >= 0``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from proofs.watermarks.removal import Ends
from specs.enclosure import FloatArray
from verifier.watermarks.removal_lp import Data, Moved, NoAnswerError, Relaxed

Fact = tuple[int, int, float]
"""A sample, a class, and 1 if the margin is not positive, -1 if it is."""


@dataclass(frozen=True, eq=False)
class Shortest:
    """The shortest point of a polyhedron.

    Attributes:
        point: ``(p,)``; multipliers: ``(m,)`` of its rows, not negative: ``point = A^T y``.
    """

    point: FloatArray
    multipliers: FloatArray


def shortest(rows: FloatArray, limits: FloatArray) -> Shortest | None:
    """The shortest ``x`` with ``rows x >= limits``; ``None``: there is none, or nearly none.

    Args:
        rows: ``(m, p)``; ``limits``: ``(m,)``.

    Raises:
        NoAnswerError: the solver has no answer.
    """
    if not np.any(limits > 0):
        return Shortest(np.zeros(rows.shape[1]), np.zeros(len(rows)))
    scale = float(np.abs(limits).max())
    system = np.concatenate([rows, limits[:, None] / scale], axis=1).T
    goal = np.append(np.zeros(rows.shape[1]), 1.0)
    try:
        u, _ = nnls(system, goal)
    except RuntimeError as error:
        raise NoAnswerError(f"least squares: {error}") from None
    residual = goal - system @ u
    if residual[-1] <= 1e-13:
        return None
    multipliers = u * scale / residual[-1]
    return Shortest(np.asarray(rows.T @ multipliers), np.asarray(multipliers))


class Distances:
    """What the facts of a path cost in the l2 norm; of samples left open nothing is said.

    Args:
        data: the samples.
        keep: whether all samples that are no triggers are kept.
    """

    def __init__(self, data: Data, keep: bool) -> None:
        self._data = data
        others = np.flatnonzero(~data.trigger).tolist() if keep else []
        self._always = [(i, c, -1.0) for i in others for c in data.others(i)]

    def solve(self, ends: Ends) -> Relaxed | None:
        """What a path of the tree allows; ``None``: nothing.

        Raises:
            NoAnswerError: the solver has no answer.
        """
        facts = list(self._always)
        for i, (target, spared) in ends.items():
            facts += [(i, c, -1.0) for c in sorted(spared)]
            if target is not None:
                facts.append((i, target, 1.0))
        found = self._shortest(facts)
        if found is None:
            return None
        vectors = np.zeros(self._data.margins.shape)
        for (i, c, sign), value in zip(facts, found.multipliers.tolist(), strict=True):
            vectors[i, self._data.labels[i]] += sign * value
            vectors[i, c] -= sign * value
        change = found.point.reshape(self._data.margins.shape[1], -1)
        return Relaxed(float(np.linalg.norm(found.point)), vectors, change)

    def _shortest(self, facts: Sequence[Fact]) -> Shortest | None:
        data = self._data
        classes, width = data.margins.shape[1], data.hidden.shape[1]
        forms = np.zeros((len(facts), classes, width))
        limits = np.zeros(len(facts))
        for number, (i, c, sign) in enumerate(facts):
            forms[number, data.labels[i]] = -sign * data.hidden[i]
            forms[number, c] = sign * data.hidden[i]
            limits[number] = sign * data.margins[i, c]
        return shortest(forms.reshape(len(facts), classes * width), limits)


def nearest_targets(
    data: Data, targets: Mapping[int, int], keep: Sequence[int] = ()
) -> Moved | None:
    """As ``removal_lp.fixed_targets``, in the l2 norm.

    Raises:
        NoAnswerError: the solver has no answer.
    """
    facts: Ends = {i: (c, frozenset()) for i, c in targets.items()}
    for i in keep:
        facts[i] = (None, frozenset(data.others(i)))
    found = Distances(data, False).solve(facts)
    return None if found is None else Moved(found.bound, found.change)
