"""The search's lines are numbers, and enclose the function, wherever the bounds lie."""

from __future__ import annotations

import pytest
import torch

from verifier.relaxations import find

ENDS = (0.0, 1e-45, 1e-38, 1e-300, 1e-8, 1.0, 1e30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_relu_lines_on_degenerate_and_huge_intervals(dtype: torch.dtype, slope: float) -> None:
    # A neuron whose bounds were both 0 once made every bound of its network NaN in float32.
    signed = [sign * end for end in ENDS for sign in (-1.0, 1.0)]
    pairs = torch.tensor([(a, b) for a in signed for b in signed if a <= b], dtype=torch.float64)
    lower, upper = pairs.to(dtype).T
    kept = lower.isfinite() & upper.isfinite()
    lower, upper = lower[kept], upper[kept]
    relu = find("relu")
    for lines in (
        relu.default(lower, upper),
        relu.hinted(lower, upper, torch.full_like(lower, slope)),
    ):
        for part in (lines.lower_slope, lines.upper_slope, lines.upper_intercept):
            assert bool(part.isfinite().all())
        for x in (lower, upper, lower.clamp(min=0).minimum(upper)):
            z, value = x.double(), x.double().clamp(min=0)
            room = 1e-5 * (lower.double().abs() + upper.double().abs()) + 1e-37
            above = lines.upper_slope.double() * z + lines.upper_intercept.double()
            assert bool((above >= value - room).all())
            assert bool((lines.lower_slope.double() * z <= value + room).all())
