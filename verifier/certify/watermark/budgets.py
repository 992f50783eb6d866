"""The drawing of budgets: how large a change is proved harmless, and which one removes the mark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from verifier.certify.plots import INK, SERIES

KINDS = {
    "linf": "L-infinity norm",
    "l2": "L2 norm",
    "l1": "L1 norm",
    "pruned": "weights set to 0",
    "flips": "flipped bits",
}
"""Of changes, in words."""


@dataclass(frozen=True)
class Budget:
    """What is known of one kind of change.

    Attributes:
        name: of the kind, with its unit.
        certified: no change up to this removes the mark.
        met: one of this size does; ``None``: none was found.
        asked: a threshold; ``None``: none was stated.
    """

    name: str
    certified: Fraction
    met: Fraction | None
    asked: Fraction | None = None

    @property
    def end(self) -> float:
        """How far its axis reaches: a sixth beyond all that it shows; 0: there is nothing."""
        sizes = (self.certified, self.met or 0, self.asked or 0)
        return float(max(sizes)) * 7 / 6


def draw(budgets: Sequence[Budget], *, alike: bool = False) -> Callable[[Any], None]:
    """Draws a bar for each kind of change: proved, open, and refuted from the attack on.

    Args:
        budgets: one or more.
        alike: all are measured in the same unit, so that they share an axis.
    """

    def on(figure: Any) -> None:
        panels = figure.subplots(len(budgets), 1, squeeze=False, sharex=alike)[:, 0]
        longest = max(budget.end for budget in budgets)
        for panel, budget in zip(panels, budgets, strict=True):
            _bar(panel, budget, (longest if alike else budget.end) or 1.0)
        handles = {
            text: handle
            for panel in panels
            for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(),
            handles,
            loc="outside upper left",
            ncols=4,
            columnspacing=1,
            handlelength=1.5,
        )

    return on


def _bar(panel: Any, budget: Budget, end: float) -> None:
    low = float(budget.certified)
    high = end if budget.met is None else float(budget.met)
    if low:
        panel.barh(0, low, color=SERIES[0], label="proved")
    if high > low:
        panel.barh(0, high - low, left=low, color=INK, alpha=0.12, label="open")
    if budget.met is not None:
        panel.barh(0, end - high, left=high, color=SERIES[1], alpha=0.75, label="refuted")
    if budget.asked is not None:
        panel.axvline(float(budget.asked), color=INK, ls="--", lw=1.5, label="threshold")
    panel.set(xlim=(0, end), yticks=[])
    panel.set_title(budget.name, loc="left", fontsize="medium", pad=3)
    panel.spines["left"].set_visible(False)
    panel.locator_params(axis="x", nbins=6)
