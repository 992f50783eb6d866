"""Bounds of output 0 of generated networks, and boxes in which they are as loose as wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from benchmarks.generated import Model, above
from verifier.alpha import Problem, bounded, initial
from verifier.bab import Progress, Search, Settings
from verifier.bounds import Domains, Rows, TorchNetwork, evaluate
from verifier.bounds_sweep import fresh, sweep

UNSPLIT = Settings(method="neurons", split=False)


def root(net: TorchNetwork, middle: Sequence[float], radius: float) -> Domains:
    """The box of a radius around a point, with default bounds of all neurons."""
    at = torch.tensor(middle, device=net.device, dtype=net.dtype)[None]
    return sweep(net, fresh(net, at - radius, at + radius)).domains


def problem(net: TorchNetwork, box: Domains, rows: int) -> Problem:
    """Output 0 over a box, ``rows`` times, each with bounds and splits of its own."""
    form = torch.zeros(rows, 1, net.sizes[net.outputs[0]], device=net.device, dtype=net.dtype)
    form[:, :, 0] = 1.0
    forms = Rows({net.outputs[0]: form}, form.new_zeros(rows, 1))
    lower, upper = box.lower.repeat(rows, 1), box.upper.repeat(rows, 1)
    return Problem(net, forms, box.low, box.high, lower, upper, torch.zeros_like(lower))


def least_value(
    net: TorchNetwork,
    radius: float,
    starts: int = 64,
    steps: int = 30,
    middle: Sequence[float] | None = None,
) -> float:
    """The least value of output 0 that gradient descent finds from corners of the box.

    The box is that of the radius around ``middle``, or around 0.
    """
    random = torch.Generator().manual_seed(0)
    points = torch.rand(starts, net.input_size, generator=random, dtype=net.dtype) - 0.5
    points = points.sign() * radius
    at = torch.zeros_like(points[0]) if middle is None else torch.tensor(middle, dtype=net.dtype)
    least = math.inf
    for step in range(steps):
        points.requires_grad_()
        values = evaluate(net, at + points)[:, 0]
        least = min(least, float(values.detach().min()))
        (slope,) = torch.autograd.grad(values.sum(), points)
        length = 2 * radius * (1 - step / steps)
        points = (points.detach() - length * slope.sign()).clamp(-radius, radius)
    return least


def default_bound(net: TorchNetwork, radius: float) -> float:
    """The bound of output 0 over the box of a radius around 0 by default slopes."""
    asked = problem(net, root(net, [0.0] * net.input_size, radius), 1)
    return float(bounded(asked, initial(asked)).bound)


def find_radius(net: TorchNetwork, loose: float, steps: int = 12) -> float:
    """The radius at which default bounds of output 0 are as loose as wanted.

    They are then ``loose`` times as far below the least value in the box around 0 as the
    value at 0 is above it.
    """
    centre = float(evaluate(net, torch.zeros(1, net.input_size, dtype=net.dtype))[0, 0])
    small, large = math.log(1e-4), math.log(1.0)
    for _ in range(steps):
        middle = (small + large) / 2
        least = least_value(net, math.exp(middle))
        if least - default_bound(net, math.exp(middle)) < loose * (centre - least):
            small = middle
        else:
            large = middle
    return math.exp(small)


def unsplit_bound(model: Model, radius: float, asked: float) -> float:
    """The bound of output 0 by optimised slopes, where it does not reach ``asked``."""
    worst: list[float] = []

    def on_round(far: Progress) -> bool:
        worst.append(far.worst)
        return False

    query = above(model, [0.0] * model[0].input_size, radius, asked)
    Search(query, deadline=math.inf, settings=UNSPLIT, on_round=on_round).run()
    return worst[-1] + asked
