"""Evaluating a network on a batch of points, and pulling output directions back.

``evaluate(x)`` returns the outputs and a pullback, the vector-Jacobian product at ``x``.
The numpy evaluator needs no torch, so that an easy violation is found before torch would
have been imported; :mod:`verifier.attack_torch` has the same interface.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from proofs.functions import check_known, function
from specs.convolution import Conv
from specs.linear import MatMul
from specs.network import Input, Linear, Network, Perturbed, Product

FloatArray = npt.NDArray[np.float64]
Pullback = Callable[[FloatArray], FloatArray]


class Evaluator(Protocol):
    """A network on batches of points, in floating point."""

    def evaluate(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """Outputs ``(batch, outputs)`` at ``x (batch, inputs)``, and the pullback there.

        The pullback takes directions ``(batch, outputs)`` to ``(batch, inputs)``.
        """
        ...


class NumpyEvaluator:
    """The network in float64 numpy.

    Raises:
        UnsupportedOperatorError: the kernel has no rule for a function.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        check_known(network)

    def evaluate(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """See :class:`Evaluator`."""
        values = self.values(x)
        network = self._network
        y = np.concatenate([values[o] for o in network.outputs], axis=1)

        def pull_back(directions: FloatArray) -> FloatArray:
            found = self.gradients(values, directions, network.inputs)
            nothing = [np.zeros((len(directions), network.sizes[i])) for i in network.inputs]
            pairs = zip(network.inputs, nothing, strict=True)
            return np.concatenate([found.get(i, zeros) for i, zeros in pairs], axis=1)

        return y, pull_back

    def values(self, x: FloatArray) -> list[FloatArray]:
        """All tensors, ``(batch, size)`` each, at ``x (batch, inputs)``."""
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
            elif isinstance(node, Product):
                values.append(values[node.left] * values[node.right])
            elif isinstance(node, Perturbed):  # the middle of all evaluations
                values.append(values[node.source])
            else:
                rule = function(node.function, node.parameters)
                values.append(rule.value(values[node.source]))
        return values

    def gradients(
        self,
        values: list[FloatArray],
        directions: FloatArray,
        wanted: Collection[int] | None = None,
    ) -> dict[int, FloatArray]:
        """Output directions ``(batch, outputs)`` pulled back to tensors that they depend on.

        Args:
            values: of all tensors, where the network is evaluated.
            directions: of the outputs.
            wanted: which tensors; ``None``: all.
        """
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
            elif isinstance(node, Product):
                add(node.left, gradient * values[node.right])
                add(node.right, gradient * values[node.left])
            elif isinstance(node, Perturbed):
                add(node.source, gradient)
            else:
                rule = function(node.function, node.parameters)
                add(node.source, gradient * rule.derivative(values[node.source]))
            if wanted is not None and number not in wanted:
                gradients[number] = None
        kept = range(len(gradients)) if wanted is None else wanted
        return {number: gradients[number] for number in kept if gradients[number] is not None}


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
