"""Relu: the chord above, a line through the origin below."""

from __future__ import annotations

import torch
from torch import Tensor

from verifier.relaxations import Lines, Relaxation


def default(lower: Tensor, upper: Tensor) -> Lines:
    """The kernel's own lines on ``[lower, upper]``.

    An unstable neuron's lower slope is 1 where ``upper > -lower`` after both are rounded
    to float32, else 0.
    """
    slope = (upper.float() > -lower.float()).to(lower.dtype)
    return hinted(lower, upper, slope)


def hinted(lower: Tensor, upper: Tensor, slope: Tensor) -> Lines:
    """Lines with the given lower slopes in [0, 1] where the neuron is unstable."""
    active = (lower >= 0).to(lower.dtype)
    tiny = torch.finfo(lower.dtype).tiny  # the width may be 0 where neurons are stable
    unstable = ((lower < 0) & (upper > 0)).to(lower.dtype)
    chord = unstable * upper / (upper - lower).clamp(min=tiny)
    return Lines(active + unstable * slope, None, active + chord, -chord * lower)


def linear(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Stable neurons, and 1 where they are active."""
    return (lower >= 0) | (upper <= 0), (lower >= 0).to(lower.dtype)


RELU = Relaxation(value=torch.relu, default=default, hinted=hinted, linear=linear)
