"""Training the parameters of a model file: the one loop that embedding and attacks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import IndexArray
from verifier.progress import Progress
from verifier.watermarks.graph import Trainable

Penalty = Callable[[Trainable], torch.Tensor]
"""What is added to the loss; it sees the present parameters."""


@dataclass(frozen=True)
class Training:
    """How parameters are trained.

    Attributes:
        epochs: passes over the samples, of Adam.
        batch: samples in a step.
        rate: step length; it falls to 0 along half a cosine.
        decay: of the weights, added to the gradient.
        noise: standard deviation of what is added to every input.
        seed: of the order of samples and of the noise.

    Raises:
        InputError: a number makes no sense.
    """

    epochs: int = 40
    batch: int = 64
    rate: float = 2e-3
    decay: float = 1e-4
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1 or self.seed < 0:
            raise InputError("training needs batches of at least 1; epochs and seed from 0 on")
        if not (self.rate > 0 and self.decay >= 0 and self.noise >= 0):
            raise InputError("the rate of a training is positive, decay and noise not negative")


def train(
    model: Trainable,
    points: FloatArray,
    labels: IndexArray,
    training: Training,
    penalty: Penalty | None = None,
    progress: Progress | None = None,
    title: str = "training",
) -> None:
    """Train a model in place: cross entropy on samples, and a penalty on the parameters.

    On one machine and one version of torch the same arguments give the same parameters.

    Args:
        points: ``(n, inputs)``.
        labels: ``(n,)``.
        penalty: added to the loss of every step.

    Raises:
        InputError: there is no sample, or their number is not that of labels.
    """
    if not len(points) or len(points) != len(labels):
        raise InputError(f"{len(points)} samples with {len(labels)} labels to train with")
    inputs = torch.tensor(points, dtype=torch.float32)
    targets = torch.tensor(labels, dtype=torch.int64)
    generator = torch.Generator().manual_seed(training.seed)
    optimiser = torch.optim.Adam(
        model.weights.values(), lr=training.rate, weight_decay=training.decay
    )
    steps = max(1, training.epochs * -(-len(inputs) // training.batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.training = True
    for epoch in range(training.epochs):
        if progress is not None:
            progress.count(title, epoch, training.epochs)
        for chosen in torch.randperm(len(inputs), generator=generator).split(training.batch):
            x = inputs[chosen]
            x = x + training.noise * torch.randn(x.shape, generator=generator)
            optimiser.zero_grad()
            loss = functional.cross_entropy(model.forward(x), targets[chosen])
            if penalty is not None:
                loss = loss + penalty(model)
            loss.backward()
            optimiser.step()
            schedule.step()
    model.training = False
