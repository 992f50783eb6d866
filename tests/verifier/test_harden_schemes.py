"""Bounds made from samples: the published schemes and ours, on tiny networks."""

from __future__ import annotations

import numpy as np
import pytest

from specs.errors import InputError
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, StuckAt
from tests.faulty_models import conv_model, dense_model, model_file
from tests.networks import evaluate
from verifier.harden import schemes
from verifier.harden.clipact import Thresholds
from verifier.harden.config import read_config
from verifier.harden.data import Samples, profiled, read_samples
from verifier.harden.harden import harden
from verifier.harden.surgery import PREFIX, behind, restrictions_of
from verifier.harden.theorem import probe
from verifier.harden.tuned import Training, accuracy, adjustable, softmax
from verifier.progress import Progress

QUIET = Progress(enabled=False)
QUICK = Training(epochs=3, batch=16)


def subject(content: bytes) -> schemes.Subject:
    return schemes.subject(content, probe(content, behind(content, ["Relu"])))


def samples(given: schemes.Subject, count: int = 60) -> Samples:
    """Random inputs, labelled by the network itself."""
    x = np.random.default_rng(0).normal(size=(count, given.network.input_size))
    return Samples(x, np.argmax(evaluate(given.network, x), axis=1))


DENSE = subject(dense_model((6, 8, 7, 3)))
SAMPLES = samples(DENSE)


def test_ranger_has_the_extremes_of_tensors():
    found = schemes.ranger(DENSE, SAMPLES)
    values = DENSE.probe.split(evaluate(DENSE.probe.network, SAMPLES.inputs))
    for each, part in zip(found, values, strict=True):
        assert each.action == "clip"
        assert each.lower == 0.0 == part.min()
        assert part.max() <= each.upper <= part.max() * (1 + 2.0**-23)


def test_percentiles_are_those_of_entries():
    low, high = profiled(DENSE.probe, SAMPLES, 90.0)
    values = evaluate(DENSE.probe.network, SAMPLES.inputs)
    assert np.allclose(high, np.percentile(values, 90.0, axis=0))
    assert np.allclose(low, np.percentile(values, 10.0, axis=0))


def test_thresholds_of_clipact_do_better_than_none_and_are_the_same_again():
    search = Thresholds(rates=(3e-3, 1e-2), trials=3, samples=40, rounds=2)
    faults = BitFlips(format=Quantised(8))
    found, again = (schemes.clipact(DENSE, SAMPLES, faults, search, QUIET) for _ in range(2))
    start = schemes.ranger(DENSE, SAMPLES)
    for each, other, most in zip(found, again, start, strict=True):
        assert each.action == "zero"
        assert 0 < each.upper <= most.upper
        assert each.upper == other.upper


def test_neural_fuse_s_memory_is_a_fault_model_of_the_search():
    """Cells of int8 words, stuck at either value."""
    search = Thresholds(rates=(1e-2,), trials=2, samples=20, rounds=1)
    faults = StuckAt(format=Quantised(8))
    found = schemes.clipact(DENSE, SAMPLES, faults, search, QUIET)
    assert all(each.upper > 0 for each in found)


@pytest.mark.parametrize("name", ["fitact", "proact", "learnt"])
def test_trained_bounds_are_smaller_and_keep_the_predictions(name):
    if name == "learnt":
        found = schemes.learnt(DENSE, SAMPLES, "neuron", QUICK, QUIET)
    else:
        found = getattr(schemes, name)(DENSE, SAMPLES, QUICK, QUIET)
    action = "smooth" if name == "fitact" else "clip"
    assert [each.action for each in found] == [action, action]
    sizes = {"fitact": [8, 7], "proact": [1, 7], "learnt": [8, 7]}[name]
    assert [each.upper.size for each in found] == sizes
    assert all((each.upper > 0).all() and each.lower is None for each in found)
    model = adjustable(DENSE.content, found)
    before = accuracy(DENSE.network, SAMPLES.inputs, SAMPLES.labels)
    assert accuracy(model.placed.network, SAMPLES.inputs, SAMPLES.labels) >= 0.9 * before


@pytest.mark.parametrize("action", ["clip", "smooth"])
@pytest.mark.parametrize("make", [dense_model, conv_model], ids=["dense", "conv"])
def test_gradients_of_bounds_are_differences(action, make):
    given = subject(make())
    x = np.random.default_rng(1).normal(size=(7, given.network.input_size))
    ends = schemes.profile(given, Samples(x))
    found = [
        schemes.Restriction(each.tensor, np.maximum(0.6 * each.upper, 0.1), None, action)
        for each in schemes.from_ends(given, ends, per="neuron", action="clip")
    ]
    found = schemes._rounded(given, found)
    model = adjustable(given.content, found)
    target = np.eye(given.network.output_size)[np.arange(7) % given.network.output_size]

    def loss(bounds) -> float:
        y = evaluate(model.with_bounds(bounds), x)
        return float(-(target * np.log(softmax(y))).sum())

    start = model.bounds
    slopes = model.gradient(model.with_bounds(start), x, lambda y: softmax(y) - target)
    assert set(slopes) == {f"{PREFIX}{each.tensor}/upper" for each in found}
    for name, slope in slopes.items():
        for entry in np.argsort(-np.abs(slope))[:2]:
            moved = [dict(start), dict(start)]
            for sign, bounds in zip((1, -1), moved, strict=True):
                bounds[name] = start[name].copy()
                bounds[name][entry] += sign * 1e-6
            difference = (loss(moved[0]) - loss(moved[1])) / 2e-6
            assert slope[entry] == pytest.approx(difference, rel=1e-3, abs=1e-6)


def test_the_same_seed_gives_the_same_model(tmp_path):
    np.savez(tmp_path / "d.npz", inputs=SAMPLES.inputs, labels=SAMPLES.labels)
    config = tmp_path / "c.toml"
    config.write_text(
        '[restrict]\nscheme = "proact"\n[data]\nfile = "d.npz"\n[training]\nepochs = 2\nseed = 4\n'
    )
    first, second = (harden(model_file(DENSE.content), read_config(config)) for _ in range(2))
    assert first.content == second.content
    assert first.theorem is None
    assert len(restrictions_of(first.content)) == 2


def test_schemes_for_relus_refuse_other_tensors():
    given = schemes.subject(DENSE.content, probe(DENSE.content, ["z0", "h0"]))
    with pytest.raises(InputError, match="no result of a Relu"):
        schemes.fitact(given, SAMPLES, QUICK, QUIET)


def test_labels_are_needed_where_they_are_used():
    with pytest.raises(InputError, match="labels are needed"):
        schemes.fitact(DENSE, Samples(SAMPLES.inputs), QUICK, QUIET)
    wrong = Samples(SAMPLES.inputs, SAMPLES.labels + 1)
    with pytest.raises(InputError, match="for 3 outputs"):
        schemes.fitact(DENSE, wrong, QUICK, QUIET)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"images": np.zeros((2, 6))}, "no array 'inputs'"),
        ({"inputs": np.zeros((2, 5))}, "has 6 inputs"),
        ({"inputs": np.full((2, 6), np.nan)}, "not finite"),
        ({"inputs": np.full((2, 6), 2**53 + 1)}, "float64 does not"),
        ({"inputs": np.zeros((2, 6)), "labels": np.zeros(3, dtype=int)}, "labels must be 2"),
        ({"inputs": np.array(["a"] * 6)}, "has 6 inputs"),
    ],
    ids=["name", "size", "nan", "wide", "labels", "text"],
)
def test_files_of_samples_that_do_not_fit(arrays, says, tmp_path):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match=says):
        read_samples(tmp_path / "d.npz", 6)


def test_files_that_hold_no_samples(tmp_path):
    (tmp_path / "d.npz").write_bytes(b"nonsense")
    for name in ("d.npz", "absent.npz"):
        with pytest.raises(InputError, match=name):
            read_samples(tmp_path / name, 6)
