"""The unsafe constraints of a property as one table of rows for all cases.

A disjunct is refuted when one of its constraints (``g <= 0``) has a positive lower bound; a
domain is closed when all disjuncts of its case are.  The *value* of a domain is the least
over disjuncts of the greatest lower bound among its constraints: positive means closed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from specs.property import Case, Constraint
from verifier.bounds import Rows, TorchNetwork

LARGEST = Fraction(torch.finfo(torch.float64).max)
"""What stands for limits that no float holds; the kernel has them exactly."""
MOST_APART = 4096
"""Disjuncts that are made cases of their own."""


@dataclass(frozen=True, eq=False)
class Table:
    """All unsafe constraints of ``C`` cases: ``K`` rows in ``D`` disjuncts.

    Attributes:
        outputs: ``(K, outputs)`` coefficients; ``inputs``: ``(K, I)``, ``None`` if zero.
        constant: ``(K,)``.
        exponent: ``(K,)``: a row is 2 ** -exponent times the constraint as the kernel
            takes it, with integer coefficients.
        region: constraints of the cases' regions, ``(C, q, I)`` and ``(C, q)``, and their
            exponents ``(C, q)``; where a case has fewer, 0 <= 0.  ``None``: there are none.
        disjunct: ``(K,)`` the disjunct of a row, ascending.
        row_start, disjunct_start: ``(C + 1,)`` where a case's rows and disjuncts start.
        width: ``(C, I)`` of the cases' boxes.
        longest: constraints of the longest disjunct.
        alone: ``(D,)`` by disjunct the case that consists of it, -1 where there is none.
    """

    outputs: Tensor
    inputs: Tensor | None
    constant: Tensor
    exponent: Tensor
    region: tuple[Tensor, Tensor, Tensor] | None
    disjunct: Tensor
    row_start: Tensor
    disjunct_start: Tensor
    width: Tensor
    longest: int
    alone: Tensor

    def select(self, net: TorchNetwork, number: Tensor) -> Rows:
        """The rows with these numbers, over the network's outputs and inputs."""
        coefficients = net.split(self.outputs.index_select(0, number), net.outputs)
        if self.inputs is not None:
            for tensor, part in net.split(self.inputs[number], net.inputs).items():
                held = coefficients.get(tensor)
                coefficients[tensor] = part if held is None else held + part
        return Rows(coefficients, self.constant[number])

    def regions(self, case: Tensor) -> tuple[Tensor, Tensor] | None:
        """The constraints of the regions of cases ``(R,)``: ``(R, q, I)`` and ``(R, q)``."""
        return None if self.region is None else (self.region[0][case], self.region[1][case])

    def forms(self, net: TorchNetwork, disjunct: Tensor) -> tuple[Rows, Tensor, Tensor]:
        """The constraints of disjuncts ``(S,)`` as forms ``(S, k, n)``.

        ``k`` is the longest one's; shorter disjuncts repeat their last constraint.

        Returns:
            The forms, how many each disjunct has ``(S,)``, and their exponents ``(S, k)``.
        """
        count = torch.bincount(self.disjunct, minlength=int(self.disjunct_start[-1]))
        first = torch.cumsum(count, 0) - count
        length = count[disjunct]
        most = int(length.max()) if len(length) else 1
        offset = torch.arange(max(1, most), device=length.device).minimum(length[:, None] - 1)
        number = first[disjunct, None] + offset
        rows = self.select(net, number.reshape(-1))
        parts = {t: m.reshape(len(disjunct), -1, m.shape[-1]) for t, m in rows.coefficients.items()}
        forms = Rows(parts, rows.constant.reshape(len(disjunct), -1))
        return forms, length, self.exponent[number]

    def values(self, points: Tensor, outputs: Tensor, number: Tensor) -> Tensor:
        """Left-hand sides of rows ``number (R,)`` at points ``(R, I)`` with outputs."""
        total = (self.outputs[number] * outputs).sum(-1) + self.constant[number]
        if self.inputs is not None:
            total = total + (self.inputs[number] * points).sum(-1)
        return total


@dataclass(frozen=True, eq=False)
class Goal:
    """Which rows are to be bounded in a batch of domains.

    Attributes:
        owner: ``(R,)`` domain of a row; ``number``: ``(R,)`` its number in the table.
        slot: ``(R,)`` a number for every pair of domain and disjunct in the batch.
        slot_owner, slot_disjunct: ``(S,)`` a slot's domain and its disjunct in the table.
        domains: how many there are.
    """

    owner: Tensor
    number: Tensor
    slot: Tensor
    slot_owner: Tensor
    slot_disjunct: Tensor
    domains: int

    def by_slot(self, bound: Tensor) -> Tensor:
        """The greatest of the rows' bounds per slot, ``(R,) -> (S,)``."""
        start = bound.new_full((len(self.slot_owner),), -float("inf"))
        return start.scatter_reduce(0, self.slot, bound, "amax")

    def by_domain(self, per_slot: Tensor) -> Tensor:
        """The least over a domain's slots, ``(S,) -> (B,)``."""
        start = per_slot.new_full((self.domains,), float("inf"))
        return start.scatter_reduce(0, self.slot_owner, per_slot, "amin")

    def sole(self, per_slot: Tensor, margin: float) -> Tensor:
        """By domain with several slots the only disjunct not refuted, otherwise -1; ``(B,)``."""
        left = ~(per_slot > margin)
        every = torch.bincount(self.slot_owner, minlength=self.domains)
        count = every.new_zeros(self.domains).index_add(0, self.slot_owner, left.to(every.dtype))
        found = torch.full_like(every, -1)
        found[self.slot_owner[left]] = self.slot_disjunct[left]
        return torch.where((count == 1) & (every > 1), found, -1)

    def critical(self, bound: Tensor, per_slot: Tensor) -> Tensor:
        """Per domain the row that decides its value, ``(B,)``; -1 without rows."""
        value = self.by_domain(per_slot)
        chosen = (bound == value[self.owner]).nonzero()[:, 0]
        out = torch.full((self.domains,), -1, dtype=torch.long, device=bound.device)
        out[self.owner[chosen]] = chosen
        return out


def build_table(
    cases: Sequence[Case], net: TorchNetwork, output_size: int, apart: bool = False
) -> Table:
    """The table of the given cases, numbered from 0 in this order.

    With ``apart`` every disjunct of a case that has several is a further case of its own.
    """
    given = len(cases)
    several = [case for case in cases if len(case.unsafe) > 1]
    if apart and sum(len(case.unsafe) for case in several) <= MOST_APART:
        parts = [replace(case, unsafe=(part,)) for case in several for part in case.unsafe]
        cases = [*cases, *parts]
    rows = [c for case in cases for disjunct in case.unsafe for c in disjunct]
    outputs = np.zeros((len(rows), output_size))
    inputs = np.zeros((len(rows), net.input_size)) if any(c.inputs for c in rows) else None
    constant = np.zeros(len(rows))
    exponent = np.zeros(len(rows), dtype=np.int64)
    for position, row in enumerate(rows):
        factor, exponent[position] = _scale(row)
        for index, weight in row.outputs:
            outputs[position, index] = weight * factor
        if inputs is not None:
            for index, weight in row.inputs:
                inputs[position, index] = weight * factor
        constant[position] = min(max(row.constant * factor, -LARGEST), LARGEST)
    lengths = [len(disjunct) for case in cases for disjunct in case.unsafe]
    row_counts = [sum(map(len, case.unsafe)) for case in cases]
    disjunct_counts = [len(case.unsafe) for case in cases]

    def real(values: np.ndarray) -> Tensor:
        return torch.tensor(values, device=net.device, dtype=net.dtype)

    def whole(values: Sequence[int] | np.ndarray) -> Tensor:
        return torch.tensor(np.asarray(values, dtype=np.int64), device=net.device)

    return Table(
        outputs=real(outputs),
        inputs=None if inputs is None else real(inputs),
        constant=real(constant),
        exponent=whole(exponent),
        region=_regions(cases, net),
        disjunct=whole(np.repeat(np.arange(len(lengths)), lengths)),
        row_start=whole(np.cumsum([0, *row_counts])),
        disjunct_start=whole(np.cumsum([0, *disjunct_counts])),
        width=real(np.array([np.subtract(*case.box()[::-1]) for case in cases], dtype=np.float64)),
        longest=max(lengths, default=0),
        alone=whole(_alone(disjunct_counts, given)),
    )


def _alone(disjuncts: Sequence[int], given: int) -> list[int]:
    """By disjunct the case of its own; the first ``given`` cases are the property's."""
    found, part = [], given
    for case, count in enumerate(disjuncts):
        if count == 1:
            found.append(case)
        elif len(disjuncts) == given:
            found += [-1] * count
        else:
            found += range(part, part + count)
            part += count
    return found


def _scale(row: Constraint) -> tuple[Fraction, int]:
    """What the kernel multiplies a constraint by, times 2 ** -exponent, and the exponent.

    The exponent brings the largest coefficient near 1, and is 0 where it is 1.
    """
    coefficients = [c for _, c in (*row.inputs, *row.outputs)]
    whole = math.lcm(*(c.denominator for c in coefficients))
    largest = max((abs(c) * whole for c in coefficients), default=Fraction(1))
    exponent = max(0, math.ceil(largest) - 1).bit_length()
    return Fraction(whole, 1 << exponent), exponent


def _regions(cases: Sequence[Case], net: TorchNetwork) -> tuple[Tensor, Tensor, Tensor] | None:
    most = max((len(case.constraints) for case in cases), default=0)
    if not most:
        return None
    normals = np.zeros((len(cases), most, net.input_size))
    offsets = np.zeros((len(cases), most))
    exponents = np.zeros((len(cases), most), dtype=np.int64)
    for number, case in enumerate(cases):
        for position, row in enumerate(case.constraints):
            factor, exponents[number, position] = _scale(row)
            for index, weight in row.inputs:
                normals[number, position, index] = weight * factor
            offsets[number, position] = row.constant * factor
    normal, offset = (
        torch.tensor(part, device=net.device, dtype=net.dtype) for part in (normals, offsets)
    )
    return normal, offset, torch.tensor(exponents, device=net.device)


def whole_goal(table: Table, case: Tensor) -> Goal:
    """All rows of every domain, whose cases are ``case (B,)``."""
    first, count = table.row_start[case], table.row_start[case + 1] - table.row_start[case]
    owner, number = _ranges(first, count)
    slots = table.disjunct_start[case + 1] - table.disjunct_start[case]
    slot_owner, slot_disjunct = _ranges(table.disjunct_start[case], slots)
    base = torch.cumsum(slots, 0) - slots - table.disjunct_start[case]
    slot = table.disjunct[number] + base[owner]
    return Goal(owner, number, slot, slot_owner, slot_disjunct, len(case))


def _ranges(first: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """``count[i]`` consecutive numbers from ``first[i]`` on, each with its ``i``."""
    owner = torch.repeat_interleave(torch.arange(len(first), device=first.device), count)
    offset = torch.cumsum(count, 0) - count
    position = torch.arange(len(owner), device=first.device) - offset[owner]
    return owner, first[owner] + position
