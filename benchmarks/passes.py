"""CPU seconds per million neuron-passes and per million lines, by kind of layer.

A *neuron* is an entry of a tensor that a nonlinear node reads.  A *neuron-pass* is one row
of coefficients substituted through one of them, from where the row starts back to the
inputs, whatever the row's coefficients are.  A *line* is a neuron relaxed on the bounds of
one domain, which all rows of that domain share.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from proofs.arithmetic import Arithmetic
from proofs.bounds import bound_rows, propagate
from proofs.domain import Domains
from proofs.fields import parts
from proofs.frame import Batch, Frame, Relaxations
from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.linear import LinearMap, MatMul
from specs.network import Input, Linear, Network, Node, Product, Term, Univariate

DOMAINS = 32
"""How many are relaxed at once."""


@dataclass(frozen=True)
class Kind:
    """A network of equal layers.

    Attributes:
        name: of the kind of layers.
        network: ends in the tensor whose entries are bounded.
        rows: how many entries of it.
        fields: whether rows pass through receptive fields only.
    """

    name: str
    network: Network
    rows: int
    fields: bool = False


def kinds() -> tuple[Kind, ...]:
    """The kinds that the table lists."""
    image = (8, 16, 16)
    return (
        Kind("dense, 64 wide, Relu", layers(dense(64), "relu", dense(64)), 64),
        Kind("dense, 256 wide, Relu", layers(dense(256), "relu", dense(256)), 256),
        Kind(
            "3x3 convolutions, whole image",
            layers(conv(image), "relu", head(image)),
            40,
        ),
        Kind("the same, receptive fields", layers(conv(image), "relu", conv(image), 2), 2048, True),
        Kind("dense, 64 wide, tanh", layers(dense(64), "tanh", dense(64)), 64),
        Kind("dense, 64 wide, sigmoid", layers(dense(64), "sigmoid", dense(64)), 64),
        Kind("products of two dense layers, 64 wide", layers(dense(64), "product", dense(64)), 64),
    )


Made = Callable[[np.random.Generator], tuple[LinearMap, tuple[int, ...]]]


def dense(width: int) -> Made:
    """A dense layer, its weights such that activations keep their size."""
    return lambda rng: (_matrix(rng, width, width), (1, width))


def conv(image: tuple[int, int, int]) -> Made:
    """A convolution of 3 by 3 that keeps channels and size."""
    shape, (channels, _, _) = (1, *image), image
    scale = (2 / (9 * channels)) ** 0.5

    def made(rng: np.random.Generator) -> tuple[LinearMap, tuple[int, ...]]:
        weight = (rng.normal(size=(channels, channels, 3, 3)) * scale).astype(np.float32)
        stored = Enclosure(weight.astype(np.float64))
        return Conv(stored, shape, shape, (1, 1), (1, 1), (1, 1)), shape

    return made


def head(image: tuple[int, int, int], outputs: int = 40) -> Made:
    """A dense layer behind an image."""
    return lambda rng: (_matrix(rng, int(np.prod(image)), outputs), (1, outputs))


def _matrix(rng: np.random.Generator, rows: int, columns: int) -> MatMul:
    weight = (rng.normal(size=(rows, columns)) * (2 / rows) ** 0.5).astype(np.float32)
    return MatMul(Enclosure(weight.astype(np.float64)))


def layers(inner: Made, function: str, last: Made, depth: int = 4) -> Network:
    """``depth`` layers with a function, or a product of two layers, behind each; a last layer."""
    rng = np.random.default_rng(0)
    _, shape = inner(rng)
    nodes: list[Node] = [Input("x", shape)]

    def linear(made: Made, source: int) -> int:
        term, shape = made(rng)
        size = int(np.prod(shape))
        offset = Enclosure(0.1 * rng.normal(size=size).astype(np.float32).astype(np.float64))
        nodes.append(Linear(f"t{len(nodes)}", shape, (Term(source, term),), offset))
        return len(nodes) - 1

    tensor = 0
    for _ in range(depth):
        if function == "product":
            left, right = linear(inner, tensor), linear(inner, tensor)
            nodes.append(Product(f"t{len(nodes)}", shape, left, right))
        else:
            source = linear(inner, tensor)
            nodes.append(Univariate(f"t{len(nodes)}", shape, source, function))
        tensor = len(nodes) - 1
    end = linear(last, tensor)
    return Network(tuple(nodes), (end,))


def seconds(kind: Kind, arithmetic: Arithmetic, runs: int) -> tuple[float, float]:
    """Median CPU seconds per million neuron-passes, and per million lines."""
    network, target = kind.network, len(kind.network.nodes) - 1
    frame, size = Frame(network, arithmetic), network.sizes[0]
    root = Domains.root(0, np.full(size, -0.01), np.full(size, 0.01), 1).batch
    propagate(frame, root, record=True)
    ends = np.linspace(0.005, 0.01, DOMAINS)[:, None] * np.ones(size)
    inside = Batch(-ends, ends, {}, np.zeros(DOMAINS, dtype=bool))
    propagate(frame, inside)
    neurons = sum(network.sizes[t] for t in network.preactivations if t != target)
    entry, owner = np.arange(kind.rows), np.zeros(kind.rows, dtype=np.int64)
    passing, making = [], []
    for _ in range(runs + 1):
        relaxations, many = Relaxations(frame, root), Relaxations(frame, inside)
        for tensor in network.nonlinear:
            relaxations.lines(tensor)
        started = time.process_time()
        for tensor in network.nonlinear:
            many.lines(tensor)
        making.append(time.process_time() - started)
        started = time.process_time()
        if kind.fields:
            for part in parts(frame, target, entry):
                own, lines = owner[part.place], part.relaxations(relaxations)
                bound_rows(part.frame, lines, target, own, part.inside)
        else:
            bound_rows(frame, relaxations, target, owner, entry)
        passing.append(time.process_time() - started)
    passes = 2 * kind.rows * neurons
    return (
        1e6 * statistics.median(passing[1:]) / passes,
        1e6 * statistics.median(making[1:]) / (DOMAINS * neurons),
    )
