"""Evaluating small graphs in a format: any order of summation, fused or not, flushed or not.

Written from the operators' textbook definitions, apart from the readers and the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from specs.perturbation import Rounding
from tests.networks import serialised

Array = npt.NDArray[np.float64]


@dataclass
class Machine:
    """One way of computing in a format; every choice is drawn anew.

    Attributes:
        flush: numbers below the smallest normal one are read and written as 0.
        fused: products may be added without being rounded.
    """

    format: Rounding
    rng: np.random.Generator
    flush: bool
    fused: bool

    def round(self, values: Any) -> Array:
        found = self.format.rounded(values)
        return self.read(found)

    def read(self, values: Any) -> Array:
        given = np.asarray(values, dtype=np.float64)
        if self.flush:
            return np.where(np.abs(given) < self.format.tiny, 0.0, given)
        return given

    def dot(self, weights: Array, x: Array, bias: Array | None = None) -> Array:
        """``sum_k weights[k, i] x[k, i] (+ bias[i])`` in some order, entry by entry."""
        weights, x = np.broadcast_arrays(self.read(weights), self.read(x))
        parts: list[tuple[Array, bool]] = []
        for k in range(len(weights)):
            whole = self.fused and self.rng.random() < 0.5
            product = weights[k] * x[k]  # exact: two significands of at most 24 bits
            parts.append((product, True) if whole else (self.round(product), False))
        if bias is not None:
            parts.append((self.read(bias), False))
        return self.tree(parts)

    def add_up(self, terms: Array) -> Array:
        return self.tree([(self.read(term), False) for term in terms])

    def tree(self, parts: list[tuple[Array, bool]]) -> Array:
        parts = [parts[i] for i in self.rng.permutation(len(parts))]
        shape = self.rng.integers(3)
        while len(parts) > 1:
            last = len(parts) - 1
            i = 0 if shape == 0 else self.rng.integers(last) if shape == 1 else last - 1
            (a, left), (b, right) = parts[i], parts[i + 1]
            if left and right:
                a = self.round(a)
            parts[i : i + 2] = [(self.round(a + b), False)]
        value, exact = parts[0]
        return self.round(value) if exact else value

    def function(self, name: str, x: Array) -> Array:
        """The correctly rounded value of a function."""
        return self.round(np.vectorize(lambda v: float(_FUNCTIONS[name](v)))(self.read(x)))


_FUNCTIONS = {
    "Sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
    "Tanh": mpmath.tanh,
    "Exp": mpmath.exp,
    "Sqrt": mpmath.sqrt,
    "Erf": mpmath.erf,
    "Softplus": lambda v: mpmath.log1p(mpmath.exp(v)),
}


@dataclass
class Graph:
    """A chain of operators on tensors ``(1, n)`` or images, drawn at random."""

    format: Rounding
    rng: np.random.Generator
    shape: tuple[int, ...]
    scale: float = 1.0
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    steps: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.current, self.extent = "x", self.shape

    def stored(self, *shape: int, scale: float | None = None) -> tuple[str, Array]:
        size = self.scale if scale is None else scale
        drawn = self.rng.normal(size=shape) * size * 4.0 ** self.rng.integers(-2, 3, shape)
        name = f"c{len(self.constants)}"
        values = self.format.rounded(drawn)
        self.constants[name] = values
        return name, values

    def put(self, operator: str, inputs: list[str], extent: tuple[int, ...], step: Any, **a: Any):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **a))
        self.steps.append((name, self.current, step))
        self.current, self.extent = name, extent

    def matmul(self, width: int) -> None:
        name, w = self.stored(self.extent[1], width)
        self.put(
            "MatMul", [self.current, name], (1, width), lambda m, x: m.dot(w, x[0][:, None])[None]
        )

    def gemm(self, width: int) -> None:
        (name, w), (other, b) = self.stored(self.extent[1], width), self.stored(width)
        self.put(
            "Gemm",
            [self.current, name, other],
            (1, width),
            lambda m, x: m.dot(w, x[0][:, None], b)[None],
        )

    def scaled_gemm(self, width: int) -> None:
        (name, w), (other, b) = self.stored(self.extent[1], width), self.stored(width)
        alpha, beta = float(self.rng.choice([0.75, 2.0**-6, 40.0])), 3.0

        def step(m, x):
            if m.rng.random() < 0.5:
                head = m.round(alpha * m.dot(w, x[0][:, None]))
            else:
                head = m.dot(w, m.round(alpha * m.read(x[0]))[:, None])
            return m.round(head + m.round(beta * m.read(b)))[None]

        self.put("Gemm", [self.current, name, other], (1, width), step, alpha=alpha, beta=beta)

    def add(self) -> None:
        name, b = self.stored(*self.extent)
        self.put(
            "Add", [self.current, name], self.extent, lambda m, x: m.round(m.read(x) + m.read(b))
        )

    def subtract(self) -> None:
        name, b = self.stored(*self.extent, scale=30.0 * self.scale)
        self.put(
            "Sub", [name, self.current], self.extent, lambda m, x: m.round(m.read(b) - m.read(x))
        )

    def multiply(self) -> None:
        name, b = self.stored(*self.extent)
        self.put(
            "Mul", [self.current, name], self.extent, lambda m, x: m.round(m.read(x) * m.read(b))
        )

    def divide(self) -> None:
        name, b = self.stored(*self.extent)
        b[...] = np.where(np.abs(b) < 0.01, 0.5, b)
        self.put(
            "Div", [self.current, name], self.extent, lambda m, x: m.round(m.read(x) / m.read(b))
        )

    def square(self) -> None:
        self.put(
            "Mul", [self.current, self.current], self.extent, lambda m, x: m.round(m.read(x) ** 2)
        )

    def relu(self) -> None:
        self.put("Relu", [self.current], self.extent, lambda m, x: np.maximum(m.read(x), 0.0))

    def leaky(self) -> None:
        alpha = float(np.float32(0.125))
        self.put(
            "LeakyRelu",
            [self.current],
            self.extent,
            lambda m, x: np.where(m.read(x) < 0, m.round(alpha * m.read(x)), m.read(x)),
            alpha=alpha,
        )

    def function(self, name: str) -> None:
        self.put(name, [self.current], self.extent, lambda m, x: m.function(name, x))

    def softmax(self) -> None:
        def step(m, x):
            x = m.read(x)
            e = m.function("Exp", m.round(x - x.max()))
            total = m.add_up(e.reshape(-1, 1))
            return m.round(e / total)

        self.put("Softmax", [self.current], self.extent, step, axis=1)

    def mean(self) -> None:
        count = self.extent[1]

        def step(m, x):
            if m.rng.random() < 0.5:
                return m.round(m.add_up(x.reshape(-1, 1)) / count).reshape(1, 1)
            share = m.round(1.0 / count)
            return m.dot(share, x.reshape(-1, 1)).reshape(1, 1)

        self.put("ReduceMean", [self.current], (1, 1), step, axes=[1])

    def convolution(self, channels: int) -> None:
        _, inner, height, width = self.extent
        (name, w), (other, b) = self.stored(channels, inner, 2, 2), self.stored(channels)

        def step(m, x):
            taps = [
                x[0, c, i : i + height - 1, j : j + width - 1]
                for c in range(inner)
                for i in range(2)
                for j in range(2)
            ]
            rows = [
                m.dot(
                    w[k].reshape(-1, 1),
                    np.stack([t.reshape(-1) for t in taps]),
                    np.full((height - 1) * (width - 1), b[k]),
                )
                for k in range(channels)
            ]
            return np.stack(rows).reshape(1, channels, height - 1, width - 1)

        self.put("Conv", [self.current, name, other], (1, channels, height - 1, width - 1), step)

    def pool(self) -> None:
        _, channels, height, width = self.extent

        def step(m, x):
            taps = np.stack(
                [
                    x[0, :, i : i + height - 1, j : j + width - 1].reshape(-1)
                    for i in range(2)
                    for j in range(2)
                ]
            )
            found = m.round(m.add_up(taps) / 4.0)
            return found.reshape(1, channels, height - 1, width - 1)

        self.put(
            "AveragePool",
            [self.current],
            (1, channels, height - 1, width - 1),
            step,
            kernel_shape=[2, 2],
        )

    def normalise(self) -> None:
        channels = self.extent[1]
        (g, gamma), (b, beta), (mu, mean), (v, variance) = (self.stored(channels) for _ in range(4))
        variance[...] = np.abs(variance)
        epsilon = float(np.float32(1e-3))
        along = (1, channels) + (1,) * (len(self.extent) - 2)
        G, B, M = (part.reshape(along) for part in (gamma, beta, mean))

        def step(m, x):
            root = m.round(np.sqrt(m.round(m.read(variance) + m.round(epsilon)))).reshape(along)
            choice = m.rng.integers(3)
            if choice == 0:  # scale and shift
                factor = m.round(m.read(G) / root)
                shift = m.round(m.read(B) - m.round(m.read(M) * factor))
                return m.round(m.round(m.read(x) * factor) + shift)
            centred = m.round(m.read(x) - m.read(M))
            if choice == 1:
                return m.round(m.round(m.round(centred / root) * m.read(G)) + m.read(B))
            inverse = m.round(1.0 / root)
            return m.round(m.round(centred * m.round(m.read(G) * inverse)) + m.read(B))

        self.put(
            "BatchNormalization", [self.current, g, b, mu, v], self.extent, step, epsilon=epsilon
        )

    def flatten(self) -> None:
        size = int(np.prod(self.extent))
        self.put("Flatten", [self.current], (1, size), lambda m, x: x.reshape(1, -1))

    def model(self, kind: int = TensorProto.FLOAT) -> bytes:
        """The file; every inner tensor is an output as well."""
        type_ = helper.tensor_dtype_to_np_dtype(kind)
        stored = [numpy_helper.from_array(v.astype(type_), n) for n, v in self.constants.items()]
        outputs = [helper.make_tensor_value_info(n, kind, None) for n, _, _ in self.steps]
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", kind, self.shape)], outputs, stored
        )
        return serialised(graph)

    def run(self, machine: Machine, x: Array) -> dict[str, Array]:
        """Every tensor."""
        found = {"x": x.reshape(self.shape)}
        for name, source, step in self.steps:
            found[name] = np.asarray(step(machine, found[source]), dtype=np.float64)
        return found


def drawn(format: Rounding, rng: np.random.Generator, scale: float = 1.0) -> Graph:
    """A graph of two to five operators."""
    if rng.random() < 0.4:
        graph = Graph(format, rng, (1, int(rng.integers(1, 3)), 4, 4), scale)
        for _ in range(rng.integers(1, 3)):
            choice = rng.integers(3)
            if choice == 0:
                graph.convolution(int(rng.integers(1, 3)))
            elif choice == 1:
                graph.pool()
            else:
                graph.normalise()
        graph.flatten()
    else:
        graph = Graph(format, rng, (1, int(rng.integers(2, 7))), scale)
    wide = [
        graph.add,
        graph.subtract,
        graph.multiply,
        graph.divide,
        graph.square,
        graph.relu,
        graph.leaky,
        graph.softmax,
        graph.mean,
    ]
    for _ in range(rng.integers(2, 5)):
        choice = rng.integers(14)
        if choice < len(wide):
            if wide[choice] == graph.softmax and graph.extent[1] == 1:
                continue
            wide[choice]()
        elif choice < 12:
            [graph.matmul, graph.gemm, graph.scaled_gemm][choice - 9](int(rng.integers(1, 6)))
        else:
            graph.function(str(rng.choice(["Sigmoid", "Tanh", "Softplus", "Erf"])))
    return graph
