"""Walks the nodes of a graph and applies the rule of every operator.

An operator without a rule does not stop the walk: stand-ins take the place of what it
computes, so that a refusal names everything that has no rule.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from specs.errors import ModelError, UnsupportedOperatorError
from specs.network import RESERVED
from specs.reader.builder import Builder
from specs.reader.calls import ON_INTEGERS, RULES, Call
from specs.reader.floats import evaluated, stored
from specs.reader.operands import Value, Variable
from specs.reader.parameters import Tracker
from specs.reader.stand_ins import stand_ins
from specs.reader.tensors import FLOATS, KINDS, Constant, ExternalData, kind_name, read_tensor

FAULTS = (
    ArithmeticError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What numpy and protobuf raise on values that no rule foresaw."""

Values = MutableMapping[str, Value | None]
"""What the names of a graph stand for; ``None``: unknown, behind something without a rule."""


@dataclass(frozen=True, eq=False)
class Walk:
    """One pass over a graph.

    Attributes:
        uses: how often each name is read.
        faults: what has no rule, filled as the walk goes on.
        doubtful: names behind something without a rule: an error there may be owed to a
            stand-in.
        tracker: follows stored parameters, where that is asked for.
    """

    values: Values
    uses: Counter[str]
    opset: int
    builder: Builder
    external: ExternalData
    faults: list[str]
    doubtful: set[str] = field(default_factory=set)
    tracker: Tracker | None = None

    def run(self, graph: GraphProto) -> None:
        """Apply the rules of all nodes that an output depends on.

        Raises:
            ModelError: a node breaks a rule of the format.
        """
        for position in _live_nodes(graph):
            node = graph.node[position]
            if self.tracker is not None:
                self.tracker.operator = _place(node, position, len(graph.node))
            try:
                results = self._results(node)
            except UnsupportedOperatorError as error:
                self.faults.append(f"{_place(node, position, len(graph.node))}: {error}")
                results = stand_ins(node, self.values, self.opset, self.builder)
                self.doubtful.update(node.output)
            except (ModelError, *FAULTS) as error:
                if self.doubtful.isdisjoint(node.input):
                    reason = str(error) or type(error).__name__
                    place = _place(node, position, len(graph.node))
                    raise ModelError(f"{place}: {reason}") from error
                results = [None] * len(node.output)
            if not self.doubtful.isdisjoint(node.input):
                self.doubtful.update(node.output)
            self.values.update(zip(node.output, results, strict=False))

    def _results(self, node: NodeProto) -> list[Value | None]:
        """What a node computes; ``None`` where an operator without a rule stands before."""
        standard = node.domain in ("", "ai.onnx")
        rule = RULES.get(node.op_type)
        if not standard or (rule is None and node.op_type != "If"):
            domain = "" if standard else f"{node.domain}."
            raise UnsupportedOperatorError(f"{domain}{node.op_type} has no rule")
        _check_schema(node, self.opset)
        for name in node.input:
            if name and name not in self.values:
                raise ModelError(f"it reads '{name}', which is not defined before it")
        operands = tuple(self.values[name] if name else None for name in node.input)
        if any(self.values[name] is None for name in node.input if name):
            return [None] * len(node.output)
        attributes = _attributes(node)
        if rule is None:
            return self._branch(node, operands, attributes)
        whole = {o.kind for o in operands if isinstance(o, Variable)} - set(FLOATS)
        if whole and node.op_type not in ON_INTEGERS:
            name = kind_name(min(whole))
            raise UnsupportedOperatorError(f"it has no rule for a variable tensor of type {name}")
        self.builder.place = next((name for name in node.output if name), "")
        first = len(self.builder.nodes)
        call = Call(node, operands, self.opset, self.builder, self.external, attributes)
        if self.tracker is not None and self.tracker.reads(node.input):
            made = self.tracker.followed(call, rule)
        else:
            made = rule(call) if self.builder.format is None else evaluated(call, rule)
        if unread := call.unread():
            raise UnsupportedOperatorError(
                "attribute " + ", ".join(f"'{name}'" for name in unread) + " has no rule"
            )
        results = list(made) if isinstance(made, Sequence) else [made]
        if self.tracker is not None:
            self.tracker.admit(call, results)
        for name in node.output[len(results) :]:
            if name and self.uses[name]:
                raise UnsupportedOperatorError(f"its further output '{name}' has no rule")
        return [
            self._bound(name, result, first)
            for name, result in zip(node.output, results, strict=False)
        ]

    def _bound(self, name: str, result: Value, first: int) -> Value:
        """A result under its name; ``first``: of the nodes that computing it took."""
        builder, tracker = self.builder, self.tracker
        if isinstance(result, Constant):
            builder.claim(result.shape)
        if tracker is not None and name and isinstance(result, Variable):
            result = tracker.apart(builder, name, result, first)
        return builder.bind(name, result, self.uses[name] > 1) if name else result

    def _branch(
        self,
        node: NodeProto,
        operands: tuple[Value | None, ...],
        attributes: dict[str, AttributeProto],
    ) -> list[Value | None]:
        """The branch of an If that a constant condition takes."""
        condition = operands[0]
        if not isinstance(condition, Constant):
            raise UnsupportedOperatorError("a condition that depends on the inputs has no rule")
        if KINDS[condition.kind] != "bool" or condition.value.size != 1:
            raise ModelError("its condition is not a single truth value")
        taken = attributes["then_branch" if condition.value.all() else "else_branch"]
        branch = taken.g
        if taken.type != AttributeProto.GRAPH or len(branch.input):
            raise ModelError("its branch is no graph without inputs")
        if len(branch.output) != len(node.output):
            raise ModelError(f"its branch has {len(branch.output)} outputs")
        self.faults.extend(foreign_parts(branch))
        if self.tracker is not None:
            self.tracker.refuse((tensor.name, tensor.data_type) for tensor in branch.initializer)
        own: dict[str, Value | None] = {}
        inner = replace(self, values=ChainMap(own, self.values))
        read_initializers(branch, self.builder, self.external, inner.values, self.faults)
        self.doubtful.update(t.name for t in branch.initializer if own[t.name] is None)
        check_names(branch, inner.values)
        inner.run(branch)
        results: list[Value | None] = []
        for name, output in zip(node.output, branch.output, strict=True):
            if output.name not in own:
                raise ModelError(f"output '{output.name}' of its branch is not defined in it")
            found = own[output.name]
            if self.tracker is not None:
                self.tracker.renamed(output.name, name)
            last = len(self.builder.nodes)
            results.append(None if found is None else self._bound(name, found, last))
        return results


def foreign_parts(graph: GraphProto) -> list[str]:
    """Parts of a graph, beside its nodes, that have no rule."""
    return [
        f"the graph holds a {name}, which has no rule"
        for name in ("sparse_initializer", "quantization_annotation")
        if len(getattr(graph, name))
    ]


def read_initializers(
    graph: GraphProto,
    builder: Builder,
    external: ExternalData,
    values: Values,
    faults: list[str],
    tracker: Tracker | None = None,
) -> None:
    """Put a graph's stored constants among the values; a tracker follows some of them.

    Raises:
        ModelError: one of them is damaged, or has a name that is taken.
    """
    for tensor in graph.initializer:
        if not tensor.name:
            raise ModelError("an initialiser has no name")
        if tensor.name in values:
            raise ModelError(f"two initialisers are called '{tensor.name}'")
        try:
            builder.claim(tensor.dims)
            constant = stored(builder, read_tensor(tensor, external))
            values[tensor.name] = constant
            if tracker is not None:
                tracker.store(tensor.name, constant)
        except UnsupportedOperatorError as error:
            faults.append(f"initialiser '{tensor.name}': {error}")
            values[tensor.name] = None
        except (ModelError, *FAULTS) as error:
            raise ModelError(f"initialiser '{tensor.name}': {error}") from error
        # Releases the raw copy: large models would stand in memory three times.
        tensor.ClearField("raw_data")


def check_names(graph: GraphProto, values: Values) -> None:
    """Refuse names that are defined twice or that are reserved."""
    made = [name for node in graph.node for name in node.output if name]
    counted = Counter([*made, *(value.name for value in graph.input)])
    twice = [name for name, count in counted.items() if count > 1]
    twice += [name for name in made if name in values]
    if twice:
        raise ModelError(f"tensor '{twice[0]}' is defined twice")
    made += [tensor.name for tensor in graph.initializer]
    reserved = sorted(name for name in made if name.startswith(RESERVED))
    if reserved:
        raise ModelError(f"tensor '{reserved[0]}': names that start '{RESERVED}' are reserved")


def uses(graph: GraphProto) -> Counter[str]:
    """How often each name is read by nodes that count, branches included, or is an output."""
    counted = Counter(output.name for output in graph.output)
    for position in _live_nodes(graph):
        counted.update(name for name in graph.node[position].input if name)
        for branch in _branches(graph.node[position]):
            counted.update(uses(branch))
    return counted


def _branches(node: NodeProto) -> Iterator[GraphProto]:
    return (a.g for a in node.attribute if a.type == AttributeProto.GRAPH)


def _read(node: NodeProto) -> Iterator[str]:
    """The names that a node and its branches read."""
    yield from (name for name in node.input if name)
    for branch in _branches(node):
        yield from (output.name for output in branch.output)
        for inner in branch.node:
            yield from _read(inner)


def _live_nodes(graph: GraphProto) -> list[int]:
    """The nodes that an output depends on, in the file's order."""
    wanted = {output.name for output in graph.output}
    live = []
    for position in range(len(graph.node) - 1, -1, -1):
        node = graph.node[position]
        if any(name in wanted for name in node.output if name):
            live.append(position)
            wanted.update(_read(node))
    return live[::-1]


def _attributes(node: NodeProto) -> dict[str, AttributeProto]:
    found: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if attribute.name in found:
            raise ModelError(f"attribute '{attribute.name}' is given twice")
        if attribute.ref_attr_name:
            raise ModelError(f"attribute '{attribute.name}' refers to a function's")
        found[attribute.name] = attribute
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


def _place(node: NodeProto, position: int, count: int) -> str:
    name = next((name for name in node.output if name), "")
    return f"{node.op_type} (tensor '{name}', node {position + 1} of {count})"
