"""Replaying an input through onnxruntime, on the bytes of the model files themselves."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from specs.errors import FarkasError, InputError, MissingExtraError
from specs.faults.exact import WordFault, faulted_values
from specs.faults.placed import rewritten
from specs.faults.struck import faults_of
from specs.property import Case
from specs.query import Query

if TYPE_CHECKING:
    from specs.query import ModelFile

Float32Array = npt.NDArray[np.float32]

_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class ReplayError(FarkasError):
    """onnxruntime cannot load or run a model; the message carries its words."""


@dataclass(frozen=True)
class Replayed:
    """What the runtime made of a float32 input.

    Attributes:
        violated: some disjunct holds at the rounded input and the runtime's output, at
            zero tolerance; the region is judged apart.
        inside: the rounded input lies in the region itself.
        outputs: the runtime's outputs.
    """

    violated: bool
    inside: bool
    outputs: tuple[float, ...]


class Replay:
    """The models of a query, loaded in onnxruntime (CPU) once.

    Under float semantics its graph optimisations are off, so that what runs is the stored
    graph as it stands; ``stored`` asks for the same whatever the semantics.  Of a question of
    faults the model is rewritten: with the stored values, and with these ``faults``.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ReplayError: it refuses a model, or the query was built in memory.
    """

    def __init__(
        self, query: Query, *, stored: bool = False, faults: Sequence[WordFault] = ()
    ) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingExtraError(
                "a counterexample is replayed in onnxruntime, which is not installed: "
                'pip install ".[verifier]"'
            )
        self._query = query
        if not query.models:
            raise ReplayError(f"{query.title}: no model file to replay")
        loaded: dict[str, Any] = {}
        self._sessions = []
        for model in query.models:
            if model.digest not in loaded:
                optimised = query.rounding is None and not stored
                loaded[model.digest] = load(_as_stored(query, model, faults), optimised)
            self._sessions.append(loaded[model.digest])

    def run(self, x: Float32Array) -> npt.NDArray[Any]:
        """All outputs, flat and in order, at the flat input ``x``.

        Raises:
            ReplayError: the runtime fails, or its shapes are not the query's.
        """
        network = self._query.network
        shapes = [network.nodes[i].shape for i in network.inputs]
        sizes = [network.sizes[i] for i in network.inputs]
        results = []
        next_input = 0
        start = 0
        for session in self._sessions:
            feed = {}
            for entry in session.get_inputs():
                if next_input == len(sizes):
                    raise ReplayError("the models have more inputs than the query")
                size, shape = sizes[next_input], shapes[next_input]
                part = x[start : start + size].astype(operand_type(entry))
                feed[entry.name] = part.reshape(_shape(entry.shape, size, shape))
                next_input += 1
                start += size
            try:
                values = session.run(None, feed)
            except Exception as error:
                raise ReplayError(f"onnxruntime: {_first_line(error)}") from error
            results += [np.asarray(value).reshape(-1) for value in values]
        flat = np.concatenate(results)
        if next_input != len(sizes) or flat.size != network.output_size:
            raise ReplayError(
                f"the runtime's models have {next_input} inputs and {flat.size} outputs, "
                f"the query {len(sizes)} and {network.output_size}"
            )
        return flat

    @property
    def in_float32(self) -> bool:
        """Whether all inputs and outputs are float32."""
        return all(
            entry.type == "tensor(float)"
            for session in self._sessions
            for entry in (*session.get_inputs(), *session.get_outputs())
        )

    def judge(self, case: Case, x: Float32Array) -> Replayed:
        """Replay ``x`` and test it against ``case``, exactly and at zero tolerance."""
        y = self.run(x)
        if not np.all(np.isfinite(y)):
            return Replayed(False, False, tuple(map(float, y)))
        point = [Fraction(float(v)) for v in x]
        values = [Fraction(float(v)) for v in y]
        violated = any(all(c.holds(point, values) for c in d) for d in case.unsafe)
        return Replayed(violated, case.contains(point), tuple(map(float, y)))


def _as_stored(query: Query, model: ModelFile, listed: Sequence[WordFault]) -> ModelFile:
    """The model file with the stored values that a question of faults is about."""
    faults = faults_of(query)
    if faults is None:
        return model
    try:
        content = rewritten(model, faulted_values(faults, listed))
    except InputError as error:
        raise ReplayError(str(error)) from error
    return replace(model, content=content)


def load(
    model: ModelFile, optimised: bool = True, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> Any:
    """A session of onnxruntime, with one thread.

    Args:
        model: the file; where it refers to external data, they lie beside it.
        optimised: the runtime may rewrite the graph.
        providers: what it runs on.

    Raises:
        ReplayError: it refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if model.path is not None:
        # Only read where the model refers to external data.
        folder = str(model.path.resolve().parent)
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", folder
        )
    try:
        return onnxruntime.InferenceSession(model.content, options, providers=list(providers))
    except Exception as error:
        raise ReplayError(f"onnxruntime refuses the model: {_first_line(error)}") from error


def operand_type(entry: Any) -> Any:
    """The numpy type of an input of a session.

    Raises:
        ReplayError: it is no tensor of floats.
    """
    if entry.type not in _DTYPES:
        raise ReplayError(f"input '{entry.name}' is a {entry.type}, not a tensor of floats")
    return _DTYPES[entry.type]


def _shape(stated: Sequence[Any], size: int, normal: tuple[int, ...]) -> tuple[int, ...]:
    """The model's own shape where it is fixed, the query's where it is not."""
    if all(isinstance(d, int) and d > 0 for d in stated) and math.prod(stated) == size:
        return tuple(stated)
    return normal


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
