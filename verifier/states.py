"""What the kernel knows at nodes of a proof, as the search has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from proofs.oracle import State
from verifier.bounds import Domains, TorchNetwork


def known(states: Sequence[State], net: TorchNetwork) -> Domains:
    """The boxes and bounds of states of the outward arithmetic, whose numbers are floats."""
    batches = [state.domains.batch for state in states]
    sides = [
        np.concatenate(
            [
                np.zeros((len(states), 0)),
                *(np.concatenate([b.bounds[t][side] for b in batches]) for t in net.neurons),
            ],
            axis=1,
        )
        for side in (0, 1)
    ]
    boxes = [np.concatenate([getattr(b, end) for b in batches]) for end in ("lower", "upper")]
    low, high, lower, upper = (
        torch.tensor(part, device=net.device, dtype=net.dtype) for part in (*boxes, *sides)
    )
    return Domains(low, high, lower, upper)
