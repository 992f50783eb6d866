"""A model file as a chain of layers: what permuting, rescaling and folding act on.

A *layer* is a linear operator (``Gemm``, ``MatMul`` with ``Add``, ``Conv``), a batch normalisation
or none, and an activation or none.  Its *units* are the outputs of a dense layer or the channels of
a convolution.  Between layers only operators stand that treat each channel alike and on its own
(pooling, ``Flatten``).  Anything else is refused, by name: nothing is guessed about it.

Unit ``i`` of a layer computes, before its activation, ``offset_i + gain_i (W_i x + b_i - mean_i)``
with ``gain_i = scale_i / sqrt(variance_i + epsilon)``; without normalisation the gain is 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from specs.enclosure import FloatArray
from specs.errors import ModelError, UnsupportedOperatorError
from specs.onnx_reader import read_model_bytes
from specs.query import ModelFile
from specs.reader.tensors import FLOATS, Constant, ExternalData, read_tensor

POSITIVE, SIGNED, FIXED = "positive", "signed", "fixed"
"""Which factors an activation lets pass: positive ones; 1 and -1; only 1."""

ACTIVATIONS = {
    "": POSITIVE,
    "Relu": POSITIVE,
    "LeakyRelu": POSITIVE,
    "Tanh": SIGNED,
    **dict.fromkeys(("Sigmoid", "Elu", "Selu", "Softplus", "Gelu", "HardSwish"), FIXED),
}
"""By operator; the empty name is no activation."""

CHANNELWISE = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
SAME = ("Identity", "Dropout")
SHAPES = ("Flatten", "Reshape")
AT_INPUT = ("Sub", "Div", "Mul", "Add")
"""Operators by constants that may stand before the first layer."""


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch normalisation.

    Attributes:
        names: of the initialisers: scale, offset, mean, variance.
        scale, offset, mean, variance: ``(n,)``, exactly as stored.
        epsilon: added to the variance; the sum is positive.
    """

    names: tuple[str, str, str, str]
    scale: FloatArray
    offset: FloatArray
    mean: FloatArray
    variance: FloatArray
    epsilon: Fraction


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a chain.

    Attributes:
        kind: ``"dense"`` or ``"conv"``.
        weight_name, bias_name: initialisers; no bias: ``None``.
        weight: ``(units, inputs, *kernel)``, exactly as stored.
        transposed: the initialiser of a dense layer holds ``(inputs, units)``.
        bias: ``(units,)``; zeros where there is none.
        norm: the batch normalisation; ``None``: there is none.
        activation: its operator, or "".
        slope: of LeakyRelu below 0; 0 of others.
        positive: a factor of a unit must be positive whatever the activation: a maximum follows.
        spread: how many inputs in a row belong to one unit of the layer before.
        text: operator, attributes and all that stands between this layer and the next.
    """

    kind: str
    weight_name: str
    bias_name: str | None
    weight: FloatArray
    transposed: bool
    bias: FloatArray
    norm: Norm | None
    activation: str
    slope: float
    positive: bool
    spread: int
    text: str

    @property
    def units(self) -> int:
        """How many there are."""
        return int(self.weight.shape[0])

    @property
    def factors(self) -> str:
        """The factors that its units may be multiplied by."""
        found = ACTIVATIONS[self.activation]
        return FIXED if found == SIGNED and self.positive else found


@dataclass(frozen=True, eq=False)
class Chain:
    """A model as a chain.

    Attributes:
        model: the file.
        start: what stands before the first layer, as text.
        computes: numbers are changed there, not only their places.
        layers: in order; the last one's units are the network's outputs.
    """

    model: ModelFile
    start: str
    computes: bool
    layers: tuple[Layer, ...]


def read_chain(file: ModelFile) -> Chain:
    """A model as a chain.

    Raises:
        ModelError: it breaks a rule of its format.
        UnsupportedOperatorError: it is no chain of layers; the message says where it ends.
    """
    folder = None if file.path is None else file.path.parent
    name = "the model" if file.path is None else str(file.path)
    network = read_model_bytes(file.content, folder, name)  # what it refuses is refused here, too
    try:
        found = _Walk(ModelProto.FromString(file.content), ExternalData(folder)).chain(file)
        last = found.layers[-1]
        if last.kind == "dense" and network.output_size != last.units:
            raise UnsupportedOperatorError(
                f"{network.output_size} outputs of {last.units} units: a Reshape makes a batch"
            )
        return found
    except ModelError as error:
        raise type(error)(f"{name}: {error}") from error


def differing(owner: Chain, suspect: Chain) -> str | None:
    """Why two chains have no units to compare, in words; ``None``: they have.

    Batch normalisations may be there or not: they may have been folded.
    """
    if len(owner.layers) != len(suspect.layers):
        return f"one has {len(owner.layers)} layers, the other {len(suspect.layers)}"
    if owner.start != suspect.start:
        return f"before the first layer: '{owner.start}' and '{suspect.start}'"
    for place, (a, b) in enumerate(zip(owner.layers, suspect.layers, strict=True)):
        if a.weight.shape != b.weight.shape:
            return f"layer {place} has weights of shape {a.weight.shape} and {b.weight.shape}"
        if (a.kind, a.activation, a.spread, a.text) != (b.kind, b.activation, b.spread, b.text):
            return f"layer {place}: '{a.text}' and '{b.text}'"
    return None


@dataclass(eq=False)
class _Open:
    """A layer that is being read."""

    kind: str
    weight_name: str
    weight: FloatArray
    transposed: bool
    bias_name: str | None
    bias: FloatArray
    spread: int
    text: list[str]
    norm: Norm | None = None
    activation: str | None = None
    slope: float = 0.0
    positive: bool = False
    flat: bool = False


class _Walk:
    """One pass over the nodes, from the input to the output."""

    def __init__(self, model: ModelProto, external: ExternalData) -> None:
        self.graph: GraphProto = model.graph
        self.external = external
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        self.start: list[str] = []
        self.computes = False
        self.layers: list[Layer] = []
        self.open: _Open | None = None
        self.rank = 0
        self.single = True
        """The first axis holds one input, for certain."""

    def chain(self, model: ModelFile) -> Chain:
        """Read it all."""
        inputs = [entry for entry in self.graph.input if entry.name not in self.stored]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise UnsupportedOperatorError("a chain of layers has one input and one output")
        tensor, self.rank = inputs[0].name, len(inputs[0].type.tensor_type.shape.dim)
        shape = [entry.dim_value for entry in inputs[0].type.tensor_type.shape.dim]
        if shape and shape[0] > 1:
            raise UnsupportedOperatorError(f"a batch of {shape[0]} inputs; wanted: of one")
        self.start.append(f"input {tuple(shape[1:])}")
        nodes = list(self.graph.node)
        for place, node in enumerate(nodes):
            readers = [other for other in nodes if tensor in other.input]
            if len(readers) != 1 or readers[0] is not node or tensor == self.graph.output[0].name:
                raise UnsupportedOperatorError(
                    f"operator {place} ({node.op_type}): tensor '{tensor}' does not lead to it "
                    "alone; only chains of layers have a symmetry that is known here"
                )
            if node.domain not in ("", "ai.onnx"):
                raise self._unknown(node)
            self._node(node, tensor)
            tensor = node.output[0]
        if tensor != self.graph.output[0].name:
            raise UnsupportedOperatorError(f"the chain ends at '{tensor}', not at the output")
        self._close()
        if not self.layers:
            raise UnsupportedOperatorError("it has no dense layer and no convolution")
        return Chain(model, "; ".join(self.start), self.computes, tuple(self.layers))

    def _node(self, node: NodeProto, tensor: str) -> None:
        kind = node.op_type
        if any(node.output[1:]):
            raise UnsupportedOperatorError(f"{self._named(node)} has several outputs")
        if kind in ("Gemm", "MatMul", "Conv"):
            self._layer(node, tensor)
        elif kind == "Add" and self._adds_bias(node):
            self._bias(node, tensor)
        elif kind in SAME:
            self._training(node)
        elif kind in SHAPES:
            self._reshape(node)
        elif kind in AT_INPUT and self.open is None and not self.layers:
            self._by_constant(node, tensor)
        elif self.open is None:
            raise self._unknown(node)
        elif kind == "BatchNormalization":
            self._norm(node, tensor)
        elif kind in ACTIVATIONS:
            self._activation(node)
        elif kind in CHANNELWISE:
            self.open.text.append(f"{kind} {_attributes(node)}")
            self.open.positive |= "Max" in kind
        else:
            raise self._unknown(node)

    def _layer(self, node: NodeProto, tensor: str) -> None:
        kind = node.op_type
        if not node.input or node.input[0] != tensor:
            raise UnsupportedOperatorError(f"{self._named(node)} does not read the layer before")
        given = {each.name: each for each in node.attribute}
        weight = self._numbers(node, node.input[1])
        transposed, text = False, "dense"
        if kind == "Conv":
            _need(node, "group", given["group"].i if "group" in given else 1, 1)
            text = f"conv {_convolution(given, weight.ndim - 2)}"
        else:
            if weight.ndim != 2 or self.rank != 2:
                raise UnsupportedOperatorError(f"{self._named(node)} is not of matrices")
            if kind == "Gemm":
                for name, wanted in (("alpha", 1.0), ("beta", 1.0)):
                    _need(node, name, given[name].f if name in given else 1.0, wanted)
                _need(node, "transA", given["transA"].i if "transA" in given else 0, 0)
            transposed = not (kind == "Gemm" and "transB" in given and given["transB"].i)
            weight = weight.T if transposed else weight
        bias_name = node.input[2] if len(node.input) > 2 and node.input[2] else None
        units = int(weight.shape[0])
        bias = np.zeros(units)
        if bias_name is not None:
            bias = self._row(node, bias_name, units)
        before = self._close()
        spread = 1
        if before is not None:
            spread, rest = divmod(int(weight.shape[1]), int(before.weight.shape[0]))
            if rest or spread < 1 or (spread > 1 and not (before.flat and before.kind == "conv")):
                raise UnsupportedOperatorError(
                    f"{self._named(node)} reads {weight.shape[1]} inputs of "
                    f"{before.weight.shape[0]} units"
                )
        self.rank = self.rank if kind == "Conv" else 2
        self.open = _Open(
            "conv" if kind == "Conv" else "dense",
            node.input[1],
            np.ascontiguousarray(weight),
            transposed,
            bias_name,
            bias,
            spread,
            [text],
        )

    def _by_constant(self, node: NodeProto, tensor: str) -> None:
        """Of the input, before the first layer."""
        side = list(node.input).index(tensor)
        found = self._constant(node, node.input[1 - side])
        # A constant with more rows than one would make a batch.
        if len(found.shape) > self.rank or (len(found.shape) == self.rank and found.shape[0] != 1):
            raise UnsupportedOperatorError(f"{self._named(node)}: a constant of {found.shape}")
        digest = hashlib.sha256(repr(found.shape).encode() + found.value.tobytes()).hexdigest()
        self.start.append(f"{node.op_type} at {side} by {digest}")
        self.computes = True

    def _adds_bias(self, node: NodeProto) -> bool:
        return self.open is not None and sum(name in self.stored for name in node.input) == 1

    def _bias(self, node: NodeProto, tensor: str) -> None:
        layer = self.open
        if (
            layer is None
            or layer.kind != "dense"
            or layer.bias_name is not None
            or layer.norm is not None
            or len(layer.text) > 1
        ):
            raise self._unknown(node)
        layer.bias_name = next(name for name in node.input if name != tensor)
        layer.bias = self._row(node, layer.bias_name, int(layer.weight.shape[0]))

    def _norm(self, node: NodeProto, tensor: str) -> None:
        layer = self.open
        if layer is None or node.input[0] != tensor:
            raise self._unknown(node)
        units = int(layer.weight.shape[0])
        if layer.norm is not None or len(layer.text) > 1:
            raise UnsupportedOperatorError(
                f"{self._named(node)}: a normalisation is known directly behind a linear layer only"
            )
        self._training(node)
        given = {each.name: each for each in node.attribute}
        if "epsilon" in given:
            epsilon = Fraction(float(given["epsilon"].f))
        else:
            epsilon = Fraction(float(np.float32(1e-5)))
        names = (node.input[1], node.input[2], node.input[3], node.input[4])
        rows = [self._row(node, name, units) for name in names]
        if any(Fraction(float(each)) + epsilon <= 0 for each in rows[3]):
            raise ModelError(f"{self._named(node)}: a variance is not positive with epsilon")
        layer.norm = Norm(names, rows[0], rows[1], rows[2], rows[3], epsilon)

    def _activation(self, node: NodeProto) -> None:
        layer = self.open
        if layer is None or layer.activation is not None:
            raise UnsupportedOperatorError(f"{self._named(node)} is the second one of its layer")
        layer.activation = node.op_type
        text = f"{node.op_type} {_attributes(node)}"
        if node.op_type == "LeakyRelu":
            given = {each.name: each.f for each in node.attribute}
            layer.slope = float(given.get("alpha", np.float32(0.01)))
            text = f"LeakyRelu {layer.slope.hex()}"
        layer.text.append(text.strip())

    def _reshape(self, node: NodeProto) -> None:
        given = {each.name: each for each in node.attribute}
        if node.op_type == "Flatten":
            axis = given["axis"].i if "axis" in given else 1
            self._flat(node, axis == 1, f"flatten {axis}", 2)
            return
        _need(node, "allowzero", given["allowzero"].i if "allowzero" in given else 0, 0)
        shape = self._constant(node, node.input[1]).value
        wanted = [int(extent) for extent in shape.reshape(-1)]
        keeps = bool(wanted) and wanted[0] in (0, 1)
        if self.open is not None:
            # Of one input two axes hold all entries in a row; what -1 comes to is known by the
            # number of outputs, as long as no other axis of units was there before.
            keeps = len(wanted) == 2 and (wanted[0] == 0 or (self.single and self.rank > 2))
        self._flat(node, keeps, f"reshape {wanted}", len(wanted))

    def _flat(self, node: NodeProto, keeps: bool, text: str, rank: int) -> None:
        self.rank = rank
        if self.open is None:
            self.single &= keeps
            self.start.append(text)
        elif not keeps:
            raise UnsupportedOperatorError(f"{self._named(node)} mixes units of a layer")
        else:
            self.open.flat = True
            self.open.text.append("flat")

    def _close(self) -> _Open | None:
        """End the layer that is being read."""
        layer = self.open
        if layer is None:
            return None
        text = "; ".join(layer.text)
        self.layers.append(
            Layer(
                layer.kind,
                layer.weight_name,
                layer.bias_name,
                layer.weight,
                layer.transposed,
                layer.bias,
                layer.norm,
                layer.activation or "",
                layer.slope,
                layer.positive,
                layer.spread,
                text,
            )
        )
        self.open = None
        return layer

    def _training(self, node: NodeProto) -> None:
        given = {each.name: each.i for each in node.attribute}
        if given.get("training_mode", 0):
            raise UnsupportedOperatorError(f"{self._named(node)} is in training mode")

    def _constant(self, node: NodeProto, name: str) -> Constant:
        if name not in self.stored:
            raise UnsupportedOperatorError(f"{self._named(node)}: '{name}' is no initializer")
        return read_tensor(self.stored[name], self.external)

    def _numbers(self, node: NodeProto, name: str) -> FloatArray:
        found = self._constant(node, name)
        if found.kind not in FLOATS or not np.all(np.isfinite(found.value)):
            raise UnsupportedOperatorError(f"{self._named(node)}: '{name}' holds no real numbers")
        return np.asarray(found.value, np.float64)

    def _row(self, node: NodeProto, name: str, units: int) -> FloatArray:
        found = self._numbers(node, name)
        if found.size != units or found.shape[-1:] != (units,):
            raise UnsupportedOperatorError(
                f"{self._named(node)}: '{name}' has shape {found.shape} for {units} units"
            )
        return found.reshape(-1)

    def _named(self, node: NodeProto) -> str:
        return f"{node.op_type} that computes '{node.output[0]}'"

    def _unknown(self, node: NodeProto) -> UnsupportedOperatorError:
        return UnsupportedOperatorError(
            f"{self._named(node)}: no part of a chain of layers (Gemm, MatMul with Add, Conv; "
            f"BatchNormalization; {', '.join(name for name in ACTIVATIONS if name)}; "
            f"{', '.join((*CHANNELWISE, *SHAPES))})"
        )


def _need(node: NodeProto, name: str, found: float, wanted: float) -> None:
    if found != wanted:
        raise UnsupportedOperatorError(
            f"{node.op_type} that computes '{node.output[0]}' has {name} = {found:g}, not "
            f"{wanted:g}"
        )


def _convolution(given: dict[str, AttributeProto], axes: int) -> str:
    """The attributes of a convolution, with what is left out written."""
    usual = {"strides": [1] * axes, "dilations": [1] * axes, "pads": [0] * 2 * axes}
    found = {key: list(given[key].ints) if key in given else usual[key] for key in usual}
    padding = given["auto_pad"].s.decode() if "auto_pad" in given else "NOTSET"
    return f"{found} {padding}"


def _attributes(node: NodeProto) -> str:
    """The attributes of an operator as text, in the order of their names."""
    ordered = sorted(node.attribute, key=lambda each: each.name)
    return " ".join(each.SerializeToString(deterministic=True).hex() for each in ordered)
