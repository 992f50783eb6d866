"""Smoothing: radii of a classifier whose radii are known, abstention, resuming."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.watermarks.tails import binomial_tail
from specs.errors import InputError
from tests.faulty_models import graph_bytes, node
from tests.linear_models import linear_model
from tests.verifier.test_statistics_robustness import Stopping
from verifier.resumed import KeptError
from verifier.statistics.blackbox import read_black_box
from verifier.statistics.smoothing import Setting, Smoothed, Smoothing, radius_of
from verifier.statistics.tails import ball, normal_cdf, precision

WEIGHTS = np.array([3.0, 4.0])
"""Of length 5: the distance of x from the plane is |WEIGHTS x| / 5."""
ALPHA = Fraction(1, 1000)
POINTS = np.array([[0.5, 0.25], [-1.0, 0.5], [0.01, 0.0], [0.0, 0.0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("smoothing")


@pytest.fixture(scope="module")
def box(folder):
    path = folder / "net.onnx"
    path.write_bytes(linear_model(WEIGHTS, 0.0))
    return read_black_box(path)


def smoothing(box, setting=None, file=None, points=POINTS, **more):
    setting = setting or Setting(Fraction(1, 4), samples=3000)
    return Smoothing(box, points, np.arange(len(points)), setting, file=file, **more)


def test_radii_are_at_most_the_distance_to_the_plane(box):
    """Smoothed, a linear classifier is itself: its radii are distances."""
    found = smoothing(box).run()
    truth = np.abs(POINTS @ WEIGHTS) / 5
    for one, distance, x in zip(found, truth, POINTS, strict=True):
        radius = one.radius(0.25, ALPHA)
        if x @ WEIGHTS:
            assert one.chosen == int(x @ WEIGHTS < 0)
        if distance < 0.01:
            assert radius is None
        else:
            assert 0.8 * distance < radius <= distance


@given(st.integers(1, 60), st.sampled_from([ALPHA, Fraction(1, 20)]), st.data())
@settings(max_examples=60, deadline=None)
def test_radii_follow_from_counts_and_are_rounded_down(samples, alpha, data):
    hits = data.draw(st.integers(0, samples))
    radius = radius_of(hits, samples, 0.5, alpha)
    half = binomial_tail(samples, Fraction(1, 2), hits) if hits else Fraction(1)
    assert (radius is not None) == (half <= alpha) or half == alpha
    if radius is not None:
        with precision(300):
            share = normal_cdf(Fraction(radius) * 2)
            low = share.lower()
            p = Fraction(int(low.man_exp()[0])) * Fraction(2) ** int(low.man_exp()[1])
            assert binomial_tail(samples, p, hits) <= alpha
            more = normal_cdf(Fraction(radius) * 2 * (1 + Fraction(1, 10**9)))
        assert radius > 0
        assert ball(Fraction(1, 2)) < more


def test_the_largest_radius_is_known():
    """3.81 sigma for 100,000 samples at 99.9 %."""
    assert Setting(Fraction(1)).cap == pytest.approx(3.8115, abs=1e-4)
    assert Setting(Fraction(1, 2)).cap == pytest.approx(3.8115 / 2, abs=1e-4)
    assert Setting(Fraction(1), samples=5).cap == 0.0  # even all of five are no majority


def test_what_has_no_number_has_no_class(folder):
    path = folder / "nan.onnx"
    path.write_bytes(graph_bytes([node("Log", "x", "y")], (1, 2), {}))
    (one,) = smoothing(
        read_black_box(path), Setting(Fraction(1, 100), 5, 50), points=np.array([[-3.0, -3.0]])
    ).run()
    assert (one.chosen, one.hits, one.samples) == (-1, 0, 50)
    assert one.radius(1.0, ALPHA) is None
    assert Smoothed(0, 1, 5, 50, 50).radius(1.0, ALPHA) is not None


def test_a_denoiser_stands_in_front(box, folder):
    path = folder / "denoiser.onnx"
    path.write_bytes(graph_bytes([node("Neg", "x", "y")], (1, 2), {}))
    plain = smoothing(box, points=POINTS[:2]).run()
    behind = smoothing(box, points=POINTS[:2], denoiser=read_black_box(path)).run()
    assert [one.chosen for one in behind] == [1 - one.chosen for one in plain]
    wide = folder / "wide.onnx"
    wide.write_bytes(graph_bytes([node("Concat", "x x", "y", axis=1)], (1, 2), {}))
    with pytest.raises(InputError, match="denoiser gives 4 numbers, and the model takes 2"):
        smoothing(box, denoiser=read_black_box(wide))


def test_smoothing_goes_on_where_it_stopped(box, tmp_path):
    file = tmp_path / "counts.json"
    whole = smoothing(box).run()
    with pytest.raises(KeyboardInterrupt):
        smoothing(box, file=file, progress=Stopping(2)).run()
    assert len(json.loads(file.read_text())["inputs"]) == 2
    assert smoothing(box, file=file).run() == whole
    kept = json.loads(file.read_text())
    kept["inputs"] = kept["inputs"][:2]
    part = smoothing(box, Setting(Fraction(1, 4), samples=1000)).run()[1]
    kept["inputs"][1][3:] = [part.hits, 1000]
    file.write_text(json.dumps(kept))
    assert smoothing(box, file=file).run() == whole


def test_a_file_of_another_run_is_refused(box, tmp_path):
    file = tmp_path / "counts.json"
    setting = Setting(Fraction(1, 4), samples=100)
    smoothing(box, setting, file).run()
    for other in (
        Setting(Fraction(1, 2), samples=100),
        Setting(Fraction(1, 4), samples=200),
        Setting(Fraction(1, 4), samples=100, seed=1),
        Setting(Fraction(1, 4), selection=50, samples=100),
    ):
        with pytest.raises(KeptError, match="another run of smoothing"):
            smoothing(box, other, file).run()
    kept = json.loads(file.read_text())
    for row in ([7, 0, 1, 1, 1], [0, 0, 1, 101, 100], [0, 0, 1, 5, 101]):
        file.write_text(json.dumps({**kept, "inputs": [row]}))
        with pytest.raises(KeptError, match="another run of smoothing"):
            smoothing(box, setting, file).run()
    endless = '{"digest": "", "inputs": [[0, 0, 0, 0, Infinity]]}'
    for text in ("", "{}", '{"digest": "", "inputs": [[1]]}', endless):
        file.write_text(text)
        with pytest.raises(KeptError, match="no file of smoothing"):
            smoothing(box, setting, file).run()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Setting(Fraction(0)), "sigma 0"),
        (lambda: Setting(Fraction(1), selection=0), "0 and 100000 samples"),
        (lambda: Setting(Fraction(1), samples=0), "100 and 0 samples"),
        (lambda: Setting(Fraction(1), seed=-1), "seed -1"),
        (lambda: Setting(Fraction(1), alpha=Fraction(1, 2)), "fail with probability 1/2"),
        (lambda: Setting(Fraction(1), alpha=Fraction(0)), "fail with probability 0"),
    ],
)
def test_settings_of_nonsense(wrong, message):
    with pytest.raises(InputError, match=message):
        wrong()


def test_samples_that_do_not_fit(box):
    with pytest.raises(InputError, match="input of 2 numbers"):
        smoothing(box, points=np.zeros((1, 3)))
    assert math.isfinite(Setting(Fraction(1)).scale)
