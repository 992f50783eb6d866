"""The search's relaxations keep what they must, and wrong ones are noticed."""

from __future__ import annotations

from math import ceil, floor, inf, nan, pi, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import erf as error_function
from scipy.special import ndtr

from proofs.check import ARITHMETICS
from proofs.functions import KNOWN as PROVED
from proofs.functions import function
from specs.errors import UnsupportedOperatorError
from tests.verifier.relaxation_conformance import (
    CHECKS,
    MUTANTS,
    Truth,
    arrays,
    checks,
    intervals,
    mutants,
    relaxation_conformance,
    scale,
    tensors,
)
from verifier.relaxations import KNOWN, find


def logistic(x):
    right = np.real(x) >= 0  # neither side overflows
    small = np.exp(np.where(right, -x, x))
    return np.where(right, 1, small) / (1 + small)


def softplus(x):
    right = np.real(x) >= 0
    return np.where(right, x, 0) + np.log1p(np.exp(np.where(right, -x, x)))


def gelu_tanh(x):
    return x * logistic(sqrt(8 / pi) * (x + 0.044715 * x**3))


def elu(alpha, scale=1.0):
    def value(x):
        right = np.real(x) >= 0
        return scale * np.where(right, x, alpha * np.expm1(np.where(right, 0, x)))

    return value


def hardswish(x):
    between = np.abs(np.real(x)) <= 3
    return np.where(between, x * (x + 3) / 6, np.where(np.real(x) > 0, x, 0))


def relu(x):
    return np.where(np.real(x) > 0, x, 0 * x)


def mish(x):
    return x * np.tanh(softplus(x))


def flat(value):
    """A function whose derivative is 0, at complex arguments too."""
    return lambda x: value(np.real(x)) + 0 * x


def sign_steps(low, high):
    return [(0.0, -1.0, 1.0)] if low <= 0 <= high else []


def floor_steps(low, high):
    return [(k, k - 1.0, float(k)) for k in range(ceil(low), floor(high) + 1)]


def round_steps(low, high):
    return [(k + 0.5, k, k + 1.0) for k in range(ceil(low - 0.5), floor(high - 0.5) + 1)]


def power(exponent):
    return lambda x: x ** (int(exponent) if exponent == int(exponent) else exponent)


WAVE = tuple(k * pi for k in range(-10, 11))
SELU = (1.6732632423543772, 1.0507009873554805)
S_SHAPED = {"pieces": (1, -1), "bends": (0.0,)}
S_MIRRORED = {"pieces": (-1, 1), "bends": (0.0,)}
BUMP = (-1, 1, -1)
POSITIVE = {"span": (1e-3, 30.0), "core": (0.05, 4.0)}
STEPS = {
    "pieces": (0,),
    "span": (-8.0, 8.0),
    "core": (-5.0, 5.0),
    "harmless": ("range too wide", "derivative of something else"),
}
POLE = ((-1.0, 2.0), (-1.0, 0.0), (0.0, 2.0), (0.0, 0.0), (-inf, inf))
TRUTHS = (
    Truth("sigmoid", logistic, **S_SHAPED),
    Truth("tanh", np.tanh, **S_SHAPED),
    Truth("erf", error_function, span=(-6.0, 6.0), **S_SHAPED),
    Truth("atan", np.arctan, span=(-300.0, 300.0), **S_SHAPED),
    Truth("sinh", np.sinh, span=(-20.0, 20.0), **S_MIRRORED),
    Truth("cosh", np.cosh, (1,), span=(-20.0, 20.0)),
    Truth("exp", np.exp, (1,), span=(-30.0, 20.0)),
    Truth("softplus", softplus, (1,)),
    Truth("log", np.log, (-1,), outside=((-1.0, 2.0), (0.0, 2.0), (-2.0, -1.0)), **POSITIVE),
    Truth("sqrt", np.sqrt, (-1,), outside=((-1.0, 2.0), (-2.0, -1.0)), **POSITIVE),
    Truth("sin", np.sin, (1, -1) * 11, WAVE, span=(-15.0, 15.0)),
    Truth("cos", np.cos, (-1, 1) * 11, tuple(b + pi / 2 for b in WAVE), span=(-15.0, 15.0)),
    Truth("reciprocal", lambda x: 1 / x, (1,), outside=POLE, **POSITIVE),
    Truth("power", power(2), (1,), parameters=(2.0,)),
    Truth("power", power(3), parameters=(3.0,), **S_MIRRORED),
    Truth("power", power(6), (1,), parameters=(6.0,)),
    Truth("power", power(7), parameters=(7.0,), **S_MIRRORED),
    Truth("power", power(-1), (1,), parameters=(-1.0,), outside=POLE, **POSITIVE),
    Truth("power", power(-2), (1,), parameters=(-2.0,), outside=POLE, **POSITIVE),
    Truth("power", power(2.5), (1,), parameters=(2.5,), outside=((-1.0, 2.0),), **POSITIVE),
    Truth("power", power(0.3), (-1,), parameters=(0.3,), outside=((-1.0, 2.0),), **POSITIVE),
    Truth("power", power(-0.5), (1,), parameters=(-0.5,), outside=((0.0, 2.0),), **POSITIVE),
    Truth("elu", elu(1.0), (1,), parameters=(1.0,)),
    Truth("elu", elu(0.4), (1,), parameters=(0.4,)),
    Truth("elu", elu(2.0), (1, 0), (0.0,), (0.0,), parameters=(2.0,)),
    Truth("selu", elu(*SELU), (1, 0), (0.0,), (0.0,), parameters=SELU),
    Truth("gelu", lambda x: x * ndtr(x), BUMP, (-sqrt(2), sqrt(2))),
    Truth("gelu_tanh", gelu_tanh, BUMP, (-1.4185040087908283, 1.4185040087908283)),
    Truth("silu", lambda x: x * logistic(x), BUMP, (-2.3993572805154677, 2.3993572805154677)),
    Truth("mish", mish, BUMP, (-2.2563763963607931, 1.4905711794854284)),
    Truth("hardswish", hardswish, (0, 1, 0), (-3.0, 3.0), (-3.0, 3.0)),
    Truth("sign", flat(np.sign), steps=sign_steps, skipped=("split",), **STEPS),
    Truth("floor", flat(np.floor), steps=floor_steps, **STEPS),
    Truth("round", flat(np.round), steps=round_steps, **STEPS),
)
RELU = Truth(
    "relu",
    relu,
    (0, 0),
    (0.0,),
    (0.0,),
    skipped=("slopes", "split"),  # rules of its own
    harmless=("rates of slopes alone",),  # the line below goes through 0
)
test_relu_conforms, test_wrong_relus_are_noticed = relaxation_conformance(RELU)


@pytest.mark.parametrize(("truth", "check"), [(t, c) for t in TRUTHS for c in checks(t)], ids=str)
def test_relaxation_conforms(truth: Truth, check: str) -> None:
    CHECKS[check](truth, find(truth.name, truth.parameters))


@pytest.mark.parametrize(("truth", "mutant"), [(t, m) for t in TRUTHS for m in mutants(t)], ids=str)
def test_wrong_relaxations_are_noticed(truth: Truth, mutant: str) -> None:
    check, change = MUTANTS[mutant]
    with pytest.raises(AssertionError):
        CHECKS[check](truth, change(find(truth.name, truth.parameters)))


def test_every_function_is_tested() -> None:
    """Here, or by a file of its own that calls the suite."""
    engines = {"curve", "hull", "lines", "roots", "stairs", "tangents"}
    left = set(KNOWN) - engines - {truth.name for truth in (*TRUTHS, RELU)}
    folder = Path(__file__).parents[1] / "functions"
    for name in left:
        assert "relaxation_conformance(" in (folder / f"test_{name}.py").read_text()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("unheard_of", ()),
        ("curve", ()),
        ("../relu", ()),
        ("", ()),
        ("power", (0.0,)),
        ("power", (1.0,)),
        ("power", (inf,)),
        ("power", (nan,)),
        ("elu", (-1.0,)),
        ("elu", (nan,)),
        ("selu", (1.0, -1.0)),
    ],
)
def test_functions_without_a_relaxation_are_refused(name: str, parameters: tuple) -> None:
    with pytest.raises(UnsupportedOperatorError):
        find(name, parameters)


@pytest.mark.parametrize(
    ("name", "parameters", "low", "high"),
    [
        ("gelu", (), -4.0, 4.0),
        ("silu", (), -6.0, 5.0),
        ("sin", (), -1.0, 3.5),
        ("hardswish", (), -5.0, 5.0),
        ("hardswish", (), -4.0, 0.5),
        ("selu", SELU, -3.0, 2.0),
    ],
)
def test_lines_move_over_bends_and_kinks(name, parameters, low, high) -> None:
    """Though the default has fixed lines there."""
    ends = torch.tensor([[low]]).double(), torch.tensor([[high]]).double()
    free = find(name, parameters).relaxed(*ends)
    half = [torch.tensor([[0.5]]).double()] * 2
    rates = free.rates(*half)
    assert abs(float(rates.lower_slope)) + abs(float(rates.upper_slope)) > 0.05


@pytest.mark.parametrize("truth", [t for t in (*TRUTHS, RELU) if t.name in PROVED], ids=str)
def test_default_slopes_are_the_kernels(truth: Truth) -> None:
    """The search computes with the lines that the kernel takes without hints."""
    low, high = intervals(truth)
    below, _, above, _ = arrays(find(truth.name, truth.parameters).default(*tensors(low, high)))
    proved = function(truth.name, truth.parameters).default_slopes(low, high)
    for found, expected in zip((below, above), proved, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("truth", [t for t in (*TRUTHS, RELU) if t.name in PROVED], ids=str)
def test_lines_are_nearly_the_kernels(truth: Truth) -> None:
    """What the search promises for a slope the kernel proves, but for a small loss."""
    low, high = intervals(truth)
    lines = find(truth.name, truth.parameters).default(*tensors(low, high))
    below, floor, above, ceiling = arrays(lines)
    arithmetic, rule = ARITHMETICS["outward"](), function(truth.name, truth.parameters)
    slopes = [rule.usable_slopes(slope) for slope in (below, above)]
    kept = (slopes[0] == below) & (slopes[1] == above)  # Relu's are on a grid
    assert kept.any()
    ends = [arithmetic.lift_down(x) for x in (*slopes, low, high)]
    proved = [arithmetic.floats_down(x) for x in rule.intercepts(arithmetic, *ends)]
    room = 1e-9 * (1 + np.abs(floor) + np.abs(ceiling) + scale(truth, below, low, high))
    room += 1e-9 * scale(truth, above, low, high)
    assert (np.abs(proved[0] - floor) <= room)[kept].all()
    assert (np.abs(proved[1] - ceiling) <= room)[kept].all()
