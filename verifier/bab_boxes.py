"""Boxes of branch and bound on inputs: what is known of a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from verifier.bounds import (
    Domains,
    TorchNetwork,
    concretize,
    gather,
    substitute,
    worst_points,
)
from verifier.bounds_spec import Table, whole_goal
from verifier.bounds_sweep import Swept, sweep
from verifier.branching import input_scores
from verifier.clip import clip_around
from verifier.combine import by_column, combine

WORTHWHILE = 0.95
"""Share of a box's widths that may be left where it is clipped."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known of a batch of ``B`` boxes.

    Attributes:
        domains: with bounds swept.
        value: ``(B,)``, positive where closed; see ``bounds_spec``.
        scores: ``(B, I)`` of splitting each input; zero where that is impossible.
        worst: ``(B, I)`` where the deciding row's linear bound is least.
        clipped: ``(B,)`` whether the box was clipped by the rows.
        again: ``(B,)`` how often it was clipped and swept once more before.
        sole: ``(B,)`` the only disjunct of several that is not refuted, otherwise -1.
        weights: ``(B, m)`` of the constraints as the kernel takes them, where a combination
            decides, zero where a single one does.
    """

    domains: Domains
    value: Tensor
    scores: Tensor
    worst: Tensor
    clipped: Tensor
    again: Tensor
    sole: Tensor
    weights: Tensor

    def take(self, index: Tensor) -> Evaluation:
        """What is known of the boxes with these numbers."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        domains = self.domains.take(index)
        return Evaluation(domains, **{n: p[index] for n, p in parts.items() if n != "domains"})

    def replaced(self, index: Tensor, other: Evaluation) -> Evaluation:
        """The same with what is known of some boxes replaced."""

        def put(mine: Tensor, new: Tensor) -> Tensor:
            return mine.index_copy(0, index, new)

        names = ("low", "high", "lower", "upper")
        domains = Domains(
            *(put(getattr(self.domains, n), getattr(other.domains, n)) for n in names)
        )
        rest = [f.name for f in fields(self) if f.name != "domains"]
        return Evaluation(domains, **{n: put(getattr(self, n), getattr(other, n)) for n in rest})


def evaluate_boxes(
    net: TorchNetwork,
    table: Table,
    domains: Domains,
    case: Tensor,
    margin: float,
    tick: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Sweep boxes and bound all rows of their cases, ``case (B,)``."""
    return assess(net, table, sweep(net, domains, tick), case, margin)


def assess(
    net: TorchNetwork, table: Table, swept: Swept, case: Tensor, margin: float
) -> Evaluation:
    """Bound all rows of the cases of boxes that were swept, and clip the boxes by them."""
    domains, goal = swept.domains, whole_goal(table, case)
    rows = table.select(net, goal.number)
    matrix, constant = substitute(net, rows, lambda n: gather(swept.lines[n], goal.owner))
    bound = concretize(matrix, constant, domains.low[goal.owner], domains.high[goal.owner])
    per_slot = goal.by_slot(bound)
    value = goal.by_domain(per_slot)
    value = torch.where(swept.contradictory(margin), float("inf"), value)
    low, high, empty = clip_around(matrix, constant, goal, domains.low, domains.high)
    gone = empty & ~(value > margin)
    width = high - low
    shrunk = width.sum(-1) < WORTHWHILE * (domains.high - domains.low).sum(-1)
    clipped = gone | (shrunk & ~empty & ~(value > margin))
    low, high = (
        torch.where((clipped & ~empty)[:, None], a, b)
        for a, b in ((low, domains.low), (high, domains.high))
    )
    value, width = torch.where(gone, float("inf"), value), high - low
    scores = input_scores(matrix, goal, bound, per_slot, width, margin)
    splittable = width > 1e-9 * domains.low.abs().clamp(min=1.0)
    critical = goal.critical(bound, per_slot)
    worst = worst_points(matrix[critical], domains.low, domains.high) if len(bound) else domains.low
    weights = value.new_zeros(len(value), table.longest)
    if table.longest > 1 and len(bound) and len(goal.slot_owner) == goal.domains:
        mixed = combine(matrix, constant, goal, domains.low, domains.high)
        better = (mixed.value > value) & ~(value > margin)
        chosen = torch.where(better[:, None], mixed.weights, 0.0)
        chosen = torch.ldexp(chosen, -by_column(table.exponent[goal.number], goal))
        weights[:, : chosen.shape[1]] = chosen
        value = torch.where(better, mixed.value, value)
        lowest = worst_points(mixed.matrix, domains.low, domains.high)
        worst = torch.where(better[:, None], lowest, worst)
    if not net.bends_at_zero:  # what planes and curves lose falls with the square of a width
        scores = scores * (width / table.width[case]).nan_to_num(0.0)
    scores = torch.where(splittable, scores + 1e-12 * width, 0.0)
    found = Domains(low, high, domains.lower, domains.upper)
    none = torch.zeros_like(case)
    sole = goal.sole(per_slot, margin)
    return Evaluation(found, value, scores, worst, clipped, none, sole, weights)


def halves(parents: Domains, entry: Tensor) -> Domains:
    """Both halves of every box along input ``entry (B,)``: lower, upper, lower, ..."""
    both = torch.arange(len(parents), device=entry.device).repeat_interleave(2)
    low, high = parents.low[both], parents.high[both]
    at = torch.arange(0, len(low), 2, device=entry.device)
    middle = (low[at, entry] + high[at, entry]) * 0.5
    high[at, entry] = middle
    low[at + 1, entry] = middle
    return Domains(low, high, parents.lower[both], parents.upper[both])


def choose(tries: Sequence[Evaluation], chosen: Tensor) -> Evaluation:
    """Of several evaluations of the same boxes the one chosen for each, ``chosen (B,)``."""
    at = torch.arange(len(chosen), device=chosen.device)

    def pick(name: str) -> Tensor:
        return torch.stack([getattr(t, name) for t in tries])[chosen, at]

    def pick_domains(name: str) -> Tensor:
        return torch.stack([getattr(t.domains, name) for t in tries])[chosen, at]

    domains = Domains(*(pick_domains(name) for name in ("low", "high", "lower", "upper")))
    rest = [f.name for f in fields(Evaluation) if f.name != "domains"]
    return Evaluation(domains, **{name: pick(name) for name in rest})
