"""Predictions at points, decided: in floats with a rigorous bound, then in rationals."""

from __future__ import annotations

import numpy as np

from specs.enclosure import FloatArray
from specs.linear import IndexArray
from specs.network import Network
from verifier.faults.floats import Floats, joined, judged
from verifier.faults.judge import exact_outputs, exact_verdict

ROWS = 256
"""Points that are evaluated at a time."""


def stands(network: Network, points: FloatArray, labels: IndexArray) -> list[bool | None]:
    """Whether an output exceeds every other, for each point.

    Args:
        network: without perturbed nodes.
        points: ``(P, input_size)``, which count as exact.
        labels: ``(P,)`` the outputs.

    Returns:
        ``None`` where an enclosure leaves it open.
    """
    floats = Floats(network)
    found: list[bool | None] = []
    for start in range(0, len(points), ROWS):
        part, own = points[start : start + ROWS], labels[start : start + ROWS]
        tensors = floats.run(part, sharp=True)
        good, wrong = judged(joined([tensors[number] for number in network.outputs]), own)
        for row in range(len(part)):
            if good[row] or wrong[row]:
                found.append(bool(good[row]))
            else:
                outputs = exact_outputs(network, part[row])
                found.append(exact_verdict(outputs, int(own[row])))
    return found


def labels_at(network: Network, points: FloatArray) -> list[int | None]:
    """The output that exceeds every other for certain, for each point; ``None``: there is none."""
    floats = Floats(network)
    guesses = []
    for start in range(0, len(points), ROWS):
        tensors = floats.run(points[start : start + ROWS])
        outputs = joined([tensors[number] for number in network.outputs])
        guesses.append(np.argmax(outputs.value, axis=1))
    labels: IndexArray = np.concatenate(guesses).astype(np.int64)
    certain = stands(network, points, labels)
    return [
        int(label) if sure is True else _exact(network, point)
        for label, sure, point in zip(labels, certain, points, strict=True)
    ]


def label_at(network: Network, point: FloatArray) -> int | None:
    """As :func:`labels_at`, of one point."""
    return labels_at(network, point[None])[0]


def _exact(network: Network, point: FloatArray) -> int | None:
    """Of a point whose largest output in floats is not the largest for certain."""
    outputs = exact_outputs(network, point)
    best = max(range(len(outputs)), key=lambda k: outputs[k][0])
    return best if exact_verdict(outputs, best) is True else None
