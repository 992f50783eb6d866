"""Published probabilities of violations on acasxu, to stand beside those that are computed here.

H.-D. Tran et al., *Quantitative Verification for Neural Networks using ProbStars* (HSCC 2023);
figures from the tables ``artifacts/HSCC2023/ACASXU/ACASXUTable_full.tex`` and ``..._small.tex`` of
the authors' repository (V2A2/StarV), rows with ``p_filter = 0``, where no piece is left out.
Each input is normal around the middle of its side with a third of half the side as its deviation
(so says the script of the evaluation) and is *not* conditioned on the box: figures are divided by
the "inputSet Probability" of the same row to be comparable with a normal that is cut at the box.
"""

from __future__ import annotations

from fractions import Fraction

SOURCE = "Tran et al., HSCC 2023"
DEVIATIONS = 3
"""Deviations of an input from the middle of its side to an end."""
INSIDE_5, INSIDE_4 = 0.986574, 0.989244
"""The probability of the box that they state: with five inputs that vary, and with four."""

FIGURES: dict[tuple[str, int], tuple[tuple[float, ...], float]] = {
    ("1_6", 2): ((8.87296e-06, 1.28341e-05), INSIDE_5),
    ("2_1", 2): ((0.0150444,), INSIDE_5),
    ("2_9", 2): ((0.00101382, 0.00099703), INSIDE_5),
    ("3_8", 2): ((0.0127512,), INSIDE_5),
    ("4_3", 2): ((0.0313179,), INSIDE_5),
    ("5_4", 2): ((0.0150627,), INSIDE_5),
    ("1_7", 3): ((0.986574,), INSIDE_5),
    ("1_9", 4): ((0.982083,), INSIDE_4),
}
"""By network and property: the figures (of the full table, and of the small one where it differs),
and the probability of the box."""


def conditional(net: str, number: int) -> list[float]:
    """The published figures, given that an input lies in the box."""
    figures, inside = FIGURES[net, number]
    return [figure / inside for figure in figures]


def normal_inputs(
    lower: tuple[Fraction, ...], upper: tuple[Fraction, ...]
) -> tuple[list[Fraction], list[Fraction]]:
    """Mean and deviation of each input; of a side that is a point, 1, to no effect."""
    sides = list(zip(lower, upper, strict=True))
    means = [(low + high) / 2 for low, high in sides]
    return means, [(high - low) / (2 * DEVIATIONS) or Fraction(1) for low, high in sides]
