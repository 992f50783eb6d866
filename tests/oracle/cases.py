"""What is compared, and by how much ours may be looser, with reasons.

A looseness is a share of the oracle's width, by radius of the box, measured and rounded up.
Where none is given ours are not looser at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.oracle import models

FLIPS = """
    Ours intersect what substitution finds with intervals, the oracle's do not.  The lower line
    of a Relu is chosen by its bounds, so a tighter bound may flip it, and what is best for the
    neuron alone can be worse for a row."""

REWRITES = """
    We read LeakyRelu, Abs and MaxPool as Relus, the oracle has lines of its own: of LeakyRelu
    with another threshold for the steep one, of Abs 0 below, of MaxPool a constant above."""

TANGENTS = """
    Where an interval has the inflection inside, our tangent is at the middle if it may, the
    oracle's as near to the inflection as it may.  Tighter bounds change lines, too."""

WAVES = """
    Between inflections the oracle's tangent is parallel to the chord, ours is at the middle."""

EXPONENTIALS = """
    Below, the oracle's tangent is at the middle, but at most 0.99 above the lower end, where
    it then is positive; ours is at the middle."""

SQUARES = """
    Below a square our tangent is at the middle, the oracle's at the end nearer to 0, or at 0."""

PLANES = """
    We take McCormick's two planes in equal parts, the oracle the first of each pair."""

SUMS = """
    We read an entry of Softmax as the reciprocal of its own sum, the oracle multiplies by the
    reciprocal of a sum that is the same for all entries, whose errors may cancel in a row."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model of ours, and the most by which ours are looser."""

    name: str
    model: models.Model
    looser: Mapping[float, float] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class Published:
    """A published model with the box of a published property, and the same of it."""

    benchmark: str
    model: str
    looser: float = 0.0
    why: str = ""


SAME_LINES = (
    Case("dense", models.feedforward(4, 8, 8, 3)),
    Case("deep", models.feedforward(3, 12, 12, 12, 12, 2)),
    Case("wide", models.feedforward(8, 40, 40, 3)),
    Case("convolutional", models.convolutional, {0.5: 0.022}, FLIPS),
    Case("residual", models.residual, {0.1: 0.039, 0.5: 0.024}, FLIPS),
    Case("average pool", models.pooled("AveragePool")),
    Case("reciprocal", models.through("Reciprocal", shift=2.0), {0.5: 0.0013}, FLIPS),
    Case("logarithm", models.through("Log", shift=2.0), {0.1: 0.00044, 0.5: 0.00035}, FLIPS),
)
"""Both relax these alike, so that they agree layer by layer."""

OTHER_LINES = (
    Case(
        "leaky",
        models.feedforward(4, 8, 8, 3, activation="LeakyRelu", alpha=0.1),
        {0.02: 0.12, 0.1: 0.046, 0.5: 0.0063},
        REWRITES,
    ),
    Case(
        "absolute",
        models.feedforward(4, 8, 8, 3, activation="Abs"),
        {0.02: 0.029, 0.1: 0.089, 0.5: 0.18},
        REWRITES,
    ),
    Case("max pool", models.pooled("MaxPool"), {0.02: 0.0006, 0.5: 0.25}, REWRITES),
    Case(
        "sigmoid",
        models.feedforward(4, 8, 8, 3, activation="Sigmoid"),
        {0.5: 0.0037},
        TANGENTS,
    ),
    Case(
        "tanh",
        models.feedforward(4, 8, 8, 3, activation="Tanh"),
        {0.1: 0.0003, 0.5: 0.031},
        TANGENTS,
    ),
    Case(
        "atan",
        models.feedforward(4, 8, 8, 3, activation="Atan"),
        {0.1: 0.00033, 0.5: 0.0088},
        TANGENTS,
    ),
    Case(
        "sine",
        models.feedforward(4, 8, 8, 3, activation="Sin"),
        {0.02: 0.00039, 0.1: 0.0065, 0.5: 0.064},
        WAVES,
    ),
    Case(
        "cosine",
        models.feedforward(4, 8, 8, 3, activation="Cos"),
        {0.02: 0.0003, 0.1: 0.0063, 0.5: 0.12},
        WAVES,
    ),
    Case("exp", models.through("Exp"), {0.5: 0.043}, EXPONENTIALS),
    Case("square", models.squares, {0.02: 0.014, 0.1: 0.081, 0.5: 0.12}, SQUARES),
    Case("product", models.branches("Mul"), {0.02: 0.023, 0.1: 0.047, 0.5: 0.18}, PLANES),
    Case(
        "quotient",
        models.branches("Div", positive=True),
        {0.02: 0.0021, 0.1: 0.011, 0.5: 0.016},
        PLANES,
    ),
    Case("softmax", models.softmax, {0.02: 0.076, 0.1: 0.3, 0.5: 0.64}, SUMS),
    Case("attention", models.attention, {0.02: 0.0071, 0.1: 0.016}, PLANES + SUMS),
)

PUBLISHED_SAME_LINES = (
    Published("acasxu", "onnx/ACASXU_run2a_2_4_batch_2000.onnx"),
    Published("mnist_fc", "onnx/mnist-net_256x4.onnx"),
    Published("cifar10_resnet", "onnx/resnet_2b.onnx"),
    Published("oval21", "onnx/cifar_base_kw.onnx"),
    Published("cora", "./onnx/mnist-trades.onnx"),
    Published("eran", "nets/mnist_relu_9_200.onnx"),
    Published("rl_benchmarks", "onnx/dubinsrejoin.onnx"),
    Published("safenlp", "onnx/medical/perturbations_0.onnx"),
    Published("reach_prob_density", "onnx/vdp.onnx"),
    Published("tllverifybench", "onnx/tllBench_n=2_N=M=8_m=1_instance_0_3.onnx"),
)

PUBLISHED_OTHER_LINES = (
    Published("eran", "nets/ffnnSIGMOID__Point_6x200.onnx"),
    Published("dist_shift", "onnx/mnist_concat.onnx"),
)
