"""Walks an ONNX graph and applies the rule of every operator."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.network import Network
from specs.perturbation import Rounding
from specs.reader import operators as _operators
from specs.reader.builder import RESERVED, Builder, Operand, Variable, common_shape
from specs.reader.calls import ON_INTEGERS, RULES, Call
from specs.reader.floats import evaluated, stored
from specs.reader.tensors import FLOATS, Constant, ExternalData, kind_name, read_tensor

OPSETS = range(7, 29)
BASE_BUDGET = 2**26
FAULTS = (
    ArithmeticError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What numpy and protobuf raise on values that no rule foresaw."""

_operators.load()


def build_network(
    model: ModelProto, size: int, external: ExternalData, format: Rounding | None = None
) -> Network:
    """The network in normal form of a model file of ``size`` bytes.

    With a ``format``, evaluated in it: stored parameters are rounded to it, and so is the
    result of every operator.

    Raises:
        ModelError: the file breaks a rule of its format.
        UnsupportedOperatorError: operators without a rule, all of them named.
    """
    opset = _opset(model)
    graph = model.graph
    for collection in ("sparse_initializer", "quantization_annotation"):
        if len(getattr(graph, collection)):
            raise UnsupportedOperatorError(f"the graph holds a {collection}, which has no rule")
    live = _live_nodes(graph)
    builder = Builder(BASE_BUDGET + 8 * size, format=format)
    values: dict[str, Operand | None] = dict(_initializers(graph, builder, external))
    for name, variable in _inputs(graph, set(values), builder):
        values[name] = variable
    _check_names(graph, values)
    uses = Counter(name for position in live for name in graph.node[position].input)
    uses.update(output.name for output in graph.output)
    faults: list[str] = []
    doubtful: set[str] = set()
    for position in live:
        node = graph.node[position]
        try:
            results = _results(node, values, uses, opset, builder, external)
        except UnsupportedOperatorError as error:
            faults.append(f"{_place(node, position, len(graph.node))}: {error}")
            results = _stand_ins(node, values, builder)
            doubtful.update(node.output)
        except (ModelError, *FAULTS) as error:
            if doubtful.isdisjoint(node.input):
                reason = str(error) or type(error).__name__
                place = _place(node, position, len(graph.node))
                raise ModelError(f"{place}: {reason}") from error
            results = [None] * len(node.output)
        if not doubtful.isdisjoint(node.input):
            doubtful.update(node.output)
        values.update(zip(node.output, results, strict=False))
    if faults:
        where = "" if format is None else f" under {format.name} semantics"
        raise UnsupportedOperatorError("\n  ".join([f"operators without a rule{where}:", *faults]))
    return builder.network(_outputs(graph, values, builder))


def _stand_ins(
    node: NodeProto, values: dict[str, Operand | None], builder: Builder
) -> list[Operand | None]:
    """Variables in place of an operator without a rule, to find further ones behind it."""
    unknown: list[Operand | None] = [None] * len(node.output)
    operands = [values.get(name) for name in node.input if name]
    shapes = [operand.shape for operand in operands if operand is not None]
    kinds = {operand.kind for operand in operands if operand is not None}
    if len(shapes) != len(operands) or len(node.output) != 1 or len(kinds) != 1:
        return unknown
    try:
        if node.op_type == "MatMul":
            outer = common_shape(shapes[0][:-2], shapes[1][:-2])
            shape = (*outer, shapes[0][-2], shapes[1][-1])
        else:
            shape = functools.reduce(common_shape, shapes)
        return [builder.input(f"{RESERVED}{node.output[0]}", shape, kinds.pop())]
    except (ModelError, *FAULTS):
        return unknown


def _results(
    node: NodeProto,
    values: dict[str, Operand | None],
    uses: Counter[str],
    opset: int,
    builder: Builder,
    external: ExternalData,
) -> list[Operand | None]:
    """What a node computes; ``None`` where an operator without a rule stands before."""
    rule = RULES.get(node.op_type)
    if node.domain not in ("", "ai.onnx") or rule is None:
        domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
        raise UnsupportedOperatorError(f"{domain}{node.op_type} has no rule")
    _check_schema(node, opset)
    for name in node.input:
        if name and name not in values:
            raise ModelError(f"it reads '{name}', which is not defined before it")
    operands = tuple(values[name] if name else None for name in node.input)
    if any(values[name] is None for name in node.input if name):
        return [None] * len(node.output)
    whole = {o.kind for o in operands if isinstance(o, Variable) and o.kind not in FLOATS}
    if whole and node.op_type not in ON_INTEGERS:
        name = kind_name(min(whole))
        raise UnsupportedOperatorError(f"it has no rule for a variable tensor of type {name}")
    builder.place = next((name for name in node.output if name), "")
    attributes: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if attribute.name in attributes:
            raise ModelError(f"attribute '{attribute.name}' is given twice")
        if attribute.ref_attr_name:
            raise ModelError(f"attribute '{attribute.name}' refers to a function's")
        attributes[attribute.name] = attribute
    call = Call(node, operands, opset, builder, external, attributes)
    made = rule(call) if builder.format is None else evaluated(call, rule)
    if call.unread():
        raise UnsupportedOperatorError(f"attribute '{call.unread()[0]}' has no rule")
    results = list(made) if isinstance(made, Sequence) else [made]
    for name in node.output[len(results) :]:
        if name and uses[name]:
            raise UnsupportedOperatorError(f"its further output '{name}' has no rule")
    found: list[Operand | None] = []
    for name, result in zip(node.output, results, strict=False):
        if isinstance(result, Constant):
            builder.claim(result.shape)
        found.append(builder.bind(name, result, uses[name] > 1) if name else result)
    return found


def _check_schema(node: NodeProto, opset: int) -> None:
    """Refuse operators and attributes that the opset does not have, and wrong arities."""
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset, domain="")
    except onnx.defs.SchemaError as error:
        raise ModelError(f"opset {opset} has no operator {node.op_type}") from error
    if schema.deprecated:
        raise ModelError(f"opset {opset} no longer has the operator {node.op_type}")
    if not schema.min_input <= len(node.input) <= schema.max_input:
        raise ModelError(f"it has {len(node.input)} inputs")
    if not schema.min_output <= len(node.output) <= schema.max_output:
        raise ModelError(f"it has {len(node.output)} outputs")
    given = {attribute.name for attribute in node.attribute}
    if unknown := sorted(given - set(schema.attributes)):
        raise ModelError(f"opset {opset} gives it no attribute '{unknown[0]}'")
    needed = {name for name, attribute in schema.attributes.items() if attribute.required}
    if missing := sorted(needed - given):
        raise ModelError(f"its attribute '{missing[0]}' is missing")


def _opset(model: ModelProto) -> int:
    if not model.HasField("graph"):
        raise ModelError("the file holds no graph; is it an ONNX model?")
    if len(model.functions):
        raise UnsupportedOperatorError(
            f"the model defines functions of its own ('{model.functions[0].name}'); inline them"
        )
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


def _live_nodes(graph: GraphProto) -> list[int]:
    """The nodes that an output depends on, in the file's order."""
    wanted = {output.name for output in graph.output}
    live = []
    for position in range(len(graph.node) - 1, -1, -1):
        node = graph.node[position]
        if any(name in wanted for name in node.output if name):
            live.append(position)
            wanted.update(name for name in node.input if name)
    return live[::-1]


def _initializers(
    graph: GraphProto, builder: Builder, external: ExternalData
) -> dict[str, Constant]:
    found: dict[str, Constant] = {}
    for tensor in graph.initializer:
        if not tensor.name:
            raise ModelError("an initialiser has no name")
        if tensor.name in found:
            raise ModelError(f"two initialisers are called '{tensor.name}'")
        try:
            builder.claim(tensor.dims)
            found[tensor.name] = stored(builder, read_tensor(tensor, external))
        except (ModelError, *FAULTS) as error:
            kind = type(error) if isinstance(error, ModelError) else ModelError
            raise kind(f"initialiser '{tensor.name}': {error}") from error
        # Releases the raw copy: large models would stand in memory three times.
        tensor.ClearField("raw_data")
    return found


def _inputs(graph: GraphProto, constants: set[str], builder: Builder) -> list[tuple[str, Variable]]:
    found = []
    for value in graph.input:
        if value.name in constants:
            continue
        if not value.name or value.name.startswith(RESERVED):
            raise ModelError(f"an input is called '{value.name}'; '{RESERVED}' is reserved")
        kind = value.type.tensor_type.elem_type
        if value.type.WhichOneof("value") != "tensor_type" or kind not in FLOATS:
            raise UnsupportedOperatorError(
                f"input '{value.name}' is no tensor of real numbers ({kind_name(kind)})"
            )
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(f"input '{value.name}' has no shape")
        shape = _input_shape(value.name, value.type.tensor_type.shape.dim)
        found.append((value.name, builder.input(value.name, shape, kind)))
    return found


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


def _check_names(graph: GraphProto, values: dict[str, Operand | None]) -> None:
    """Refuse names that are defined twice or that are reserved."""
    defined = set(values)
    inputs = Counter(value.name for value in graph.input)
    twice = [name for name, count in inputs.items() if count > 1]
    for node in graph.node:
        for name in node.output:
            if not name:
                continue
            if name in defined:
                twice.append(name)
            defined.add(name)
    if twice:
        raise ModelError(f"tensor '{twice[0]}' is defined twice")
    reserved = sorted(name for name in defined if name.startswith(RESERVED))
    if reserved:
        raise ModelError(f"tensor '{reserved[0]}': names that start '{RESERVED}' are reserved")


def _outputs(
    graph: GraphProto, values: dict[str, Operand | None], builder: Builder
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
        if 0 in operand.shape:
            raise ModelError(f"output '{output.name}' of shape {operand.shape} is empty")
        found.append(builder.output(output.name, operand))
    return found


def _place(node: NodeProto, position: int, count: int) -> str:
    name = next((name for name in node.output if name), "")
    return f"{node.op_type} (tensor '{name}', node {position + 1} of {count})"
