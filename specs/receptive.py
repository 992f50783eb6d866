"""What a part of a tensor depends on: its receptive field, as a network of its own.

Entries of an image tensor that lie in a window depend, through convolutions, on windows of
the tensors before it.  A linear function of them is substituted back at a fraction of the
cost if every tensor is cut to its window: :class:`Receptive` is the network cut in this
way, node by node, under the same numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.linear import Gather, Identity, IndexArray, LinearMap, MatMul
from specs.network import (
    Error,
    Input,
    Linear,
    Network,
    Node,
    Nonlinear,
    Perturbed,
    Term,
    Univariate,
)

MOST_TILES = 64
"""Windows of one tensor: each has a network of its own, so that images may be large."""

MOST_LEFT = 0.7
"""Share of a field's entries up to which cutting it is worth its overhead."""


@dataclass(frozen=True)
class Window:
    """All channels of a range of positions along each spatial axis of an image tensor.

    Attributes:
        shape: ``(batch, channels, *spatial)`` of the whole tensor.
        ranges: by spatial axis, the first position and the one after the last.
    """

    shape: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """The shape of what is inside."""
        return (*self.shape[:2], *(stop - start for start, stop in self.ranges))

    @property
    def size(self) -> int:
        """How many entries are inside."""
        return math.prod(self.extent)

    @staticmethod
    def around(shape: tuple[int, ...]) -> Window:
        """The window that holds a whole tensor."""
        return Window(shape, tuple((0, size) for size in shape[2:]))

    @cached_property
    def index(self) -> IndexArray:
        """The flat entries inside, in order."""
        places = np.arange(math.prod(self.shape)).reshape(self.shape)
        inside = places[:, :, *(slice(*ends) for ends in self.ranges)]
        return np.ascontiguousarray(inside).reshape(-1)

    def united(self, other: Window) -> Window | None:
        """The least window around both; ``None`` if the tensor is seen in two shapes."""
        if self.shape != other.shape:
            return None
        pairs = zip(self.ranges, other.ranges, strict=True)
        ranges = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)
        return Window(self.shape, ranges)


@dataclass(frozen=True, eq=False)
class Receptive:
    """A network cut to the receptive field of a window of one tensor.

    Attributes:
        network: nodes under the same numbers as in the whole network; those outside the
            field are inputs of one entry.
        index: by tensor of the field, the entries that are left; ``None``: all of them.
    """

    network: Network
    index: Mapping[int, IndexArray | None]


def tiles(
    shape: tuple[int, ...], entries: IndexArray, each: int
) -> list[tuple[Window, IndexArray]]:
    """Entries of an image tensor by square windows, with ``each`` of them or more on average.

    There are at most ``MOST_TILES`` windows.

    Returns:
        Windows, and the positions in ``entries`` of those inside, ascending.
    """
    spatial = shape[2:]
    if not spatial or not entries.size:
        return []

    def counted(side: int) -> list[int]:
        return [-(-size // side) for size in spatial]

    side = 1
    while side < max(spatial) and (
        entries.size * side ** len(spatial) < each * math.prod(spatial)
        or math.prod(counted(side)) > MOST_TILES
    ):
        side += 1
    places = np.unravel_index(entries, shape)[2:]
    counts = counted(side)
    cells = np.ravel_multi_index(tuple(p // side for p in places), counts)
    order = np.argsort(cells, kind="stable")
    found, first = np.unique(cells[order], return_index=True)
    out = []
    for cell, inside in zip(found, np.split(order, first[1:]), strict=True):
        corner = [int(c) * side for c in np.unravel_index(cell, counts)]
        ranges = ((c, min(size, c + side)) for c, size in zip(corner, spatial, strict=True))
        out.append((Window(shape, tuple(ranges)), inside))
    return out


def receptive(
    network: Network, tensor: int, window: Window, most_left: float = MOST_LEFT
) -> Receptive | None:
    """The network cut to the receptive field of a window.

    ``None`` where more than a share ``most_left`` of the field's entries would be left, or
    where nodes are struck: what faulty words do depends on whole tensors.
    """
    if network.struck:
        return None
    windows = _windows(network, tensor, window)
    sizes = [(network.sizes[n], w) for n, w in windows.items()]
    left = sum(size if w is None else w.size for size, w in sizes)
    if left > most_left * sum(size for size, _ in sizes):
        return None
    nodes: list[Node] = []
    for number, node in enumerate(network.nodes[: tensor + 1]):
        here = windows.get(number)
        if number not in windows:
            nodes.append(Input(node.name, (1,)))
        elif here is None:
            nodes.append(node)
        elif isinstance(node, Linear):
            terms = tuple(Term(t.source, _cut(t.map, here, windows[t.source])) for t in node.terms)
            offset = _picked(node.offset, here.index)
            nodes.append(Linear(node.name, here.extent, terms, offset))
        elif isinstance(node, Perturbed) and isinstance(node.error, Error):
            error = _cut_error(node.error, here.index)
            nodes.append(dataclasses.replace(node, shape=here.extent, error=error))
        else:
            nodes.append(dataclasses.replace(node, shape=here.extent))
    index = {n: None if w is None else w.index for n, w in windows.items()}
    return Receptive(Network(tuple(nodes), (tensor,), semantics=network.semantics), index)


def _windows(network: Network, tensor: int, window: Window) -> dict[int, Window | None]:
    """By tensor of the receptive field its window; ``None``: the whole tensor.

    A linear node is whole unless all its maps, and all that read it, move in windows; a
    product and its factors are whole.
    """
    found: dict[int, Window | None] = {tensor: window}
    for number in range(tensor, -1, -1):
        node, here = network.nodes[number], found.get(number)
        if number not in found or isinstance(node, Input):
            continue
        parts: list[tuple[int, Window | None]]
        if isinstance(node, Univariate | Perturbed):
            parts = [(node.source, here)]
        elif (
            isinstance(node, Linear)
            and here is not None
            and all(_moves_in_windows(t.map, here) for t in node.terms)
        ):
            parts = [(t.source, _before(t.map, here)) for t in node.terms]
        else:
            found[number] = None
            used = node.bounded if isinstance(node, Nonlinear) else node.sources
            parts = [(source, None) for source in used]
        for source, part in parts:
            known = found.get(source, part)
            found[source] = None if known is None or part is None else known.united(part)
    for number in sorted(found):  # other readers may have widened what a function is of
        node = network.nodes[number]
        if isinstance(node, Univariate | Perturbed):
            found[number] = found[node.source]
    return found


def _moves_in_windows(linear: LinearMap, here: Window) -> bool:
    """Whether a window of the result can be computed alone."""
    if isinstance(linear, Conv):
        return here.shape == (linear.in_shape if linear.transposed else linear.out_shape)
    return isinstance(linear, Identity) or (isinstance(linear, MatMul) and linear.rows == 1)


def _before(linear: LinearMap, here: Window) -> Window | None:
    """The window of the source that a window of the result is computed from."""
    if isinstance(linear, Identity):
        return here
    if not isinstance(linear, Conv):
        return None
    source = linear.out_shape if linear.transposed else linear.in_shape
    ranges = []
    for axis, (start, stop) in enumerate(here.ranges):
        stride, pad, size = linear.strides[axis], linear.pads[axis], source[2 + axis]
        reach = (linear.weight.shape[2 + axis] - 1) * linear.dilations[axis]
        if linear.transposed:
            first, last = -(-(start + pad - reach) // stride), (stop - 1 + pad) // stride
        else:
            first, last = start * stride - pad, (stop - 1) * stride - pad + reach
        first = min(max(first, 0), size - 1)
        ranges.append((first, max(first + 1, min(last + 1, size))))
    return Window(source, tuple(ranges))


def _cut(linear: LinearMap, here: Window, before: Window | None) -> LinearMap:
    """A map to a window, from a window or tensor that holds what it needs."""
    if isinstance(linear, Identity):
        if before is None:
            return Gather(here.index, linear.size)
        if before.ranges == here.ranges:
            return Identity(here.size)
        return Gather(np.searchsorted(before.index, here.index), before.size)
    if isinstance(linear, MatMul):
        return MatMul(_picked(linear.weight, here.index))
    if not isinstance(linear, Conv):
        raise ModelError(f"a {type(linear).__name__} cannot be cut to a window")
    source = Window.around(linear.out_shape if linear.transposed else linear.in_shape)
    source = source if before is None else before
    into, out = (here, source) if linear.transposed else (source, here)
    pads = tuple(
        pad + a - b * stride
        for pad, stride, (a, _), (b, _) in zip(
            linear.pads, linear.strides, into.ranges, out.ranges, strict=True
        )
    )
    return dataclasses.replace(linear, in_shape=into.extent, out_shape=out.extent, pads=pads)


def _cut_error(error: Error, index: IndexArray) -> Error:
    """The error of some entries; one that depends on others too is the whole network's affair."""
    parts = (part if part.size == 1 else part[index] for part in (error.floor, error.base))
    floor, base = parts
    return dataclasses.replace(error, floor=floor, base=base)


def _picked(values: Enclosure, index: IndexArray) -> Enclosure:
    """Entries of the last axis."""
    radius = None if values.radius is None else values.radius[..., index]
    return Enclosure(values.value[..., index], radius)
