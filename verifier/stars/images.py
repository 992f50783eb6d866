"""A compiled network's tensors as a star with relaxed Relus; see :mod:`verifier.stars.triangle`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.bounds import Domains, LinearNode, NonlinearNode, Rows, TorchNetwork
from verifier.stars.corners import FloatArray
from verifier.stars.triangle import Relaxed


@dataclass(frozen=True, eq=False)
class Images:
    """Tensors as affine functions of 1, the inputs, and the unstable neurons after their Relu.

    Attributes:
        unstable: ``(n,)`` numbers of the unstable neurons, ascending.
        neurons: ``(1 + I + n, n)`` these before their Relu.
        tensors: ``(1 + I + n, size)`` by tensor.
    """

    unstable: Tensor
    neurons: Tensor
    tensors: Mapping[int, Tensor]

    def forms(self, rows: Rows) -> FloatArray:
        """Forms ``(R, k)`` over tensors as such functions: ``(R, 1 + I + n, k)``."""
        total = self.neurons.new_zeros(
            len(rows.constant), len(self.neurons), rows.constant.shape[1]
        )
        for tensor, matrix in rows.coefficients.items():
            total = total + self.tensors[tensor] @ matrix.to(total).transpose(1, 2)
        total[:, 0] += rows.constant
        return total.double().cpu().numpy()


def images(net: TorchNetwork, lower: Tensor, upper: Tensor) -> Images:
    """All tensors where neurons have bounds ``(N,)``; of Relus only, in double precision."""
    crossing = (lower < 0) & (upper > 0)
    unstable = crossing.nonzero()[:, 0]
    inputs, n = net.input_size, len(unstable)
    place = torch.full_like(lower, -1, dtype=torch.long)
    place[unstable] = 1 + inputs + torch.arange(n, device=lower.device)
    total = 1 + inputs + n
    eye = lower.new_zeros(total, inputs)
    eye[1 : 1 + inputs] = torch.eye(inputs, dtype=lower.dtype, device=lower.device)
    values = net.split(eye, net.inputs)
    arguments = lower.new_zeros(total, len(lower))
    for tensor in net.inputs:
        if tensor in net.neurons:
            arguments[:, net.neurons[tensor]] = net.pick(tensor, values[tensor])
    for number in net.needed:
        node = net.nodes[number]
        if isinstance(node, NonlinearNode):
            source = node.sources[0]
            where = net.neurons[source]
            own = arguments[:, where] * (lower[where] >= 0)
            columns = crossing[where].nonzero()[:, 0]
            own[:, columns] = 0.0
            own[place[where][columns], columns] = 1.0
            if node.focus is not None:
                whole = values[source] * node.focus.slope
                own = whole.index_copy_(-1, node.focus.index, own)
            values[number] = own
        elif isinstance(node, LinearNode):
            made = lower.new_zeros(total, net.sizes[number])
            for tensor, linear in node.terms:
                made = made + linear.forward(values[tensor])
            if node.offset is not None:
                made[0] += node.offset
            values[number] = made
        if number in net.neurons:
            arguments[:, net.neurons[number]] = net.pick(number, values[number])
    return Images(unstable, arguments[:, unstable], values)


def relaxed(
    seen: Images, domain: Domains, forms: Rows, region: tuple[Tensor, Tensor] | None = None
) -> Relaxed:
    """The star of a single domain with disjuncts of unsafe constraints, a row ``(k,)`` each.

    ``region`` has normals ``(1, q, I)`` and offsets ``(1, q)`` of its constraints.
    """
    held = None if region is None else tuple(part[0].double().cpu().numpy() for part in region)
    sides = (
        domain.low,
        domain.high,
        domain.lower[:, seen.unstable],
        domain.upper[:, seen.unstable],
    )
    low, high, lower, upper = (side[0].double().cpu().numpy() for side in sides)
    neurons = seen.neurons.double().cpu().numpy()
    return Relaxed(low, high, lower, upper, neurons, seen.forms(forms), held)


def take_slopes(net: TorchNetwork, alpha: Tensor, slopes: Tensor) -> None:
    """Write slopes ``(R, N)`` of neurons into parameters ``(R, P)``; negative ones are left."""
    for number in net.nonlinear:
        where = net.parameters[number]
        chosen = slopes[:, net.neurons[net.function(number).sources[0]]]
        alpha[:, where] = torch.where(chosen < 0, alpha[:, where], chosen)
