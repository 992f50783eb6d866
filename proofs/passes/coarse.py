"""Rounding hints to fewer bits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from proofs.proof import Fact
from proofs.tables import Block, Step, Substitution


@dataclass(frozen=True, eq=False)
class Coarse:
    """Rounds hints; what is shared stays so.

    Attributes:
        slopes: multiples of ``2 ** -slopes`` of the least power of two that is at least the
            largest slope of a block.
        multipliers: significant bits of multiples of facts; those that are so many powers of
            two smaller than the largest one are dropped.
        weights: significant bits of the weights of constraints.
    """

    slopes: int
    multipliers: int
    weights: int
    _blocks: dict[int, tuple[Block, Block]] = field(default_factory=dict)
    _hints: dict[int, tuple[Substitution, Substitution]] = field(default_factory=dict)
    _steps: dict[int, tuple[Step, Step]] = field(default_factory=dict)

    def hints(self, hints: Substitution) -> Substitution:
        """Hints in fewer bits."""
        if id(hints) not in self._hints:
            made = replace(
                hints,
                blocks=tuple(self._block(block) for block in hints.blocks),
                multipliers=self._multipliers(hints.multipliers),
                weights=tuple(significant(weight, self.weights) for weight in hints.weights),
            )
            self._hints[id(hints)] = hints, made
        return self._hints[id(hints)][1]

    def step(self, step: Step) -> Step:
        """A step with hints in fewer bits."""
        if not step.substitution.blocks and not step.substitution.multipliers:
            return step
        if id(step) not in self._steps:
            made = replace(step, substitution=self.hints(step.substitution))
            self._steps[id(step)] = step, made
        return self._steps[id(step)][1]

    def _block(self, block: Block) -> Block:
        if id(block) not in self._blocks:
            largest = float(np.abs(block.slopes).max(initial=0.0))
            if largest > 0:
                unit = 2.0 ** (math.ceil(math.log2(largest)) - self.slopes)
                made = replace(block, slopes=np.rint(block.slopes / unit) * unit)
            else:
                made = block
            self._blocks[id(block)] = block, made
        return self._blocks[id(block)][1]

    def _multipliers(
        self, listed: tuple[tuple[Fact, int, float], ...]
    ) -> tuple[tuple[Fact, int, float], ...]:
        largest = max((value for _, _, value in listed), default=0.0)
        least = largest * 2.0 ** -(self.multipliers + 2)
        return tuple(
            (kind, index, significant(value, self.multipliers))
            for kind, index, value in listed
            if value > least
        )


BITS = ((0, 2, 2), (1, 3, 4), (3, 5, 6))
"""Roundings to be tried in turn: of slopes, multipliers and weights."""


def ladder() -> tuple[Coarse, ...]:
    """The roundings, which remember what they have rounded."""
    return tuple(Coarse(*bits) for bits in BITS)


def significant(value: float, bits: int) -> float:
    """A number rounded to so many significant bits."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)
