"""Roots and leaves of a branch and bound on neurons: their problems, and their hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from verifier.alpha import Multipliers, Problem, initial
from verifier.bab_root import Stated, leaf_hints
from verifier.bab_tree import Kind, LeafHint, Tree
from verifier.bounds import Domains, Rows
from verifier.bounds_focus import Focused
from verifier.bounds_spec import Table
from verifier.clip import FirstLayers


@dataclass(frozen=True, eq=False)
class Leaves:
    """A batch of ``B`` domains of one case.

    Attributes:
        state: bounds before the splits are looked at; a single domain's where shared.
        disjunct, signs, multipliers, node: disjunct, splits, multipliers, tree node.
    """

    state: Domains
    disjunct: Tensor
    signs: Tensor
    multipliers: Multipliers
    node: Tensor

    def take(self, index: Tensor) -> Leaves:
        return Leaves(
            self.state.take(index) if len(self.state) > 1 else self.state,
            self.disjunct[index],
            self.signs[index],
            self.multipliers.take(index),
            self.node[index.cpu()],
        )


@dataclass(frozen=True, eq=False)
class Root:
    """A case's root state and the forms of its disjuncts.

    Attributes:
        case: position among the cases searched; ``number``: in the property.
        nets: focused on the root: a neuron here is one that is unstable there.
        state: a single domain.
        forms: by disjunct ``(D, k, n)``; shorter disjuncts repeat their last constraint.
        exponents: of the forms; see ``bounds_spec``.
        lengths: how many constraints each disjunct really has.
        table: the constraints of all cases.
        first: what is clipped; ``None`` where that is not worth its memory.
    """

    case: int
    number: int
    nets: Focused
    state: Domains
    forms: Rows
    exponents: Tensor
    lengths: Sequence[int]
    table: Table
    first: FirstLayers | None = None

    def signs(self, count: int) -> Tensor:
        """No splits, for ``count`` leaves."""
        fast = self.nets.fast
        return torch.zeros(count, fast.neuron_count, device=fast.device, dtype=fast.dtype)

    @cached_property
    def indices(self) -> dict[int, npt.NDArray[np.int64]]:
        """By univariate tensor the entries that leaves have slopes for."""
        return {number: index.cpu().numpy() for number, index in self.nets.entries.items()}

    def place(self, neuron: int) -> int:
        """The number here of one of the whole network's neurons."""
        return int(torch.searchsorted(self.nets.columns, neuron))

    def unsplit(self) -> Leaves:
        """The disjuncts before any split."""
        count = len(self.lengths)
        signs, disjuncts = self.signs(count), torch.arange(count, device=self.state.low.device)
        placeholder = Multipliers(torch.zeros_like(signs))
        leaves = Leaves(self.state, disjuncts, signs, placeholder, torch.zeros(count))
        return replace(leaves, multipliers=initial(self.problem(leaves)))

    def problem(self, leaves: Leaves) -> Problem:
        """The sure problem of a batch: bounds cut at the splits."""
        chosen = leaves.disjunct
        forms = {t: m[chosen] for t, m in self.forms.coefficients.items()}
        state = leaves.state
        signs = leaves.signs.to(state.lower.dtype)
        return Problem(
            self.nets.sure,
            Rows(forms, self.forms.constant[chosen]),
            state.low,
            state.high,
            state.lower.where(signs >= 0, state.lower.clamp(min=0.0)),
            state.upper.where(signs <= 0, state.upper.clamp(max=0.0)),
            signs,
            self.table.regions(torch.tensor([self.case], device=signs.device)),
        )

    def hints(
        self, problem: Problem, stored: Multipliers, leaves: Leaves, tree: Tree
    ) -> list[LeafHint]:
        """What leaves of a problem take into the proof."""
        splits = []
        for node in leaves.node.tolist():
            path = [n for n, _ in tree.path(int(node))]
            split = [tree.arg[n] for n in path if tree.kind[n] == Kind.NEURON]
            splits.append([self.place(neuron) for neuron in split])
        lengths = torch.tensor(self.lengths, device=problem.low.device)[leaves.disjunct]
        case = torch.full_like(leaves.disjunct, self.case)
        stated = Stated.of(self.table, case, lengths, self.exponents[leaves.disjunct])
        return leaf_hints(problem, stored, stated, range(len(splits)), splits, self.indices)


def moved(leaves: Leaves, before: Root, after: Root) -> Leaves:
    """Leaves without splits under the bounds of a better root."""
    place = torch.searchsorted(before.nets.columns, after.nets.columns)
    old = leaves.multipliers
    beta = None if old.beta is None else old.beta[:, place]
    multipliers = replace(old, alpha=old.alpha[:, place], beta=beta)
    signs = after.signs(len(leaves.node))
    return replace(leaves, state=after.state, signs=signs, multipliers=multipliers)
