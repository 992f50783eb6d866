"""How much a margin can change at most, by the size of a change: the faults that need no run.

A function of slope at most L changes by at most L times the change of its argument.  Going back
from the outputs through linear maps and such functions, absolute values taken behind each of
the latter, gives for every tensor numbers ``S`` such that a change ``d`` of it alone changes a
difference of two outputs by at most ``sum_j S_j |d_j|``.  It holds for changes of any size.
"""

from __future__ import annotations

import numpy as np

from proofs.outward import TINY, UNIT
from specs.enclosure import FloatArray
from specs.linear import LinearMap
from specs.network import Linear, Network, Univariate
from verifier.faults.floats import UP

SLOPES = {"relu": 1.0, "tanh": 1.0, "sigmoid": 1.0, "atan": 1.0, "sin": 1.0, "cos": 1.0}
"""Upper bounds of the slopes of functions."""


def sensitivities(network: Network, label: int) -> dict[int, FloatArray] | None:
    """By tensor, ``(K - 1, n)``: for every other output, how its distance to ``label`` moves.

    ``None``: some function has no known bound of its slope.
    """
    size = network.output_size
    rows = -np.delete(np.eye(size), label, axis=0)
    rows[:, label] = 1.0
    found: dict[int, FloatArray] = {}
    start = 0
    for number in network.outputs:
        part = rows[:, start : start + network.sizes[number]]
        start += network.sizes[number]
        found[number] = found.get(number, 0.0) + part
    return propagated(network, found)


def propagated(network: Network, rows: dict[int, FloatArray]) -> dict[int, FloatArray] | None:
    """By tensor, how linear forms of some tensors move, as :func:`sensitivities`.

    Args:
        network: of the tensors.
        rows: by tensor, ``(K, n)`` the forms; those of other tensors than outputs are of
            magnitudes, and not negative.
    """
    found = dict(rows)
    for number in range(len(network.nodes) - 1, -1, -1):
        node = network.nodes[number]
        if number not in found or not node.sources:
            continue
        own = found[number]
        if isinstance(node, Univariate) and node.function in SLOPES:
            _add(found, node.source, np.abs(own) * (SLOPES[node.function] * UP))
        elif isinstance(node, Linear):
            signed = number in network.outputs and len(network.readers[number]) == 0
            for term in node.terms:
                _add(found, term.source, _back(term.map, own if signed else np.abs(own)))
        else:
            return None
    return {number: np.abs(part) * UP for number, part in found.items()}


def _back(term: LinearMap, rows: FloatArray) -> FloatArray:
    """At least the magnitude of rows times the map; signs of rows cancel within one map."""
    weight = None if term.weight is None else term.weight.value
    size = None if weight is None else np.abs(weight)
    value = np.abs(term.adjoint(rows, weight, np.matmul))
    reach = np.asarray(term.adjoint(np.abs(rows), size, np.matmul))
    if np.all(rows >= 0):
        value = reach
    total = value + reach * ((term.fan_out + 4.0) * UNIT) + TINY
    if term.weight is not None and term.weight.radius is not None:
        total = total + term.adjoint(np.abs(rows), term.weight.radius, np.matmul)
    return np.asarray(total * UP)


def _add(found: dict[int, FloatArray], number: int, part: FloatArray) -> None:
    found[number] = np.abs(found[number]) + part if number in found else part
