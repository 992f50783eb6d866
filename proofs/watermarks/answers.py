"""The answers of a network, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from proofs.evaluate import Value, evaluate
from specs.enclosure import FloatArray
from specs.network import Network


def answers(network: Network, points: FloatArray, tick: Callable[[], None]) -> list[int | None]:
    """``(n,)``: the class of the largest output at each point ``(n, inputs)``; a tie has none.

    Outputs that are enclosed (batch normalisation divides by roots) have a largest one if it is
    larger than all others wherever they lie in their enclosures; otherwise there is none.

    Raises:
        EvidenceError: the network is not defined at a point.
    """
    found = []
    for point in points:
        tick()
        found.append(largest(evaluate(network, [Fraction(x) for x in point.tolist()])))
    return found


def largest(outputs: Sequence[Value]) -> int | None:
    """The place of the largest output, surely larger than all others; ``None``: there is none."""
    best = max(range(len(outputs)), key=lambda place: outputs[place][0])
    centre, radius = outputs[best]
    others = (c + r for place, (c, r) in enumerate(outputs) if place != best)
    return best if all(centre - radius > other for other in others) else None
