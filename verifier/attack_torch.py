"""The evaluator of :mod:`verifier.attack_forward` in torch, for large networks and GPUs."""

from __future__ import annotations

import numpy as np
import torch

from specs.network import Input, Linear, Network, Perturbed, Product, Univariate
from verifier import relaxations
from verifier.attack_forward import FloatArray, Pullback
from verifier.bounds_maps import TorchMap, Weights, compile_map

_DTYPE = torch.float32


class TorchEvaluator:
    """The network in float32 torch; see :class:`verifier.attack_forward.Evaluator`.

    Args:
        network: the network.
        device: a torch device.

    Raises:
        UnsupportedOperatorError: a univariate function has no torch form.
        ModelError: a linear map has none.
    """

    def __init__(self, network: Network, device: str = "cpu") -> None:
        self._network = network
        self._device = device
        self._terms: dict[int, list[tuple[int, TorchMap]]] = {}
        self._offsets: dict[int, torch.Tensor] = {}
        weights = Weights(device, _DTYPE)
        for number, node in enumerate(network.nodes):
            if isinstance(node, Linear):
                self._terms[number] = [
                    (term.source, compile_map(term.map, weights)) for term in node.terms
                ]
                self._offsets[number] = weights.moved(node.offset.value)
        self._functions = {
            number: relaxations.find(node.function, node.parameters).value
            for number, node in enumerate(network.nodes)
            if isinstance(node, Univariate)
        }

    def evaluate(self, x: FloatArray) -> tuple[FloatArray, Pullback]:
        """See :class:`verifier.attack_forward.Evaluator`."""
        point = torch.tensor(x, device=self._device, dtype=_DTYPE, requires_grad=True)
        with torch.enable_grad():
            y = self._forward(point)

        def pull_back(directions: FloatArray) -> FloatArray:
            along = torch.tensor(directions, device=self._device, dtype=_DTYPE)
            (gradient,) = torch.autograd.grad(y, point, along, allow_unused=True)
            if gradient is None:
                return np.zeros_like(x)
            return gradient.cpu().numpy().astype(np.float64)

        return y.detach().cpu().numpy().astype(np.float64), pull_back

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        network = self._network
        values: list[torch.Tensor] = []
        used = 0
        for number, node in enumerate(network.nodes):
            if isinstance(node, Input):
                size = network.sizes[number]
                values.append(x[:, used : used + size])
                used += size
            elif isinstance(node, Linear):
                total = self._offsets[number].expand(len(x), -1)
                for source, term in self._terms[number]:
                    total = total + term.forward(values[source])
                values.append(total)
            elif isinstance(node, Product):
                values.append(values[node.left] * values[node.right])
            elif isinstance(node, Perturbed):
                values.append(values[node.source])
            else:
                values.append(self._functions[number](values[node.source]))
        return torch.cat([values[o] for o in network.outputs], dim=1)
