"""Integer programs of quantised networks compute what onnxruntime computes, bit by bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

pytest.importorskip("onnxruntime")
z3 = pytest.importorskip("z3")

from specs.property import constraint  # noqa: E402
from specs.query import ModelFile  # noqa: E402
from tests.verifier.quantised_models import Array, Layers, runtime  # noqa: E402
from verifier.quantised.encode import Encoding  # noqa: E402
from verifier.quantised.lines import chord, ramp  # noqa: E402
from verifier.quantised.program import ProgramBuilder, Staircase, Steps  # noqa: E402
from verifier.quantised.reader import Compiled, Stored  # noqa: E402
from verifier.quantised.reals import (  # noqa: E402
    Reals,
    from_ordinal,
    ordinal,
    ordinals_between,
    product,
    quantised,
)
from verifier.quantised.run import _outputs  # noqa: E402
from verifier.quantised.settings import Settings  # noqa: E402

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SEEDS = st.integers(0, 2**32 - 1)
QUICK = settings(max_examples=15, deadline=None)
ALIKE = [("uint8", "uint8"), ("int8", "int8")]
"""Types of activations and weights whose products no processor's instructions saturate."""


def compiled(content: bytes, shape: tuple[int, ...], radius: float = 1.0) -> Compiled:
    size = int(np.prod(shape))
    low, high = ([int(ordinal(end))] * size for end in (-radius, radius))
    return Stored(ModelFile(None, content, "")).compiled([shape], low, high, Settings())


def points(size: int, count: int = 64, seed: int = 1, radius: float = 1.0) -> Array:
    drawn = np.random.default_rng(seed).uniform(-radius, radius, (count, size))
    return drawn.astype(np.float32)


def agrees(content: bytes, shape: tuple[int, ...], radius: float = 1.0) -> Compiled:
    """With a graph of integer operators: exactly; otherwise within what is allowed."""
    found = compiled(content, shape, radius)
    x = points(int(np.prod(shape)), radius=radius)
    theirs = runtime(content, x)
    assert len(np.unique(theirs)) > 3, "the example is trivial"
    if found.exact:
        np.testing.assert_array_equal(_outputs(found, ordinal(x)), theirs)
    return found


# --- float32 numbers and their places -------------------------------------------------


@given(FLOATS, FLOATS)
def test_places_are_in_the_order_of_the_numbers(a: float, b: float) -> None:
    assert (int(ordinal(a)) < int(ordinal(b))) == (a < b)
    assert float(from_ordinal(ordinal(a))) == a


@given(FLOATS, st.booleans())
def test_intervals_of_float32_numbers_have_the_right_ends(end: float, strict: bool) -> None:
    exact = Fraction(end)
    low, high = ordinals_between(exact, exact, strict, False)
    assert low == int(ordinal(end)) + strict
    assert high == int(ordinal(end))
    off = exact + Fraction(1, 2**160)
    assert ordinals_between(off, off, False, False) == (low + (not strict), high)


def test_an_interval_between_two_float32_numbers_is_empty() -> None:
    low, high = ordinals_between(Fraction(1, 10), Fraction(1, 10), False, False)
    assert low > high


# --- staircases -----------------------------------------------------------------------


@QUICK
@given(
    SEEDS,
    st.floats(2.0**-13, 0.5, width=32),
    st.floats(2.0**-7, 4.0, width=32),
    st.integers(-128, 127),
    st.booleans(),
)
def test_thresholds_are_those_of_the_float_operations(
    seed: int, factor: float, step: float, zero: int, falls: bool
) -> None:
    builder = ProgramBuilder(Settings())
    key = builder.input(-3000, 3000)
    x = Reals(np.array([key]), np.zeros(1, np.int64)).then(
        "multiply", np.float32([-factor if falls else factor])
    )
    x = x.then("add", np.random.default_rng(seed).normal(size=1).astype(np.float32))
    (node,) = quantised(builder, x, np.float32([step]), np.array([zero]), -128, 127)
    keys = np.arange(-3000, 3001)[:, None]
    values = x.ends(keys)[0] / np.float32(step)
    cut = np.clip(values, np.float32(-128 - zero), np.float32(127 - zero))
    wanted = np.rint(cut).astype(np.int64)[:, 0] + zero
    program = builder.finish()
    np.testing.assert_array_equal(program.evaluate(keys)[:, node], wanted)
    assert program.low[node] == wanted.min()
    assert program.high[node] == wanted.max()


@QUICK
@given(st.integers(1, 900), st.integers(-5000, 5000))
def test_even_staircases_are_quotients(slope: int, offset: int) -> None:
    keys = np.arange(-2000, 2000)
    values = np.clip((slope * keys + offset) // 1009, -100, 100)
    at = keys[1:][np.diff(values) > 0]
    stairs = Staircase(int(values[0]), at)
    np.testing.assert_array_equal(stairs(keys), values)
    found = ramp(stairs)
    assert found is not None or len(at) < 2
    if found is not None:
        cut = np.clip(
            (found.slope * keys + found.offset) // found.divisor, stairs.start, stairs.end
        )
        np.testing.assert_array_equal(cut, values)
    for above in (False, True):
        line = chord(stairs, -2000, 1999, above)
        gap = line.slope * keys + line.offset - line.divisor * values
        assert np.all(gap >= 0) if above else np.all(gap <= 0)
        assert np.min(np.abs(gap)) == 0


def test_uneven_staircases_are_no_quotients() -> None:
    assert ramp(Staircase(0, np.array([0, 1, 50, 51, 100]))) is None
    ties = np.flatnonzero(np.diff(np.rint(np.arange(40) / 2)) > 0) + 1
    assert ramp(Staircase(0, ties)) is None  # half to even: 3 steps, then 1
    assert ramp(Staircase(0, np.array([1, 3, 5, 7, 9]))) is not None
    assert ramp(Staircase(0, np.array([3]))) is None


@pytest.mark.parametrize("step", [0.1, 0.0078125, 3.7e-3, 11.3])
@pytest.mark.parametrize("falls", [False, True])
def test_the_runtime_steps_at_the_thresholds_and_not_just_before(step: float, falls: bool) -> None:
    """At every threshold of an input, and at the float32 number before it."""
    radius = 200.0 * step

    def content(size: int) -> bytes:
        layers = Layers((1, size))
        layers.add("Mul", layers.stored(-1.5 if falls else 1.5)).quantize(step, 5, "int8")
        return layers.dequantize().content()

    program = compiled(content(1), (1, 1), radius).program
    (stairs,) = [node for node in program.nodes if isinstance(node, Steps)]
    assert len(stairs.below.at) == 255
    at = stairs.sign * np.concatenate([stairs.below.at, stairs.below.at - 1])
    (theirs,) = runtime(content(len(at)), from_ordinal(at)[None])
    ours = stairs.below(stairs.sign * at)
    np.testing.assert_array_equal(np.float32(ours - 5) * np.float32(step), theirs)


def test_ends_of_float_products_stay_in_order_when_they_are_turned_round() -> None:
    builder = ProgramBuilder(Settings())
    keys = np.array([builder.input(-100, 100)] * 3)
    x = product(keys, np.array(0.01), np.array(0.3), np.array(50.0), 4)
    for name, by in (
        ("multiply", [-2.0, 0.5, -0.1]),
        ("add", [1.0] * 3),
        ("divide", [3.0, -1, -7]),
    ):
        x = x.then(name, np.float32(by))
        at = np.arange(-100, 101)[:, None] + np.zeros(3, np.int64)
        low, high = x.ends(at)
        assert np.all(low < high)
        assert np.all(np.diff(low * x.sign, axis=0) > 0)


# --- networks against the runtime ------------------------------------------------------


@QUICK
@given(SEEDS, st.sampled_from(ALIKE), st.booleans())
def test_quantised_matrix_products_are_exact(
    seed: int, kinds: tuple[str, str], columns: bool
) -> None:
    kind, weight = kinds
    layers = Layers((1, 3), seed).quantize(0.01, 100 if kind == "uint8" else -3, kind)
    layers.qlinear_matmul((3, 5), 0.03, 7, kind=kind, weight=weight, columns=False)
    layers.qlinear_matmul((5, 2), 0.03, 9, kind=kind, weight=weight, columns=columns)
    assert agrees(layers.dequantize().content(), (1, 3)).exact


@pytest.mark.parametrize(("kind", "weight"), ALIKE)
@pytest.mark.parametrize("group", [1, 2])
def test_quantised_convolutions_and_pools_are_exact(kind: str, weight: str, group: int) -> None:
    layers = Layers((1, 2, 4, 4), 3).quantize(0.01, 100 if kind == "uint8" else 3, kind)
    layers.qlinear_conv(
        (4, 2 // group, 3, 3), 0.05, 11, kind, weight, pads=[1, 1, 1, 1], group=group
    )
    layers.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])
    layers.add("Transpose", perm=[0, 2, 3, 1]).add("Flatten").dequantize()
    assert agrees(layers.content(), (1, 2, 4, 4)).exact


def test_the_three_steps_are_put_together_in_the_runtime_s_order() -> None:
    """At sums where ``float32(a * b) / y`` and ``a * float32(b / y)`` round to two integers."""
    random, tried = np.random.default_rng(0), 0
    sums = np.multiply.outer(np.arange(256), np.arange(256))
    for _ in range(2000):
        a, b, y = random.uniform(0.01, 0.1, 3).astype(np.float32)
        results = [np.rint(np.float32(sums) * m) for m in ((a * b) / y, a * (b / y))]
        where = np.argwhere((results[0] != results[1]) & (results[0] < 250))
        if not len(where):
            continue
        tried += 1
        q, w = where[0]
        layers = Layers((1, 1)).quantize(float(a), 0)
        weight = layers.stored([[w]], np.uint8)
        layers.step = (*layers.step, weight, *layers.parameters(b, 0, "uint8"))
        layers.add("QLinearMatMul", *layers.step, *layers.parameters(y, 0, "uint8"))
        content = layers.content(TensorProto.UINT8)
        x = (q * a).reshape(1, 1)
        found = compiled(content, (1, 1), radius=float(256 * a))
        assert _outputs(found, ordinal(x)).tolist() == [[results[0][q, w]]]
        assert runtime(content, x).tolist() == [[results[0][q, w]]]
    assert tried > 3


def integer_products(seed: int, kind: str, weight: str) -> Layers:
    """Products in int32, scaled, shifted and cut in floats, and quantised again."""
    layers = Layers((1, 3), seed).quantize(0.01, 100 if kind == "uint8" else -3, kind)
    for columns in (4, 2):
        w = layers.stored(
            layers.weights((3 if columns == 4 else 4, columns), weight), kind_of(weight)
        )
        layers.add("MatMulInteger", w, layers.step[1], layers.stored(1, kind_of(weight)))
        layers.add("Cast", to=TensorProto.FLOAT)
        layers.add("Mul", layers.stored(layers.random.normal(size=columns) * 1e-3))
        layers.add("Add", layers.stored(layers.random.normal(size=columns)))
        if columns == 4:
            layers.add("Clip", layers.stored(-1.0), layers.stored(6.0)).quantize(0.03, 40, "uint8")
    return layers


def kind_of(name: str) -> Any:
    return {"uint8": np.uint8, "int8": np.int8}[name]


@QUICK
@given(SEEDS)
def test_integer_products_with_floats_between_are_exact(seed: int) -> None:
    assert agrees(integer_products(seed, "uint8", "uint8").content(), (1, 3)).exact


def test_integer_convolutions_are_exact() -> None:
    layers = Layers((1, 1, 3, 3), 3).quantize(0.01, 100)
    w = layers.stored(layers.weights((2, 1, 2, 2), "uint8"), np.uint8)
    layers.add("ConvInteger", w, layers.step[1], layers.stored(9, np.uint8), pads=[1, 0, 0, 1])
    assert agrees(layers.content(TensorProto.INT32), (1, 1, 3, 3)).exact


@pytest.mark.parametrize("kind", ["int16", "uint16"])
def test_sixteen_bits_are_exact(kind: str) -> None:
    layers = Layers((2, 2))
    step = layers.stored(0.01), layers.stored(5, np.dtype(kind))
    layers.add("QuantizeLinear", *step).add("DequantizeLinear", *step)
    assert agrees(layers.content(opset=21), (2, 2)).exact


def test_steps_along_an_axis_and_constants_on_the_left_are_exact() -> None:
    layers = Layers((2, 3))
    layers.add("Sub", layers.stored(0.3), layers.last, first=False)
    step = layers.stored([0.01, 0.02, 0.03]), layers.stored([1, 2, 3], np.uint8)
    layers.add("Div", layers.stored(-0.7))
    layers.add("QuantizeLinear", *step, axis=1).add("DequantizeLinear", *step, axis=1)
    layers.add("Add", layers.stored([[1.0], [2.0]]), layers.last, first=False)
    assert agrees(layers.content(), (2, 3)).exact


# --- the encoding ----------------------------------------------------------------------


def outputs_of(encoding: Encoding, fixed: Array, wanted: Array) -> Any:
    """Whether the formulas allow these outputs at inputs, whose staircases are fixed."""
    program = encoding.program
    values = program.evaluate(ordinal(fixed)[None])[0]
    solver = z3.Solver()
    solver.add(encoding.formulas)
    for source in program.inputs:
        number = encoding._free.get(source, source)
        solver.add(encoding._terms[number] == int(values[number]))
    for index, value in enumerate(wanted):
        exact = Fraction(float(value))
        solver.add(encoding.output(index) == z3.RealVal(str(exact)))
    solver.add(encoding.formulas)  # those of the outputs too
    return solver.check()


@pytest.mark.parametrize("form", ["integers", "floats", "falling", "quotient"])
@settings(max_examples=2, deadline=None)
@given(seed=SEEDS)
def test_the_formulas_allow_what_the_runtime_computes_and_nothing_else(
    seed: int, form: str
) -> None:
    layers = Layers((1, 2), seed).quantize(0.01, 100)
    if form == "integers":
        layers.qlinear_matmul((2, 4), 0.03, 7, kind="uint8", weight="uint8", columns=True)
        layers.qlinear_matmul((4, 2), 0.05, 7, kind="uint8", weight="uint8", columns=False)
    elif form == "floats":
        layers.dense((2, 4), 0.03, 7, "uint8").dense((4, 2), 0.05, 7, "uint8")
    elif form == "falling":
        layers.dense((2, 4), 0.03, 7, "uint8")
        layers.nodes.pop()  # the last quantisation
        layers.last = layers.nodes[-1].output[0]
        layers.add("Mul", layers.stored([-1.5, 0.7, -0.1, 0.0])).add("Div", layers.stored(-0.3))
        layers.quantize(0.05, 7, "int8")
    content = layers.dequantize().content()
    found = compiled(content, (1, 2))
    step = float(np.float32(0.05 if form != "quotient" else 0.01))
    for x in points(2, 4, seed):
        encoding = Encoding(found, Settings())
        # An optimised runtime rounds a bias that is no integer already; see docs/integers.md.
        for optimised in (False,) if form == "floats" else (False, True):
            (y,) = runtime(content, x[None], optimised)
            assert outputs_of(encoding, x, y) == z3.sat
        if found.exact:
            off = y + np.float32([step, 0])
            assert outputs_of(encoding, x, off) == z3.unsat


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["Gemm", "Conv"])
def test_float_layers_with_a_bias_allow_what_the_runtime_computes(form: str, bias: bool) -> None:
    shape = (1, 4) if form == "Gemm" else (1, 1, 3, 3)
    layers = Layers(shape, 5).quantize(0.01, 100).dequantize()
    left = layers.last
    weight = (3, 4) if form == "Gemm" else (2, 1, 2, 2)
    w = layers.stored(layers.weights(weight, "int8"), np.int8)
    steps = layers.stored(layers.random.uniform(0.005, 0.02, weight[0]))
    layers.add("DequantizeLinear", w, steps, first=False, axis=0)
    right, layers.last = layers.last, left
    more = [layers.stored(layers.random.normal(size=weight[0]))] if bias else []
    if form == "Gemm":
        layers.add("Gemm", right, *more, transB=1)
    else:
        layers.add("Conv", right, *more, pads=[0, 1, 1, 0], strides=[2, 1])
    content = layers.quantize(0.03, 3, "int8").content(TensorProto.INT8)
    found = compiled(content, shape)
    assert not found.exact
    x = points(int(np.prod(shape)), 6)
    for optimised in (False, True):
        theirs = runtime(content, x, optimised)
        assert len(np.unique(theirs)) > 10
        for point, y in zip(x, theirs, strict=True):
            encoding = Encoding(found, Settings())
            assert outputs_of(encoding, point, y) == z3.sat
            assert outputs_of(encoding, point, y + np.eye(len(y))[0] * 2) == z3.unsat


def test_a_float_product_beside_a_rounding_edge_is_left_open() -> None:
    """The sum is 0.5 steps by real numbers: both roundings are within some order's error."""
    layers = Layers((1, 2)).quantize(0.1, 0, "int8").dequantize()
    left = layers.last
    layers.add(
        "DequantizeLinear", layers.stored([[1], [1]], np.int8), layers.stored(0.1), first=False
    )
    right, layers.last = layers.last, left
    layers.add("MatMul", right).quantize(0.02, 0, "int8")
    content = layers.content(TensorProto.INT8)
    found = compiled(content, (1, 2))
    assert not found.exact
    x = np.float32([0.1, 0.0])
    encoding = Encoding(found, Settings())
    allowed = [q for q in range(-3, 4) if outputs_of(encoding, x, np.array([q])) == z3.sat]
    assert allowed == [0, 1]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("weights", [{0: 1}, {0: -1}, {0: 1, 1: -1}, {0: -2, 1: 3}])
def test_constraints_hold_where_they_hold_of_the_outputs(
    weights: dict[int, int], strict: bool
) -> None:
    """Of every pair of integers, with the constant on the very edge."""
    layers = Layers((1, 2)).quantize(0.1, 0, "int8").dequantize()
    found = compiled(layers.content(), (1, 2), radius=0.4)
    encoding = Encoding(found, Settings())
    edge = found.outputs[0]
    assert isinstance(edge, Reals)
    values = [Fraction(float(np.float32(q) * np.float32(0.1))) for q in range(-4, 5)]
    coefficients = {j: Fraction(w) for j, w in weights.items()}
    at = -sum((w * values[3 + j] for j, w in weights.items()), Fraction(0))
    c = constraint({}, coefficients, at, strict)
    terms = [encoding._terms[int(key)] for key in edge.keys.flat]
    formula = encoding.constraint(c)
    solver = z3.Solver()
    solver.add(encoding.formulas)
    for first in range(-4, 5):
        for second in range(-4, 5):
            solver.push()
            solver.add(terms[0] == first, terms[1] == second, formula)
            holds = c.holds((), [values[first + 4], values[second + 4]])
            assert (solver.check() == z3.sat) == holds, (first, second)
            solver.pop()
