"""The oracle: CROWN bounds by auto_LiRPA 0.3, of models read by onnx2pytorch.

Neither shares a line with ours: another reader, another bound propagation (Xu et al.,
*Automatic perturbation analysis for scalable certified robustness and beyond*, 2020), in
float64 here.  auto_LiRPA 0.3 is older than the torch and the numpy that we use, and both
import packages of which nothing here is needed.  What that takes is undone as soon as it has
served: stand-ins for modules while they are imported, and two names that torch has dropped
while a model is converted.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
Ends = tuple[Array, Array]
PACKAGES = ("auto_LiRPA", "onnx2pytorch")

OPTIONS: Mapping[str, Any] = types.MappingProxyType(
    {
        "sparse_features_alpha": False,  # of use to optimised slopes only
        "sparse_spec_alpha": False,
        "conv_mode": "matrix",  # the other one fails where tensors are no images
        "fixed_reducemax_index": True,  # Softmax subtracts an entry, the largest at the centre
    }
)


def missing() -> str | None:
    """Why there is no oracle, or ``None`` if there is one."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} not installed (see tests/oracle-requirements.txt)"


def require() -> None:
    """Skip the running test where there is no oracle; fail it in CI, which must have one."""
    why = missing()
    if why is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@dataclass(frozen=True)
class Layer:
    """What the oracle finds for a pre-activation, ``(n,)`` each, when told those before it.

    Attributes:
        crown: by substitution back to the input.
        interval: by interval propagation from the bounds before it.
    """

    crown: Ends
    interval: Ends


class Oracle:
    """A model of one input, its first dimension a batch of one, as the oracle reads it."""

    def __init__(self, content: bytes) -> None:
        model = onnx.load_from_string(content)
        known = {tensor.name for tensor in model.graph.initializer}
        (entry,) = (value for value in model.graph.input if value.name not in known)
        self._shape = [d.dim_value or 1 for d in entry.type.tensor_type.shape.dim]
        packages = _packages()
        with _conversion():
            self._plain = packages.ConvertModel(model).double().eval()
            example = torch.zeros(self._shape)
            self._module = packages.Module(
                self._plain, example, dict(OPTIONS), "cpu", custom_ops=packages.operators
            )

    def outputs(self, points: Array) -> Array:
        """The model's outputs ``(k, outputs)`` at points ``(k, inputs)``."""
        with _doubles():
            rows = [self._plain(torch.tensor(p).reshape(self._shape)) for p in points]
            return np.stack([row.numpy().reshape(-1) for row in rows])

    def bounds(
        self, low: Array, high: Array, rows: Array, known: Mapping[str, Ends] | None = None
    ) -> Ends:
        """CROWN bounds of rows ``(R, outputs)`` of the outputs over a box.

        Pre-activations with ``known`` bounds keep them; the others are bounded by CROWN.
        """
        with _doubles():
            ask = self._ask(low, high, known or {})
            return _ends(self._module.compute_bounds(**ask, C=torch.tensor(rows)[None]))

    def preactivations(self, kinds: Collection[str]) -> list[tuple[str, str]]:
        """Activations of these kinds ("Relu", "Exp", ...) in order, with what they read."""
        nodes = [(type(n).__name__[len("Bound") :], n) for n in self._module._modules.values()]
        return [(kind, node.inputs[0].name) for kind, node in nodes if kind in kinds]

    def layer(self, tensor: str, low: Array, high: Array, known: Mapping[str, Ends]) -> Layer:
        """Bounds of a pre-activation, given those of the ones before it."""
        with _doubles():
            ask = self._ask(low, high, known)
            shape = self._module[tensor].output_shape[1:]
            every = torch.eye(shape.numel()).reshape(1, shape.numel(), *shape)
            crown = self._module.compute_bounds(**ask, final_node_name=tensor, C=every)
            interval = self._module.compute_bounds(**ask, final_node_name=tensor, method="IBP")
            return Layer(_ends(crown), _ends(interval))

    def _ask(self, low: Array, high: Array, known: Mapping[str, Ends]) -> dict[str, Any]:
        ends = [torch.tensor(end).reshape(self._shape) for end in (low, high)]
        centre, packages = (ends[0] + ends[1]) / 2, _packages()
        self._module(centre)  # finds every tensor's shape, and the entry that Softmax subtracts
        box = packages.Tensor(centre, packages.Norm(norm=np.inf, x_L=ends[0], x_U=ends[1]))
        given = {
            name: [torch.tensor(end).reshape(self._module[name].output_shape) for end in pair]
            for name, pair in known.items()
        }
        return {"x": (box,), "intermediate_layer_bounds": given}


def _ends(found: Sequence[Tensor]) -> Ends:
    lower, upper = (end.detach().numpy().reshape(-1) for end in found[:2])
    return lower, upper


@contextmanager
def _doubles() -> Iterator[None]:
    """What the packages create anew is float64, identities are matrices, gradients not kept."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("AUTOLIRPA_USE_FULL_C", "1")  # the others' views fail in new torch
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _conversion() -> Iterator[None]:
    """What auto_LiRPA expects of torch's exporter: opset 12, and nodes that can be indexed."""
    exporter = importlib.import_module("torch.onnx._internal.torchscript_exporter._globals")
    with _doubles(), pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(exporter.GLOBALS, "export_onnx_opset_version", 12)
        patch.setattr(torch._C.Node, "__getitem__", _attribute, raising=False)
        yield


def _attribute(node: Any, key: str) -> Any:
    return getattr(node, node.kindOf(key))(key)


@cache
def _packages() -> types.SimpleNamespace:
    """The packages' names; what they change globally when imported is undone."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    profiling = torch._C._jit_set_profiling_executor(True), torch._C._jit_set_profiling_mode(True)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True):
        for name, content in _stand_ins().items():
            module = types.ModuleType(name)
            vars(module).update(content)
            patch.setitem(sys.modules, name, module)
        exporter = importlib.import_module("torch.onnx.symbolic_helper")
        patch.setattr(exporter, "_set_opset_version", lambda version: None, raising=False)
        depth = sys.getrecursionlimit()  # it asks for a million, for which no stack is made
        bounds = importlib.import_module("auto_LiRPA")
        sys.setrecursionlimit(depth)
        reader = importlib.import_module("onnx2pytorch")
    torch._C._jit_set_profiling_executor(profiling[0])
    torch._C._jit_set_profiling_mode(profiling[1])
    root.handlers[:] = handlers

    class Module(bounds.BoundedModule):
        """With an argument that torch passes since 2.0."""

        def _named_members(self, *given: Any, remove_duplicate: bool = True, **more: Any) -> Any:
            return super()._named_members(*given, **more)

    class ReduceMax(bounds.bound_ops.BoundReduceMax):
        """Row by row, since of several rows the rule of 0.3 passes only the first one back."""

        def bound_backward(self, lower: Tensor, upper: Tensor, x: Any) -> Any:
            rule = super().bound_backward
            parts = [rule(lower[k : k + 1], upper[k : k + 1], x)[0][0] for k in range(len(lower))]
            return [tuple(torch.cat(side) for side in zip(*parts, strict=True))], 0, 0

    return types.SimpleNamespace(
        Module=Module,
        operators={"onnx::ReduceMax": ReduceMax},
        Tensor=bounds.BoundedTensor,
        Norm=bounds.PerturbationLpNorm,
        ConvertModel=reader.ConvertModel,
    )


def _stand_ins() -> dict[str, dict[str, Any]]:
    """Modules that are imported and not used here, by name, with what is taken from them."""
    operations = ("deform_conv2d", "roi_align", "roi_pool")
    return {
        "appdirs": {"user_data_dir": lambda name: tempfile.gettempdir()},
        "numpy.lib.arraysetops": {"isin": np.isin},
        "torchvision": {},
        "torchvision.io": {"ImageReadMode": None, "decode_image": None},
        "torchvision.ops": dict.fromkeys(operations),
        "tqdm": {"tqdm": iter},
    }
