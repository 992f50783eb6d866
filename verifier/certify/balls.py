"""What may become of a sample: balls by norm and radius, and boxes of its features.

L-infinity balls are boxes.  An L1 ball is not stated by its ``2^n`` facets but by the network of
``w - v``: with ``w`` from the sample up, ``v`` from 0 up, and one linear constraint on their sum,
``w - v`` runs through the ball and through nothing else.  An L2 ball has no linear constraints; it
is enclosed by the L-infinity ball of its radius and the L1 ball of ``sqrt(n)`` times that, so
that a proof holds in all of it.  A violation counts only where it lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from specs.builders import misclassified
from specs.errors import QuestionError
from specs.property import Case, Conjunction, Property, constraint
from verifier.certify.data import Pixels
from verifier.certify.questions import Box, Question, Stated

NORMS = ("linf", "l1", "l2")


@dataclass(frozen=True)
class Change:
    """How a sample may change.

    Attributes:
        norm: one of ``NORMS``.
        clip: ends of every feature.
        down, up: how far each feature may fall and rise at most; ``None``: as far as the norm
            lets it.
        pixels: what radii, ends and changes speak of; ``None``: the samples as they are.
    """

    norm: str = "linf"
    clip: tuple[Fraction, Fraction] | None = None
    down: tuple[Fraction, ...] | None = None
    up: tuple[Fraction, ...] | None = None
    pixels: Pixels | None = None

    def _sizes(self, size: int) -> Sequence[Fraction]:
        """What a change of each feature by 1 counts."""
        return [Fraction(1)] * size if self.pixels is None else self.pixels.stds

    def _ends(self, size: int) -> tuple[Sequence[Fraction], Sequence[Fraction]] | None:
        """What each feature is cut to."""
        if self.clip is None:
            return None
        if self.pixels is None:
            return [self.clip[0]] * size, [self.clip[1]] * size
        return self.pixels.at(self.clip[0]), self.pixels.at(self.clip[1])

    @property
    def spread(self) -> bool:
        """The question is asked of the network of differences."""
        return self.norm != "linf"

    def holds(self, point: Sequence[Fraction]) -> bool:
        """Whether a sample that is left as it is lies inside the clip."""
        ends = self._ends(len(point))
        return ends is None or all(
            a <= x <= b for a, x, b in zip(ends[0], point, ends[1], strict=True)
        )

    def box(self, point: Sequence[Fraction], radius: Fraction | None) -> Box:
        """The box of what each feature may become; without a radius, by ``down`` and ``up``.

        Raises:
            QuestionError: the clip leaves nothing of it.
        """
        sides, sizes = [], self._sizes(len(point))
        for sign, own in ((-1, self.down), (1, self.up)):
            reach: list[Fraction] = []
            for k, x in enumerate(point):
                limits = [r for r in (radius, None if own is None else own[k]) if r is not None]
                if not limits:
                    raise ValueError("neither a radius nor a box")
                reach.append(x + sign * min(limits) / sizes[k])
            sides.append(reach)
        low, high = sides
        ends = self._ends(len(point))
        if ends is not None:
            low = list(map(max, low, ends[0]))
            high = list(map(min, high, ends[1]))
        for k, (a, b) in enumerate(zip(low, high, strict=True)):
            if a > b:
                raise QuestionError(f"feature {k}: the clip leaves nothing from {a} to {b}")
        return tuple(low), tuple(high)

    def question(
        self, point: Sequence[Fraction], radius: Fraction | None, label: int, outputs: int
    ) -> Question | Stated:
        """Whether every input that the sample may become is classified as ``label``.

        Raises:
            QuestionError: the clip leaves nothing, or not the sample.
        """
        box = self.box(point, radius)
        if self.norm == "linf" or radius is None or radius == 0:
            return about_box(box, label, outputs)
        return self._spread(point, radius, box, misclassified(outputs, label), outputs)

    def _spread(
        self,
        point: Sequence[Fraction],
        radius: Fraction,
        box: Box,
        unsafe: tuple[Conjunction, ...],
        outputs: int,
    ) -> Stated:
        size = len(point)
        if any(a > x or x > b for a, x, b in zip(box[0], point, box[1], strict=True)):
            raise QuestionError(f"the sample lies outside the clip, and the norm is {self.norm}")
        limit = radius if self.norm == "l1" else radius * root_above(Fraction(size))
        zero, sizes = Fraction(0), self._sizes(size)
        lower = (*point, *([zero] * size))
        upper = (*box[1], *(x - a for x, a in zip(point, box[0], strict=True)))
        start = sum((s * x for s, x in zip(sizes, point, strict=True)), zero)
        within = constraint(dict(enumerate((*sizes, *sizes))), {}, -(limit + start))
        case = Case(lower, upper, unsafe, (within,))
        return Stated.of(Property(2 * size, outputs, (case,)))

    def input_of(self, witness: Sequence[Fraction], size: int) -> tuple[Fraction, ...]:
        """The input of the network that a witness stands for."""
        if len(witness) == size:
            return tuple(witness)
        return tuple(w - v for w, v in zip(witness[:size], witness[size:], strict=True))

    def distance(self, point: Sequence[Fraction], other: Sequence[Fraction]) -> Fraction:
        """By the norm; of L2 rounded up, by at most one part in 10^12."""
        sizes = self._sizes(len(point))
        steps = [s * abs(a - b) for s, a, b in zip(sizes, point, other, strict=True)]
        if self.norm == "linf":
            return max(steps, default=Fraction(0))
        if self.norm == "l1":
            return sum(steps, Fraction(0))
        return root_above(sum((step * step for step in steps), Fraction(0)))


def about_box(box: Box, label: int, outputs: int) -> Question | Stated:
    """Whether every input of a box is classified as ``label``."""
    found = Question(box, {"kind": "robust", "label": label})
    try:
        found.text("")
    except QuestionError:  # a bound is no decimal
        case = Case(*box, misclassified(outputs, label))
        return Stated.of(Property(len(box[0]), outputs, (case,)))
    return found


def root_above(number: Fraction) -> Fraction:
    """The square root, exactly where it is rational, otherwise above by little."""
    top, bottom = number.numerator, number.denominator
    exact = Fraction(math.isqrt(top), math.isqrt(bottom))
    if exact * exact == number:
        return exact
    scale = 10**40
    return Fraction(math.isqrt(top * scale * scale // bottom) + 1, scale)
