"""Bounds that are trained: the hardened network as a function of its bounds, and its gradient.

The bounds stand as initialisers in the network (``stored`` restrictions), so that their places
are known; what a bound does to a loss is the gradient of the sums that it stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proofs.functions import function
from specs.errors import InputError
from specs.faults.placed import Placed, place_model
from specs.linear import IndexArray
from specs.network import Linear, Network, Perturbed, Product, Univariate
from specs.query import ModelFile
from verifier.attack_forward import NumpyEvaluator
from verifier.harden.data import Samples, labels_of
from verifier.harden.surgery import PREFIX, FloatArray, Restriction, restricted
from verifier.progress import Progress

Bounds = Mapping[str, FloatArray]
"""By initialiser, flat."""


@dataclass(frozen=True)
class Training:
    """How bounds are trained.

    Attributes:
        epochs: passes over the samples, of Adam on the logarithms of the bounds.
        batch: samples in a step.
        rate: step length.
        weight: of the penalty, the mean square of bounds relative to those at the start.
        loss: of accuracy on the samples that is accepted, as a share; see ``least``.
        seed: of the order of samples.
    """

    epochs: int = 60
    batch: int = 64
    rate: float = 0.002
    weight: float = 0.3
    loss: float = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.seed < 0:
            raise InputError("training needs epochs and batches of at least 1, and a seed")
        if min(self.rate, self.weight, self.loss) < 0:
            raise InputError("rate, weight and loss of a training are not negative")


@dataclass(frozen=True, eq=False)
class Adjustable:
    """A hardened network whose bounds can be changed.

    Attributes:
        placed: with the bounds as followed parameters.
    """

    placed: Placed

    @property
    def bounds(self) -> dict[str, FloatArray]:
        """Those that it has."""
        return {name: each.values.copy() for name, each in self.placed.parameters.items()}

    def with_bounds(self, bounds: Bounds) -> Network:
        """The network with other bounds."""
        return self.placed.with_values(bounds)

    def gradient(
        self, network: Network, x: FloatArray, directions: Callable[[FloatArray], FloatArray]
    ) -> dict[str, FloatArray]:
        """The gradient with respect to each bound.

        Args:
            network: with some bounds.
            x: ``(B, input_size)``.
            directions: from outputs to the gradient of the loss there, ``(B, outputs)``.
        """
        values = tensors(network, x)
        y = np.concatenate([values[o] for o in network.outputs], axis=1)
        nodes = backward(network, values, directions(y))
        found = {}
        for name, parameter in self.placed.parameters.items():
            total = np.zeros(parameter.size)
            for place in self.placed.of[name]:
                if place.term is not None:
                    raise InputError(f"the bound '{name}' stands in a product")
                own = nodes.get(place.node)
                if own is None:
                    continue
                held = np.flatnonzero(place.entries >= 0)
                part = own.sum(axis=0)[held] * place.factor.value[held]
                total += np.bincount(place.entries[held], part, minlength=parameter.size)
            found[name] = total
        return found


def adjustable(content: bytes, restrictions: Sequence[Restriction]) -> Adjustable:
    """The model with these restrictions, whose bounds can be changed."""
    own = [replace(each, stored=True) for each in restrictions]
    made = restricted(content, own)
    names = tuple(f"{PREFIX}{each.tensor}/{side}" for each in own for side in each.sides)
    return Adjustable(place_model(ModelFile(None, made, "0" * 64), names))


def with_values(restrictions: Sequence[Restriction], bounds: Bounds) -> list[Restriction]:
    """The restrictions with other bounds."""
    found = []
    for each in restrictions:
        sides = {}
        for side, values in each.sides.items():
            given = bounds.get(f"{PREFIX}{each.tensor}/{side}")
            sides[side] = values if given is None else given.reshape(values.shape)
        found.append(replace(each, upper=sides["upper"], lower=sides.get("lower")))
    return found


def trained(
    model: Adjustable,
    names: Sequence[str],
    samples: Samples,
    teacher: Network | None,
    least: float,
    training: Training,
    progress: Progress,
) -> dict[str, FloatArray]:
    """Bounds that are as small as the loss of accuracy allows.

    Minimised is the cross-entropy with the labels, or with the outputs of a teacher, plus
    ``weight`` times the mean of ``(bound / bound at the start)^2``.  What is returned are the
    bounds of the last epoch after which the accuracy on the samples (or the agreement with the
    teacher) was ``least`` or more; if there was none, those of the most accurate epoch.

    Args:
        model: the network; its bounds are the start, and positive.
        names: the bounds that are trained; the others stay.
        samples: with labels, unless there is a teacher.
        teacher: whose classes count instead of labels.
        least: an accuracy.
        training: how.
        progress: where to report.

    Raises:
        InputError: there are neither labels nor a teacher.
    """
    labels, target = _targets(samples, teacher, model.placed.network.output_size)
    start = model.bounds
    if any(np.any(start[name] <= 0) for name in names):
        raise InputError("bounds that are trained start above 0")
    rng = np.random.default_rng(training.seed)
    logs = {name: np.log(start[name]) for name in names}
    first = {name: np.zeros_like(part) for name, part in logs.items()}
    second = {name: np.zeros_like(part) for name, part in logs.items()}
    count = sum(part.size for part in logs.values())
    best, step = dict(start), 0
    most = accuracy(model.with_bounds(start), samples.inputs, labels)
    for epoch in range(training.epochs):
        progress.count("training bounds: epoch", epoch, training.epochs)
        order = rng.permutation(len(samples))
        for at in range(0, len(order), training.batch):
            chosen = order[at : at + training.batch]
            now = {**start, **{name: np.exp(part) for name, part in logs.items()}}

            def directions(y: FloatArray, chosen: IndexArray = chosen) -> FloatArray:
                return (softmax(y) - target[chosen]) / len(chosen)

            found = model.gradient(model.with_bounds(now), samples.inputs[chosen], directions)
            step += 1
            for name in names:
                ratio = now[name] / start[name]
                slope = found[name] + 2.0 * training.weight * ratio / start[name] / count
                slope = slope * now[name]  # of the logarithm
                first[name] = 0.9 * first[name] + 0.1 * slope
                second[name] = 0.999 * second[name] + 0.001 * slope**2
                scale = np.sqrt(second[name] / (1.0 - 0.999**step)) + 1e-12
                logs[name] -= training.rate * first[name] / (1.0 - 0.9**step) / scale
        now = {**start, **{name: np.exp(part) for name, part in logs.items()}}
        right = accuracy(model.with_bounds(now), samples.inputs, labels)
        if right >= min(least, most):
            best, most = now, max(most, right)
    progress.clear()
    return best


def accuracy(network: Network, inputs: FloatArray, labels: IndexArray) -> float:
    """The share of samples whose greatest output is their label's, in floating point."""
    with np.errstate(all="ignore"):
        y = NumpyEvaluator(network).evaluate(inputs)[0]
    return float(np.mean((np.argmax(y, axis=1) == labels) & np.all(np.isfinite(y), axis=1)))


def softmax(y: FloatArray) -> FloatArray:
    """By rows."""
    shifted = np.exp(y - y.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def tensors(network: Network, x: FloatArray) -> list[FloatArray]:
    """Every tensor ``(B, n)`` at inputs ``(B, input_size)``, in floating point."""
    edges = np.cumsum([network.sizes[i] for i in network.inputs])[:-1]
    parts = iter(np.split(x, edges, axis=1))
    values: list[FloatArray] = []
    for node in network.nodes:
        match node:
            case Linear():
                total = np.repeat(node.offset.value[None], len(x), axis=0)
                for term in node.terms:
                    weight = None if term.map.weight is None else term.map.weight.value
                    total += term.map.forward(values[term.source], weight, np.matmul)
                values.append(total)
            case Product():
                values.append(values[node.left] * values[node.right])
            case Univariate():
                rule = function(node.function, node.parameters)
                values.append(rule.value(values[node.source]))
            case Perturbed():
                values.append(values[node.source])
            case _:
                values.append(next(parts))
    return values


def backward(
    network: Network, values: Sequence[FloatArray], directions: FloatArray
) -> dict[int, FloatArray]:
    """By tensor, the gradient ``(B, n)``; tensors that no output depends on have none.

    Args:
        network: of sums, products and univariate functions.
        values: its tensors.
        directions: ``(B, outputs)``, the gradient there.
    """
    found: dict[int, FloatArray] = {}

    def add(number: int, part: FloatArray) -> None:
        found[number] = found[number] + part if number in found else part

    start = 0
    for number in network.outputs:
        add(number, directions[:, start : start + network.sizes[number]])
        start += network.sizes[number]
    for number in range(len(network.nodes) - 1, -1, -1):
        node = network.nodes[number]
        if number not in found:
            continue
        own = found[number]
        match node:
            case Linear():
                for term in node.terms:
                    weight = None if term.map.weight is None else term.map.weight.value
                    add(term.source, term.map.adjoint(own, weight, np.matmul))
            case Product():
                add(node.left, own * values[node.right])
                add(node.right, own * values[node.left])
            case Univariate():
                rule = function(node.function, node.parameters)
                add(node.source, own * rule.derivative(values[node.source]))
            case Perturbed():
                add(node.source, own)
    return found


def _targets(
    samples: Samples, teacher: Network | None, outputs: int
) -> tuple[IndexArray, FloatArray]:
    """Classes that count as right, and the distributions to come near to."""
    if teacher is not None:
        y = NumpyEvaluator(teacher).evaluate(samples.inputs)[0]
        return np.argmax(y, axis=1), softmax(y)
    labels = labels_of(samples, outputs)
    return labels, np.eye(outputs)[labels]
