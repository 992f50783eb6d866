"""A MIRA-style attack on trigger sets: invert the model, and unlearn what is found.

The attack knows the model and some honest samples, not the triggers.  It inverts the model:
random inputs are moved until the model is sure of a class.  An input of which it is sure, though
it is far from every honest sample, may be answered so because of a trigger.  Those are then
unlearned: the model is trained to answer them as an independent guess would, and to keep its
answers to honest samples.  A plain version of what MIRA and Dehydra do; not their code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn import functional

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import IndexArray
from verifier.progress import Progress
from verifier.watermarks.graph import Trainable
from verifier.watermarks.training import Training, train


@dataclass(frozen=True)
class Inversion:
    """How the attack runs.

    Attributes:
        count: inputs that are inverted, in turn for every class.
        steps: of Adam on an input.
        rate: step length.
        pull: weight of the mean absolute difference of neighbouring entries, which keeps inputs
            plain.
        confidence: inputs of less are not unlearned.
        distance: inputs nearer than this to an honest sample, in L-infinity, neither.
        low, high: of inputs.
        repeats: how often what is unlearned stands among the samples.
        rounds: of inverting and unlearning; what was found before is unlearned again.
        unlearning: of the model.
        seed: of starts and of the new labels.

    Raises:
        InputError: a number makes no sense.
    """

    count: int = 200
    steps: int = 60
    rate: float = 0.05
    pull: float = 0.05
    confidence: float = 0.9
    distance: float = 0.3
    low: float = 0.0
    high: float = 1.0
    repeats: int = 2
    rounds: int = 1
    unlearning: Training = field(default_factory=lambda: Training(epochs=10, rate=1e-3))
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.count, self.steps, self.repeats, self.rounds) < 1 or self.seed < 0:
            raise InputError("an inversion needs inputs, steps, repeats, rounds; a seed from 0 on")
        if not (self.low < self.high and self.rate > 0 and 0 <= self.confidence <= 1):
            raise InputError("an inversion needs low < high, a positive rate and a confidence")


@dataclass(frozen=True, eq=False)
class Unlearned:
    """What the attack made.

    Attributes:
        content: the model file.
        inverted: ``(k, inputs)`` what was unlearned.
        answers: ``(k,)`` the classes that the model was sure of.
    """

    content: bytes
    inverted: FloatArray
    answers: IndexArray


def unlearned(
    content: bytes,
    points: FloatArray,
    labels: IndexArray,
    inversion: Inversion,
    progress: Progress | None = None,
) -> Unlearned:
    """A model that has unlearned what inverting it brought up.

    Args:
        content: the model file.
        points: ``(n, inputs)`` honest samples.
        labels: ``(n,)``.

    Raises:
        InputError: the model cannot be trained, or there are no samples.
    """
    model = Trainable(content)
    outputs = model.scores(points[:1]).shape[1]
    draw = np.random.default_rng(inversion.seed + 1)
    found, answers = np.zeros((0, points.shape[1])), np.zeros(0, np.int64)
    other = answers
    for number in range(inversion.rounds):
        more, sure = inverted(model, points, replace(inversion, seed=inversion.seed + number))
        if not len(more):
            break
        wrong = (sure + draw.integers(1, outputs, len(sure))) % outputs
        found, answers = np.concatenate([found, more]), np.concatenate([answers, sure])
        other = np.concatenate([other, wrong])
        every = np.concatenate([points, *[found] * inversion.repeats])
        wanted = np.concatenate([labels, *[other] * inversion.repeats])
        train(model, every, wanted, inversion.unlearning, None, progress, "unlearning")
    return Unlearned(model.content() if len(found) else content, found, answers)


def inverted(
    model: Trainable, points: FloatArray, inversion: Inversion
) -> tuple[FloatArray, IndexArray]:
    """Inputs far from honest samples of whose class a model is sure, and the classes."""
    outputs = model.scores(points[:1]).shape[1]
    generator = torch.Generator().manual_seed(inversion.seed)
    start = torch.rand((inversion.count, points.shape[1]), generator=generator)
    x = (inversion.low + (inversion.high - inversion.low) * start).requires_grad_()
    wanted = torch.arange(inversion.count) % outputs
    optimiser = torch.optim.Adam([x], lr=inversion.rate)
    for _ in range(inversion.steps):
        optimiser.zero_grad()
        loss = functional.cross_entropy(model.forward(x), wanted, reduction="sum")
        loss = loss + inversion.pull * (x[:, 1:] - x[:, :-1]).abs().sum()
        (x.grad,) = torch.autograd.grad(loss, [x])
        optimiser.step()
        with torch.no_grad():
            x.clamp_(inversion.low, inversion.high)
    with torch.no_grad():
        sure = torch.softmax(model.forward(x), 1)[torch.arange(len(x)), wanted]
    candidates = x.detach().numpy().astype(np.float64)
    far = np.array([np.abs(points - each).max(axis=1).min() for each in candidates])
    chosen = (sure.numpy() >= inversion.confidence) & (far >= inversion.distance)
    return candidates[chosen], wanted.numpy()[chosen]
