"""The linear programs of one root for partial assignments; see :mod:`verifier.stars.triangle`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from verifier.alpha import Multipliers
from verifier.bab_leaves import Leaves, Root
from verifier.smt.settings import Settings
from verifier.stars.corners import FloatArray
from verifier.stars.images import images, relaxed, take_slopes
from verifier.stars.triangle import Triangles


@dataclass(frozen=True, eq=False)
class Solved:
    """An optimum.

    Attributes:
        point: ``(1, I)`` the inputs.
        multipliers: of one row.
    """

    point: Tensor
    multipliers: Multipliers


class Program:
    """The linear programs of one root, one after the other."""

    def __init__(self, root: Root, settings: Settings) -> None:
        self._net, state = root.nets.sure, root.state
        seen = images(self._net, state.lower[0], state.upper[0])
        case = torch.tensor([root.case], device=state.low.device)
        star = relaxed(seen, state, root.forms, root.table.regions(case))
        self._unstable = seen.unstable
        self._triangles = Triangles(star, settings.program_seconds)

    def solve(self, leaves: Leaves) -> Solved | None:
        """The optimum of a single partial assignment; ``None``: none was found."""
        signs = leaves.signs[0, self._unstable].cpu().numpy()
        found = self._triangles.solve(signs, int(leaves.disjunct[0]))
        if found is None:
            return None
        own = leaves.multipliers
        alpha = own.alpha.double().clone()
        take_slopes(self._net, alpha, self._wide(found.slopes, -1.0))

        def row(values: FloatArray) -> Tensor:
            return torch.tensor(values[None], device=alpha.device)

        made = replace(own, alpha=alpha)
        if own.beta is not None:
            made = replace(made, beta=self._wide(found.beta, 0.0))
        if own.weights is not None:
            made = replace(made, weights=row(found.weights))
        if own.region is not None:
            made = replace(made, region=row(found.region))
        return Solved(row(found.point), made)

    def _wide(self, values: FloatArray, rest: float) -> Tensor:
        """Values of the unstable neurons as a row of all."""
        full = np.full((1, self._net.neuron_count), rest)
        full[0, self._unstable.cpu().numpy()] = values
        return torch.tensor(full, device=self._unstable.device)
