"""Squares beside products: ``4 t x y = (x + t y)^2 - (x - t y)^2``.

Where the factors of a product move together, or against each other, one of the two squares
hardly moves at all, and bounds of both say far more of the product than bounds of the
factors.  The network computes the same: it only names two linear forms more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from specs.enclosure import Enclosure, FloatArray
from specs.errors import ModelError
from specs.linear import Identity, Scale
from specs.network import RESERVED, Linear, Network, Node, Product, Squares, Term, moved

GREATEST = 2.0**60
"""Of ratios; the least one is its inverse."""


def with_squares(network: Network, scales: Mapping[int, FloatArray]) -> Network:
    """The network with the two forms beside some of its products.

    Args:
        network: without any.
        scales: by product tensor the ``t``, ``(n,)``.

    Raises:
        ModelError: a tensor is no product, or has other entries; a ``t`` is out of range.
    """
    nodes: list[Node] = []
    place: list[int] = []
    for number, node in enumerate(network.nodes):
        found = moved(node, place.__getitem__)
        chosen = scales.get(number)
        if chosen is not None:
            found = _beside(found, np.asarray(chosen, dtype=np.float64), nodes)
        place.append(len(nodes))
        nodes.append(found)
    if not set(scales) <= set(range(len(network.nodes))):
        raise ModelError("squares beside a tensor that does not exist")
    aliases = {name: place[tensor] for name, tensor in network.aliases.items()}
    outputs = tuple(place[tensor] for tensor in network.outputs)
    return replace(network, nodes=tuple(nodes), outputs=outputs, aliases=aliases)


def _beside(node: Node, scale: FloatArray, nodes: list[Node]) -> Product:
    """Append both forms to ``nodes``; the product that uses them."""
    size = scale.size
    if not isinstance(node, Product) or node.squares is not None:
        raise ModelError(f"'{node.name}' is no product without squares")
    inside = (scale >= 1.0 / GREATEST) & (scale <= GREATEST)
    if scale.shape != (math.prod(node.shape),) or not np.all(inside):
        raise ModelError(f"the squares of '{node.name}' have other entries, or are out of range")
    zero = Enclosure(np.zeros(size))
    for sign, label in ((1.0, "sum"), (-1.0, "difference")):
        terms = (Term(node.left, Identity(size)), Term(node.right, Scale(Enclosure(sign * scale))))
        nodes.append(Linear(f"{RESERVED}{node.name}/{label}", node.shape, terms, zero))
    return replace(node, squares=Squares(len(nodes) - 2, len(nodes) - 1, scale))
