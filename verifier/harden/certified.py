"""Bounds of activations over a domain, and tighter ones within a time limit.

The numbers are floating point's: they are rounded outward and widened a little, and whether
they hold is left to the kernel (``theorem``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specs.errors import InputError
from verifier.harden.surgery import FloatArray
from verifier.harden.theorem import Box, Probe, answer, query_of, stated
from verifier.needs import need_torch
from verifier.progress import Progress

STEPS = 30
"""Gradient steps on the slopes of relaxations."""
ROWS = 128
"""Entries that are bounded at a time."""
FLOOR = 2.0**-20
"""Bounds are widened by at least this, relative to the largest of the tensor."""
CLOSE = 0.02
"""Where the gap between a bound and a value that is reached is no longer worth closing."""


@dataclass(frozen=True, eq=False)
class Ends:
    """Bounds of all outputs of a probe, ``(n,)`` each; float64, not rigorous."""

    lower: FloatArray
    upper: FloatArray


def bounded(probe: Probe, box: Box, steps: int = STEPS) -> Ends:
    """Bounds over a box by linear relaxations with optimised slopes.

    Args:
        probe: whose outputs.
        box: of its inputs.
        steps: of the optimisation; 0: default slopes.

    Raises:
        InputError: the bounds of an activation are not finite.
        MissingExtraError: torch is not installed.
        OverflowPossibleError: under float semantics overflow is not excluded.
    """
    need_torch("cpu")
    import torch

    from verifier.alpha import Effort, Problem, initial, optimise
    from verifier.bounds import Rows
    from verifier.bounds_compile import compile_network
    from verifier.bounds_errors import error_radii
    from verifier.bounds_sweep import fresh, sweep

    unsafe = ((),)  # the question's statement does not matter: errors depend on its region
    query = query_of(probe, stated(probe, unsafe, [box]))
    net = compile_network(probe.network, radii=error_radii(query))
    low, high = (torch.tensor(end[None]) for end in query.property.cases[0].box())
    swept = sweep(net, fresh(net, low, high)).domains
    sides: list[list[FloatArray]] = [[], []]
    for number in probe.network.outputs:
        size = probe.network.sizes[number]
        for side, sign in enumerate((1.0, -1.0)):
            chosen = sign * torch.eye(size, dtype=torch.float64)
            for start in range(0, size, ROWS):
                matrix = chosen[start : start + ROWS]
                rows = Rows({number: matrix[:, None]}, matrix.new_zeros(len(matrix), 1))
                problem = Problem(net, rows, low, high, swept.lower, swept.upper)
                bound, _ = optimise(problem, initial(problem), Effort(steps=steps))
                sides[side].append(sign * bound.numpy())
    ends = Ends(np.concatenate(sides[0]), np.concatenate(sides[1]))
    if not (np.all(np.isfinite(ends.lower)) and np.all(np.isfinite(ends.upper))):
        raise InputError("the bounds of an activation are not finite over this domain")
    return ends


def outward(values: FloatArray, sign: float, margin: float, dtype: npt.DTypeLike) -> FloatArray:
    """Bounds widened by a relative margin and rounded to a type, away from what they bound.

    Args:
        values: the bounds of one tensor.
        sign: 1 for upper, -1 for lower bounds.
        margin: relative, at least 0.
        dtype: of the tensor.

    Raises:
        InputError: a bound is beyond the type.
    """
    largest = np.abs(values).max(initial=0.0)
    wide = values + sign * (margin * np.abs(values) + FLOOR * largest + 2.0**-100)
    return rounded(wide, sign, dtype)


def rounded(values: FloatArray, sign: float, dtype: npt.DTypeLike) -> FloatArray:
    """The next number of a type at or beyond each value, in the direction of ``sign``.

    Raises:
        InputError: there is none.
    """
    with np.errstate(over="ignore"):
        held = np.asarray(values).astype(dtype)
        short = sign * held.astype(np.float64) < sign * np.asarray(values)
        held = np.where(short, np.nextafter(held, np.asarray(sign * np.inf, held.dtype)), held)
    if not np.all(np.isfinite(held)):
        raise InputError(f"a bound is beyond the numbers of {np.dtype(dtype)}")
    return np.asarray(held.astype(np.float64))


@dataclass(frozen=True, eq=False)
class Unit:
    """Entries that share an upper bound.

    Attributes:
        outputs: their numbers.
        upper: that holds.
        reached: a value that one of them takes, or is taken to.
    """

    outputs: Sequence[int]
    upper: float
    reached: float

    @property
    def gap(self) -> float:
        """Relative to the bound."""
        return (self.upper - self.reached) / max(abs(self.upper), 1e-30)


def tightened(
    probe: Probe, box: Box, units: Sequence[Unit], deadline: float, progress: Progress
) -> list[Unit]:
    """Lower the upper bounds of units by bisection, with the search as oracle.

    Args:
        probe: the model.
        box: of its inputs.
        units: in no order.
        deadline: a ``time.monotonic()`` value.
        progress: where to report.

    Returns:
        The units, in their order; each new bound was proved on its own.
    """
    from specs.builders import out_of_range

    found = list(units)
    count = probe.network.output_size
    while True:
        order = sorted(range(len(found)), key=lambda i: -found[i].gap)
        if not order or found[order[0]].gap < CLOSE:
            return found
        rest = deadline - time.monotonic()
        if rest <= 0.1:
            return found
        place = order[0]
        unit = found[place]
        middle = float(np.float32(0.5 * (unit.upper + unit.reached)))
        progress.stage(f"tightening: {len(found)} bounds, the widest gap {unit.gap:.0%}")
        if not unit.reached < middle < unit.upper:
            found[place] = Unit(unit.outputs, unit.upper, unit.upper)
            continue
        unsafe = [c for j in unit.outputs for c in out_of_range(count, j, None, middle)]
        query = query_of(probe, stated(probe, unsafe, [box]))
        slice_ = max(1.0, rest / max(4, 2 * sum(u.gap >= CLOSE for u in found)))
        holds = answer(query, min(rest, slice_)).answer == "unsat"
        # What was not decided is not tried again: the value counts as reached.
        upper, reached = (middle, unit.reached) if holds else (unit.upper, middle)
        found[place] = Unit(unit.outputs, upper, reached)
