"""From a model file and a box of inputs to an integer program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from specs.errors import ModelError, UnsupportedOperatorError
from specs.query import ModelFile
from specs.reader.tensors import ExternalData, read_tensor
from verifier.quantised import linear as _linear  # noqa: F401 - registers its rules
from verifier.quantised import operators as _operators  # noqa: F401 - registers its rules
from verifier.quantised.calls import RULES, Call, Fixed, Integers, Tensor, constant
from verifier.quantised.program import Program, ProgramBuilder
from verifier.quantised.reals import Reals
from verifier.quantised.settings import Settings

QUANTISING = ("QuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")


@dataclass(frozen=True, eq=False)
class Compiled:
    """A network on a box.

    Attributes:
        program: its inputs are the places of float32 numbers, one for each entry of the
            network's inputs in order.
        outputs: the network's outputs in order; integers, or float32 numbers.
    """

    program: Program
    outputs: tuple[Integers | Reals, ...]

    @property
    def exact(self) -> bool:
        """Whether the inputs determine every output."""
        reals = (o for o in self.outputs if isinstance(o, Reals))
        return self.program.exact and all(output.exact for output in reals)


class Stored:
    """A quantised model, read once and compiled for as many boxes as wanted.

    Args:
        model: the file; ``specs.onnx_reader`` has read it before, so that the graph is whole.

    Raises:
        ModelError: it is no quantised model, or has an input that is not float32.
    """

    def __init__(self, model: ModelFile) -> None:
        proto = ModelProto.FromString(model.content)
        self._graph = proto.graph
        self._opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
        external = ExternalData(None if model.path is None else model.path.parent)
        self._external = external
        self._constants: dict[str, Tensor] = {}
        for tensor in self._graph.initializer:
            found = read_tensor(tensor, external)
            if found.kind != TensorProto.BOOL:
                self._constants[tensor.name] = constant(found.value, found.kind)
        if not any(node.op_type in QUANTISING for node in self._graph.node):
            raise ModelError(
                "integer semantics is for quantised models, and this one has none of "
                f"{', '.join(QUANTISING)}; ask with --semantics real or float32"
            )
        for given in self._inputs():
            if given.type.tensor_type.elem_type != TensorProto.FLOAT:
                raise ModelError(f"input '{given.name}' is not float32, as integer semantics wants")

    def _inputs(self) -> list[ValueInfoProto]:
        return [value for value in self._graph.input if value.name not in self._constants]

    def compiled(
        self,
        shapes: Sequence[tuple[int, ...]],
        low: Sequence[int],
        high: Sequence[int],
        limits: Settings,
    ) -> Compiled:
        """The program on a box.

        Args:
            shapes: of the inputs.
            low, high: places of the least and greatest float32 number of every input entry.
            limits: how large it may get.

        Raises:
            UnsupportedOperatorError: an operator has no rule; the message names it.
            LimitError: a limit is passed.
        """
        builder = ProgramBuilder(limits)
        values: dict[str, Tensor] = dict(self._constants)
        entries = [builder.input(*ends) for ends in zip(low, high, strict=True)]
        start = 0
        for given, shape in zip(self._inputs(), shapes, strict=True):
            size = int(np.prod(shape, dtype=np.int64))
            keys = np.array(entries[start : start + size], dtype=np.int64).reshape(shape)
            values[given.name] = Reals(keys, np.zeros(shape, dtype=np.int64), places=True)
            start += size
        for number, node in enumerate(self._graph.node):
            try:
                values[node.output[0]] = self._result(node, values, builder)
            except UnsupportedOperatorError as error:
                name = node.output[0] if node.output else ""
                raise UnsupportedOperatorError(
                    f"under integer semantics, {node.op_type} (node {number}, result "
                    f"'{name}'): {error}"
                ) from None
        outputs = []
        for output in self._graph.output:
            found = values.get(output.name)
            if found is None or isinstance(found, Fixed):
                raise UnsupportedOperatorError(f"output '{output.name}' does not vary")
            outputs.append(found.checked(builder) if isinstance(found, Reals) else found)
        return Compiled(builder.finish(), tuple(outputs))

    def _result(
        self, node: NodeProto, values: dict[str, Tensor], builder: ProgramBuilder
    ) -> Tensor:
        if node.op_type == "Constant" and not node.input:
            given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if set(given) != {"value"}:
                raise UnsupportedOperatorError("a constant that is no tensor has no rule")
            found = read_tensor(given["value"], self._external)
            return constant(found.value, found.kind)
        rule = RULES.get(node.op_type)
        if rule is None or node.domain not in ("", "ai.onnx"):
            raise UnsupportedOperatorError(f"it has no rule; these have one: {', '.join(RULES)}")
        if any(name and name not in values for name in node.input):
            raise UnsupportedOperatorError("an operand is not a tensor that has a rule")
        inputs = tuple(values[name] if name else None for name in node.input)
        call = Call(node, inputs, self._opset, builder)
        result = rule(call)
        call.refuse_unread()
        return result
