"""From a model file's graph to a network: opset, inputs, nodes, outputs."""

from __future__ import annotations

from typing import Any

from onnx import GraphProto, ModelProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.network import RESERVED, Network
from specs.perturbation import Rounding
from specs.reader import operators as _operators
from specs.reader.builder import Builder
from specs.reader.operands import Masked, Value, Variable
from specs.reader.parameters import Tracker
from specs.reader.tensors import FLOATS, Constant, ExternalData, kind_name
from specs.reader.walk import Walk, check_names, foreign_parts, read_initializers, uses

OPSETS = range(7, 27)
BASE_BUDGET = 2**26
FOLLOWING = 4
"""How much more may be made where parameters are followed: every rule is run several times."""
_operators.load()


def build_network(
    model: ModelProto,
    size: int,
    external: ExternalData,
    format: Rounding | None = None,
    tracker: Tracker | None = None,
) -> Network:
    """The network in normal form of a model file of ``size`` bytes.

    With a ``format``, evaluated in it: stored parameters are rounded to it, and so is the
    result of every operator.  With a ``tracker``, stored parameters are followed; not both.

    Raises:
        ModelError: the file breaks a rule of its format.
        UnsupportedOperatorError: operators without a rule, all of them named.
    """
    opset = _opset(model)
    graph = model.graph
    if tracker is not None and format is not None:
        raise UnsupportedOperatorError(f"parameters are not followed in {format.name}")
    budget = BASE_BUDGET + 8 * size
    builder = Builder(budget if tracker is None else FOLLOWING * budget, format=format)
    builder.apart = tracker is not None and tracker.activations is None
    faults = foreign_parts(graph)
    if len(model.functions):
        name = model.functions[0].name
        faults.append(f"the model defines functions of its own ('{name}'); inline them")
    values: dict[str, Value | None] = {}
    read_initializers(graph, builder, external, values, faults, tracker)
    _read_inputs(graph, builder, values, faults)
    check_names(graph, values)
    unknown = {name for name, value in values.items() if value is None}
    Walk(values, uses(graph), opset, builder, external, faults, unknown, tracker).run(graph)
    if faults:
        where = "" if format is None else f" under {format.name} semantics"
        raise UnsupportedOperatorError("\n  ".join([f"operators without a rule{where}:", *faults]))
    network = builder.network(_outputs(graph, values, builder))
    if tracker is not None:
        tracker.settle(network, builder)
    return network


def _opset(model: ModelProto) -> int:
    if not model.HasField("graph"):
        raise ModelError("the file holds no graph; is it an ONNX model?")
    stated = {o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    found = sorted(stated)
    if len(found) != 1:
        raise ModelError(
            f"the model imports {len(found)} versions of the standard operator set instead of one"
        )
    if found[0] not in OPSETS:
        raise ModelError(
            f"opset {found[0]} is not supported (from {OPSETS[0]} to {OPSETS[-1]} are); "
            "convert the model with onnx.version_converter"
        )
    return int(found[0])


def _read_inputs(
    graph: GraphProto,
    builder: Builder,
    values: dict[str, Value | None],
    faults: list[str],
) -> None:
    constants = set(values)
    for value in graph.input:
        if value.name in constants:
            continue
        if not value.name or value.name.startswith(RESERVED):
            raise ModelError(f"an input is called '{value.name}'; '{RESERVED}' is reserved")
        kind = value.type.tensor_type.elem_type
        if value.type.WhichOneof("value") != "tensor_type" or kind not in FLOATS:
            faults.append(f"input '{value.name}' is no tensor of real numbers ({kind_name(kind)})")
            values[value.name] = None
            continue
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"input '{value.name}' has no shape")
        shape = _input_shape(value.name, value.type.tensor_type.shape.dim)
        values[value.name] = builder.input(value.name, shape, kind)


def _input_shape(name: str, dimensions: Any) -> tuple[int, ...]:
    """The shape of an input; a batch size left open is 1."""
    shape = []
    for axis, dimension in enumerate(dimensions):
        extent = dimension.dim_value if dimension.WhichOneof("value") == "dim_value" else 0
        if extent < 1:
            if axis:
                raise ModelError(
                    f"axis {axis} of input '{name}' has no fixed size; give it one in the model"
                )
            extent = 1
        shape.append(extent)
    return tuple(shape)


def _outputs(
    graph: GraphProto, values: dict[str, Value | None], builder: Builder
) -> list[Variable]:
    if not graph.output:
        raise ModelError("the graph has no output")
    found = []
    if len({output.name for output in graph.output}) != len(graph.output):
        raise ModelError("two outputs of the graph have the same name")
    for output in graph.output:
        operand = values.get(output.name)
        if operand is None:
            raise ModelError(f"output '{output.name}' is not defined")
        if isinstance(operand, Constant):
            raise ModelError(f"output '{output.name}' does not depend on the network's inputs")
        if isinstance(operand, Masked):
            raise UnsupportedOperatorError(f"output '{output.name}' holds minus infinities")
        if 0 in operand.shape:
            raise ModelError(f"output '{output.name}' of shape {operand.shape} is empty")
        found.append(builder.output(output.name, operand))
    return found
