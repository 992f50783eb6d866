"""The torch form of a network that the search bounds.

Tensors keep their numbers.  Shifts and errors are folded into the sums before them, and a
chain of linear nodes becomes one map of the input where that is cheaper, so that fewer nodes
are passed and more interval bounds are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from specs import network as normal
from specs.enclosure import Enclosure, FloatArray
from specs.errors import UnsupportedOperatorError
from specs.linear import Identity, MatMul
from verifier.bounds import LinearNode, NonlinearNode, TorchNetwork
from verifier.bounds_maps import Weights, compile_map
from verifier.bounds_product import PRODUCT, Squared
from verifier.relaxations import Relaxation, find


def compile_network(
    source: normal.Network,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    weights: Weights | None = None,
    radii: Mapping[int, FloatArray] | None = None,
) -> TorchNetwork:
    """The torch form of a network; tensors keep their numbers.

    ``weights`` holds coefficients that are on the device already; ``radii`` the largest
    error of each perturbed tensor, see ``bounds_errors``.

    Raises:
        UnsupportedOperatorError: a function or map without a form for the search.
    """
    weights = Weights(device, dtype) if weights is None else weights
    readers = [0] * len(source.nodes)
    for node in source.nodes:
        for term in node.terms if isinstance(node, normal.Linear) else ():
            readers[term.source] += 1
        if isinstance(node, normal.Perturbed):
            readers[node.source] += 1
        for tensor in node.bounded if isinstance(node, normal.Nonlinear) else ():
            readers[tensor] += 2  # a pre-activation keeps bounds of its own
    for output in source.outputs:
        readers[output] += 2
    nodes: list[LinearNode | NonlinearNode | None] = []
    exact, pre = set(), set(source.preactivations)
    for number, node in enumerate(source.nodes):
        if isinstance(node, normal.Input):
            nodes.append(None)
        elif isinstance(node, normal.Univariate):
            relaxation = find(node.function, node.parameters)
            nodes.append(NonlinearNode(node.sources, node.bounded, relaxation))
        elif isinstance(node, normal.Product):
            nodes.append(NonlinearNode(node.sources, node.bounded, _product(node, weights)))
        elif isinstance(node, normal.Perturbed):
            if radii is None:
                raise UnsupportedOperatorError("a perturbed network without radii of its errors")
            nodes.append(_perturbed(node, radii[number], nodes, readers, weights))
            if node.source in exact:
                exact.add(number)
        else:
            compiled = _linear(node, nodes, readers, weights)
            compiled = _straight(number, compiled, nodes, source, weights)
            nodes.append(compiled)
            sources = [t for t, _ in compiled.terms]
            if len(set(sources)) == len(sources) and all(nodes[t] is None for t in sources):
                exact.add(number)
    ends = list(accumulate(source.sizes[t] for t in sorted(pre)))
    slices = {
        t: slice(end - source.sizes[t], end) for t, end in zip(sorted(pre), ends, strict=True)
    }
    return TorchNetwork(
        nodes=tuple(nodes),
        needed=_needed(nodes, source.outputs),
        sizes=source.sizes,
        inputs=source.inputs,
        outputs=source.outputs,
        neurons=slices,
        exact=frozenset(exact & pre) | frozenset(pre & set(source.inputs)),
        device=device,
        dtype=dtype,
        source=source,
        weights=weights,
        radii={} if radii is None else radii,
    )


def _product(node: normal.Product, weights: Weights) -> Relaxation:
    if node.squares is None:
        return PRODUCT
    return Squared(weights.moved(node.squares.scale))


def _perturbed(
    node: normal.Perturbed,
    radius: FloatArray,
    nodes: list[LinearNode | NonlinearNode | None],
    readers: list[int],
    weights: Weights,
) -> LinearNode:
    """Compile a perturbed node; a sum that nobody else reads is folded in."""
    errors, before = weights.moved(radius), nodes[node.source]
    if isinstance(before, LinearNode) and readers[node.source] == 1:
        return replace(before, radius=_both(before.radius, errors))
    return LinearNode(((node.source, compile_map(Identity(radius.size), weights)),), None, errors)


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _linear(
    node: normal.Linear,
    nodes: list[LinearNode | NonlinearNode | None],
    readers: list[int],
    weights: Weights,
) -> LinearNode:
    """Compile a linear node; the tensor it merely shifts is folded in if nobody reads it."""
    offset = weights.moved(node.offset.value)
    shift = offset if bool(offset.any()) else None
    if len(node.terms) == 1 and isinstance(node.terms[0].map, Identity):
        before = node.terms[0].source
        folded = nodes[before]
        if isinstance(folded, LinearNode) and readers[before] == 1:
            if shift is not None and folded.offset is not None:
                shift = folded.offset + shift
            return replace(folded, offset=folded.offset if shift is None else shift)
    terms = [(t.source, compile_map(t.map, weights)) for t in node.terms]
    return LinearNode(tuple(terms), shift)


def _straight(
    number: int,
    node: LinearNode,
    nodes: list[LinearNode | NonlinearNode | None],
    source: normal.Network,
    weights: Weights,
) -> LinearNode:
    """A chain of linear nodes as one map of the input, where that has fewer coefficients.

    Its interval bounds are then exact, and rows pass it at once.
    """
    if len(source.inputs) != 1 or all(nodes[t] is None for t, _ in node.terms):
        return node
    width = source.sizes[source.inputs[0]]
    chain = _chain(node, nodes)
    if chain is None or any(_errs(nodes[tensor]) for tensor in chain):
        return node
    cost = sum(
        t.map.fan_in * t.map.target_size
        for tensor in (number, *chain)
        for t in source.nodes[tensor].terms  # type: ignore[union-attr]
    )
    if width * source.sizes[number] > cost:
        return node
    eye = torch.eye(width + 1, width, device=weights.device, dtype=weights.dtype)
    values = {source.inputs[0]: eye}
    for tensor in chain:
        before = nodes[tensor]
        if isinstance(before, LinearNode):
            values[tensor] = _forward(before, values)
    rows = _forward(node, values)  # the last one is at the input 0
    product = Enclosure((rows[:-1] - rows[-1]).cpu().double().numpy())
    matrix = compile_map(MatMul(product), weights)
    return LinearNode(((source.inputs[0], matrix),), rows[-1])


def _errs(node: LinearNode | NonlinearNode | None) -> bool:
    return isinstance(node, LinearNode) and node.radius is not None


def _chain(node: LinearNode, nodes: list[LinearNode | NonlinearNode | None]) -> list[int] | None:
    """The linear tensors between the input and a node, ascending; ``None`` if others are."""
    reached: set[int] = set()
    front = [t for t, _ in node.terms]
    while front:
        tensor = front.pop()
        before = nodes[tensor]
        if isinstance(before, NonlinearNode):
            return None
        if before is not None and tensor not in reached:
            reached.add(tensor)
            front += [t for t, _ in before.terms]
    return sorted(reached)


def _forward(node: LinearNode, values: Mapping[int, Tensor]) -> Tensor:
    total: Tensor | None = None
    for tensor, linear in node.terms:
        part = linear.forward(values[tensor])
        total = part if total is None else total + part
    if total is None:
        raise UnsupportedOperatorError("the search has no rule for a node without sources")
    return total if node.offset is None else total + node.offset


def _needed(
    nodes: list[LinearNode | NonlinearNode | None], outputs: tuple[int, ...]
) -> tuple[int, ...]:
    reached, front = set(outputs), list(outputs)
    while front:
        node = nodes[front.pop()]
        if isinstance(node, NonlinearNode):
            sources = set(node.bounded)
        else:
            sources = set() if node is None else {t for t, _ in node.terms}
        front += sources - reached
        reached |= sources
    return tuple(t for t in sorted(reached) if nodes[t] is not None)
