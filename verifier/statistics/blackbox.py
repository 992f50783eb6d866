"""A network as a black box: run by onnxruntime in batches, never looked into."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from specs.errors import FarkasError, InputError, ModelError
from specs.onnx_reader import model_content
from specs.query import ModelFile
from verifier.needs import need
from verifier.replay import ReplayError, load, operand_type

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
DEVICES = ("auto", *PROVIDERS)
PROBES = 5
"""Inputs at which batches are compared with single runs."""
AGREEMENT = 1e-3
"""By how much, relative to the largest output, they may differ there: rounding, nothing else."""

PROBE_OPSET, PROBE_IR = 13, 8
"""Of the model that shows whether a device works; any runtime in use reads them."""

Floats = npt.NDArray[np.floating]


def device_of(wanted: str) -> str:
    """The device that is meant: ``"auto"`` is CUDA where onnxruntime has it and can use it.

    Raises:
        InputError: onnxruntime cannot use it here.
        MissingExtraError: onnxruntime is not installed.
    """
    need(("onnxruntime",), "a black box")
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if wanted == "auto":
        return "cuda" if PROVIDERS["cuda"] in there and _runs_on("cuda") else "cpu"
    if PROVIDERS[wanted] not in there:
        raise InputError(f"device '{wanted}': onnxruntime has {', '.join(there)} here")
    return wanted


def _runs_on(device: str) -> bool:
    """Whether a model runs there: a runtime with CUDA may be on a machine without."""
    entries = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "probe", entries[:1], entries[1:])
    opset = helper.make_opsetid("", PROBE_OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=PROBE_IR)
    try:
        session = load(ModelFile(None, model.SerializeToString(), ""), True, [PROVIDERS[device]])
    except ReplayError:
        return False
    return PROVIDERS[device] in session.get_providers()


@dataclass(eq=False)
class BlackBox:
    """A model with one input, of which the first output counts.

    Batches are run through the model with a first extent that is left open, where that gives
    what single runs give; otherwise input by input.

    Attributes:
        model: the file.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: it has several inputs, or none of floats of fixed extents.
        ReplayError: onnxruntime refuses the model.
    """

    model: ModelFile
    device: str = "cpu"
    _alone: Any = field(init=False, repr=False)
    _together: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        providers = [PROVIDERS[self.device]]
        self._alone = load(self.model, providers=providers)
        if providers[0] not in self._alone.get_providers():
            # The runtime goes on without a device whose libraries it cannot load.
            raise InputError(f"{self._name}: onnxruntime could not run it on '{self.device}'")
        inputs = self._alone.get_inputs()
        if len(inputs) != 1:
            raise InputError(f"{self._name}: a model with {len(inputs)} inputs; wanted: one")
        self.entry = inputs[0]
        self.dtype = np.dtype(operand_type(self.entry))
        extents = list(self.entry.shape)
        if extents and not (isinstance(extents[0], int) and extents[0] > 0):
            extents[0] = 1
        if not all(isinstance(extent, int) and extent > 0 for extent in extents):
            raise InputError(
                f"{self._name}: an input of shape {self.entry.shape}; wanted: fixed extents, the "
                "first may be open"
            )
        self.shape: tuple[int, ...] = tuple(extents)
        if self.shape and self.shape[0] == 1:
            self._together = self._with_open_batch(providers)

    @property
    def size(self) -> int:
        """Numbers of an input."""
        return math.prod(self.shape)

    @property
    def batched(self) -> bool:
        """Whether inputs are run together."""
        return self._together is not None

    def run(self, points: Floats) -> Floats:
        """The first output at inputs ``(n, size)``, flat: ``(n, outputs)``.

        Raises:
            InputError: the runtime fails.
        """
        held = np.ascontiguousarray(points, dtype=self.dtype)
        if not len(held):
            return np.empty((0, self.outputs), self.dtype)
        if self._together is not None:
            return self._run(self._together, held, (len(held), *self.shape[1:]))
        rows = [self._run(self._alone, row, self.shape).reshape(1, -1) for row in held]
        return np.concatenate(rows)

    @cached_property
    def outputs(self) -> int:
        """Numbers of the first output."""
        zero = np.zeros(self.size, self.dtype)
        return int(self._run(self._alone, zero, self.shape).size)

    def _run(self, session: Any, points: Floats, shape: tuple[int, ...]) -> Floats:
        try:
            values = session.run(None, {self.entry.name: points.reshape(shape)})[0]
        except Exception as error:
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{self._name}: onnxruntime: {words}") from error
        found = np.asarray(values)
        return found.reshape(len(found) if session is self._together else 1, -1)

    def _with_open_batch(self, providers: list[str]) -> Any:
        """The model for batches of any size; ``None`` where it does not do what single runs do."""
        try:
            session = load(
                ModelFile(self.model.path, opened(self.model.content), ""), True, providers
            )
            self._together = session
            rng = np.random.default_rng(0)
            probes = rng.normal(size=(PROBES, self.size)).astype(self.dtype)
            together = self.run(probes)
        except (FarkasError, ValueError, TypeError):
            return None
        finally:
            self._together = None
        alone = self.run(probes)
        if together.shape != alone.shape:
            return None
        scale = np.max(np.abs(alone), initial=0.0)
        close = np.abs(together - alone) <= AGREEMENT * scale
        return session if bool(np.all(close)) else None

    @property
    def _name(self) -> str:
        return "the model" if self.model.path is None else str(self.model.path)


def opened(content: bytes) -> bytes:
    """A model whose inputs and outputs have a first extent of any size."""
    model = onnx.ModelProto.FromString(content)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    del graph.value_info[:]
    for entry in (*graph.input, *graph.output):
        if entry.name in stored:
            continue
        extents = entry.type.tensor_type.shape.dim
        if len(extents):
            extents[0].Clear()
            extents[0].dim_param = "batch"
    changed: bytes = model.SerializeToString()
    return changed


def classes(scores: Floats) -> npt.NDArray[np.int64]:
    """The class that each row prefers: the first greatest; -1 where a score is no number."""
    found = np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=1).astype(np.int64)
    return np.where(np.isnan(scores).any(axis=1), -1, found)


def prefers(scores: Floats, label: int) -> npt.NDArray[np.bool_]:
    """Whether ``label`` exceeds every other score; a tie, or no number, is a failure."""
    others = np.delete(scores, label, axis=1)
    with np.errstate(invalid="ignore"):
        found: npt.NDArray[np.bool_] = np.all(scores[:, label : label + 1] > others, axis=1)
    return found


def read_black_box(path: Path, device: str = "cpu") -> BlackBox:
    """A black box from a file.

    Raises:
        InputError: it cannot be read, onnxruntime refuses it, or it is no box of one input.
        MissingExtraError: onnxruntime is not installed.
    """
    need(("onnxruntime",), "a black box")
    model = black_box_file(path)
    try:
        return BlackBox(model, device)
    except ReplayError as error:
        raise InputError(f"{path}: {error}") from error


def black_box_file(path: Path) -> ModelFile:
    """A model file that need not be one that the verifier can read.

    Raises:
        ModelError: there is no such file, it is no ONNX, or external data are missing.
    """
    found, content = model_content(path)
    digest = hashlib.sha256(content)
    try:
        for name in _external(onnx.ModelProto.FromString(content).graph):
            with (found.parent / name).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    except (OSError, ValueError, DecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error
    return ModelFile(found, content, digest.hexdigest())


def _external(graph: onnx.GraphProto) -> list[str]:
    """The files that hold external data."""
    stored = [
        *graph.initializer,
        *(attribute.t for node in graph.node for attribute in node.attribute),
    ]
    outside = (t for t in stored if t.data_location == onnx.TensorProto.EXTERNAL)
    names = {e.value for t in outside for e in t.external_data if e.key == "location"}
    return sorted(names)
