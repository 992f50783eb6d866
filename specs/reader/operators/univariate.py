"""Operators that apply one function to every entry."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import isfinite

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import elementary, rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, operator
from specs.reader.operands import (
    Array,
    Operand,
    Rearrangement,
    Variable,
    common_shape,
    require_real,
)
from specs.reader.operators.elementwise import integer_constant, objects
from specs.reader.operators.recognition import (
    LARGEST_POWER,
    logarithm_of,
    reciprocal_of,
    silu_of_multiple,
)
from specs.reader.tensors import INTEGERS, Constant, real

FUNCTIONS = {
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "HardSwish": "hardswish",
    "Log": "log",
    "Mish": "mish",
    "Reciprocal": "reciprocal",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sin": "sin",
    "Sinh": "sinh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}
"""The function's name in a network, by operator; whether the kernel knows it is its affair."""

FOLD_COST = 2**15
"""What a function of a constant costs of the budget, in tensor entries."""
STEPS = {"floor": np.floor, "round": np.rint, "sign": np.sign}
MOST_POWERS = 16
"""Different exponents in one tensor."""
SELU = (1.67326319217681884765625, 1.05070102214813232421875)


@operator(*FUNCTIONS)
def plain(call: Call) -> Operand:
    return apply(call.builder, call.operand(0), FUNCTIONS[call.node.op_type])


@operator("Sign")
def sign(call: Call) -> Operand:
    x = call.operand(0)
    if isinstance(x, Constant) and x.kind in INTEGERS:
        return integer_constant(np.sign(x.value), x.kind)
    return apply(call.builder, x, "sign")


@operator("Ceil")
def ceiling(call: Call) -> Operand:
    builder = call.builder
    return builder.negate(apply(builder, builder.negate(call.operand(0)), "floor"))


@operator("Elu")
def elu(call: Call) -> Operand:
    alpha = _finite("alpha", call.float("alpha", 1.0))
    return apply(call.builder, call.operand(0), "elu", (alpha,))


@operator("Selu")
def selu(call: Call) -> Operand:
    alpha = _finite("alpha", call.float("alpha", SELU[0]))
    gamma = _finite("gamma", call.float("gamma", SELU[1]))
    return apply(call.builder, call.operand(0), "selu", (alpha, gamma))


@operator("Celu")
def celu(call: Call) -> Operand:
    builder, x = call.builder, call.operand(0)
    alpha = _finite("alpha", call.float("alpha", 1.0))
    if alpha <= 0:
        raise UnsupportedOperatorError(f"alpha {alpha}, which is not positive, has no rule")
    # alpha elu(x / alpha), of which the part above 0 is x again.
    factor = Constant(np.array(alpha), x.kind)
    inner = builder.scale(x, real(rounding.reciprocal(factor.enclosure), x.kind))
    return builder.scale(apply(builder, inner, "elu", (1.0,)), factor)


@operator("Gelu")
def gelu(call: Call) -> Operand:
    mode = call.text("approximate", "none")
    if mode not in ("none", "tanh"):
        raise ModelError(f"approximate '{mode}'")
    return apply(call.builder, call.operand(0), "gelu" if mode == "none" else "gelu_tanh")


@operator("Swish")
def swish(call: Call) -> Operand:
    x, alpha = call.operand(0), _finite("alpha", call.float("alpha", 1.0))
    factor = Enclosure(np.array(alpha))
    if alpha == 0:
        return call.builder.scale(x, Constant(np.array(0.5), x.kind))
    if isinstance(x, Constant):
        inner = call.builder.scale(x, real(factor, x.kind))
        shrunk = real(rounding.reciprocal(factor), x.kind)
        return call.builder.scale(apply(call.builder, inner, "silu"), shrunk)
    require_real(x)
    return silu_of_multiple(call.builder, x, factor)


@operator("ThresholdedRelu")
def thresholded_relu(call: Call) -> Operand:
    alpha = _finite("alpha", call.float("alpha", 1.0))
    return _beyond(call.builder, call.operand(0), alpha, alpha)


@operator("Shrink")
def shrink(call: Call) -> Operand:
    builder, x = call.builder, call.operand(0)
    edge = _finite("lambd", call.float("lambd", 0.5))
    bias = _finite("bias", call.float("bias", 0.0))
    if edge < 0:
        raise UnsupportedOperatorError(f"lambd {edge}, which is negative, has no rule")
    height = Fraction(edge) - Fraction(bias)
    if Fraction(float(height)) != height:
        raise UnsupportedOperatorError(f"lambd {edge} and bias {bias} differ too much")
    above = _beyond(builder, x, edge, float(height))
    below = _beyond(builder, builder.negate(x), edge, float(height))
    return builder.subtract(above, below)


@operator("Pow")
def power(call: Call) -> Operand:
    base, exponent = call.operand(0), call.constant(1)
    if exponent.radius is not None:
        raise UnsupportedOperatorError("an exponent known by an enclosure only has no rule")
    shape = common_shape(base.shape, exponent.shape)
    exponents = np.unique(exponent.value).tolist()
    if not exponents:
        raise ModelError("its exponents are empty")
    if base.kind in INTEGERS:
        return _whole_power(call, base, exponents)
    require_real(base)
    if len(exponents) == 1:
        return raised(call.builder, call.builder.broadcast(base, shape), float(exponents[0]))
    if len(exponents) > MOST_POWERS:
        raise UnsupportedOperatorError(f"{len(exponents)} different exponents have no rule")
    return _powers(call.builder, call.builder.broadcast(base, shape), exponent.value, exponents)


def apply(builder: Builder, x: Operand, function: str, parameters: Sequence[float] = ()) -> Operand:
    """A function of an operand, elementwise; of a constant, its exact value or an enclosure.

    Raises:
        ModelError: it is not defined at a constant.
    """
    require_real(x)
    if isinstance(x, Variable):
        if function == "reciprocal":
            return reciprocal_of(builder, x)
        if function == "log":
            return logarithm_of(builder, x)
        return builder.univariate(x, function, parameters)
    builder.claim(x.shape)
    if function == "reciprocal":
        return real(rounding.reciprocal(x.enclosure), x.kind)
    if function == "sqrt":
        return real(rounding.square_root(x.enclosure), x.kind)
    if function in STEPS:
        ends = [STEPS[function](end) for end in _ends(x.enclosure)]
        if np.any(ends[0] != ends[1]):
            raise UnsupportedOperatorError("a jump of a constant known by an enclosure only")
        return Constant(ends[0], x.kind)
    builder.claim((FOLD_COST, np.unique(x.value).size))
    return real(elementary.image(function, tuple(parameters), x.enclosure), x.kind)


def raised(builder: Builder, x: Operand, exponent: float) -> Operand:
    """``x`` to a constant power, by whole powers, roots, reciprocals, or ``exp(c log x)``."""
    if exponent == 0:
        return Constant(np.ones(builder.claim(x.shape)), x.kind)
    if exponent < 0:
        return apply(builder, raised(builder, x, -exponent), "reciprocal")
    if exponent == 1:
        return x
    if exponent.is_integer() and exponent <= LARGEST_POWER:
        if isinstance(x, Constant):
            return real(rounding.power(x.enclosure, int(exponent)), x.kind)
        return builder.univariate(x, "power", (exponent,))
    for halvings in (1, 2, 3):
        whole = exponent * 2.0**halvings
        if whole.is_integer() and whole <= LARGEST_POWER:
            for _ in range(halvings):
                x = apply(builder, x, "sqrt")
            return raised(builder, x, whole)
    if not isfinite(exponent):
        raise ModelError(f"a power of {exponent}")
    logarithm = apply(builder, x, "log")
    return apply(builder, builder.scale(logarithm, Constant(np.array(exponent), x.kind)), "exp")


def _whole_power(call: Call, base: Operand, exponents: list[float]) -> Constant:
    if isinstance(base, Variable):
        raise UnsupportedOperatorError("a power of a variable tensor of integers has no rule")
    number = exponents[0]
    if len(exponents) > 1 or number != int(number) or not 0 <= number <= LARGEST_POWER:
        raise UnsupportedOperatorError("only one small whole power of integers has a rule")
    return integer_constant(objects(call, base) ** int(number), base.kind)


def _powers(builder: Builder, x: Operand, exponent: Array, distinct: list[float]) -> Operand:
    """Entries with the same exponent together, then all in their places again."""
    wide = np.broadcast_to(exponent, builder.claim(x.shape)).reshape(-1)
    places = [np.flatnonzero(wide == number) for number in distinct]
    parts = []
    for number, place in zip(distinct, places, strict=True):
        part = builder.view(x, _entries(place))
        parts.append(raised(builder, part, float(number)))
    joined = builder.concat(parts, 0)
    order = np.argsort(np.concatenate(places), kind="stable").reshape(x.shape)
    return builder.view(joined, lambda array, _: array[order])


def _entries(place: Array) -> Rearrangement:
    return lambda array, _: array.reshape(-1)[place]


def _beyond(builder: Builder, x: Operand, edge: float, height: float) -> Operand:
    """``x - edge + height`` above ``edge``, 0 up to there."""
    over = builder.add(x, Constant(np.array(-edge), x.kind))
    if isinstance(over, Variable):
        over = builder.finished(over)
    require_real(over)
    ramp = builder.relu(over)
    if height == 0:
        return ramp
    step = builder.relu(apply(builder, over, "sign"))
    return builder.add(ramp, builder.scale(step, Constant(np.array(height), x.kind)))


def _ends(x: Enclosure) -> tuple[Array, Array]:
    if x.radius is None:
        return x.value, x.value
    return (
        np.nextafter(x.value - x.radius, -np.inf),
        np.nextafter(x.value + x.radius, np.inf),
    )


def _finite(name: str, number: float) -> float:
    if not isfinite(number):
        raise ModelError(f"{name} {number} is not finite")
    return number
