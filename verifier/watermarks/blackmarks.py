"""Making a BlackMarks mark: clusters of classes, adversarial key inputs, and how they are chosen.

After Chen, Rouhani and Koushanfar (2019).  Key inputs are made from honest samples by a targeted
fast gradient sign method in several steps; of the candidates for a bit, the one is kept that the
marked model answers rightly and the fewest models without the mark do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import IndexArray
from specs.watermarks.key import BoolArray, Key
from specs.watermarks.schemes.blackmarks import signature
from verifier.progress import Progress
from verifier.watermarks.embed import Embedding, embed_answers
from verifier.watermarks.graph import Trainable
from verifier.watermarks.training import Training


@dataclass(frozen=True)
class Making:
    """How key inputs are made.

    Attributes:
        count: bits.
        spare: candidates for each.
        reach: how far an input may move, in L-infinity.
        steps: of the method, each of a quarter of ``reach``.
        low, high: of inputs.
        embedding: into the model, which is fine-tuned.
        seed: of sources and targets.

    Raises:
        InputError: a number makes no sense.
    """

    count: int = 32
    spare: int = 8
    reach: float = 0.1
    steps: int = 8
    low: float = 0.0
    high: float = 1.0
    embedding: Embedding = field(
        default_factory=lambda: Embedding(Training(epochs=30, noise=0.02), repeats=1)
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.count, self.spare, self.steps) < 1 or self.seed < 0:
            raise InputError("key inputs need bits, candidates and steps, and a seed from 0 on")
        if not (self.low < self.high and self.reach > 0):
            raise InputError("key inputs need low < high and a positive reach")


@dataclass(frozen=True, eq=False)
class Made:
    """A marked model and its mark.

    Attributes:
        content: the model file.
        points: ``(count, inputs)`` key inputs, numbers of float32.
        targets: ``(count,)`` the classes that they were embedded with.
        clusters: ``(classes,)``, 0 or 1.
    """

    content: bytes
    points: FloatArray
    targets: IndexArray
    clusters: tuple[int, ...]


def clusters_of(means: FloatArray) -> tuple[int, ...]:
    """Two clusters of classes, by 2-means on the classes' mean scores ``(classes, outputs)``.

    It starts from the two means that are farthest apart; both clusters hold a class.

    Raises:
        InputError: fewer than two different means.
    """
    distances = np.linalg.norm(means[:, None] - means[None], axis=2)
    first, second = np.unravel_index(np.argmax(distances), distances.shape)
    if not distances[first, second] > 0:
        raise InputError("classes with the same mean scores form no two clusters")
    centres = means[[first, second]]
    found = np.zeros(len(means), np.int64)
    for _ in range(100):
        near = np.linalg.norm(means[:, None] - centres[None], axis=2)
        found = np.argmin(near, axis=1)
        found[np.argmin(near[:, 0])], found[np.argmin(near[:, 1])] = 0, 1
        after = np.stack([means[found == cluster].mean(axis=0) for cluster in (0, 1)])
        if np.array_equal(after, centres):
            break
        centres = after
    return tuple(int(cluster) for cluster in found)


def mean_scores(model: Trainable, points: FloatArray, labels: IndexArray) -> FloatArray:
    """``(classes, outputs)``: the mean scores of samples of each class.

    Raises:
        InputError: a class has no sample.
    """
    scores = model.scores(points)
    present = [scores[labels == label] for label in range(scores.shape[1])]
    if not all(len(part) for part in present):
        raise InputError("a class has no sample to make clusters of")
    return np.stack([part.mean(axis=0) for part in present])


def embed_blackmarks(
    content: bytes,
    points: FloatArray,
    labels: IndexArray,
    key: Key,
    unmarked: Sequence[bytes],
    making: Making,
    progress: Progress | None = None,
) -> Made:
    """A model that answers key inputs as a key's signature says.

    Args:
        content: a trained model file.
        points: ``(n, inputs)`` samples.
        labels: ``(n,)``.
        unmarked: other models, by which candidates are chosen; how often bits match by chance
            has to be measured on models that are not among them.

    Raises:
        InputError: the model cannot be trained, or samples are lacking.
    """
    model = Trainable(content)
    clusters = clusters_of(mean_scores(model, points, labels))
    bits = signature(key, making.count)
    inputs, targets = candidates(model, points, bits, clusters, making)
    marked = embed_answers(content, points, labels, inputs, targets, making.embedding, progress)
    wanted = np.repeat(bits, making.spare)
    wrong = ~answered(Trainable(marked), inputs, wanted, clusters)
    hits = sum((answered(Trainable(m), inputs, wanted, clusters) for m in unmarked), 0 * wrong)
    order = (wrong * (len(unmarked) + 1) + hits).reshape(making.count, making.spare)
    chosen = np.arange(making.count) * making.spare + np.argmin(order, axis=1)
    return Made(marked, inputs[chosen], targets[chosen], clusters)


def candidates(
    model: Trainable,
    points: FloatArray,
    bits: BoolArray,
    clusters: Sequence[int],
    making: Making,
) -> tuple[FloatArray, IndexArray]:
    """Key inputs ``(count * spare, inputs)``, those of a bit in a row, and target classes.

    Each starts from a sample that the model puts into the other cluster.

    Raises:
        InputError: the model puts no sample into a cluster.
    """
    draw = np.random.default_rng(making.seed)
    cluster = np.array(clusters)
    side = cluster[np.argmax(model.scores(points), axis=1)]
    if not 0 < side.sum() < side.size:
        raise InputError("the model puts all samples into one cluster")
    wanted = np.repeat(bits, making.spare).astype(np.int64)
    sources = np.array([draw.choice(np.flatnonzero(side != bit)) for bit in wanted])
    targets = np.array([draw.choice(np.flatnonzero(cluster == bit)) for bit in wanted])
    start = torch.tensor(points[sources], dtype=torch.float32)
    low = torch.clamp(start - making.reach, min=making.low)
    high = torch.clamp(start + making.reach, max=making.high)
    x, goal = start.clone(), torch.tensor(targets)
    for _ in range(making.steps):
        x.requires_grad_()
        loss = functional.cross_entropy(model.forward(x), goal, reduction="sum")
        (slope,) = torch.autograd.grad(loss, [x])
        with torch.no_grad():
            x = torch.clamp(x - making.reach / 4 * slope.sign(), low, high)
    return x.numpy().astype(np.float64), targets


def answered(
    model: Trainable, points: FloatArray, bits: BoolArray, clusters: Sequence[int]
) -> BoolArray:
    """``(n,)``: whether a model puts inputs into the clusters of the bits, in float32."""
    found = np.argmax(model.scores(points), axis=1)
    return np.asarray(np.array(clusters)[found] == bits.astype(np.int64))


def chance_hits(
    models: Sequence[bytes], points: FloatArray, bits: BoolArray, clusters: Sequence[int]
) -> list[int]:
    """``(n,)``: by bit, in how many models without the mark it matches."""
    total = np.zeros(len(points), np.int64)
    for content in models:
        total += answered(Trainable(content), points, bits, clusters)
    return [int(hit) for hit in total]
