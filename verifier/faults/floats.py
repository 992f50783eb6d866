"""Float64 evaluation of a network with a rigorous bound of its error, from any node on.

A sum of ``n`` products errs by at most ``n u`` times the sum of magnitudes, in whatever order
and with or without fused multiply-add (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2002, chapter 3).  As in ``proofs.outward``, whose start-up test of the machine's
arithmetic is run, ``u`` is taken as 2**-52, twice its value, which pays for the rounding of the
bounds themselves.  Magnitudes are bounded by norms: one number for each row of a batch, so that
a bound costs a pass over the values and no second matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proofs.frame import image
from proofs.outward import TINY, UNIT, Outward
from specs.enclosure import Enclosure, FloatArray
from specs.errors import FarkasError
from specs.linear import Gather, Identity, LinearMap, Scale
from specs.network import Input, Linear, Network, Nonlinear, Perturbed, Univariate

BoolArray = npt.NDArray[np.bool_]

UP = 1.0 + 2.0**-20
"""Pays for the rounding of bounds that are sums of up to 2**30 non-negative numbers."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor in a batch: ``value`` is within ``error`` of the exact one.

    Attributes:
        value: ``(B, n)``; B is 1 for what all rows share.
        error: ``(B, n)`` or ``(B, 1)``, infinite or NaN where nothing is known.
    """

    value: FloatArray
    error: FloatArray


def exact_tensor(value: FloatArray) -> Tensor:
    """Numbers that are what they are."""
    return Tensor(value, np.zeros((len(value), 1)))


class Floats:
    """The evaluator of one network.

    Args:
        network: without perturbed nodes.

    Raises:
        FarkasError: the network has perturbed nodes, or the machine's arithmetic is unfit.
    """

    def __init__(self, network: Network) -> None:
        if network.perturbed:
            raise FarkasError("faults are evaluated in real semantics")
        self.network = network
        self._outward = Outward()
        self._norms: dict[tuple[int, int], tuple[Enclosure | None, float, float]] = {}
        after: list[set[int]] = [set() for _ in network.nodes]
        for number in range(len(network.nodes) - 1, -1, -1):
            for reader in network.readers[number]:
                after[number] |= {reader} | after[reader]
        self.after = tuple(tuple(sorted(found)) for found in after)

    def run(self, inputs: FloatArray, sharp: bool = False) -> list[Tensor]:
        """Every tensor at points ``(B, input_size)``, which count as exact.

        Args:
            inputs: the points.
            sharp: as for :meth:`node`.
        """
        edges = np.cumsum([self.network.sizes[i] for i in self.network.inputs])[:-1]
        parts = iter(np.split(np.asarray(inputs, dtype=np.float64), edges, axis=1))
        known: dict[int, Tensor] = {}
        for number, node in enumerate(self.network.nodes):
            if isinstance(node, Input):
                known[number] = exact_tensor(next(parts))
            else:
                known[number] = self.node(number, known, None, sharp)
        return [known[number] for number in range(len(self.network.nodes))]

    def outputs(self, known: Mapping[int, Tensor], changed: int, sharp: bool = False) -> Tensor:
        """The outputs, where one tensor is not what it was.

        Args:
            known: every tensor without the change, and the changed one as it is now.
            changed: its number.
            sharp: as for :meth:`node`.
        """
        tensors = dict(known)
        for number in self.after[changed]:
            tensors[number] = self.node(number, tensors, None, sharp)
        return joined([tensors[number] for number in self.network.outputs])

    def outputs_with(
        self, known: Mapping[int, Tensor], instead: Mapping[int, Linear], sharp: bool = False
    ) -> Tensor:
        """The outputs, where some nodes have other constants.

        Args:
            known: every tensor without the change.
            instead: the nodes as they are now, by number.
            sharp: as for :meth:`node`.
        """
        tensors = dict(known)
        for number in sorted({n for c in instead for n in self.after[c]} | set(instead)):
            tensors[number] = self.node(number, tensors, instead.get(number), sharp)
        return joined([tensors[number] for number in self.network.outputs])

    def node(
        self,
        number: int,
        tensors: Mapping[int, Tensor],
        instead: Linear | None = None,
        sharp: bool = False,
    ) -> Tensor:
        """What a node computes of tensors.

        Args:
            number: of the node.
            tensors: those that it reads.
            instead: a node with other constants.
            sharp: a bound for every entry of its own instead of norms, at two more products.
        """
        node = self.network.nodes[number] if instead is None else instead
        if isinstance(node, Linear):
            return self._linear(number, node, [tensors[source] for source in node.sources], sharp)
        if isinstance(node, Univariate) and node.function == "relu":
            return relu(tensors[node.source])
        if isinstance(node, Input | Perturbed) or not isinstance(node, Nonlinear):
            raise FarkasError(f"tensor {number} is not computed")
        intervals = [ends(tensors[source]) for source in node.sources]
        wide = [np.broadcast_arrays(lower, upper) for lower, upper in intervals]
        with np.errstate(all="ignore"):
            lower, upper = image(self._outward, node, [(low, high) for low, high in wide])
            middle = 0.5 * lower + 0.5 * upper
            half = np.maximum(upper - middle, middle - lower)
            return Tensor(middle, half * UP + TINY)

    def _linear(self, number: int, node: Linear, sources: Sequence[Tensor], sharp: bool) -> Tensor:
        rows = max([1, *(len(source.value) for source in sources)])
        total = np.repeat(node.offset.value[None], rows, axis=0)
        error = np.zeros((1, 1)) if node.offset.radius is None else node.offset.radius[None]
        size = np.abs(node.offset.value)[None]
        plain_terms = all(isinstance(term.map, Identity | Gather | Scale) for term in node.terms)
        if not sharp and not plain_terms:
            error, size = (part.max(axis=1, keepdims=True) for part in (error, size))
        plain = node.offset.exact and not np.any(node.offset.value)
        terms = 1.0 + len(node.terms)
        with np.errstate(all="ignore"):
            for place, (term, source) in enumerate(zip(node.terms, sources, strict=True)):
                weight = None if term.map.weight is None else term.map.weight.value
                value = term.map.forward(source.value, weight, np.matmul)
                total = value + total if not plain else value
                plain = False
                if sharp and not isinstance(term.map, Identity | Gather | Scale):
                    own, reach, count = _sharp(term.map, source)
                else:
                    own, reach, count = self._spread((number, place), term.map, source, value)
                error = error + own
                size = size + reach
                terms += count
            lone = len(node.terms) == 1 and node.offset.exact and not np.any(node.offset.value)
            if not (lone and isinstance(node.terms[0].map, Identity | Gather)):
                error = (error + size * (terms * UNIT) + TINY) * UP
        return Tensor(total, np.broadcast_to(error, (rows, error.shape[1])))

    def _spread(
        self, key: tuple[int, int], term: LinearMap, source: Tensor, value: FloatArray
    ) -> tuple[FloatArray, FloatArray, float]:
        """What a term adds to the error, a bound of its sum of magnitudes, and its length."""
        if isinstance(term, Identity):
            return source.error, np.abs(value), 1.0
        if isinstance(term, Gather):
            wide = np.broadcast_to(source.error, source.value.shape)
            return term.forward(wide, None, np.matmul), np.abs(value), 1.0
        if isinstance(term, Scale):
            width = np.abs(term.weight.value)
            error = source.error * width
            if term.weight.radius is not None:
                error = error + (np.abs(source.value) + source.error) * term.weight.radius
            return error, np.abs(value), 2.0
        norm, radius = self.norm(key, term)
        error = source.error.max(axis=1, keepdims=True)
        reach = np.maximum(source.value.max(axis=1), -source.value.min(axis=1))[:, None]
        spread = error * norm + (reach + error) * radius if radius else error * norm
        return spread, reach * norm, 1.0 + term.fan_in

    def norm(self, key: tuple[int, int], term: LinearMap) -> tuple[float, float]:
        """The largest sum of magnitudes of a row of a map, and that of the radii.

        Args:
            key: number of the node, and of the term.
            term: the map.
        """
        known = self._norms.get(key)
        if known is None or known[0] is not term.weight:
            one = np.ones((1, term.source_size))
            size = None if term.weight is None else np.abs(term.weight.value)
            norm = float(term.forward(one, size, np.matmul).max(initial=0.0)) * UP
            radius = 0.0
            if term.weight is not None and term.weight.radius is not None:
                width = term.forward(one, term.weight.radius, np.matmul)
                radius = float(width.max(initial=0.0)) * UP
            known = (term.weight, norm, radius)
            self._norms.setdefault(key, known)
        return known[1], known[2]


def _sharp(term: LinearMap, source: Tensor) -> tuple[FloatArray, FloatArray, float]:
    """What a term adds to the error and to the magnitude of every entry, and its length."""
    size = np.abs(source.value)
    error = np.broadcast_to(source.error, size.shape)
    weight = None if term.weight is None else np.abs(term.weight.value)
    spread = term.forward(error, weight, np.matmul)
    if term.weight is not None and term.weight.radius is not None:
        spread = spread + term.forward(size + error, term.weight.radius, np.matmul)
    return spread, term.forward(size, weight, np.matmul), 1.0 + term.fan_in


def relu(tensor: Tensor) -> Tensor:
    """``max(0, x)``; where x is negative for certain the result is 0 for certain."""
    dead = tensor.value < -tensor.error  # not where one is no number, nor for infinite errors
    return Tensor(np.maximum(tensor.value, 0.0), np.where(dead, 0.0, tensor.error))


def ends(tensor: Tensor) -> tuple[FloatArray, FloatArray]:
    """Bounds of the exact values, ``(B, n)``; infinite where nothing is known."""
    with np.errstate(all="ignore"):
        slack = (np.abs(tensor.value) + tensor.error) * (2.0 * UNIT) + TINY
        width = np.where(tensor.error == 0.0, 0.0, tensor.error + slack)
        lower, upper = tensor.value - width, tensor.value + width
    return np.fmax(lower, -np.inf), np.fmin(upper, np.inf)


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors next to each other."""
    if len(tensors) == 1:
        return tensors[0]
    rows = max(len(tensor.value) for tensor in tensors)
    parts = [np.broadcast_to(t.value, (rows, t.value.shape[1])) for t in tensors]
    errors = [np.broadcast_to(t.error, part.shape) for t, part in zip(tensors, parts, strict=True)]
    return Tensor(np.concatenate(parts, axis=1), np.concatenate(errors, axis=1))


def judged(outputs: Tensor, label: npt.NDArray[np.int64]) -> tuple[BoolArray, BoolArray]:
    """Where ``label`` certainly exceeds every other output, and where it certainly does not.

    Args:
        outputs: in a batch of B rows.
        label: ``(B,)``.
    """
    lower, upper = ends(outputs)
    rows = np.arange(len(lower))
    low, high = lower[rows, label], upper[rows, label]
    lower, upper = lower.copy(), upper.copy()
    lower[rows, label] = upper[rows, label] = -np.inf
    with np.errstate(invalid="ignore"):
        return low > upper.max(axis=1, initial=-np.inf), lower.max(axis=1, initial=-np.inf) > high
