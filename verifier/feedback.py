"""Feedback: bounds of a late layer that need hold at violations only.

Where a leaf's row ``r`` bounds an unsafe constraint from below, a violation satisfies
``r <= 0``.  So ``z + g r`` with any ``g >= 0`` bounds a neuron ``z`` from below as far as
violations go: the unsafe set is fed back into the bounds of the layers before it (Kotha et
al., *Provably bounding neural network preimages*, 2023).  Near the outputs a few neurons
and the leaf's own slopes do for most of the gain, and leaves that are far from closed by
slopes alone often close at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from verifier.alpha import Multipliers, Problem, bounded, combined
from verifier.bab_root import Pair, fast_problem
from verifier.bounds import Domains, Rows, TorchNetwork
from verifier.branching import neuron_scores

LEAST_FED = 0.02
"""Part of a neuron's interval that a bound has to cut off to be written for a single leaf."""


@dataclass(frozen=True, eq=False)
class Gained:
    """What one leaf gained.

    Attributes:
        neurons: ``(m,)`` those that were bounded.
        exponents: ``(2, m)``: the leaf's row was added ``2 ** exponent`` times, to bound
            the neuron from below and from above.
    """

    neurons: npt.NDArray[np.int64]
    exponents: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Fed:
    """What feedback found.

    Attributes:
        state: bounds of all neurons, of which a lower may be above an upper one.
        gained: by leaf, ``None`` where nothing was.
        relative: the exponents that were best, relative to the first guess.
    """

    state: Domains
    gained: list[Gained | None]
    relative: Tensor


FIRST_EXPONENT = -3.0
"""Where a row's multiple is sought first; the search learns it."""

PROBES = 4
"""Leaves that are fed to learn what it brings."""

MEMORY = 50
"""Leaves over which gains are averaged."""

CHECK = 4.0
"""Feedback's price, with the kernel's share, over its share of the search alone."""


def late_tensor(net: TorchNetwork) -> int | None:
    """The last pre-activation with unstable neurons; ``None`` without one behind an input."""
    found = [t for t, where in net.neurons.items() if where.stop > where.start]
    return found[-1] if found and net.nodes[found[-1]] is not None else None


def feed(
    nets: Pair,
    problem: Problem,
    stored: Multipliers,
    tensor: int,
    most: int,
    memory: float,
    tried: Sequence[int],
) -> Fed:
    """Bounds of the neurons of a tensor that matter most, by the rows of a problem.

    Args:
        problem: ``B`` rows, each of a leaf of its own.
        stored: their multipliers as a proof stores them.
        most: neurons of each leaf; ``memory``: bytes that may be used at once.
        tried: exponents of the rows' multiples, relative to the first guess: the quotient
            of the neuron's interval and the row's bound.
    """
    quick = fast_problem(nets, problem)
    fast = stored.map(lambda part: part.to(quick.low.dtype))
    found = bounded(quick, fast, gradient=True)
    where, count = problem.net.neurons[tensor], len(problem)
    _, height = neuron_scores(nets.fast, found, quick.lower, quick.upper)
    target = _targets(height[:, where], most)
    at = target.owner, where.start + target.entry
    lower = problem.lower.expand(count, -1).clone()
    upper = problem.upper.expand(count, -1).clone()
    span = (upper - lower)[at]
    base = (span / (-found.bound[target.owner]).clamp(min=1e-3)).log2().round()
    bound, chosen = torch.full_like(span, -float("inf")), torch.zeros_like(base)
    for exponent in tried:
        value = _bounds(quick, fast, tensor, target, base + exponent, memory).to(span)
        chosen = torch.where(value > bound, float(exponent), chosen)
        bound = torch.maximum(bound, value)
    total = (base + chosen).clamp(-100, 100)
    old = torch.where(target.sign > 0, lower[at], -upper[at])
    some = (bound - old > LEAST_FED * span).nonzero()[:, 0]
    new = old.clone()
    sure = _bounds(problem, stored, tensor, target.take(some), total[some], memory)
    new[some] = torch.maximum(old[some], sure)
    half = len(new) // 2
    lower[at[0][:half], at[1][:half]] = new[:half]
    upper[at[0][half:], at[1][half:]] = -new[half:]
    kept = (new > old).view(2, half)
    gained = _gained(kept.any(0), total.view(2, half), at[0][:half], at[1][:half], count)
    return Fed(Domains(problem.low, problem.high, lower, upper), gained, chosen[new > old])


@dataclass(frozen=True, eq=False)
class _Target:
    """Sides of neurons to bound: first lower bounds, then upper ones of the same neurons.

    Attributes:
        owner, entry: ``(R,)`` the leaf, and the neuron's number in its tensor.
        sign: 1 for a lower bound, -1 for an upper one.
    """

    owner: Tensor
    entry: Tensor
    sign: Tensor

    def take(self, index: Tensor | slice) -> _Target:
        return _Target(self.owner[index], self.entry[index], self.sign[index])


def _targets(height: Tensor, most: int) -> _Target:
    """The neurons of every leaf with the highest scores, ``(B, n)``."""
    score, column = height.topk(min(most, height.shape[1]), 1)
    owner, place = (score > 0).nonzero(as_tuple=True)
    entry = column[owner, place]
    sign = torch.ones_like(score[owner, place])
    return _Target(owner.repeat(2), entry.repeat(2), torch.cat([sign, -sign]))


def _gained(
    kept: Tensor, exponents: Tensor, owner: Tensor, neuron: Tensor, count: int
) -> list[Gained | None]:
    """What was kept of neurons ``(m,)`` in the order of their owners, by owner."""
    lengths = torch.bincount(owner[kept], minlength=count)
    neurons, both = neuron[kept].cpu().numpy(), exponents[:, kept].long().cpu().numpy()
    ends = lengths.cumsum(0).tolist()
    return [
        Gained(neurons[start:end], both[:, start:end]) if end > start else None
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _bounds(
    problem: Problem,
    multipliers: Multipliers,
    tensor: int,
    target: _Target,
    exponent: Tensor,
    memory: float,
) -> Tensor:
    """Lower bounds of ``sign * z`` plus ``2 ** exponent`` times the leaf's row."""
    net = problem.net
    size = max(1, int(memory // (40 * (net.width + net.neuron_count))))
    index, out = net.focus.get(tensor), [problem.low.new_zeros(0)]
    for start in range(0, len(exponent), size):
        some = target.take(slice(start, start + size))
        factor = torch.exp2(exponent[start : start + size].to(problem.low.dtype))[:, None]
        part, held = problem.take(some.owner), multipliers.take(some.owner)
        rows = combined(part.forms, held.weights)
        forms = {t: m * factor for t, m in rows.coefficients.items()}
        unit = factor.new_zeros(len(factor), net.sizes[tensor])
        position = some.entry if index is None else index[some.entry]
        unit[torch.arange(len(unit), device=unit.device), position] = some.sign.to(unit)
        forms[tensor] = forms[tensor] + unit if tensor in forms else unit
        alone = Rows({t: m[:, None] for t, m in forms.items()}, rows.constant[:, None] * factor)
        beta, region = (None if p is None else p * factor for p in (held.beta, held.region))
        scaled = Multipliers(held.alpha, beta, None, region)
        out.append(bounded(replace(part, forms=alone), scaled).bound)
    return torch.cat(out)


class Worth:
    """Where feedback pays, learnt from what it and splits have lifted bounds by.

    Leaves are told apart by the magnitude of their bounds.  If a split lifts a bound by the
    share ``s`` of what is missing and feedback by ``f``, some ``2 ** (1 / s)`` splits are
    ahead, of which feedback saves the part ``1 - 2 ** (-f / s)``.
    """

    def __init__(self) -> None:
        self._fed: dict[int, tuple[float, int]] = {}
        self._split: dict[int, tuple[float, int]] = {}
        self._seconds = {"fed": 0.0, "split": 0.0}
        self._center = FIRST_EXPONENT

    @property
    def exponents(self) -> tuple[int, int]:
        """Which multiples of a row are worth trying."""
        middle = round(self._center)
        return middle - 1, middle + 1

    def learn(self, relative: Tensor) -> None:
        """Note which exponents were best."""
        if len(relative):
            step = float(relative.float().mean()) - self._center
            self._center += max(-1.0, min(1.0, step))

    def split(self, before: Tensor, after: Tensor, seconds: float) -> None:
        """Note bounds of parents (one for each child) and children, and the time of all."""
        _note(self._split, before, after)
        self._pace("split", 2.0 * seconds / max(1, len(before)))

    def fed(self, before: Tensor, after: Tensor, seconds: float) -> None:
        """Note bounds before and after feedback, and the time of all."""
        _note(self._fed, before, after)
        self._pace("fed", seconds / max(1, len(before)))

    def pays(self, bound: Tensor) -> Tensor:
        """Which leaves are worth feeding, by their bounds."""
        keys = _keys(bound)
        decided = {key: self._pays(key, keys.count(key)) for key in set(keys)}
        due, left = [], dict(decided)
        for key in keys:
            due.append(left[key] > 0)
            left[key] -= 1
        return torch.tensor(due, device=bound.device)

    def _pays(self, key: int, count: int) -> int:
        """How many of the leaves with this key should be fed."""
        if key not in self._fed or self._fed[key][1] < PROBES:
            return PROBES
        known = self._split.get(key) or self._split.get(key + 1) or self._split.get(key - 1)
        if known is None:
            return count
        share, fed = max(known[0], 0.02), self._fed[key][0]
        saved = 2.0 ** min(30.0, 1.0 / share) * (1.0 - 2.0 ** (-fed / share))
        price = CHECK * self._seconds["fed"] / max(self._seconds["split"], 1e-9)
        return count if saved > price else 0

    def _pace(self, kind: str, seconds: float) -> None:
        old = self._seconds[kind]
        self._seconds[kind] = seconds if not old else 0.8 * old + 0.2 * seconds


def _keys(bound: Tensor) -> list[int]:
    logs = bound.double().abs().clamp(1e-9, 1e30).log2()
    return (2.0 * logs).floor().long().tolist()


def _note(means: dict[int, tuple[float, int]], before: Tensor, after: Tensor) -> None:
    gain = ((after - before) / before.abs().clamp(min=1e-9)).nan_to_num(0.0).clamp(0.0, 1.0)
    for key, value in zip(_keys(before), gain.tolist(), strict=True):
        mean, count = means.get(key, (0.0, 0))
        weight = 1.0 / (1 + min(count, MEMORY))
        means[key] = mean + weight * (value - mean), count + 1
