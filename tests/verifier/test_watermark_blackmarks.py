"""Making BlackMarks: clusters, adversarial key inputs, and chance matches."""

import numpy as np
import pytest
from marked_models import blobs, dense

from specs.errors import InputError
from specs.watermarks.key import Key
from specs.watermarks.schemes.blackmarks import signature
from verifier.watermarks.blackmarks import (
    Making,
    answered,
    candidates,
    chance_hits,
    clusters_of,
    embed_blackmarks,
    mean_scores,
)
from verifier.watermarks.embed import Embedding
from verifier.watermarks.graph import Trainable, accuracy
from verifier.watermarks.training import Training, train

POINTS, LABELS = blobs()
KEY = Key(b"owner, sixteen b")
MAKING = Making(
    count=8, spare=3, reach=0.3, low=-1.0, high=2.0, embedding=Embedding(Training(epochs=25))
)


@pytest.fixture(scope="module")
def models():
    """Trained models, independently of each other."""
    found = []
    for seed in range(5):
        model = Trainable(dense(seed, width=24))
        train(model, POINTS, LABELS, Training(epochs=20, rate=1e-2, batch=30, seed=seed))
        found.append(model.content())
    return found


def test_two_clusters_are_found():
    draw = np.random.default_rng(0)
    means = draw.normal(size=(9, 3)) + 10 * np.array([1, 0, 1, 1, 0, 0, 1, 0, 0])[:, None]
    found = clusters_of(means)
    assert found in ((1, 0, 1, 1, 0, 0, 1, 0, 0), (0, 1, 0, 0, 1, 1, 0, 1, 1))
    assert sorted(clusters_of(np.eye(2))) == [0, 1]
    assert set(clusters_of(draw.normal(size=(5, 2)))) == {0, 1}
    with pytest.raises(InputError, match="no two clusters"):
        clusters_of(np.ones((3, 2)))


def test_candidates_start_across_and_stay_near(models):
    model = Trainable(models[0])
    clusters = clusters_of(mean_scores(model, POINTS, LABELS))
    bits = signature(KEY, MAKING.count)
    inputs, targets = candidates(model, POINTS, bits, clusters, MAKING)
    assert inputs.shape == (24, 16)
    assert np.array_equal(np.array(clusters)[targets], np.repeat(bits, 3))
    distance = np.abs(inputs[:, None] - POINTS[None]).max(axis=2)
    sides = np.array(clusters)[np.argmax(model.scores(POINTS), axis=1)]
    across = sides[None, :] != np.repeat(bits, 3)[:, None]
    assert np.all(np.where(across, distance, 9).min(axis=1) <= MAKING.reach + 1e-6)
    assert np.array_equal(inputs, inputs.astype(np.float32))


def test_the_marked_model_answers_and_others_seldom_do(models):
    made = embed_blackmarks(models[0], POINTS, LABELS, KEY, models[1:3], MAKING)
    bits = signature(KEY, MAKING.count)
    marked = answered(Trainable(made.content), made.points, bits, made.clusters)
    assert marked.sum() >= 7
    assert accuracy(made.content, POINTS, LABELS) > 0.9
    hits = chance_hits(models[3:], made.points, bits, made.clusters)
    assert all(0 <= hit <= 2 for hit in hits)
    both = [answered(Trainable(m), made.points, bits, made.clusters) for m in models[3:]]
    assert hits == (both[0].astype(int) + both[1]).tolist()
    assert sum(hits) < 2 * 8


def test_samples_that_are_lacking_are_said(models):
    model = Trainable(models[0])
    with pytest.raises(InputError, match="a class has no sample"):
        mean_scores(model, POINTS[LABELS != 2], LABELS[LABELS != 2])
    with pytest.raises(InputError, match="all samples into one cluster"):
        candidates(model, POINTS[:1], signature(KEY, 8), (0, 1, 1, 0), MAKING)


@pytest.mark.parametrize(
    "make",
    [lambda: Making(count=0), lambda: Making(reach=0.0), lambda: Making(low=1.0)],
    ids=["count", "reach", "range"],
)
def test_makings_that_make_no_sense(make):
    with pytest.raises(InputError):
        make()
