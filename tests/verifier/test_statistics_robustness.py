"""Counts around inputs: what they are, that they go on after a stop, what follows from them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from specs.errors import InputError
from tests.linear_models import linear_model, share_above
from verifier.progress import Progress
from verifier.resumed import KeptError
from verifier.statistics.betting import mean_of_population
from verifier.statistics.blackbox import read_black_box
from verifier.statistics.intervals import mean_interval, sample_size
from verifier.statistics.noise import Around, Stream
from verifier.statistics.robustness import (
    LOOK,
    Counts,
    Measurement,
    Plan,
    correctly,
    side_level,
)
from verifier.statistics.sequential import confidence_sequence

WEIGHTS = (1.0, -0.5, 0.25)
RADIUS = Fraction(1, 2)
AROUND = Around("uniform", RADIUS)
SHARES = (Fraction(9, 10),)
LEVEL = Fraction(1, 1000)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    path = tmp_path_factory.mktemp("linear") / "net.onnx"
    path.write_bytes(linear_model(WEIGHTS, 0.0))
    return read_black_box(path)


def points(count: int = 6):
    return np.random.default_rng(1).normal(size=(count, 3)).astype(np.float32).astype(float)


def measurement(box, plan, file=None, around=AROUND, count=6, **more):
    x = points(count)
    labels = (x @ WEIGHTS < 0).astype(np.int64)
    return Measurement(box, x, labels, np.arange(10, 10 + count), around, plan, file, **more)


def truth(x) -> Fraction:
    weights = [Fraction(w) * RADIUS for w in WEIGHTS]
    centre = sum(Fraction(w) * Fraction(v) for w, v in zip(WEIGHTS, x, strict=True))
    above = share_above(weights, -centre)
    return above if centre > 0 else 1 - above


def test_counts_are_those_of_the_stated_samples(box):
    found = measurement(box, Plan(300, SHARES)).run()
    assert found.numbers.tolist() == list(range(10, 16))
    assert found.trials.tolist() == [300] * 6
    for x, hits, number in zip(points(), found.hits, found.numbers, strict=True):
        stream = Stream(0, f"robustness {number} {AROUND.text}", 3)
        samples = np.concatenate(list(AROUND.samples(x, stream, 0, 300, np.float32)))
        scores = box.run(samples)
        label = int(x @ WEIGHTS < 0)
        assert hits == np.sum(scores[:, label] > scores[:, 1 - label])


def test_intervals_hold_what_is_known_exactly(box):
    found = measurement(box, Plan(2000, SHARES)).run()
    exact = [truth(x) for x in points()]
    assert any(0 < p < 1 for p in exact)
    for p, (low, high) in zip(exact, found.each(LEVEL), strict=True):
        assert low <= p <= high
        assert high - low < 0.11
    low, high = found.mean(LEVEL)
    assert low <= sum(exact) / 6 <= high
    least, most = found.prob_acc(SHARES[0], LEVEL)
    assert least <= sum(p > SHARES[0] for p in exact) <= most
    assert (least, most) != (0, 6)


def test_wrong_inputs_are_left_out(box):
    one = measurement(box, Plan(10, SHARES))
    one.labels = 1 - one.labels
    one.labels[2] = 1 - one.labels[2]
    found = one.run()
    assert (found.numbers.tolist(), found.inputs) == ([12], 6)
    one.labels = (points() @ WEIGHTS > 0).astype(np.int64)
    none = one.run()
    assert (len(none.hits), none.mean(LEVEL), none.each(LEVEL)) == (0, (0.0, 1.0), [])
    assert none.prob_acc(SHARES[0], LEVEL) == (0, 0)
    assert none.population(SHARES[0], LEVEL) == (0.0, 1.0)
    assert none.population_mean(LEVEL) == (0.0, 1.0)


def test_a_tie_is_no_right_answer(box):
    zero = np.zeros((1, 3))
    assert correctly(box, zero, np.array([0])).tolist() == [False]
    assert correctly(box, zero, np.array([1])).tolist() == [False]


class Stopping(Progress):
    """Interrupts after so many inputs."""

    def __init__(self, inputs: int) -> None:
        super().__init__(enabled=False)
        self.inputs = inputs

    def count(self, name: str, done: int, total: int) -> None:
        if done == self.inputs:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "plan", [Plan(700, SHARES), Plan(5000, SHARES, LEVEL)], ids=["fixed", "sequential"]
)
def test_a_measurement_goes_on_where_it_stopped(box, tmp_path, plan):
    file = tmp_path / "counts.json"
    whole = measurement(box, plan).run()
    with pytest.raises(KeyboardInterrupt):
        measurement(box, plan, file, progress=Stopping(3)).run()
    kept = json.loads(file.read_text())
    assert [n > 0 for n in kept["trials"]] == [True] * 3 + [False] * 3
    again = measurement(box, plan, file)
    sampled, sample = [], again._sample
    again._sample = lambda n, *rest: sampled.append(rest[1][1, n] == 0) or sample(n, *rest)
    found = again.run()
    assert sampled == [False] * 3 + [True] * 3
    assert found.hits.tolist() == whole.hits.tolist()
    assert found.trials.tolist() == whole.trials.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["counts.json"]


def test_a_measurement_that_stopped_within_an_input_is_the_same(box, tmp_path):
    plan, file = Plan(700, SHARES), tmp_path / "counts.json"
    whole = measurement(box, plan).run()
    one = measurement(box, plan, file)
    hits, trials = np.zeros(6, np.int64), np.zeros(6, np.int64)
    hits[0] = measurement(box, Plan(333, SHARES)).run().hits[0]
    trials[0] = 333
    one._keep(hits, trials)
    assert one.run().hits.tolist() == whole.hits.tolist()


def test_an_interruption_at_any_line_changes_nothing(box, tmp_path):
    plan, file, traced = Plan(200, SHARES), tmp_path / "counts.json", Measurement._sample.__code__
    whole = measurement(box, plan, count=1).run().hits.tolist()
    left = 0

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code is not traced:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        return trace

    lines, before = 0, sys.gettrace()
    while True:
        left = lines
        file.unlink(missing_ok=True)
        sys.settrace(trace)
        try:
            measurement(box, plan, file, count=1).run()
            break
        except KeyboardInterrupt:
            lines += 1
        finally:
            sys.settrace(before)
        assert measurement(box, plan, file, count=1).run().hits.tolist() == whole
    assert lines > 5


def test_a_file_of_another_measurement_is_refused(box, tmp_path):
    file = tmp_path / "counts.json"
    measurement(box, Plan(50, SHARES), file).run()
    for other in (
        measurement(box, Plan(60, SHARES), file),
        measurement(box, Plan(50, SHARES, seed=1), file),
        measurement(box, Plan(50, SHARES), file, count=5),
        measurement(box, Plan(50, SHARES), file, Around("normal", RADIUS)),
        measurement(box, Plan(50, SHARES, LEVEL), file),
    ):
        with pytest.raises(KeptError, match="of another measurement"):
            other.run()
    digest = measurement(box, Plan(50, SHARES)).digest
    for text, message in (
        ("", "no file of a measurement"),
        ("[]", "no file of a measurement"),
        ('{"digest": "", "hits": ["x"], "trials": []}', "no file of a measurement"),
        (json.dumps({"digest": digest, "hits": [9] * 6, "trials": [8] * 6}), "of another"),
        (json.dumps({"digest": digest, "hits": [0] * 5, "trials": [8] * 5}), "of another"),
        (json.dumps({"digest": digest, "hits": [0] * 6, "trials": [51] * 6}), "of another"),
    ):
        file.write_text(text)
        with pytest.raises(KeptError, match=message):
            measurement(box, Plan(50, SHARES), file).run()


def test_sequential_sampling_stops_when_nothing_is_open(box):
    plan = Plan(100_000, SHARES, LEVEL)
    found = measurement(box, plan).run()
    exact = [truth(x) for x in points()]
    assert found.sequential
    assert max(found.trials) < 10_000
    assert all(n % LOOK == 0 for n in found.trials.tolist())
    least, most = found.prob_acc(SHARES[0], 6 * LEVEL)
    assert least == most == sum(p > SHARES[0] for p in exact)
    low, high = found.mean(LEVEL)
    assert low <= sum(exact) / 6 <= high


def test_what_follows_is_weaker_for_many_inputs():
    def counts(inputs: int, hits: int, trials: int = 700) -> Counts:
        return Counts(
            np.arange(inputs), np.full(inputs, hits), np.full(inputs, trials), inputs, False
        )

    share = Fraction(99, 100)
    assert sample_size(share, LEVEL) == 688
    assert counts(1, 700).prob_acc(share, LEVEL) == (1, 1)
    assert counts(30, 700).prob_acc(share, LEVEL) == (0, 30)
    enough = sample_size(share, LEVEL / 30)
    assert counts(30, enough, enough).prob_acc(share, LEVEL) == (30, 30)
    assert counts(30, 600).prob_acc(share, LEVEL) == (0, 0)
    low, high = counts(30, 700).population(share, LEVEL)  # wrong tests are paid for once
    assert 0.75 < low < 0.8
    assert high == 1.0
    low, high = counts(30, 650).population_mean(LEVEL)
    assert 0.6 < low < 65 / 70 < high < 1.0
    few = replace(counts(30, 650), sequential=True).population_mean(LEVEL)
    assert few[0] < low < high < few[1] <= 1.0
    assert counts(30, 650).mean(LEVEL) == mean_interval(30 * 650, 30 * 700, LEVEL)
    each = counts(30, 650).each(LEVEL)
    assert each[0] != counts(1, 650).each(LEVEL)[0]
    assert counts(3, 10, 10).p_values(Fraction(1), above=True) == [1.0] * 3


def test_ends_of_intervals_that_may_be_wrong_are_paid_for():
    many = Counts(np.arange(9), np.full(9, 650), np.full(9, 700), 9, sequential=True)
    level = Fraction(1, 20)
    ends = [confidence_sequence(650, 700, 2 * level)] * 9
    sides = [[Fraction(pair[side]) for pair in ends] for side in (0, 1)]
    low, high = many.population_mean(level)
    assert Fraction(low) <= Fraction(mean_of_population(sides[0], level)[0]) - level
    assert min(1.0, mean_of_population(sides[1], level)[1] + level) <= high
    assert Fraction(low) >= Fraction(mean_of_population(sides[0], level)[0]) - level - 10**-9


def test_levels_are_divided():
    assert side_level(Fraction(9, 10), 5) == Fraction(1, 100)


def test_data_that_do_not_fit(box):
    good = measurement(box, Plan(10, SHARES))
    with pytest.raises(InputError, match="6 labels for samples of shape"):
        Measurement(box, np.zeros((6, 4)), good.labels, good.numbers, AROUND, Plan(10, SHARES))
    good.labels = np.full(6, 2)
    with pytest.raises(InputError, match="labels up to 2 for a model with 2 outputs"):
        good.run()
