"""An attack judged: the attacked model, what it cost, and what accuracy is left."""

from __future__ import annotations

from dataclasses import dataclass

from specs.enclosure import FloatArray
from specs.linear import IndexArray
from verifier.watermarks.attacks.cost import Cost, cost
from verifier.watermarks.graph import accuracy


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack made of a model.

    Attributes:
        content: the attacked model file.
        cost: what it changed.
        before, after: shares of samples that are classified rightly, in float32.
    """

    content: bytes
    cost: Cost
    before: float
    after: float


def judged(before: bytes, after: bytes, points: FloatArray, labels: IndexArray) -> Attacked:
    """An attacked model beside the one that was attacked.

    Args:
        before, after: model files with the same initialisers.
        points: ``(n, inputs)`` samples to test with.
        labels: ``(n,)``.

    Raises:
        InputError: the models have other initialisers, or cannot be evaluated.
    """
    shares = (accuracy(content, points, labels) for content in (before, after))
    return Attacked(after, cost(before, after), *shares)
