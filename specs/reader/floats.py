"""What an operator computes in a floating-point format.

Every operator has a *treatment*: its rule, and the errors that its evaluation may add, for
every textbook order of its steps.  An operator without a treatment is refused under float
semantics.  To add one, put it into ``TREATMENTS``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from onnx import AttributeProto

from specs.enclosure import Enclosure, FloatArray
from specs.errors import ModelError, UnsupportedOperatorError
from specs.libraries import ALLOWANCES, POWERS, library_error, power_error
from specs.linear import Gather, Identity
from specs.network import Error, Linear, Perturbed, Product, Univariate
from specs.perturbation import Rounding, above, at_least
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, Rule
from specs.reader.errors import (
    is_exact,
    linear_error,
    own_error,
    product_error,
    weight_sums,
)
from specs.reader.operands import Affine, Masked, Operand, Value, Variable
from specs.reader.tensors import FLOATS, Constant, real

Treatment = Callable[[Call, Rule], Value | Sequence[Value]]

EXACT = (
    *("Relu", "Max", "Min", "Clip", "Abs", "Neg", "MaxPool", "GlobalMaxPool", "Round"),
    *("ReduceMax", "ReduceMin", "Identity", "Dropout", "GatherND", "Shape", "Size", "Range"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather"),
    *("GatherElements", "Split", "Concat", "Pad", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"),
)
"""Operators whose results are numbers of the format already, save that they may flush."""


def evaluated(call: Call, rule: Rule) -> Value | Sequence[Value]:
    """The result of an operator in the builder's format.

    Raises:
        UnsupportedOperatorError: it has no treatment.
    """
    treatment = TREATMENTS.get(call.node.op_type)
    if treatment is None:
        raise UnsupportedOperatorError(
            f"{call.node.op_type} has no rule under {_format(call).name} semantics"
        )
    if any(isinstance(value, Masked) for value in call.inputs):
        raise UnsupportedOperatorError(
            f"of minus infinities has no rule under {_format(call).name} semantics"
        )
    for name, attribute in call.attributes.items():
        number = abs(attribute.f) if attribute.type == AttributeProto.FLOAT else 0.0
        if number and not _format(call).tiny <= number <= _format(call).largest:
            raise UnsupportedOperatorError(
                f"attribute '{name}' is no normal number of {_format(call).name}"
            )
    return treatment(call, rule)


def stored(builder: Builder, operand: Constant) -> Constant:
    """A stored constant as the builder's format, if it has one, holds it."""
    if builder.format is None or operand.kind not in FLOATS:
        return operand
    return real(builder.format.stored(operand.value), operand.kind)


def _exact(call: Call, rule: Rule) -> Value | Sequence[Value]:
    return rule(call)


def _inside(call: Call, rule: Rule) -> Value | Sequence[Value]:
    """An operator whose rule rounds where it sums, and whose other steps are exact."""
    return rule(_settled(call))


def _stored(call: Call, rule: Rule) -> Value | Sequence[Value]:
    result = rule(call)
    if isinstance(result, Constant):
        return stored(call.builder, result)
    return result


def _constant(count: int) -> Treatment:
    """Exact where the first operands, or all if ``count`` is 0, are constants."""

    def treat(call: Call, rule: Rule) -> Value | Sequence[Value]:
        tested = call.inputs[: count or None]
        if not all(isinstance(operand, Constant) for operand in tested):
            raise UnsupportedOperatorError("of variable tensors has no rule in a float format")
        return rule(call)

    return treat


def _moved(call: Call, rule: Rule) -> Operand:
    """A resampling that only picks entries."""
    result = _one(rule(call))
    if isinstance(result, Variable) and not result.affine.is_view:
        raise UnsupportedOperatorError("of a mode that computes new values has no rule")
    return result


def _jump(call: Call, rule: Rule) -> Value | Sequence[Value]:
    """A step function: exact, but flushing its argument may take it over the step."""
    return rule(_with_operand(call, call.builder.flushed(call.operand(0))))


def _linear(factors: int) -> Treatment:
    """A sum of terms that go through ``factors`` roundings each."""

    def treat(call: Call, rule: Rule) -> Operand:
        call = _settled(call)
        return _rounded(call, rule, lambda node: linear_error(node, _format(call), factors))

    return treat


def _sum(call: Call, rule: Rule) -> Value | Sequence[Value]:
    constants = [operand for operand in call.operands() if isinstance(operand, Constant)]
    if len(constants) > 1:
        raise UnsupportedOperatorError(f"{len(constants)} constant operands have no rule")
    return _linear(3 if call.node.op_type == "Mean" else 0)(call, rule)


def _mean(call: Call, rule: Rule) -> Operand:
    """Summed and then divided, by ``n`` or times ``1 / n``, or the other way round."""
    call = _settled(call)

    def error(node: Linear) -> Error:
        count = sum(term.map.fan_in for term in node.terms)
        return linear_error(node, _format(call), 2, reach=float(count))

    return _rounded(call, rule, error)


def _gemm(call: Call, rule: Rule) -> Operand:
    """``alpha`` times the product, ``beta`` times the constant; either may be rounded first."""
    call = _settled(call)
    alpha, beta = call.float("alpha", 1.0), call.float("beta", 1.0)
    if not alpha:
        raise UnsupportedOperatorError("alpha 0 has no rule")
    if alpha != 1.0 and all(isinstance(call.operand(n), Variable) for n in (0, 1)):
        raise UnsupportedOperatorError("alpha with two variable matrices has no rule")
    factors = 1 + (2 if (alpha, beta) != (1.0, 1.0) else 0)

    def error(node: Linear) -> Error:
        return linear_error(
            node,
            _format(call),
            factors,
            reach=float(np.max(above(weight_sums(node) / abs(alpha)), initial=0.0)),
            amplified=max(1.0, abs(alpha), abs(beta)) * max(1.0, 1.0 / abs(alpha)),
        )

    for matrix in (call.operand(0), call.operand(1)):
        if alpha != 1.0 and isinstance(matrix, Constant):
            scaled = np.abs(alpha * matrix.value)  # flushed, it costs as much as the argument
            if np.any((scaled < 4.0 * _format(call).tiny) & (scaled > 0)):
                raise UnsupportedOperatorError("alpha with weights that it makes tiny has no rule")
    return _rounded(call, rule, error)


def _batch_normalization(call: Call, rule: Rule) -> Operand:
    """``f x + (beta - f mean)`` or ``f (x - mean) + beta``, ``f = gamma / sqrt(variance + eps)``.

    In any of these forms ``x``, ``mean`` and ``beta`` are three terms.  The sum under the
    root, the root, the quotient (or a reciprocal and a product) and the products with
    gamma and with x round the factor: six times at most.
    """
    call, format = _settled(call), _format(call)
    if isinstance(call.operand(0), Constant):
        raise UnsupportedOperatorError("of constants has no rule")
    result = _single(rule(call))
    gamma, beta, mean, variance = (call.constant(n).enclosure for n in range(1, 5))
    epsilon = Enclosure(np.array(call.float("epsilon", float(np.float32(1e-5)))))
    inverse = rounding.reciprocal(rounding.square_root(rounding.add(variance, epsilon)))
    factor = rounding.multiply(gamma, inverse)
    shape = (result.shape[1] if len(result.shape) > 1 else 1,) + (1,) * (len(result.shape) - 2)

    def wide(numbers: Enclosure) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        size = np.abs(numbers.value) + (0.0 if numbers.radius is None else numbers.radius)
        return np.broadcast_to(above(size).reshape(shape), result.shape).reshape(-1)

    # Flushed before a later factor, or as a factor that is too small, times its partner.
    stretch = above(np.maximum(1.0, wide(gamma)) * np.maximum(1.0, wide(inverse)))
    if np.any(stretch >= format.largest):
        raise UnsupportedOperatorError("of factors beyond the range has no rule")
    reach = float(np.max(2.0 * stretch))
    constant = float(np.max(wide(mean))) * reach * 2.0
    node = _node(call.builder, result)
    base = above(wide(rounding.multiply(mean, factor)) + wide(beta))
    error = linear_error(node, format, 6, base=base, constants=2, reach=reach)
    floor = above(error.floor * np.max(stretch) * 8.0)
    limit = max(0.0, format.largest - constant)
    error = dataclasses.replace(error, floor=floor, limit=limit)
    small = (np.abs(factor.value) < 4.0 * format.tiny) & (factor.value != 0)
    if np.any(small):
        raise UnsupportedOperatorError("of factors below the smallest normal number has no rule")
    return call.builder.perturbed(result, error)


def _bent(call: Call, rule: Rule) -> Operand:
    """One of two slopes: a product with a stored number, itself rounded, or the argument."""
    call = _settled(call)
    format = _format(call)
    result = _one(rule(call))
    if isinstance(result, Constant):
        raise UnsupportedOperatorError("of constants has no rule")
    node = _node(call.builder, result)
    stretch = float(np.max(weight_sums(node), initial=0.0))
    return call.builder.perturbed(result, own_error(format, 2, stretch))


def _product(call: Call, rule: Rule) -> Operand:
    call = _settled(call)
    return _rounded(call, rule, lambda node: linear_error(node, _format(call), 1))


def _univariate(call: Call, rule: Rule) -> Operand:
    """A function of the table of allowances, or one that is rounded correctly."""
    call = _settled(call)
    if call.node.op_type in ("Log", "Reciprocal"):  # no slope near 0 bounds what flushing does
        call = _with_operand(call, call.builder.flushed(call.operand(0)))
    result, format = _one(rule(call)), _format(call)
    if isinstance(result, Constant):
        name = call.node.op_type.lower()
        if name in ALLOWANCES and name != "elu":
            known = ALLOWANCES[name]
            share = Fraction(known.ulps * 2.0 * format.unit)
            return _widened(result, format, share, known.absolute * format.unit)
        if name in ("sqrt", "reciprocal"):
            return _widened(result, format, Fraction(format.share(1, 1)), 0.0)
        raise UnsupportedOperatorError("of constants has no rule")
    return call.builder.perturbed(result, _function_error(call, result))


def _function_error(call: Call, result: Variable) -> Error:
    format, number = _format(call), result.affine.tensor
    node = None if number is None else call.builder.nodes[number]
    if isinstance(node, Univariate):
        if node.function in ALLOWANCES:
            return library_error(format, node.function, node.parameters)
        if node.function == "reciprocal":
            return own_error(format, 1)
        if node.function == "sqrt" and call.node.op_type == "Sqrt":
            return dataclasses.replace(power_error(format, 0.5), own=format.share(1, 1))
    raise UnsupportedOperatorError(f"in this form has no rule under {format.name} semantics")


def _power(call: Call, rule: Rule) -> Operand:
    call = _settled(call)
    exponents = np.unique(call.constant(1).value).tolist()
    format = _format(call)
    if len(exponents) != 1 or exponents[0] not in POWERS:
        raise UnsupportedOperatorError(f"to exponents {exponents[:4]} has no rule")
    result = _one(rule(call))
    if isinstance(result, Constant):
        if result.kind not in FLOATS:
            return result
        return _widened(result, format, Fraction(POWERS[exponents[0]] * 2.0 * format.unit), 0.0)
    return call.builder.perturbed(result, power_error(format, float(exponents[0])))


def _softmax(call: Call, rule: Rule) -> Operand:
    """The row's maximum is subtracted; exponentials, their sum, then a quotient (logarithm).

    With ``e`` the relative and ``h`` the absolute error of an exponential, the largest of
    which is 1, the computed sum of ``n`` is off by a factor within ``1 +- E``, where
    ``1 + E = (1 + (n - 1) u) (1 + e + n h)``.  What the differences to the maximum err is
    added to them: see ``gap_error``.
    """
    call = _settled(call)
    format, x, before = _format(call), call.operand(0), len(call.builder.nodes)
    result = _one(rule(call))
    if sum(isinstance(node, Perturbed) for node in call.builder.nodes[before:]) != 1:
        raise UnsupportedOperatorError(f"in this form has no rule under {format.name} semantics")
    if isinstance(result, Constant) or isinstance(x, Constant):
        raise UnsupportedOperatorError("of one entry, or of constants, has no rule")
    rank = len(x.shape)
    axis = call.int("axis", -1 if call.opset >= 13 else 1) % rank
    count = x.shape[axis] if call.opset >= 13 else int(np.prod(x.shape[axis:]))
    unit, known = Fraction(format.unit), ALLOWANCES["exp"]
    relative = Fraction(known.ulps) * 2 * unit
    absolute = Fraction(known.absolute) * unit + 4 * Fraction(format.tiny)
    total = (1 + (count - 1) * unit) * (1 + relative + count * absolute) - 1
    if 2 * total > 1:
        raise UnsupportedOperatorError(f"over {count} entries has no rule in {format.name}")
    if call.node.op_type == "Softmax":
        grown = 1 / ((1 - total) * (1 - unit) ** 3)
        error = Error(
            own=at_least((1 + relative) * grown - 1),
            floor=above([at_least(absolute * grown + 4 * Fraction(format.tiny))]),
            limit=format.largest,
        )
    else:
        log = ALLOWANCES["log"]
        lost = total / (1 - total) + Fraction(log.absolute) * unit
        lost += Fraction(log.ulps) * 2 * unit * (count.bit_length() + 1) + 4 * Fraction(format.tiny)
        error = Error(
            own=format.share(1, 1), floor=above([at_least(2 * lost)]), limit=format.largest
        )
    return call.builder.perturbed(result, error)


TREATMENTS: dict[str, Treatment] = {
    **dict.fromkeys(EXACT, _exact),
    **dict.fromkeys(("Constant", "ConstantOfShape", "Cast"), _stored),
    **dict.fromkeys(("Resize", "Upsample"), _moved),
    **dict.fromkeys(
        ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor", "Not"),
        _constant(0),
    ),
    "Where": _constant(1),
    **dict.fromkeys(("Floor", "Ceil", "Sign"), _jump),
    **dict.fromkeys(("Add", "Sub", "ReduceSum"), _linear(0)),
    **dict.fromkeys(("MatMul", "Conv", "ConvTranspose"), _linear(1)),
    **dict.fromkeys(("Sum", "Mean"), _sum),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean"), _mean),
    "Gemm": _gemm,
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(("LeakyRelu", "PRelu"), _bent),
    "HardSigmoid": _inside,
    **dict.fromkeys(("Mul", "Div"), _product),
    **dict.fromkeys(
        ("Atan", "Cos", "Elu", "Erf", "Exp", "Log", "Sigmoid", "Sin", "Softplus", "Tanh"),
        _univariate,
    ),
    **dict.fromkeys(("Sqrt", "Reciprocal"), _univariate),
    "Pow": _power,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
}
"""By operator."""


def _rounded(call: Call, rule: Rule, linear: Callable[[Linear], Error]) -> Operand:
    """An operator's result with the error of the last sum or product of its rule."""
    builder, before = call.builder, len(call.builder.nodes)
    result = _one(rule(call))
    if isinstance(result, Constant):
        return _rounded_constant(call, rule, result)
    moved = result.affine.terms
    if result.affine.offset is None and len(moved) == 1 and result.affine.is_view:
        source = moved[0].source
        if source < before:  # entries moved, nothing computed
            return result
        inner = builder.nodes[source]
        if not isinstance(inner, Linear) or not is_exact(inner):
            like = Variable(inner.shape, result.kind, result.affine)
            whole = builder.whole(source, like)
            made = builder.perturbed(whole, _error_of(call, before, source, linear))
            term = dataclasses.replace(moved[0], source=builder.tensor(made))
            return dataclasses.replace(result, affine=Affine((term,)))
    number = builder.tensor(result)
    return builder.perturbed(result, _error_of(call, before, number, linear))


def _error_of(call: Call, before: int, number: int, linear: Callable[[Linear], Error]) -> Error:
    """The error of what a rule made last; before it, it may only have moved entries."""
    builder, format = call.builder, _format(call)
    settled = {n.source for n in builder.nodes[before:] if isinstance(n, Perturbed)}
    for place in range(before, number):
        node = builder.nodes[place]
        fine = isinstance(node, Perturbed) or place in settled
        fine = fine or (isinstance(node, Linear) and is_exact(node))
        fine = fine or (isinstance(node, Univariate) and node.function == "reciprocal")
        if not fine:
            raise UnsupportedOperatorError(
                f"in this form has no rule under {format.name} semantics"
            )
    node = builder.nodes[number]
    if isinstance(node, Linear):
        return linear(node)
    square = isinstance(node, Univariate) and node.function == "power"
    if isinstance(node, Product) or square:
        return product_error(format)
    if isinstance(node, Univariate) and node.function == "reciprocal":
        return own_error(format, 1)
    raise UnsupportedOperatorError(f"in this form has no rule under {format.name} semantics")


def _rounded_constant(call: Call, rule: Rule, result: Constant) -> Constant:
    """What an operator computes from constants, rounded once, or summed up in any order."""
    if result.kind not in FLOATS:
        return result
    if call.node.op_type in ("MatMul", "ReduceSum"):
        return _constant_sums(call, rule, result)
    if call.node.op_type not in ("Add", "Sub", "Mul", "Div"):
        raise UnsupportedOperatorError("of constants has no rule")
    format = _format(call)
    return _widened(result, format, Fraction(format.share(1, 1)), 0.0)


def _constant_sums(call: Call, rule: Rule, result: Constant) -> Constant:
    """Sums of constants or of their products; see ``linear_error`` for what they are off by."""
    format, first = _format(call), call.constant(0)
    factors, terms = 0, first.value.size // max(1, result.value.size)
    if call.node.op_type == "MatMul":
        factors, terms = 1, first.shape[-1]
    inputs = [_magnitude(o) if isinstance(o, Constant) else o for o in call.inputs]
    total = _one(rule(dataclasses.replace(call, inputs=tuple(inputs))))
    if not isinstance(total, Constant):
        raise ModelError("a sum of constants was taken for a variable tensor")
    share, size = format.share(terms, factors), _magnitude(total).value
    floor = above((factors + 2.0) * terms * format.tiny * (1.0 + share))
    error = above(above(size * share) + floor)
    if np.any(above(size + error) > format.largest):
        raise ModelError(f"a sum of constants may be beyond the range of {format.name}")
    return _widened(result, format, Fraction(0), error)


def _magnitude(constant: Constant) -> Constant:
    """At least the magnitudes of a constant's entries; what is no float stays as it is."""
    if constant.kind not in FLOATS:
        return constant
    radius = 0.0 if constant.radius is None else constant.radius
    return real(Enclosure(above(np.abs(constant.value) + radius)), constant.kind)


def _widened(
    result: Constant, format: Rounding, share: Fraction, floor: float | FloatArray
) -> Constant:
    """A constant that may be off by a share of itself, a floor, and what is flushed."""
    size = _magnitude(result).value
    if np.any(above(size) * (1.0 + 2.0 * float(share)) + floor > format.largest):
        raise ModelError(f"a constant computed is beyond the range of {format.name}")
    known = np.zeros(result.shape) if result.radius is None else result.radius
    radius = above(known + above(size) * at_least(share) + floor)
    low = np.abs(result.value) - radius < 2.0 * format.tiny
    radius = np.where(low & (result.value != 0), above(radius + 2.0 * format.tiny), radius)
    return real(Enclosure(result.value, radius), result.kind)


def _settled(call: Call) -> Call:
    """The call with operands that are tensors of their own, or entries of one."""
    inputs: list[Value | None] = []
    for operand in call.inputs:
        if isinstance(operand, Variable):
            affine = operand.affine
            moves = all(isinstance(term.map, Identity | Gather) for term in affine.terms)
            if affine.offset is not None or not moves:
                operand = call.builder.finished(operand)
        inputs.append(operand)
    return dataclasses.replace(call, inputs=tuple(inputs))


def _with_operand(call: Call, operand: Operand) -> Call:
    return dataclasses.replace(call, inputs=(operand, *call.inputs[1:]))


def _format(call: Call) -> Rounding:
    if call.builder.format is None:
        raise ModelError("an operator's error was asked for under real semantics")
    return call.builder.format


def _one(made: Value | Sequence[Value]) -> Operand:
    result = made[0] if isinstance(made, Sequence) else made
    if isinstance(result, Masked):
        raise UnsupportedOperatorError("of minus infinities has no rule in a float format")
    return result


def _single(made: Value | Sequence[Value]) -> Variable:
    result = _one(made)
    if isinstance(result, Constant):
        raise UnsupportedOperatorError("of constants has no rule")
    return result


def _node(builder: Builder, result: Variable) -> Linear:
    node = builder.nodes[builder.tensor(result)]
    if not isinstance(node, Linear):
        raise ModelError("a sum was taken for another node")
    return node
