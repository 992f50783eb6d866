"""Range restrictions in an ONNX graph: put in, read back, and taken out again.

Behind the operator that computes a tensor ``t`` stand the nodes of its restriction.  The
operator's result is renamed, and the restricted value keeps the name ``t``: whatever reads ``t``,
a property included, reads the restricted value.  All names that are new start with ``PREFIX``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from specs.errors import ModelError

PREFIX = "hardened/"
"""How the names start that hardening adds to a model."""

CLIP, ZERO, SMOOTH = "clip", "zero", "smooth"
ACTIONS = (CLIP, ZERO, SMOOTH)
STEEPNESS = 20.0
"""Of FitAct's sigmoid."""
LEAST_OPSETS = {CLIP: 8, ZERO: 9, SMOOTH: 8}
"""Since when there are the operators that actions need."""
CLIP_OPSET = 11
"""Since when ``Clip`` takes its bounds as inputs."""

_KINDS: dict[int, npt.DTypeLike] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Restriction:
    """What a tensor is restricted to.

    Attributes:
        tensor: its ONNX name.
        upper: one number, or one for each entry in the tensor's shape.
        lower: likewise; ``None``: there is none.
        action: of a value ``x`` beyond a bound: ``"clip"``: the bound takes its place;
            ``"zero"``: 0 does; ``"smooth"``: FitAct's ``max(0, x - x sigmoid(20 (x - upper)))``,
            which has no lower bound and changes every value a little.
        stored: the bounds are initialisers, words of the memory like weights, and stand in
            sums, where faults of them can be followed; otherwise they are ``Constant`` nodes.
    """

    tensor: str
    upper: FloatArray
    lower: FloatArray | None = None
    action: str = CLIP
    stored: bool = False

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ModelError(f"action '{self.action}': use one of {', '.join(ACTIONS)}")
        if self.action == SMOOTH and self.lower is not None:
            raise ModelError("a smooth restriction has no lower bound")
        if not all(np.all(np.isfinite(side)) for side in self.sides.values()):
            raise ModelError(f"tensor '{self.tensor}': a bound is not finite")
        if self.lower is not None and np.any(self.lower > self.upper):
            raise ModelError(f"tensor '{self.tensor}': a lower bound exceeds the upper one")

    @property
    def sides(self) -> dict[str, FloatArray]:
        """The bounds by the names that their constants have."""
        lower = {} if self.lower is None else {"lower": self.lower}
        return {"upper": self.upper, **lower}


def restricted(content: bytes, restrictions: Sequence[Restriction]) -> bytes:
    """A model with restrictions put in.

    Bounds must be numbers of their tensor's element type; nothing is rounded here.

    Raises:
        ModelError: a tensor is not there or restricted twice, a name is taken, the model's
            operators are too old, or a bound does not fit its tensor's type.
    """
    model = _model(content)
    _refuse_names(model)
    if any(each.data_location == TensorProto.EXTERNAL for each in model.graph.initializer):
        raise ModelError("its weights are in other files; save it as one file first")
    kinds = element_kinds(model)
    least, opset = max((LEAST_OPSETS[e.action] for e in restrictions), default=0), _opset(model)
    if opset < least:
        raise ModelError(
            f"operator set {opset} is too old to be hardened so; convert the model to {least} "
            "or later (onnx.version_converter)"
        )
    wanted = {each.tensor: each for each in restrictions}
    if len(wanted) != len(restrictions):
        raise ModelError("a tensor is restricted twice")
    made: list[NodeProto] = []
    for node in model.graph.node:
        made.append(node)
        for place, name in enumerate(node.output):
            if name in wanted:
                each = wanted.pop(name)
                node.output[place] = f"{PREFIX}{name}/before"
                kind = kinds.get(name, TensorProto.FLOAT)
                nodes, constants = _nodes(each, kind, opset)
                made += nodes
                model.graph.initializer.extend(constants)
    if wanted:
        raise ModelError(f"no operator computes a tensor '{min(wanted)}'")
    nodes = [_copied(node) for node in made]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    hardened: bytes = model.SerializeToString()
    return hardened


def unrestricted(content: bytes) -> bytes:
    """A hardened model without its restrictions: the bytes of the model it was made of.

    (In the serialisation of ``onnx``; compare with ``serialised`` of the original.)
    """
    model = _model(content)
    kept = []
    for node in model.graph.node:
        if _is_ours(node):
            continue
        for place, name in enumerate(node.output):
            if name.startswith(PREFIX):
                node.output[place] = name[len(PREFIX) :].removesuffix("/before")
        kept.append(_copied(node))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    weights = [each for each in model.graph.initializer if not each.name.startswith(PREFIX)]
    weights = [_tensor(each) for each in weights]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    found: bytes = model.SerializeToString()
    return found


def serialised(content: bytes) -> bytes:
    """A model file as ``onnx`` writes it."""
    found: bytes = _model(content).SerializeToString()
    return found


def restrictions_of(content: bytes) -> list[Restriction]:
    """The restrictions that stand in a hardened model, in the order of its graph.

    Raises:
        ModelError: nodes that bear hardening's names are not what hardening writes.
    """
    model = _model(content)
    constants = {each.name: each for each in model.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and _is_ours(node)
    }
    known = {each.name for each in model.graph.initializer}
    ours = [node for node in model.graph.node if _is_ours(node)]
    found = []
    for name in _restricted_tensors(ours):
        sides = {
            side: numpy_helper.to_array(constants[f"{PREFIX}{name}/{side}"]).astype(np.float64)
            for side in ("upper", "lower")
            if f"{PREFIX}{name}/{side}" in constants
        }
        if "upper" not in sides:
            raise ModelError(f"the restriction of tensor '{name}' has no upper bound")
        stored = f"{PREFIX}{name}/upper" in known
        operators = {node.op_type for node in ours if _tensor_of(node) == name}
        action = SMOOTH if "Sigmoid" in operators else ZERO if "Where" in operators else CLIP
        found.append(Restriction(name, sides["upper"], sides.get("lower"), action, stored))
    again = restricted(unrestricted(content), found)
    if again != serialised(content):
        raise ModelError("the model's restrictions are not as hardening writes them")
    return found


def with_outputs(content: bytes, tensors: Sequence[str]) -> bytes:
    """A model whose outputs are these tensors.

    Raises:
        ModelError: one is not computed by any operator.
    """
    model = _model(content)
    known = _inferred(model)
    computed = {name for node in model.graph.node for name in node.output}
    if missing := [name for name in tensors if name not in computed]:
        raise ModelError(f"no operator computes a tensor '{missing[0]}'")
    del model.graph.output[:]
    model.graph.output.extend(
        known.get(name, helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        for name in tensors
    )
    found: bytes = model.SerializeToString()
    return found


def behind(content: bytes, operators: Iterable[str], following: Iterable[str] = ()) -> list[str]:
    """The tensors that operators of these types compute.

    Args:
        content: the model.
        operators: ONNX operator types.
        following: types of which only those count that read, directly or one behind another, a
            tensor found so.
    """
    kinds, after = frozenset(operators), frozenset(following)
    found: list[str] = []
    for node in _model(content).graph.node:
        follows = node.op_type in after and any(name in found for name in node.input)
        if node.op_type in kinds or follows:
            found += [name for name in node.output[:1] if name]
    return found


def produced(content: bytes) -> list[str]:
    """The tensors that operators compute, in the order of the graph."""
    return [name for node in _model(content).graph.node for name in node.output if name]


def element_kinds(model: ModelProto) -> dict[str, int]:
    """ONNX element types of tensors, as far as shape inference knows them."""
    return {name: each.type.tensor_type.elem_type for name, each in _inferred(model).items()}


def _inferred(model: ModelProto) -> dict[str, ValueInfoProto]:
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # what it raises is no part of its interface; types are then float32's
        graph = model.graph
    return {each.name: each for each in (*graph.value_info, *graph.input, *graph.output)}


def dtype_of(kind: int) -> npt.DTypeLike:
    """The numpy type of a tensor that can be restricted.

    Raises:
        ModelError: it is of another type.
    """
    if kind not in _KINDS:
        raise ModelError(f"a tensor of element type {kind} cannot be restricted")
    return _KINDS[kind]


def _model(content: bytes) -> ModelProto:
    model: ModelProto = ModelProto.FromString(content)
    return model


def _refuse_names(model: ModelProto) -> None:
    graph = model.graph
    names = [name for node in graph.node for name in (*node.output, *node.input, node.name)]
    names += [each.name for each in (*graph.initializer, *graph.input)]
    taken = [name for name in names if name.startswith(PREFIX)]
    if taken:
        raise ModelError(f"the name '{taken[0]}' is taken: is the model hardened already?")


def _opset(model: ModelProto) -> int:
    found = (each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    return max(found, default=0)


def _is_ours(node: NodeProto) -> bool:
    return node.name.startswith(PREFIX)


def _tensor_of(node: NodeProto) -> str:
    return node.name[len(PREFIX) :].rpartition("/")[0]


def _restricted_tensors(ours: Sequence[NodeProto]) -> list[str]:
    found: list[str] = []
    for node in ours:
        name = _tensor_of(node)
        if name not in found:
            found.append(name)
    return found


def _nodes(each: Restriction, kind: int, opset: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """The nodes of a restriction and its initialisers."""
    writer = _Writer(each, kind, opset)
    bounds = {side: writer.bound(side, values) for side, values in each.sides.items()}
    {CLIP: _clip, ZERO: _zero, SMOOTH: _smooth}[each.action](writer, bounds)
    return writer.nodes, writer.constants


class _Writer:
    """Writes the nodes of one restriction."""

    def __init__(self, each: Restriction, kind: int, opset: int) -> None:
        self.each, self.dtype, self.opset = each, dtype_of(kind), opset
        self.value = f"{PREFIX}{each.tensor}/before"
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def name(self, word: str) -> str:
        return f"{PREFIX}{self.each.tensor}/{word}"

    def bound(self, side: str, values: FloatArray) -> str:
        held = np.asarray(values, dtype=self.dtype)
        if np.any(held.astype(np.float64) != values):
            raise ModelError(f"tensor '{self.each.tensor}': a bound is no {held.dtype} number")
        tensor = numpy_helper.from_array(held, self.name(side))
        if self.each.stored:
            self.constants.append(tensor)
            return self.name(side)
        return self.constant(side, tensor)

    def number(self, word: str, value: float) -> str:
        array = np.array(value, dtype=self.dtype)
        return self.constant(word, numpy_helper.from_array(array, self.name(word)))

    def constant(self, word: str, tensor: TensorProto) -> str:
        self.node("Constant", (), word, value=tensor)
        return self.name(word)

    def node(self, operator: str, inputs: Iterable[str], word: str, **more: Any) -> str:
        """Adds a node; ``word`` is empty for the last, whose result is the tensor."""
        result = self.name(word) if word else self.each.tensor
        name = self.name(word or "restricted")
        self.nodes.append(helper.make_node(operator, list(inputs), [result], name=name, **more))
        return result


def _clip(writer: _Writer, bounds: dict[str, str]) -> None:
    value, each = writer.value, writer.each
    upper, lower = bounds["upper"], bounds.get("lower")
    if each.stored:
        end = "above" if lower else ""
        over = writer.node("Sub", (value, upper), "over")
        value = writer.node("Sub", (value, writer.node("Relu", (over,), "excess")), end)
        if lower:
            under = writer.node("Sub", (lower, value), "under")
            writer.node("Add", (value, writer.node("Relu", (under,), "lack")), "")
    elif each.upper.ndim == 0 and writer.opset >= CLIP_OPSET:
        writer.node("Clip", (value, lower or "", upper), "")
    else:
        value = writer.node("Min", (value, upper), "above" if lower else "")
        if lower:
            writer.node("Max", (value, lower), "")


def _zero(writer: _Writer, bounds: dict[str, str]) -> None:
    value, none = writer.value, writer.number("none", 0.0)
    if writer.each.stored:
        over = writer.node("Sub", (value, bounds["upper"]), "over")
        beyond = writer.node("Greater", (over, none), "beyond")
    else:
        beyond = writer.node("Greater", (value, bounds["upper"]), "beyond")
    if "lower" in bounds:
        if writer.each.stored:
            under = writer.node("Sub", (bounds["lower"], value), "under")
            below = writer.node("Greater", (under, none), "below")
        else:
            below = writer.node("Less", (value, bounds["lower"]), "below")
        beyond = writer.node("Or", (beyond, below), "outside")
    writer.node("Where", (beyond, none, value), "")


def _smooth(writer: _Writer, bounds: dict[str, str]) -> None:
    value = writer.value
    over = writer.node("Sub", (value, bounds["upper"]), "over")
    steep = writer.node("Mul", (over, writer.number("steepness", STEEPNESS)), "steep")
    gate = writer.node("Sigmoid", (steep,), "gate")
    lost = writer.node("Mul", (value, gate), "lost")
    writer.node("Relu", (writer.node("Sub", (value, lost), "left"),), "")


def _copied(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _tensor(given: TensorProto) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(given)
    return copy


def same_question(first: bytes, second: bytes) -> bool:
    """Whether two model files differ in the stated types of their outputs at most."""
    models = [_model(content) for content in (first, second)]
    for model in models:
        for output in model.graph.output:
            output.ClearField("type")
    return bool(models[0].SerializeToString() == models[1].SerializeToString())
