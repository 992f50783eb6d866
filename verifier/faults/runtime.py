"""The same faults in onnxruntime: a copy of the model with other stored values.

onnxruntime evaluates in the model's own type, as a rule float32, and holds each stored value
rounded to it.  What it says is a cross-check, never a decision: near a tie, and where numbers
overflow, it may differ from the real-valued network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from specs.enclosure import FloatArray
from specs.faults.memory import Memory
from specs.faults.placed import rewritten
from verifier.needs import need


class FaultyModel:
    """A model with faults in its memory, loaded in onnxruntime (CPU) as it stands.

    Args:
        memory: the stored parameters.
        faults: by parameter, the entries that are changed and their values.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: a parameter cannot be rewritten.
    """

    def __init__(self, memory: Memory, faults: Mapping[str, Mapping[int, float]]) -> None:
        need(("onnxruntime",), "running faulty models")
        import onnxruntime

        changed = {name: values.copy() for name, values in memory.values.items()}
        for name, entries in faults.items():
            for entry, value in entries.items():
                changed[name][entry] = value
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        content = rewritten(memory.placed.model, changed)
        self._session: Any = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        network = memory.placed.network
        self._shapes = [network.nodes[number].shape for number in network.inputs]

    def run(self, point: FloatArray) -> FloatArray:
        """The outputs at a point, flat; they may be Inf or NaN."""
        feed, start = {}, 0
        for entry, shape in zip(self._session.get_inputs(), self._shapes, strict=True):
            size = int(np.prod(shape))
            kind = np.float64 if entry.type == "tensor(double)" else np.float32
            feed[entry.name] = point[start : start + size].reshape(shape).astype(kind)
            start += size
        found = self._session.run(None, feed)
        return np.concatenate([np.asarray(part, dtype=np.float64).reshape(-1) for part in found])
