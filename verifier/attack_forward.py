"""Evaluating a network on a batch of points, and pulling output directions back.

``evaluate(x)`` returns the outputs and a pullback, the vector-Jacobian product at ``x``.
The numpy evaluator needs no torch, so that an easy violation is found before torch would
have been imported; :mod:`verifier.attack_torch` has the same interface.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from specs.errors import UnsupportedOperatorError
from specs.linear import Conv, MatMul
from specs.network import Input, Linear, Network

FloatArray = npt.NDArray[np.float64]
Pullback = Callable[[FloatArray], FloatArray]


class Evaluator(Protocol):
    """A network on batches of points, in floating point."""

    def evaluate(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Outputs ``(batch, outputs)`` at ``x (batch, inputs)``, and the pullback there.

        The pullback takes directions ``(batch, outputs)`` to ``(batch, inputs)``.
        """
        ...


_FUNCTIONS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "relu": (lambda z: np.maximum(z, 0.0), lambda z: z > 0.0),
}


class NumpyEvaluator:
    """The network in float64 numpy.

    Raises:
        UnsupportedOperatorError: a univariate function has no derivative here.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        for i in network.nonlinear:
            node = network.nodes[i]
            if node.function not in _FUNCTIONS:  # type: ignore[union-attr]
                raise UnsupportedOperatorError(f"'{node.name}': no derivative for the attack")

    def evaluate(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """See :class:`Evaluator`."""
        network = self._network
        values: list[FloatArray] = []
        used = 0
        for number, node in enumerate(network.nodes):
            if isinstance(node, Input):
                size = network.sizes[number]
                values.append(x[:, used : used + size])
                used += size
            elif isinstance(node, Linear):
                total = np.repeat(node.offset.value[None, :], len(x), axis=0)
                for term in node.terms:
                    weight = None if term.map.weight is None else term.map.weight.value
                    total += term.map.forward(values[term.source], weight, np.matmul)
                values.append(total)
            else:
                values.append(_FUNCTIONS[node.function][0](values[node.source]))
        y = np.concatenate([values[o] for o in network.outputs], axis=1)
        return y, lambda directions: self._pull_back(values, directions)

    def _pull_back(self, values: list[FloatArray], directions: FloatArray) -> FloatArray:
        network = self._network
        gradients: list[Any] = [None] * len(network.nodes)

        def add(tensor: int, part: FloatArray) -> None:
            known = gradients[tensor]
            gradients[tensor] = part if known is None else known + part

        used = 0
        for output in network.outputs:
            size = network.sizes[output]
            add(output, directions[:, used : used + size])
            used += size
        for number in reversed(range(len(network.nodes))):
            node, gradient = network.nodes[number], gradients[number]
            if gradient is None or isinstance(node, Input):
                continue
            if isinstance(node, Linear):
                for term in node.terms:
                    weight = None if term.map.weight is None else term.map.weight.value
                    add(term.source, term.map.adjoint(gradient, weight, np.matmul))
            else:
                derivative = _FUNCTIONS[node.function][1](values[node.source])
                add(node.source, gradient * derivative)
            gradients[number] = None
        parts = [
            np.zeros((len(directions), network.sizes[i])) if gradients[i] is None else gradients[i]
            for i in network.inputs
        ]
        return np.concatenate(parts, axis=1)


def multiplications(network: Network) -> int:
    """Multiplications of one evaluation at one point."""
    total = 0
    for node in network.nodes:
        if isinstance(node, Linear):
            for term in node.terms:
                match term.map:
                    case MatMul() as product:
                        total += product.rows * math.prod(product.weight.shape)
                    case Conv() as conv:
                        # The same number for the transpose: every tap of every window.
                        total += math.prod(conv.out_shape) * math.prod(conv.weight.shape[1:])
                    case _:
                        total += term.map.target_size
    return max(total, 1)
