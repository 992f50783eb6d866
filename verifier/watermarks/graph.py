"""A model file as a function in torch whose initialisers are what is trained.

Nothing is folded on the way: what is trained and written back are the numbers that the file
stores, batch normalisation included.  Statistics of batch normalisation are followed while
training, and never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, numpy_helper
from torch.nn import functional

from specs.enclosure import FloatArray
from specs.errors import ModelError, UnsupportedOperatorError
from verifier.watermarks.parameters import model_of, parameters, replaced

Tensor = torch.Tensor
Rule = Callable[["Trainable", dict[str, Any], Sequence[Tensor | None]], Tensor]
MOMENTUM = 0.1
"""Share of a batch in the running statistics of batch normalisation."""
_BATCH = 256


class Trainable:
    """The network of a model file with one input and one output, in float32.

    Attributes:
        weights: by initialiser, the parameters that gradients reach.
        statistics: by initialiser, means and variances of batch normalisation.
        training: batch normalisation uses the batch, and its statistics follow.

    Raises:
        ModelError: the file breaks a rule of its format, or has several inputs or outputs.
        UnsupportedOperatorError: an operator that cannot be trained here; all are named.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        graph = model_of(content).graph
        stored = parameters(content)
        constants = {tensor.name: tensor for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ModelError("only a model with one input and one output is trained here")
        unknown = sorted({node.op_type for node in graph.node if node.op_type not in _RULES})
        if unknown:
            raise UnsupportedOperatorError(
                f"cannot be trained here: {', '.join(unknown)}; known are {', '.join(_RULES)}"
            )
        self._nodes = list(graph.node)
        self._input, self._output = inputs[0].name, graph.output[0].name
        dims = inputs[0].type.tensor_type.shape.dim
        self._shape = tuple(int(d.dim_value) for d in dims[1:])
        followed = {
            name
            for node in self._nodes
            if node.op_type == "BatchNormalization"
            for name in node.input[3:5]
        }
        torch_of = {name: torch.from_numpy(np.array(values)) for name, values in stored.items()}
        self.statistics = {name: torch_of[name] for name in followed if name in torch_of}
        self.weights = {
            name: values.requires_grad_()
            for name, values in torch_of.items()
            if name not in followed
        }
        self._constants = {
            name: torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
            for name, tensor in constants.items()
            if name not in torch_of
        }
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(batch, outputs)`` at ``x (batch, inputs)``."""
        values: dict[str, Tensor] = {**self._constants, **self.statistics, **self.weights}
        values[self._input] = x.reshape(-1, *self._shape)
        for node in self._nodes:
            read = [values[name] if name else None for name in node.input]
            values[node.output[0]] = _RULES[node.op_type](self, _attributes(node), read)
        return values[self._output].reshape(len(x), -1)

    def scores(self, points: FloatArray) -> FloatArray:
        """Scores ``(n, outputs)`` at ``points (n, inputs)``, as float64, without gradients."""
        training, self.training = self.training, False
        with torch.no_grad():
            parts = [
                self.forward(torch.tensor(points[start : start + _BATCH], dtype=torch.float32))
                for start in range(0, len(points), _BATCH)
            ]
        self.training = training
        return torch.cat(parts).numpy().astype(np.float64)

    def content(self) -> bytes:
        """The model file with the present parameters.

        Raises:
            ModelError: a parameter is not finite.
        """
        present = {**self.weights, **self.statistics}
        return replaced(
            self._content, {name: values.detach().numpy() for name, values in present.items()}
        )

    def load(self, values: Mapping[str, FloatArray]) -> None:
        """Put other values in the place of parameters, by initialiser."""
        with torch.no_grad():
            for name, given in values.items():
                target = self.weights[name] if name in self.weights else self.statistics[name]
                target.copy_(torch.tensor(given, dtype=torch.float32).reshape(target.shape))


def accuracy(content: bytes, points: FloatArray, labels: Any) -> float:
    """The share of points ``(n, inputs)`` that a model file gives their labels, in float32."""
    return float(np.mean(np.argmax(Trainable(content).scores(points), axis=1) == labels))


def _attributes(node: NodeProto) -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {each.name: get_attribute_value(each) for each in node.attribute}


def _gemm(_: Trainable, given: dict[str, Any], read: Sequence[Any]) -> Tensor:
    left, right = read[0], read[1]
    left = left.T if given.get("transA", 0) else left
    right = right.T if given.get("transB", 0) else right
    found = given.get("alpha", 1.0) * (left @ right)
    if len(read) > 2 and read[2] is not None:
        found = found + given.get("beta", 1.0) * read[2]
    return found


def _conv(_: Trainable, given: dict[str, Any], read: Sequence[Any]) -> Tensor:
    x, weight = read[0], read[1]
    axes = weight.ndim - 2
    if axes not in (1, 2) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise UnsupportedOperatorError("only convolutions in 1-D and 2-D, padded explicitly")
    x = functional.pad(x, _padding(given, axes))
    run = functional.conv1d if axes == 1 else functional.conv2d
    return run(
        x,
        weight,
        read[2] if len(read) > 2 else None,
        stride=tuple(given.get("strides", [1] * axes)),
        dilation=tuple(given.get("dilations", [1] * axes)),
        groups=given.get("group", 1),
    )


def _padding(given: dict[str, Any], axes: int) -> list[int]:
    """ONNX says all begins, then all ends; torch says pairs, the last axis first."""
    pads = list(given.get("pads", [0] * 2 * axes))
    return [pads[axis + end * axes] for axis in reversed(range(axes)) for end in (0, 1)]


def _norm(model: Trainable, given: dict[str, Any], read: Sequence[Any]) -> Tensor:
    x, scale, shift, mean, variance = read
    return functional.batch_norm(
        x,
        mean,
        variance,
        scale,
        shift,
        training=model.training,
        momentum=MOMENTUM,
        eps=given.get("epsilon", 1e-5),
    )


def _flatten(_: Trainable, given: dict[str, Any], read: Sequence[Any]) -> Tensor:
    if given.get("axis", 1) != 1:
        raise UnsupportedOperatorError("only Flatten that keeps the batch axis")
    return torch.flatten(read[0], 1)


def _reshape(_: Trainable, given: dict[str, Any], read: Sequence[Any]) -> Tensor:
    shape = [int(extent) for extent in read[1]]
    if given.get("allowzero", 0) or not shape or shape[0] not in (-1, 0, 1):
        raise UnsupportedOperatorError("only Reshape that keeps the batch axis")
    rest = [read[0].shape[i] if extent == 0 else extent for i, extent in enumerate(shape)][1:]
    return torch.reshape(read[0], (len(read[0]), *rest))


def _max_pool(_: Trainable, given: dict[str, Any], read: Sequence[Any]) -> Tensor:
    if given.get("ceil_mode", 0) or max(given.get("dilations", [1])) != 1:
        raise UnsupportedOperatorError("only MaxPool without ceil_mode and dilations")
    window = given["kernel_shape"]
    x = functional.pad(read[0], _padding(given, len(window)), value=-torch.inf)
    run = functional.max_pool1d if len(window) == 1 else functional.max_pool2d
    return run(x, tuple(window), tuple(given.get("strides", [1] * len(window))))


def _average_pool(_: Trainable, given: dict[str, Any], read: Sequence[Any]) -> Tensor:
    if given.get("ceil_mode", 0) or any(given.get("pads", [0])):
        raise UnsupportedOperatorError("only AveragePool without ceil_mode and padding")
    window = given["kernel_shape"]
    run = functional.avg_pool1d if len(window) == 1 else functional.avg_pool2d
    return run(read[0], tuple(window), tuple(given.get("strides", [1] * len(window))))


_RULES: dict[str, Rule] = {
    "Add": lambda _m, _g, read: read[0] + read[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _norm,
    "Conv": _conv,
    "Dropout": lambda _m, _g, read: read[0],
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _m, _g, read: read[0].mean(
        tuple(range(2, read[0].ndim)), keepdim=True
    ),
    "Identity": lambda _m, _g, read: read[0],
    "LeakyRelu": lambda _m, g, read: functional.leaky_relu(read[0], g.get("alpha", 0.01)),
    "MatMul": lambda _m, _g, read: read[0] @ read[1],
    "MaxPool": _max_pool,
    "Mul": lambda _m, _g, read: read[0] * read[1],
    "Relu": lambda _m, _g, read: functional.relu(read[0]),
    "Reshape": _reshape,
    "Sigmoid": lambda _m, _g, read: torch.sigmoid(read[0]),
    "Sub": lambda _m, _g, read: read[0] - read[1],
    "Tanh": lambda _m, _g, read: torch.tanh(read[0]),
}
