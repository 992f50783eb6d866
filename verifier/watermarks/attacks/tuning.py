"""Fine-tuning, on labels or towards a second mark."""

from __future__ import annotations

from specs.enclosure import FloatArray
from specs.linear import IndexArray
from specs.watermarks.mark import LinearMark
from verifier.progress import Progress
from verifier.watermarks.embed import Embedding, embed_bits
from verifier.watermarks.graph import Trainable
from verifier.watermarks.training import Training, train


def fine_tuned(
    content: bytes,
    points: FloatArray,
    labels: IndexArray,
    training: Training,
    progress: Progress | None = None,
) -> bytes:
    """A model trained further on labelled samples, all its parameters.

    Args:
        content: the model file.
        points: ``(n, inputs)``.
        labels: ``(n,)``.

    Raises:
        InputError: the model cannot be trained, or there are no samples.
    """
    model = Trainable(content)
    train(model, points, labels, training, None, progress, "fine-tuning")
    return model.content()


def overwritten(
    content: bytes,
    points: FloatArray,
    labels: IndexArray,
    second: LinearMark,
    embedding: Embedding,
    progress: Progress | None = None,
) -> bytes:
    """A model with a second mark embedded, by another key, as an owner would embed it.

    Raises:
        InputError: the model cannot be trained, or cannot carry the mark.
    """
    return embed_bits(content, points, labels, second, embedding, progress)
