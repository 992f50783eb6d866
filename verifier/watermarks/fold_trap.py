"""Has batch normalisation been folded into a marked tensor?

Exporters and runtimes fold a batch normalisation into the convolution before it: channel ``i`` of
the weights is multiplied by ``scale_i / sqrt(variance_i + epsilon)``, and the normalisation is
gone.  The function stays the same, the weights do not: a mark read from them means nothing, and a
negative scale flips its bits.  What is found here is for reports, in floating point; no claim
rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from specs.enclosure import FloatArray
from specs.errors import ModelError

EPSILON = 1e-5
"""Of a batch normalisation that states none."""
CLOSE = 1e-4
"""Relative distance, channel by channel, below which weights are called multiples."""
FLOATS = "f"


@dataclass(frozen=True, eq=False)
class Folding:
    """What a suspect stores in place of an owner's tensor.

    Attributes:
        tensor: the suspect's initializer that is most like the owner's, up to a factor for each
            channel.
        same_name: the suspect calls it as the owner does.
        factors: ``(channels,)`` by which the owner's channels have to be multiplied; 0 for
            a channel of zeros.
        distance: how far the suspect's channels are from such multiples, the largest Euclidean
            distance over a channel's length.
        normalised: the owner's model has a batch normalisation right behind the tensor's operator.
        kept: so has the suspect's.
        expected: ``(channels,)`` factors of the owner's batch normalisation, if there is one.
    """

    tensor: str
    same_name: bool
    factors: FloatArray
    distance: float
    normalised: bool
    kept: bool
    expected: FloatArray | None

    @property
    def multiple(self) -> bool:
        """The suspect's channels are multiples of the owner's."""
        return self.distance <= CLOSE

    @property
    def unchanged(self) -> bool:
        """They are the owner's channels themselves."""
        used = self.factors[self.factors != 0]
        return self.multiple and bool(np.all(np.abs(used - 1) <= CLOSE))

    @property
    def folded(self) -> bool:
        """A normalisation of the owner's is gone: the tensor must not be read as it stands."""
        return self.normalised and not self.kept

    @property
    def explained(self) -> bool:
        """The factors are those of the owner's batch normalisation."""
        if self.expected is None or not self.multiple:
            return False
        used = self.factors != 0
        return bool(np.allclose(self.factors[used], self.expected[used], rtol=CLOSE, atol=0))

    def in_words(self) -> str:
        """A sentence."""
        where = f"the tensor is stored as '{self.tensor}'"
        if self.folded:
            negative = int(np.sum(self.factors < 0))
            why = "exactly as" if self.explained else "not by the factors that"
            return (
                f"{where}; a batch normalisation behind it was folded into it, {why} the owner's "
                f"parameters say; {negative} of {self.factors.size} channels changed sign: divide "
                "by the factors before reading the mark"
            )
        if self.unchanged:
            return f"{where}, unchanged"
        if self.multiple:
            return f"{where}; its channels are multiples of the owner's: it was rescaled"
        return f"{where}; it was changed, at most {self.distance:.3g} of a channel's length"


def folding(owner: bytes, suspect: bytes, tensor: str) -> Folding:
    """What a suspect stores in place of an owner's tensor.

    Args:
        owner, suspect: model files, decompressed.
        tensor: an initializer of the owner's, output channels first.

    Raises:
        ModelError: a file is no model, the owner has no such initializer of floats, or the suspect
            has none of its shape.
    """
    first, second = _graph(owner), _graph(suspect)
    own, held = _stored(first), _stored(second)
    if tensor not in own or own[tensor].ndim < 2:
        raise ModelError(f"the owner's model has no initializer '{tensor}' of floats and two axes")
    alike = {name: v for name, v in held.items() if v.shape == own[tensor].shape}
    if not alike:
        raise ModelError(
            f"the suspect has no initializer of shape {own[tensor].shape}, as '{tensor}' has"
        )
    compared = {name: _multiples(own[tensor], values) for name, values in alike.items()}
    best = min(compared, key=lambda name: (compared[name][1], name != tensor))
    norm = _norm_behind(first, tensor)
    factors, distance = compared[best]
    return Folding(
        best,
        best == tensor,
        factors,
        distance,
        norm is not None,
        _norm_behind(second, best) is not None,
        None if norm is None else _factors(norm, own),
    )


def _multiples(own: FloatArray, other: FloatArray) -> tuple[FloatArray, float]:
    """The factors of least squares, and how far from them the other is."""
    a, b = own.reshape(len(own), -1), other.reshape(len(other), -1)
    squares = np.sum(a * a, axis=1)
    factors = np.where(squares > 0, np.sum(a * b, axis=1) / np.where(squares > 0, squares, 1), 0.0)
    lengths = np.linalg.norm(b, axis=1)
    off = np.linalg.norm(b - factors[:, None] * a, axis=1)
    return factors, float(np.max(off / np.where(lengths > 0, lengths, 1.0), initial=0.0))


def _factors(node: NodeProto, stored: Mapping[str, FloatArray]) -> FloatArray | None:
    """By channel, what a batch normalisation multiplies by; ``None``: not stored in the file."""
    if len(node.input) < 5 or node.input[1] not in stored or node.input[4] not in stored:
        return None
    epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), EPSILON)
    return stored[node.input[1]] / np.sqrt(stored[node.input[4]] + epsilon)


def _norm_behind(graph: GraphProto, tensor: str) -> NodeProto | None:
    """The batch normalisation that reads what the operator with this tensor computes."""
    for node in graph.node:
        if tensor in node.input:
            for reader in graph.node:
                if reader.op_type == "BatchNormalization" and reader.input[0] in node.output:
                    found: NodeProto = reader
                    return found
    return None


def _graph(content: bytes) -> GraphProto:
    try:
        graph: GraphProto = ModelProto.FromString(content).graph
    except DecodeError as error:
        raise ModelError("not an ONNX model, or a damaged one") from error
    return graph


def _stored(graph: GraphProto) -> dict[str, FloatArray]:
    """Initializers of floats that the file holds itself."""
    found = {}
    for tensor in graph.initializer:
        if not tensor.external_data:
            values = numpy_helper.to_array(tensor)
            if values.dtype.kind == FLOATS:
                found[tensor.name] = values.astype(np.float64)
    return found
