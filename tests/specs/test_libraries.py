"""The allowances for library functions hold for onnxruntime and torch as installed here."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from flint import arb, ctx

from specs.libraries import ALLOWANCES, POWERS, allowances, library_error, power_error
from specs.perturbation import FORMATS
from tests.networks import model_bytes

FLOAT32 = FORMATS["float32"]
COUNT = 4096

EXACT = {
    "atan": lambda x: x.atan(),
    "cos": lambda x: x.cos(),
    "elu": lambda x: x if x > 0 else x.expm1(),
    "erf": lambda x: x.erf(),
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "sin": lambda x: x.sin(),
    "softplus": lambda x: x.exp().log1p(),
    "tanh": lambda x: x.tanh(),
}
OPERATORS = {name: name.capitalize() for name in EXACT}
TORCH = {
    "atan": torch.atan,
    "cos": torch.cos,
    "elu": torch.nn.functional.elu,
    "erf": torch.erf,
    "exp": torch.exp,
    "log": torch.log,
    "sigmoid": torch.sigmoid,
    "sin": torch.sin,
    "softplus": torch.nn.functional.softplus,
    "tanh": torch.tanh,
}


def points(name):
    """Dense near 0, uniform, and over all magnitudes that are finite and allowed."""
    rng = np.random.default_rng(0)
    top = min(ALLOWANCES[name].reach, 2.0**100)
    if name == "exp":
        top = 88.0
    wide = 2.0 ** rng.uniform(-126, np.log2(top), COUNT)
    near = rng.uniform(-min(top, 20.0), min(top, 20.0), 2 * COUNT)
    if name == "exp":
        near = rng.uniform(-110.0, 88.0, 2 * COUNT)
    if name == "log":
        return np.concatenate(
            [wide, 2.0 ** rng.uniform(0, 126, COUNT), 1.0 + rng.uniform(-0.3, 0.3, COUNT)]
        ).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], COUNT)
    return np.concatenate([wide * signs, near, [0.0, -0.0]]).astype(np.float32)


def exactly(function, x):
    """Values as floats, whose own error is next to nothing against an ulp of float32."""
    before, ctx.prec = ctx.prec, 320
    try:
        return np.array([float(function(arb(float(v))).mid()) for v in x])
    finally:
        ctx.prec = before


def by_onnxruntime(operator, x, **attributes):
    opset = 20 if operator == "Gelu" else 13
    session = onnxruntime.InferenceSession(
        model_bytes(operator, [x.shape], attributes, opset), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"i0": x})[0].astype(np.float64)


def by_torch(function, x):
    return function(torch.tensor(x)).numpy().astype(np.float64)


def excess(found, value, error):
    """Errors over what is allowed."""
    allowed = error.own * np.abs(value) + error.floor[0]
    return np.max(np.abs(found - value) / allowed)


@pytest.mark.parametrize("name", ALLOWANCES)
def test_libraries_keep_to_the_allowances(name):
    x = points(name)
    value = exactly(EXACT[name], x)
    kept = np.abs(value) < FLOAT32.largest / 2
    error = library_error(FLOAT32, name)
    runtime = by_onnxruntime(OPERATORS[name], x)
    assert excess(runtime[kept], value[kept], error) <= 1.0
    # torch's kernels differ by length: a short tensor takes the scalar tail.
    for part in (slice(None), slice(0, 7)):
        found = by_torch(TORCH[name], x[part])
        keep = kept[part]
        assert excess(found[keep], value[part][keep], error) <= 1.0


@pytest.mark.parametrize("exponent", POWERS)
def test_powers_keep_to_their_allowances(exponent):
    rng = np.random.default_rng(1)
    x = (2.0 ** rng.uniform(-30, 30, COUNT)).astype(np.float32)
    value = x.astype(np.float64) ** exponent
    session = onnxruntime.InferenceSession(
        model_bytes("Pow", [x.shape, np.array(exponent, np.float32)]),
        providers=["CPUExecutionProvider"],
    )
    error = power_error(FLOAT32, exponent)
    assert excess(session.run(None, {"i0": x})[0].astype(np.float64), value, error) <= 1.0
    assert excess(torch.tensor(x).pow(exponent).numpy().astype(np.float64), value, error) <= 1.0


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("count", [2, 3, 10, 300])
def test_softmax_is_enclosed(operator, count):
    """By the kernel's own enclosure at points."""
    from fractions import Fraction

    from proofs.evaluate import evaluate
    from specs.onnx_reader import read_model_bytes

    content = model_bytes(operator, [(1, count)], {"axis": 1})
    network = read_model_bytes(content, None, "m", FLOAT32)
    rng = np.random.default_rng(count)
    for scale in (0.1, 3.0, 40.0):
        x = (rng.normal(size=(1, count)) * scale).astype(np.float32)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        torch_of = torch.softmax if operator == "Softmax" else torch.log_softmax
        results = [session.run(None, {"i0": x})[0], torch_of(torch.tensor(x), 1).numpy()]
        enclosed = evaluate(network, [Fraction(float(v)) for v in x[0]])
        for result in results:
            for v, (centre, radius) in zip(result[0], enclosed, strict=True):
                assert abs(Fraction(float(v)) - centre) <= radius
        widest = max(radius for _, radius in enclosed)
        assert widest < Fraction(1, 1000) * max(1, abs(int(enclosed[0][0])))


def test_an_allowance_that_is_too_small_is_noticed():
    x = points("tanh")
    value = exactly(EXACT["tanh"], x)
    correct = value.astype(np.float32).astype(np.float64)
    assert excess(correct, value, library_error(FLOAT32, "tanh")) <= 1.0
    assert excess(by_onnxruntime("Tanh", x), value, library_error(FLOAT32, "tanh")) > 0.01
    assert excess(correct + 2.0**-20, value, library_error(FLOAT32, "tanh")) > 1.0


def test_arguments_beyond_the_reach_count_as_overflow():
    error = library_error(FLOAT32, "cos")
    reach = ALLOWANCES["cos"].reach
    assert error.reach * reach <= error.limit < error.reach * reach * (1 + 2.0**-20)
    assert library_error(FLOAT32, "tanh").reach == 0.0


def test_the_table_is_printed():
    lines = allowances(FLOAT32)
    assert len(lines) == len(ALLOWANCES)
    assert "exp: 4 units in the last place and 2 times 2**-24" in lines
    assert any(line.startswith("cos:") and "up to |x| = 8192" in line for line in lines)
