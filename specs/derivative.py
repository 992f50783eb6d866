"""The network of a network's derivative: adjoints of linear maps, derivatives of functions.

For a row ``c`` over the outputs of ``f`` the *sensitivity* of a tensor ``t`` is the gradient of
``c . f`` with respect to ``t``, passed from the outputs to the inputs.  It is a network itself:
passing a linear map takes its transpose, passing a function its derivative times what comes.

At a Relu's bend the derivative is taken to be 1/2.  That is a derivative of the network at almost
every input, and this is all that is claimed: wherever a pre-activation is 0 on a set that has a
volume, its own gradient is 0 at almost all of it, so that any value in place of 1/2 gives the
same there (the level sets of a Lipschitz function; Evans and Gariepy, 1992, section 4.2.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specs.enclosure import Enclosure, FloatArray, zeros
from specs.errors import UnsupportedOperatorError
from specs.linear import (
    Array,
    Coefficients,
    Gather,
    Identity,
    IndexArray,
    LinearMap,
    MatMul,
    MatrixProduct,
    Scale,
)
from specs.network import (
    RESERVED,
    Input,
    Linear,
    Network,
    Node,
    Perturbed,
    Product,
    Term,
    Univariate,
)

KNOWN = ("relu", "sigmoid", "tanh", "exp", "sin", "cos", "reciprocal")
"""Functions whose derivatives are made of functions and products."""


@dataclass(frozen=True, eq=False)
class Transposed:
    """The transpose of a linear map."""

    map: LinearMap

    @property
    def source_size(self) -> int:
        return self.map.target_size

    @property
    def target_size(self) -> int:
        return self.map.source_size

    @property
    def weight(self) -> Enclosure | None:
        return self.map.weight

    @property
    def fan_in(self) -> int:
        return self.map.fan_out

    @property
    def fan_out(self) -> int:
        return self.map.fan_in

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return self.map.adjoint(values, weight, product)

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        return self.map.forward(rows, weight, product)

    def entries(self, targets: IndexArray) -> Coefficients | None:
        return None


def transposed(map_: LinearMap) -> LinearMap:
    """The transpose, of the same kind where there is one."""
    if isinstance(map_, Identity | Scale):
        return map_
    if isinstance(map_, MatMul):
        value, radius = map_.weight.value, map_.weight.radius
        turned = Enclosure(
            np.ascontiguousarray(value.T),
            None if radius is None else np.ascontiguousarray(radius.T),
        )
        return MatMul(turned, map_.rows)
    return Transposed(map_)


class Derivative:
    """Sensitivities of a network, as tensors of a network that has its nodes as well.

    Args:
        network: in real semantics.

    Attributes:
        nodes: the network's, and those of its derivative.
        gates: products with the derivative of a Relu, with the sign that it is made of.

    Raises:
        UnsupportedOperatorError: a function whose derivative is not known here.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.nodes: list[Node] = list(network.nodes)
        self.gates: dict[int, int] = {}
        self._slopes: dict[int, int] = {}
        self._signs: dict[int, int] = {}
        for node in network.nodes:
            if isinstance(node, Perturbed) or (isinstance(node, Univariate) and not _known(node)):
                what = node.function if isinstance(node, Univariate) else "a perturbed node"
                raise UnsupportedOperatorError(
                    f"tensor '{node.name}': no derivative is known of {what}; known are "
                    f"{', '.join(KNOWN)} and squares"
                )

    def gradient(self, row: FloatArray, label: str) -> int:
        """The tensor of the gradient ``(inputs,)`` of ``row . outputs``.

        Args:
            row: ``(outputs,)`` exact coefficients.
            label: for names; each its own.
        """
        network = self._network
        terms: dict[int, list[Term]] = {}
        start: dict[int, FloatArray] = {}
        at = 0
        for tensor in network.outputs:
            part = row[at : at + network.sizes[tensor]]
            at += network.sizes[tensor]
            if np.any(part):
                start[tensor] = start.get(tensor, np.zeros(part.size)) + part
        found: dict[int, int] = {}
        for tensor in range(len(network.nodes) - 1, -1, -1):
            listed, constant = terms.pop(tensor, []), start.get(tensor)
            if not listed and constant is None:
                continue
            own = self._sum(f"{label}/{tensor}", network.sizes[tensor], listed, constant)
            node = network.nodes[tensor]
            if isinstance(node, Input):
                found[tensor] = own
                continue
            for source, term in self._passed(tensor, node, own, label):
                terms.setdefault(source, []).append(term)
        return self._joined(label, found)

    def add(self, name: str, size: int, *terms: Term, offset: FloatArray | None = None) -> int:
        """A linear node; its tensor."""
        shift = zeros(size) if offset is None else Enclosure(offset)
        self.nodes.append(Linear(f"{RESERVED}d/{name}", (size,), terms, shift))
        return len(self.nodes) - 1

    def apply(self, name: str, source: int, function: str, *parameters: float) -> int:
        """A univariate node; its tensor."""
        made = Univariate(f"{RESERVED}d/{name}", (self.size(source),), source, function, parameters)
        self.nodes.append(made)
        return len(self.nodes) - 1

    def multiply(self, name: str, left: int, right: int) -> int:
        """A product node; its tensor."""
        self.nodes.append(Product(f"{RESERVED}d/{name}", (self.size(left),), left, right))
        return len(self.nodes) - 1

    def size(self, tensor: int) -> int:
        """Entries of a tensor."""
        return int(np.prod(self.nodes[tensor].shape, dtype=np.int64))

    def _sum(self, name: str, size: int, terms: Sequence[Term], constant: FloatArray | None) -> int:
        if constant is None and len(terms) == 1 and isinstance(terms[0].map, Identity):
            return terms[0].source
        return self.add(name, size, *terms, offset=constant)

    def _passed(self, tensor: int, node: Node, own: int, label: str) -> Sequence[tuple[int, Term]]:
        """What a node hands to each of its sources."""
        if isinstance(node, Linear):
            return [(term.source, Term(own, transposed(term.map))) for term in node.terms]
        whole = Identity(self.size(own))
        if isinstance(node, Product):
            return [
                (source, Term(self.multiply(f"{label}/{tensor}/{side}", own, other), whole))
                for side, source, other in (
                    ("left", node.left, node.right),
                    ("right", node.right, node.left),
                )
            ]
        if isinstance(node, Univariate):
            slope = self._slope(tensor, node)
            made = self.multiply(f"{label}/{tensor}/slope", own, slope)
            if tensor in self._signs:
                self.gates[made] = self._signs[tensor]
            return [(node.source, Term(made, whole))]
        raise UnsupportedOperatorError(f"tensor '{node.name}' has no derivative")

    def _slope(self, tensor: int, node: Univariate) -> int:
        """The tensor of a function's derivative at its argument."""
        if tensor not in self._slopes:
            self._slopes[tensor] = self._derived(f"slope/{tensor}", tensor, node)
        return self._slopes[tensor]

    def _derived(self, name: str, tensor: int, node: Univariate) -> int:
        size, at = self.size(tensor), node.source

        def scaled(source: int, factor: float) -> Term:
            return Term(source, Scale(Enclosure(np.full(size, factor))))

        match node.function:
            case "relu":
                sign = self._signs[tensor] = self.apply(f"{name}/sign", at, "sign")
                return self.add(name, size, scaled(sign, 0.5), offset=np.full(size, 0.5))
            case "sigmoid":  # y - y^2
                square = self.apply(f"{name}/square", tensor, "power", 2.0)
                return self.add(name, size, Term(tensor, Identity(size)), scaled(square, -1.0))
            case "tanh":  # 1 - y^2
                square = self.apply(f"{name}/square", tensor, "power", 2.0)
                return self.add(name, size, scaled(square, -1.0), offset=np.ones(size))
            case "exp":
                return tensor
            case "sin":
                return self.apply(name, at, "cos")
            case "cos":
                return self.add(name, size, scaled(self.apply(f"{name}/sin", at, "sin"), -1.0))
            case "reciprocal":  # -y^2
                square = self.apply(f"{name}/square", tensor, "power", 2.0)
                return self.add(name, size, scaled(square, -1.0))
            case "power":  # of 2
                return self.add(name, size, scaled(at, 2.0))
        raise UnsupportedOperatorError(f"no derivative of '{node.function}' is known")

    def _joined(self, label: str, found: Mapping[int, int]) -> int:
        """The sensitivities of all inputs, one after the other."""
        network = self._network
        if len(network.inputs) == 1 and network.inputs[0] in found:
            return found[network.inputs[0]]
        terms, at = [], 0
        for tensor in network.inputs:
            size = network.sizes[tensor]
            if tensor in found:
                index = np.full(network.input_size, -1, dtype=np.int64)
                index[at : at + size] = np.arange(size)
                terms.append(Term(found[tensor], Gather(index, size)))
            at += size
        return self.add(f"{label}/gradient", network.input_size, *terms)


def _known(node: Univariate) -> bool:
    if node.function == "power":
        return node.parameters == (2.0,)
    return node.function in KNOWN and not node.parameters
