"""The same float64 evaluation with torch, on a GPU where there is one.

Every linear map is held as a dense float64 matrix (index maps and scalings as vectors), so that
a batch of faults is a handful of large matrix products.  The bounds of errors are those of
``verifier.faults.floats``; what they ask of the device's arithmetic, a product in which every
entry is the sum of its products in some order, fused or not, is tested before it is used.
Outputs come back; what they leave open is decided on the CPU, in rationals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from proofs.outward import TINY, UNIT
from specs.errors import FarkasError, InputError
from specs.linear import Gather, Identity, IndexArray, LinearMap, Scale
from specs.network import Linear, Product, Univariate
from verifier.faults.floats import UP, Floats, Tensor
from verifier.faults.struck import Steps, Struck
from verifier.needs import need_torch

LARGEST = 1 << 27
"""Entries of the largest matrix that is made of a map: 1 GiB."""

ENTRIES = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Tensor entries that are evaluated at a time."""


class Device:
    """Batches of faults of one network.

    Args:
        floats: the evaluator of the network, of sums and Relus only.
        name: ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: there is no such device, or the network does not fit it.
        FarkasError: the device's arithmetic is unfit.
    """

    def __init__(self, floats: Floats, name: str) -> None:
        if name not in ENTRIES:
            raise InputError(f"device '{name}': use one of {', '.join(ENTRIES)}")
        need_torch(name)
        import torch

        self._torch: Any = torch
        self._floats, self._name = floats, name
        _self_test(torch, name)
        self._maps = {
            (number, place): self._map(term.map)
            for number, node in enumerate(floats.network.nodes)
            if isinstance(node, Linear)
            for place, term in enumerate(node.terms)
        }
        for node in floats.network.nodes:
            if isinstance(node, Univariate) and node.function != "relu":
                raise InputError(f"device '{name}': the function '{node.function}' has no rule")
            if isinstance(node, Product):
                raise InputError(f"device '{name}': products have no rule")

    @property
    def entries(self) -> int:
        """How many tensor entries to evaluate at a time."""
        return ENTRIES[self._name]

    def sent(self, tensors: Mapping[int, Tensor]) -> dict[int, tuple[Any, Any]]:
        """Tensors as the device holds them."""
        return {n: (self._send(t.value), self._send(t.error)) for n, t in tensors.items()}

    def outputs(
        self, known: Mapping[int, tuple[Any, Any]], struck: Struck, entry: IndexArray, steps: Steps
    ) -> Tensor:
        """The outputs at one point, a row for each fault.

        Args:
            known: every tensor without a fault, as :meth:`sent`.
            struck: where the parameter stands.
            entry, steps: the faults.
        """
        network, number = self._floats.network, struck.place.node
        tensors = {**known, number: self._moved(known, struck, entry, steps)}
        for other in self._floats.after[number]:
            node = network.nodes[other]
            if isinstance(node, Linear):
                tensors[other] = self._linear(other, node, tensors)
            else:
                tensors[other] = self._relu(*tensors[node.sources[0]])
        found = [tensors[output] for output in network.outputs]
        values = [value.expand(entry.size, -1).cpu().numpy() for value, _ in found]
        errors = [
            error.expand(entry.size, v.shape[1]).cpu().numpy()
            for (_, error), v in zip(found, values, strict=True)
        ]
        return Tensor(np.concatenate(values, axis=1), np.concatenate(errors, axis=1))

    def _moved(
        self, known: Mapping[int, tuple[Any, Any]], struck: Struck, entry: IndexArray, steps: Steps
    ) -> tuple[Any, Any]:
        """As ``Struck.moved``."""
        torch = self._torch
        base, loose = known[struck.place.node]
        which, target, source = (self._send(part) for part in struck.products(entry))
        step, wide = self._send(steps.step)[which], self._send(steps.error)[which]
        if struck.source is None:
            direction, spread = torch.ones_like(step), torch.zeros_like(step)
        else:
            read, error = known[struck.source]
            direction, spread = read[0, source], error.expand_as(read)[0, source]
        change = step * direction
        own = wide * (direction.abs() + spread) + step.abs() * spread + change.abs() * UNIT
        own = own * UP + TINY
        value = base.repeat(entry.size, 1)
        errors = loose.expand_as(base).repeat(entry.size, 1)
        made = value[which, target] + change
        value[which, target] = made
        errors[which, target] = (errors[which, target] + own + made.abs() * UNIT) * UP + TINY
        return value, errors

    def _linear(
        self, number: int, node: Linear, tensors: Mapping[int, tuple[Any, Any]]
    ) -> tuple[Any, Any]:
        """As ``Floats``, with norms throughout."""
        torch = self._torch
        offset = self._send(node.offset.value[None])
        total = offset
        error = 0.0 if node.offset.radius is None else float(node.offset.radius.max(initial=0.0))
        size = float(np.abs(node.offset.value).max(initial=0.0))
        terms = 1.0 + len(node.terms)
        for place, term in enumerate(node.terms):
            value, own = tensors[term.source]
            total = total + self._image((number, place), term.map, value)
            reach = value.abs().amax(dim=1, keepdim=True)
            most = own.amax(dim=1, keepdim=True)
            norm, radius = self._floats.norm((number, place), term.map)
            error = error + most * norm + (reach + most) * radius
            size = size + reach * norm
            terms += 1.0 + term.map.fan_in
        bound = (error + size * (terms * UNIT) + TINY) * UP
        if not torch.is_tensor(bound):
            bound = torch.full((1, 1), bound, dtype=total.dtype, device=total.device)
        return total, bound

    def _relu(self, value: Any, error: Any) -> tuple[Any, Any]:
        zero = self._torch.zeros_like(value)
        return value.clamp(min=0.0), self._torch.where(value < -error, zero, error.expand_as(value))

    def _map(self, linear: LinearMap) -> Any:
        if isinstance(linear, Identity):
            return None
        if isinstance(linear, Scale):
            return self._send(linear.weight.value[None])
        if isinstance(linear, Gather):
            return self._send(linear.index)
        if linear.source_size * linear.target_size > LARGEST:
            raise InputError(
                f"device '{self._name}': a map of {linear.source_size} to {linear.target_size} "
                "entries is too large to be held as a matrix"
            )
        weight = None if linear.weight is None else linear.weight.value
        return self._send(linear.forward(np.eye(linear.source_size), weight, np.matmul))

    def _image(self, key: tuple[int, int], linear: LinearMap, value: Any) -> Any:
        held = self._maps[key]
        if held is None:
            return value
        if isinstance(linear, Scale):
            return value * held
        if isinstance(linear, Gather):
            found = value[:, held.clamp(min=0)]
            return self._torch.where(held[None] >= 0, found, self._torch.zeros_like(found))
        return value @ held

    def _send(self, array: Any) -> Any:
        return self._torch.tensor(np.ascontiguousarray(array), device=self._name)


def _self_test(torch: Any, name: str) -> None:
    """Refuse a device whose float64 arithmetic the bounds do not cover; see ``proofs.outward``."""
    send = {"dtype": torch.float64, "device": name}
    one = torch.ones(3, **send)
    half = torch.tensor([2.0**-53, 3 * 2.0**-53, -(2.0**-53)], **send)
    if (one + half).tolist() != [1.0, 1.0 + 2.0**-51, 1.0 - 2.0**-53]:
        raise FarkasError(f"{name}: floating-point rounding is not to nearest")
    small = torch.tensor([2.0**-1060], **send) * torch.tensor([2.0**-5], **send)
    if small.item() != 2.0**-1065:
        raise FarkasError(f"{name}: underflow is flushed to zero")
    side = 192
    pattern = torch.arange(side * side, **send).reshape(side, side) % 7.0 - 3.0
    # Rows and columns that differ by 2**40: products that mix them, or that are emulated with
    # one exponent for a block, lose the small ones.
    factors = torch.tensor([2.0**40 if i % 2 else 1.0 for i in range(side)], **send)
    whole = pattern.cpu().numpy().astype(np.int64)
    expected = torch.tensor((whole @ whole).astype(np.float64), **send)
    found = (factors[:, None] * pattern) @ (pattern * factors[None])
    if not torch.equal(found, factors[:, None] * expected * factors[None]):
        raise FarkasError(f"{name}: the matrix product is not accurate componentwise")
    fine = torch.tensor([[1.0, 2.0**-52]], **send) @ torch.tensor([[1.0], [1.0]], **send)
    if fine.item() != 1.0 + 2.0**-52:
        raise FarkasError(f"{name}: the matrix product is not in float64")
