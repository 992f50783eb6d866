"""Random small graphs with ties, dead Relus, shortcuts, and tensors that are outputs as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.faulty_models import node
from tests.networks import serialised

KINDS = {
    np.float32: TensorProto.FLOAT,
    np.float64: TensorProto.DOUBLE,
    np.float16: TensorProto.FLOAT16,
}


def random_graph(
    rng: np.random.Generator,
    *,
    dtype: Any = np.float32,
    opset: int = 13,
    batch: bool = True,
    outputs: int | None = None,
) -> tuple[bytes, list[str]]:
    """A model of one input, and the names of the tensors that operators compute.

    Weights are small integers or halves now and then, so that ties and zeros occur.
    """
    size = int(rng.integers(1, 4))
    stored: dict[str, np.ndarray[Any, Any]] = {}
    nodes: list[Any] = []
    widths = {"x": size}

    def constant(*shape: int) -> str:
        name = f"c{len(stored)}"
        values = rng.integers(-2, 3, size=shape) / rng.choice([1, 2])
        if rng.random() < 0.5:
            values = rng.normal(size=shape)
        stored[name] = values.astype(dtype)
        return name

    def made(operator: str, inputs: str, width: int, **attributes: Any) -> str:
        name = f"t{len(nodes)}"
        nodes.append(node(operator, inputs, name, **attributes))
        widths[name] = width
        return name

    for _ in range(int(rng.integers(2, 6))):
        source = str(rng.choice(list(widths)))
        width = widths[source]
        match int(rng.integers(0, 6)):
            case 0 | 1:
                wide = int(rng.integers(1, 5))
                dense = made("MatMul", f"{source} {constant(width, wide)}", wide)
                made("Relu", made("Add", f"{dense} {constant(wide)}", wide), wide)
            case 2:
                made("Relu", source, width)
            case 3:
                same = [name for name, own in widths.items() if own == width]
                made("Add", f"{source} {rng.choice(same)}", width)
            case 4:
                made("Mul", f"{source} {constant(width)}", width)
            case _:
                made("Sub", f"{source} {constant(width)}", width)
    last = str(list(widths)[-1])
    count = int(rng.integers(2, 4)) if outputs is None else outputs
    made("MatMul", f"{last} {constant(widths[last], count)}", count)
    names = [f"t{len(nodes) - 1}"]
    if rng.random() < 0.3:
        names.append(str(rng.choice([name for name in widths if name != "x"])))
    names = list(dict.fromkeys(names))
    shape = (1,) if batch else ()
    kind = KINDS[dtype]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, (*shape, size))],
        [helper.make_tensor_value_info(name, kind, (*shape, widths[name])) for name in names],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    content: bytes = serialised(graph, opset)
    onnx.checker.check_model(onnx.ModelProto.FromString(content))
    return content, [name for name in widths if name != "x"]
