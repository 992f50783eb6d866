"""Ascent over hints: which diagonal forms show the most about changed weights.

The rules of ``proofs.watermarks.persistence`` hold for all hints.  What they show is a concave
function of suitable hints, but not a smooth one: a largest eigenvalue becomes a norm of high
order, the choice of the cheapest rows a choice of shares, and both are sharpened in rounds.
Everything is scaled, so that moves of bits and margins are near 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from specs.enclosure import FloatArray
from verifier.watermarks.problem import Problem

Tensor = torch.Tensor
Hints = Mapping[str, FloatArray]

POWERS = (8, 32, 128, 512)
"""Orders of the norms that stand for largest eigenvalues, round by round."""

SHARPNESS = 6.0
"""Shares of rows tell costs apart that differ by the mean cost over this and the order."""

REACH = 2.5
"""Logarithm of how far diagonals leave their start; the kernel rounds them to few bits."""


@dataclass(frozen=True)
class Settings:
    """How long to search.

    Attributes:
        steps: of each round.
        centre: whether linear terms are sought; without them a bound is the weighted sum of the
            least squared margins.
    """

    steps: int = 60
    centre: bool = True


class Energy(Protocol):
    """What a set of changes comes to, for diagonal forms that may be varied.

    A radius is 1 in the scaled units.
    """

    @property
    def free(self) -> bool:
        """Whether the diagonal matters beyond its largest entry."""
        ...

    @property
    def tilted(self) -> bool:
        """Whether linear terms are worth while."""
        ...

    def start(self, scaled: Scaled) -> Tensor:
        """``(N,)``, the inverse of the diagonal to start from."""
        ...

    def most(self, inverse: Tensor, linear: Tensor, scaled: Scaled) -> Tensor:
        """The largest energy; ``linear`` is ``(K,)``, twice of it is added."""
        ...


class Scaled:
    """A problem in units in which margins and moves are near 1.

    Attributes:
        forms, margins, counts: as of the problem.
        form_unit, margin_unit: by which forms and then margins were divided.
        weights: divided by ``margin_unit``, as moves of them are.
        column_of: of the weights, -1: none.
    """

    def __init__(self, asked: Problem) -> None:
        squares = (asked.forms**2 * asked.counts).sum(axis=1)
        self.form_unit = float(np.sqrt(squares.mean())) or 1.0
        self.margin_unit = float(np.abs(asked.margins).mean()) / self.form_unit or 1.0
        self.forms = torch.from_numpy(asked.forms / self.form_unit)
        self.margins = torch.from_numpy(asked.margins / self.form_unit / self.margin_unit)
        self.counts = torch.from_numpy(asked.counts)
        self.weights = torch.from_numpy(asked.weights / self.margin_unit)
        self.column_of = torch.from_numpy(asked.column_of)
        self.least = asked.least
        self.signs = asked.signs

    def gram(self, inverse: Tensor) -> Tensor:
        """``B diag(inverse) B'`` for an inverse of each weight."""
        used = self.column_of >= 0
        share = torch.zeros_like(self.counts).index_add(0, self.column_of[used], inverse[used])
        return (self.forms * share) @ self.forms.T

    def spread(self, columns: Tensor, otherwise: float = 0.0) -> Tensor:
        """``(N,)``: what a weight's column has, or something else where it has none."""
        return torch.cat([columns, columns.new_full((1,), otherwise)])[self.column_of]


@dataclass(frozen=True, eq=False)
class Best:
    """What an ascent found.

    Attributes:
        radius: that is excluded; of sets that are no balls, it means nothing.
        hints: by the names of arrays of evidence.
        shares: ``(n,)`` how far each row crosses where the bound is attained.
    """

    radius: float
    hints: Hints
    shares: FloatArray


@dataclass(frozen=True, eq=False)
class _Value:
    loss: Tensor
    hints: Mapping[str, Tensor]
    shares: Tensor


def best_form(asked: Problem, energy: Energy, settings: Settings) -> Best:
    """Hints for the rule of all bits, a diagonal form above their squares."""
    scaled = Scaled(asked)
    size = scaled.margins.numel()
    start = energy.start(scaled)
    shape, centre, tilt = (torch.zeros(size, dtype=torch.float64) for _ in range(3))
    diagonal = torch.zeros_like(scaled.counts)
    varied = [shape]
    varied += [centre] if settings.centre else []
    varied += [diagonal] if energy.free else []
    varied += [tilt] if energy.tilted and settings.centre else []
    fixed = None if energy.free else scaled.gram(start)

    def evaluated(order: int | None) -> _Value:
        inverse = start * scaled.spread(torch.exp(REACH * torch.tanh(diagonal / REACH)), 1.0)
        gram = scaled.gram(inverse) if fixed is None else fixed
        plain = torch.exp(shape) / torch.diagonal(gram).clamp_min(1e-12)
        roots = torch.sqrt(plain)
        weights = plain / _largest(roots[:, None] * gram * roots[None, :], order)
        centred = centre * weights
        pushed = gram @ centred
        slopes = centred - weights * pushed
        costs, shares = _cheapest(weights, slopes + tilt, scaled, order)
        gained = costs - pushed @ slopes
        most = energy.most(inverse, tilt @ scaled.forms, scaled)
        hints = {"widths": 1.0 / weights, "centre": centred, "tilt": tilt, "inverse": inverse}
        return _Value(_logarithm(most) - _logarithm(gained), hints, shares)

    best = _ascend(varied, evaluated, settings.steps)
    units = {
        "widths": scaled.form_unit**2,
        "centre": scaled.signs * scaled.margin_unit / scaled.form_unit,
        "tilt": scaled.signs * scaled.margin_unit / scaled.form_unit,
        "inverse": 1.0,
    }
    kept = ["widths", "centre"]
    kept += ["inverse"] if energy.free else []
    kept += ["tilt"] if tilt.any() else []
    hints = {name: best.hints[name].numpy() * units[name] for name in kept}
    ratio = float(torch.exp(-best.loss))
    return Best(float(np.sqrt(ratio)) * scaled.margin_unit, hints, best.shares.numpy())


def best_corners(asked: Problem, ends: tuple[FloatArray, FloatArray], settings: Settings) -> Best:
    """Hints for the rule of moves of single weights.

    Args:
        asked: the problem.
        ends: ``(N,)`` each, moves down and up for a budget of 1.
        settings: how long.
    """
    scaled = Scaled(asked)
    size = scaled.margins.numel()
    shape, centre = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
    low, high = _by_column(asked, ends)
    longest = float(max(np.abs(low).max(initial=0.0), high.max(initial=0.0))) or 1.0
    ups, downs = torch.from_numpy(high / longest), torch.from_numpy(-low / longest)

    def evaluated(order: int | None) -> _Value:
        weights = torch.exp(shape)
        slopes = centre * weights
        gained, shares = _cheapest(weights, slopes, scaled, order)
        gained = gained.clamp_min(1e-9)
        curve, slope = weights @ scaled.forms**2, slopes @ scaled.forms
        # The largest b with (b step) ** 2 curve + 2 b step slope <= gained, for each end.
        inverse = torch.cat(
            [_steepest(x, y, curve, gained) for x, y in ((ups, slope), (downs, -slope))]
        )
        most = inverse.max() if order is None else torch.linalg.vector_norm(inverse, order)
        hints = {"corner_weights": weights, "corner_slopes": slopes}
        return _Value(torch.log(most), hints, shares)

    best = _ascend([shape, centre] if settings.centre else [shape], evaluated, settings.steps)
    slopes = best.hints["corner_slopes"].numpy() * scaled.signs * scaled.margin_unit
    hints = {
        "corner_weights": best.hints["corner_weights"].numpy() / scaled.form_unit**2,
        "corner_slopes": slopes / scaled.form_unit,
    }
    budget = float(torch.exp(-best.loss)) * scaled.margin_unit / longest
    return Best(budget, hints, best.shares.numpy())


class Payment(Protocol):
    """What a set of changes pays at prices."""

    def paid(self, rise: Tensor, fall: Tensor, scaled: Scaled) -> Tensor:
        """The most that changes pay at prices ``(K,)`` of moves up and down."""
        ...


def best_prices(asked: Problem, payment: Payment, settings: Settings) -> Best:
    """Hints for the rule of prices."""
    scaled = Scaled(asked)
    size = scaled.margins.numel()
    logs = torch.zeros(size, dtype=torch.float64)
    start = 1.0 / scaled.margins.abs().clamp_min(0.1)

    def evaluated() -> tuple[Tensor, Tensor]:
        prices = start * torch.exp(logs)
        rise, fall = (torch.zeros_like(scaled.counts) for _ in range(2))
        needed = torch.zeros((), dtype=torch.float64)
        for least, places in scaled.least:
            part = slice(places.start, places.stop)
            worth = prices[part, None] * scaled.forms[part]
            rise = rise + torch.topk(worth.clamp_min(0.0), least, dim=0).values.sum(dim=0)
            fall = fall + torch.topk((-worth).clamp_min(0.0), least, dim=0).values.sum(dim=0)
            costs = prices[part] * scaled.margins[part]
            needed = needed + torch.topk(costs, least, largest=False).values.sum()
        loss = _logarithm(payment.paid(rise, fall, scaled)) - _logarithm(needed)
        return loss, prices

    logs.requires_grad_(True)
    rate = 0.3
    optimiser = torch.optim.Adam([logs], lr=rate)
    best_loss, best = np.inf, start
    steps = 4 * settings.steps
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * (1.0 - step / steps)
        optimiser.zero_grad()
        loss, prices = evaluated()
        if float(loss.detach()) < best_loss:
            best_loss, best = float(loss.detach()), prices.detach().clone()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    cheap = (best * scaled.margins).numpy()
    return Best(
        float(np.exp(-best_loss)) * scaled.margin_unit,
        {"prices": (best / best.max()).numpy()},
        -cheap + cheap.max(),
    )


def _steepest(step: Tensor, slope: Tensor, curve: Tensor, gained: Tensor) -> Tensor:
    """``1/b`` for the positive ``b`` with ``(b step) ** 2 curve + 2 b step slope = gained``."""
    root = torch.sqrt(slope**2 + curve * gained + 1e-300)
    return step * (slope + root) / gained


def _by_column(
    asked: Problem, ends: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """``(K,)`` each: the lowest and the highest move of the weights of each column."""
    low, high = np.zeros(asked.counts.size), np.zeros(asked.counts.size)
    used = asked.used
    np.minimum.at(low, asked.column_of[used], ends[0][used])
    np.maximum.at(high, asked.column_of[used], ends[1][used])
    return low, high


def _logarithm(value: Tensor) -> Tensor:
    """Continued by a line below a small number, so that ascents can come from there."""
    small = 1e-6
    return torch.where(
        value > small, torch.log(value.clamp_min(small)), np.log(small) + value / small - 1.0
    )


def _largest(matrix: Tensor, order: int | None) -> Tensor:
    """The largest eigenvalue of a matrix without negative ones, or the norm of this order."""
    if order is None:
        return torch.linalg.eigvalsh(matrix)[-1]
    power, log, exponent = matrix, torch.zeros((), dtype=torch.float64), 1
    while exponent < order:
        length = torch.linalg.matrix_norm(power)
        power = power / length
        log = log + torch.log(length) / exponent
        power = power @ power
        exponent *= 2
    return torch.exp(log + torch.log(torch.trace(power)) / exponent)


def _cheapest(
    weights: Tensor, slopes: Tensor, scaled: Scaled, order: int | None
) -> tuple[Tensor, Tensor]:
    """The least cost of moves that meet the demands, and the share of each row that crosses."""
    lowest = -slopes / weights
    short = torch.clamp(scaled.margins - lowest, min=0.0)
    over = torch.clamp(lowest - scaled.margins, min=0.0)
    stay = weights * over**2
    extra = weights * short**2 - stay
    total = (stay - weights * lowest**2).sum()
    shares = torch.zeros_like(extra)
    for least, places in scaled.least:
        part = slice(places.start, places.stop)
        shares[part] = _shares(extra[part].detach(), least, order)
    return total + (shares * extra).sum(), shares


def _shares(costs: Tensor, least: int, order: int | None) -> Tensor:
    """Shares of rows, ``least`` of them in total: those of the least costs, or nearly."""
    if order is None:
        rank = torch.argsort(torch.argsort(costs))
        return ((rank < least) | (costs < 0.0)).to(torch.float64)
    kept = torch.sort(costs).values[:least]
    width = float(kept.abs().mean()) / (SHARPNESS * order**0.5) + 1e-12
    low, high = float(costs.min()) - 60.0 * width, float(costs.max()) + 60.0 * width
    for _ in range(60):
        middle = (low + high) / 2
        if float(torch.sigmoid((middle - costs) / width).sum()) < least:
            low = middle
        else:
            high = middle
    return torch.sigmoid((max(high, 0.0) - costs) / width)


def _ascend(varied: list[Tensor], evaluated: Callable[[int | None], _Value], steps: int) -> _Value:
    """The best value met, the last word being that of the sharp functions."""
    for tensor in varied:
        tensor.requires_grad_(True)
    with torch.no_grad():
        best = evaluated(None)
    for order in POWERS:
        optimiser = torch.optim.LBFGS(
            varied, max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure(order: int = order, optimiser: torch.optim.LBFGS = optimiser) -> Tensor:
            optimiser.zero_grad()
            loss = evaluated(order).loss
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimiser.step(closure)  # type: ignore[arg-type]
        with torch.no_grad():
            found = evaluated(None)
        if found.loss < best.loss:
            best = found
    for tensor in varied:
        tensor.requires_grad_(False)
    return best
