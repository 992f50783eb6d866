"""Random networks of every kind of operator, random faults of them, and an oracle.

The oracle knows nothing of how faults are followed: it rewrites the model file, reads it as
any other file and evaluates it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, helper, numpy_helper

from specs.errors import ModelError, QuestionError
from specs.faults.exact import WordFault, faulted_values
from specs.faults.formats import FLOAT16, FixedFormat
from specs.faults.memory import Quantised
from specs.faults.models import (
    CHANNEL,
    NEURON,
    ActivationFaults,
    BitFlips,
    FaultModel,
    Pruning,
    StuckAt,
    WeightBox,
    Where,
    followed,
)
from specs.faults.placed import place_model, rewritten
from specs.faults.sites import activation_groups
from specs.faults.struck import WordFaults
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from tests.faulty_models import graph_bytes, model_file, node

Array = npt.NDArray[Any]


@dataclass
class Sketch:
    """A model being drawn.

    Attributes:
        rng: of all choices.
        nodes, stored: of the graph.
        names: of the tensors that operators computed.
    """

    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)

    def call(self, operator: str, inputs: str, **attributes: Any) -> str:
        self.names.append(f"t{len(self.names)}")
        self.nodes.append(node(operator, inputs, self.names[-1], **attributes))
        return self.names[-1]

    def weight(self, *shape: int) -> str:
        """A new parameter, or one that is there and fits."""
        fits = [name for name in self.weights if self.stored[name].shape == shape]
        if fits and self.rng.random() < 0.5:
            return str(self.rng.choice(fits))
        name = f"w{len(self.weights)}"
        self.weights.append(name)
        self.stored[name] = (self.rng.integers(-3, 4, shape) / 2).astype(np.float32)
        return name

    def positive(self, *shape: int) -> str:
        name = self.weight(*shape)
        if np.any(self.stored[name] <= 0):
            name = f"w{len(self.weights)}"
            self.weights.append(name)
            self.stored[name] = (self.rng.integers(1, 4, shape) / 2).astype(np.float32)
        return name

    def constant(self, values: Any) -> str:
        name = f"c{len(self.nodes)}"
        self.nodes.append(helper.make_node("Constant", [], [name], value=_tensor(values, name)))
        return name


def _tensor(values: Any, name: str) -> Any:
    return numpy_helper.from_array(np.asarray(values), name)


def image(sketch: Sketch, x: str, channels: int) -> tuple[str, int]:
    """One operator on ``(1, channels, 2, 2)``."""
    rng, c = sketch.rng, channels
    match rng.integers(9):
        case 0:
            way = dict(pads=[1, 1, 0, 0])
            bias = f" {sketch.weight(2)}" if rng.integers(2) else ""
            return sketch.call("Conv", f"{x} {sketch.weight(2, c, 2, 2)}{bias}", **way), 2
        case 1:
            way = dict(pads=[1, 1, 1, 1], dilations=[2, 2], strides=[1, 1], group=c)
            return sketch.call("Conv", f"{x} {sketch.weight(c, 1, 2, 2)}", **way), c
        case 2:
            way = dict(pads=[0, 0, 1, 1], strides=[1, 1], group=c)
            return sketch.call("ConvTranspose", f"{x} {sketch.weight(c, 1, 2, 2)}", **way), c
        case 3:
            names = [sketch.weight(c) for _ in range(3)] + [sketch.positive(c)]
            inputs = " ".join([x, *names])
            return sketch.call("BatchNormalization", inputs, epsilon=0.25), c
        case 4:
            return sketch.call("Add", f"{x} {sketch.weight(c, 1, 1)}"), c
        case 5:
            return sketch.call("Mul", f"{sketch.weight(1)} {x}"), c
        case 6:
            y = sketch.call("MaxPool", x, kernel_shape=[2, 2], pads=[1, 1, 0, 0])
            return y, c
        case 7:
            weight = sketch.weight(c, c, 1, 1)
            one = sketch.call("Conv", f"{x} {weight}")
            two = sketch.call("Conv", f"{one} {weight}")
            return sketch.call("Add", f"{two} {x}"), c
        case _:
            return sketch.call("Relu", x), c


def flat(sketch: Sketch, x: str, size: int) -> tuple[str, int]:
    """One operator on ``(1, size)``."""
    rng, n = sketch.rng, size
    match rng.integers(15):
        case 0:
            way = dict(transB=1, alpha=-0.5, beta=2.0)
            return sketch.call("Gemm", f"{x} {sketch.weight(2, n)} {sketch.weight(2)}", **way), 2
        case 1:
            return sketch.call("MatMul", f"{x} {sketch.weight(n, 3)}"), 3
        case 2:
            return sketch.call("Sub", f"{sketch.weight(n)} {x}"), n
        case 3:
            return sketch.call("Sub", f"{x} {sketch.weight(1)}"), n
        case 4:
            weight = sketch.call("Transpose", sketch.weight(2, n), perm=[1, 0])
            return sketch.call("MatMul", f"{x} {weight}"), 2
        case 5:
            weight = sketch.weight(n, n)
            middle = sketch.call("Relu", sketch.call("MatMul", f"{x} {weight}"))
            return sketch.call("MatMul", f"{middle} {weight}"), n
        case 6:
            a, b = sketch.call("Relu", x), sketch.call("Relu", x)
            return sketch.call("Sub", f"{a} {sketch.call('Mul', f'{b} {sketch.weight(1)}')}"), n
        case 7:
            one = sketch.call("Mul", f"{x} {sketch.weight(1)}")
            two = sketch.call("Mul", f"{x} {sketch.weight(1)}")
            return sketch.call("Mul", f"{one} {sketch.call('Sigmoid', two)}"), n
        case 8:
            ends = f"{sketch.constant(np.float32(-1))} {sketch.constant(np.float32(1))}"
            return sketch.call("Clip", f"{x} {ends}"), n
        case 9:
            shape = sketch.constant(np.array([1, n]))
            other = sketch.call("Reshape", f"{x} {shape}")
            return sketch.call("Add", f"{other} {sketch.call('Relu', x)}"), n
        case 10:
            if n > 3:
                return sketch.call("MatMul", f"{x} {sketch.weight(n, 2)}"), 2
            square = sketch.call("MatMul", f"{x} {sketch.weight(n, n)}")
            total = sketch.call("Mul", f"{x} {square}")
            axes = sketch.constant(np.array([1]))
            return sketch.call("ReduceSum", f"{total} {axes}", keepdims=1), 1
        case 11:
            both = sketch.call("Concat", f"{x} {sketch.call('Relu', x)}", axis=1)
            return (both, 2 * n) if n < 4 else (sketch.call("Identity", x), n)
        case 12:
            one, last = (sketch.constant(np.array([k])) for k in (1, n))
            first = sketch.constant(np.array([0 if n == 1 else 1]))
            part = sketch.call("Slice", f"{x} {first} {last} {one}")
            other = sketch.call("Sub", f"{part} {sketch.call('Relu', part)}")
            return sketch.call("Mul", f"{other} {sketch.weight(1)}"), max(1, n - 1)
        case 13:
            parts = [sketch.call("Mul", f"{x} {sketch.weight(n)}") for _ in range(2)]
            return sketch.call("Max", " ".join(parts)), n
        case _:
            return sketch.call("Relu", x), n


def random_model(rng: np.random.Generator) -> tuple[bytes, Sketch]:
    """A model with inputs ``x`` and output ``y``."""
    sketch, x, size = Sketch(rng), "x", 2
    shape: tuple[int, ...] = (1, 2)
    if rng.random() < 0.4:
        shape, channels = (1, 1, 2, 2), 1
        for _ in range(rng.integers(1, 4)):
            x, channels = image(sketch, x, channels)
        size = 4 * channels
        x = sketch.call("Reshape", f"{x} {sketch.constant(np.array([1, size]))}")
    for _ in range(rng.integers(0 if size > 2 else 1, 3)):
        x, size = flat(sketch, x, size)
    sketch.nodes.append(node("MatMul", f"{x} {sketch.weight(size, 1)}", "y"))
    return graph_bytes(sketch.nodes, shape, sketch.stored), sketch


def random_faults(rng: np.random.Generator, sketch: Sketch) -> FaultModel:
    where, kind = Where(), rng.integers(8)
    if kind >= 6:
        some = rng.permutation(sketch.names)[: rng.integers(1, 3)]
        where = Where(tuple(some.tolist()) if rng.integers(2) else None)
        ends = sorted((rng.integers(-4, 5, 2) / 2).tolist())
        unit = CHANNEL if kind == 7 else NEURON
        low, high = map(Fraction, ends)
        return ActivationFaults(int(rng.integers(1, 4)), low, high, where, unit)
    match rng.integers(5):
        case 0:
            some = rng.permutation(sketch.weights)[: rng.integers(1, 3)]
            where = Where(tensors=tuple(some.tolist()))
        case 1:
            some = rng.permutation([*sketch.names, "y"])[:3]
            where = Where(layers=tuple(some.tolist()))
        case 2:
            where = Where(channels=(0,))
    if kind == 5:
        if rng.integers(2):
            return Pruning(int(rng.integers(1, 4)), where)
        return WeightBox(Fraction(1, 4), Fraction(int(rng.integers(2)), 4), where)
    formats = [Quantised(3, True, (0.5,)), Quantised(3, False, (0.5,), (3,)), FixedFormat(1, 1)]
    format = [*formats, FLOAT16][rng.integers(4)]
    bits = (9, 10, 15) if format is FLOAT16 else None
    if rng.integers(2):  # few cells, so that the worst of them are met
        bits = (15,) if format is FLOAT16 else (2,)
    where = Where(where.tensors, where.layers, where.channels, bits)
    k, per_word = int(rng.integers(1, 4)), bool(rng.integers(3) == 0)
    if kind < 3:
        return BitFlips(k, format, where, per_word)
    return StuckAt(k, format, where, per_word, [None, 0, 1][rng.integers(3)])


def random_question(rng: np.random.Generator) -> tuple[WordFaults, bytes] | None:
    """A model with faults; ``None`` where these have no rule."""
    content, sketch = random_model(rng)
    model = random_faults(rng, sketch)
    try:
        faults = WordFaults(place_model(model_file(content), *followed(model)), model)
        return (faults, content) if faults.network.struck else None
    except (ModelError, QuestionError):
        return None


def random_strikes(
    faults: WordFaults, rng: np.random.Generator, count: int
) -> Iterator[tuple[WordFault, ...]]:
    """Faults that the model allows, the first of them none."""
    yield ()
    for _ in range(count):
        yield tuple(_strike(faults, rng))


def _strike(faults: WordFaults, rng: np.random.Generator) -> list[WordFault]:
    model = faults.model
    if isinstance(model, WeightBox):
        found = []
        for name, (low, high) in faults.intervals.items():
            share = rng.choice([0.0, 0.5, 1.0], low.size, p=[0.4, 0.2, 0.4])
            values = low + share * (high - low)
            found += [WordFault(name, e, (), Fraction(v)) for e, v in enumerate(values.tolist())]
        return [f for f in found if faults.chosen(f.tensor)[f.entry]]
    if isinstance(model, Pruning):
        sites = [(n, e) for n in faults.parameters for e in np.flatnonzero(faults.chosen(n))]
        some = rng.permutation(len(sites))[: rng.integers(model.k + 1)].tolist()
        return [WordFault(sites[p][0], int(sites[p][1]), (), Fraction(0)) for p in some]
    if isinstance(model, ActivationFaults):
        groups = [
            (faults.placed.network.nodes[tensor].name, group)
            for tensor, listed in activation_groups(faults.placed, model).items()
            for group in listed
        ]
        chosen = rng.permutation(len(groups))[: rng.integers(model.k + 1)].tolist()
        ends = [model.lower, model.upper, (model.lower + model.upper) / 2]
        return [
            WordFault(groups[k][0], entry, (), ends[rng.integers(3)])
            for k in chosen
            for entry in groups[k][1].tolist()
        ]
    cells = faults.cells
    assert cells is not None
    bits: dict[tuple[str, int], list[int]] = {}
    for name in faults.parameters:
        for entry, mask in enumerate(cells.changeable(name).tolist()):
            bits[name, entry] = [bit for bit in range(32) if mask >> bit & 1]
    words = [word for word, own in bits.items() if own]
    if not words:
        return []
    left, made = int(model.k), dict[tuple[str, int], list[int]]()
    while left > 0:
        word = words[rng.integers(len(words))]
        own = rng.permutation(bits[word])[: rng.integers(1, left + 1)].tolist()
        made.setdefault(word, own)
        left -= len(own)
        if model.per_word:
            break
    return [WordFault(*word, tuple(sorted(own))) for word, own in made.items()]


def oracle(content: bytes, faults: WordFaults, listed: Sequence[WordFault]) -> Network | None:
    """The network that a rewritten model file holds; ``None`` where it is not defined."""
    if isinstance(faults.model, ActivationFaults):
        return read_model_bytes(_overwritten(content, listed), None, "rewritten")
    try:
        values = faulted_values(faults, listed)
        file = rewritten(model_file(content), {n: values[n] for n in faults.placed.parameters})
        return read_model_bytes(file, None, "rewritten")
    except (ModelError, QuestionError):
        return None


def _overwritten(content: bytes, listed: Sequence[WordFault]) -> bytes:
    """The model with operators that replace entries of some tensors."""
    model = ModelProto.FromString(content)
    shapes = _shapes(content)
    nodes = []
    for each in model.graph.node:
        nodes.append(each)
        name = each.output[0]
        mine = {f.entry: float(f.value) for f in listed if f.tensor == name and f.value is not None}
        if not mine:
            continue
        kept = np.ones(shapes[name], dtype=np.float32)
        put = np.zeros(shapes[name], dtype=np.float32)
        kept.reshape(-1)[list(mine)] = 0
        put.reshape(-1)[list(mine)] = list(mine.values())
        each.output[0] = f"{name}_raw"
        model.graph.initializer.append(_tensor(kept, f"{name}_kept"))
        model.graph.initializer.append(_tensor(put, f"{name}_put"))
        nodes.append(node("Mul", f"{name}_raw {name}_kept", f"{name}_held"))
        nodes.append(node("Add", f"{name}_held {name}_put", name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    found: bytes = model.SerializeToString()
    return found


def _shapes(content: bytes) -> dict[str, tuple[int, ...]]:
    from onnx import shape_inference

    model = shape_inference.infer_shapes(ModelProto.FromString(content), data_prop=True)
    return {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in [*model.graph.value_info, *model.graph.output]
    }
