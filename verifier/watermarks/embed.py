"""Embedding a mark by training: in the weights of a tensor, or in the answers to triggers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import IndexArray
from specs.watermarks.mark import LinearMark, LinearSystem
from verifier.progress import Progress
from verifier.watermarks.graph import Trainable
from verifier.watermarks.training import Training, train


@dataclass(frozen=True)
class Embedding:
    """How strongly a mark is embedded.

    Attributes:
        training: of the whole model.
        weight: of the mark in the loss (of bits), in cross entropies.
        gain: what a form is multiplied by, in units of its row's length, before its sigmoid:
            the smaller it is, the larger the margins grow.
        repeats: how often the triggers stand among the samples.
    """

    training: Training = field(default_factory=Training)
    weight: float = 1.0
    gain: float = 4.0
    repeats: int = 4

    def __post_init__(self) -> None:
        if not (self.weight > 0 and self.gain > 0 and self.repeats > 0):
            raise InputError("weight, gain and repeats of an embedding are positive")


class BitPenalty:
    """Binary cross entropy between the bits of a linear mark and ``sigmoid(gain * form)``.

    Forms are divided by the lengths of their rows, so that all have the same scale.

    Args:
        tensor: the initialiser that carries the mark.
        system: its linear forms.
        weight, gain: as ``Embedding`` has them.
    """

    def __init__(self, tensor: str, system: LinearSystem, weight: float, gain: float) -> None:
        lengths = np.linalg.norm(system.rows, axis=1, keepdims=True)
        unit = system.rows / np.where(lengths > 0, lengths, 1.0)
        self._tensor, self._weight = tensor, weight
        self._rows = torch.tensor(gain * unit, dtype=torch.float32)
        self._positions = torch.tensor(system.positions)
        self._bits = torch.tensor(system.bits, dtype=torch.float32)

    def __call__(self, model: Trainable) -> torch.Tensor:
        """The penalty at a model's parameters."""
        entries = model.weights[self._tensor].reshape(-1)[self._positions]
        forms = self._rows @ entries
        return self._weight * functional.binary_cross_entropy_with_logits(forms, self._bits)


def embed_bits(
    content: bytes,
    points: FloatArray,
    labels: IndexArray,
    mark: LinearMark,
    embedding: Embedding,
    progress: Progress | None = None,
) -> bytes:
    """A model trained on samples until a tensor of it carries a linear mark.

    Args:
        content: the model file to start from, trained or not.
        points: ``(n, inputs)``.
        labels: ``(n,)``.
        mark: NeuralMark or Uchida.

    Returns:
        The model file; only float32 initialisers differ.

    Raises:
        InputError: the model cannot be trained, or has no such tensor.
    """
    model = Trainable(content)
    if mark.tensor not in model.weights:
        raise InputError(f"'{mark.tensor}' is no initialiser of float32 that is trained")
    system = mark.system(tuple(model.weights[mark.tensor].shape))
    penalty = BitPenalty(mark.tensor, system, embedding.weight, embedding.gain)
    train(model, points, labels, embedding.training, penalty, progress, f"embedding {mark.scheme}")
    return model.content()


def embed_answers(
    content: bytes,
    points: FloatArray,
    labels: IndexArray,
    triggers: FloatArray,
    answers: IndexArray,
    embedding: Embedding,
    progress: Progress | None = None,
) -> bytes:
    """A model trained on samples and on triggers, with the answers that the triggers shall have.

    Args:
        content: the model file to start from, trained or not.
        points: ``(n, inputs)``.
        labels: ``(n,)``.
        triggers: ``(k, inputs)``.
        answers: ``(k,)`` classes.

    Raises:
        InputError: the model cannot be trained.
    """
    model = Trainable(content)
    every = np.concatenate([points, *[triggers] * embedding.repeats])
    wanted = np.concatenate([labels, *[answers] * embedding.repeats])
    train(model, every, wanted, embedding.training, None, progress, "embedding triggers")
    return model.content()
