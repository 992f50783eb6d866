"""Campaigns of injections: what is drawn, what is counted, and going on after a stop."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from scipy.stats import binom

from specs.errors import InputError
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips, StuckAt, Where
from specs.faults.placed import place_model
from specs.faults.sites import cells
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from verifier.faults.campaign import Campaign, Outcomes, Plan
from verifier.faults.judge import exact_outputs, exact_verdict
from verifier.progress import Progress
from verifier.resumed import KeptError
from verifier.statistics.intervals import clopper_pearson

POINTS = np.random.default_rng(0).normal(size=(5, 6))


@pytest.fixture(scope="module")
def memory():
    return store(place_model(model_file(dense_model())), Quantised(8))


@pytest.mark.parametrize("hits", [0, 1, 7, 50])
def test_intervals_are_those_of_the_definition(hits):
    """At its ends, what was seen or worse has exactly half of what is left of confidence."""
    lower, upper = clopper_pearson(hits, 50, 0.9)
    assert 0.0 <= lower <= hits / 50 <= upper <= 1.0
    if hits:
        assert binom.sf(hits - 1, 50, lower) == pytest.approx(0.05)
    else:
        assert lower == 0.0
    if hits < 50:
        assert binom.cdf(hits, 50, upper) == pytest.approx(0.05)
    else:
        assert upper == 1.0


def test_no_event_in_many_trials_is_not_no_probability():
    assert clopper_pearson(0, 16590, 0.99)[1] == pytest.approx(3.19e-4, rel=0.01)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("wrong", [(3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0), (1, 2, 0.0)])
def test_intervals_of_nonsense(wrong):
    with pytest.raises(ValueError, match="at confidence"):
        clopper_pearson(*wrong)


def test_patterns_strike_so_many_cells(memory):
    found = cells(memory, BitFlips())
    campaign = Campaign(found, Plan(50, k=3), POINTS)
    seen, points = np.zeros(found.count), set()
    for index in range(400):
        pattern = campaign.pattern(index)
        points.add(pattern.point)
        flips = 0
        for name, entries in pattern.entries.items():
            before = memory.stored[name].words[entries]
            flips += sum(int(w).bit_count() for w in before ^ pattern.words[name])
            first = campaign._starts[name][0]
            for entry, change in zip(entries, before ^ pattern.words[name], strict=True):
                for bit in range(8):
                    seen[first + 8 * entry + bit] += int(change) >> bit & 1
        assert flips == 3
    assert points == set(range(5))
    assert seen.sum() == 1200
    assert (seen > 0).mean() > 0.8


def test_rates_are_binomial(memory):
    found = cells(memory, BitFlips(where=Where(bits=(6, 7))))
    campaign = Campaign(found, Plan(1, rate=0.02, seed=3), POINTS)
    flips = [
        sum(
            int(change).bit_count()
            for name, entries in campaign.pattern(i).entries.items()
            for change in memory.stored[name].words[entries] ^ campaign.pattern(i).words[name]
        )
        for i in range(300)
    ]
    mean = found.count * 0.02
    assert abs(np.mean(flips) - mean) < 4 * np.sqrt(mean / 300)
    assert abs(np.var(flips) - mean) < mean * 0.5
    masks = {
        int(change) & ~0xC0
        for i in range(50)
        for name, entries in campaign.pattern(i).entries.items()
        for change in memory.stored[name].words[entries] ^ campaign.pattern(i).words[name]
    }
    assert masks == {0}


@pytest.mark.parametrize("reads", [None, 0, 1])
def test_stuck_cells_change_words_as_stated(memory, reads):
    campaign = Campaign(cells(memory, StuckAt(reads=reads)), Plan(1, rate=0.1), POINTS)
    up = down = 0
    for index in range(20):
        pattern = campaign.pattern(index)
        for name, entries in pattern.entries.items():
            before, after = memory.stored[name].words[entries], pattern.words[name]
            up += int(np.sum(after & ~before != 0))
            down += int(np.sum(before & ~after != 0))
    assert (up > 0) == (reads != 0)
    assert (down > 0) == (reads != 1)


@pytest.mark.parametrize("k", [1, 2, 20])
def test_outcomes_are_those_of_the_exact_network(memory, k):
    labels = np.array([0, 1, 2, 0, 1])
    campaign = Campaign(cells(memory, BitFlips()), Plan(60, k=k, seed=1), POINTS, labels)
    found = campaign.run()
    sdc = correct = 0
    for index in range(60):
        pattern = campaign.pattern(index)
        values = {name: v.copy() for name, v in memory.values.items()}
        for name, entries in pattern.entries.items():
            values[name][entries] = memory.stored[name].decode(entries, pattern.words[name])[0]
        outputs = exact_outputs(memory.placed.with_values(values), POINTS[pattern.point])
        sdc += exact_verdict(outputs, int(campaign.judge.labels[pattern.point])) is False
        correct += exact_verdict(outputs, int(labels[pattern.point])) is True
    assert (found.sdc, found.correct) == (sdc, correct)
    assert (found.trials, found.due, found.undecided, found.clean) == (60, 0, 0, 0)
    assert found.sdc > 0 or k == 1


def test_convolutions_and_normalisations_are_struck_as_well():
    memory = store(place_model(model_file(conv_model())))
    points = np.random.default_rng(1).normal(size=(3, 72))
    campaign = Campaign(cells(memory, BitFlips()), Plan(25, k=6), points)
    found = campaign.run()
    sdc = 0
    for index in range(25):
        pattern = campaign.pattern(index)
        values = {name: v.copy() for name, v in memory.values.items()}
        for name, entries in pattern.entries.items():
            values[name][entries] = memory.stored[name].decode(entries, pattern.words[name])[0]
        if not all(np.all(np.isfinite(v)) for v in values.values()) or (values["var"] < 0).any():
            continue
        outputs = exact_outputs(memory.placed.with_values(values), points[pattern.point])
        sdc += exact_verdict(outputs, int(campaign.judge.labels[pattern.point])) is False
    assert found.sdc == sdc > 0
    assert found.correct == -1


def test_words_that_are_no_numbers_are_counted_apart():
    stored = {"w": np.float32([[1.5, -1.25]])}
    placed = place_model(model_file(graph_bytes([node("Add", "x w", "y")], (1, 2), stored)))
    only = cells(store(placed), BitFlips(where=Where(bits=(30,))))
    found = Campaign(only, Plan(20, k=1), np.array([[3.0, 1.0]]), np.array([0])).run()
    assert found == Outcomes(20, 0, 20, 0, 0, 0)
    low = cells(store(placed), BitFlips(where=Where(bits=(0,))))
    found = Campaign(low, Plan(20, k=1), np.array([[3.0, 1.0]]), np.array([0])).run()
    assert found == Outcomes(20, 0, 0, 0, 20, 0)
    none = Campaign(low, Plan(20, rate=0.0), np.array([[3.0, 1.0]]), np.array([1])).run()
    assert none == Outcomes(20, 0, 0, 0, 0, 20)


def test_a_campaign_goes_on_where_it_stopped(memory, tmp_path):
    found, file = cells(memory, BitFlips()), tmp_path / "campaign.json"
    labels = np.zeros(5, dtype=np.int64)
    whole = Campaign(found, Plan(80, k=2, seed=5), POINTS, labels).run()
    part = Campaign(found, Plan(30, k=2, seed=5), POINTS, labels, file).run()
    assert part.trials == 30
    again = Campaign(found, Plan(80, k=2, seed=5), POINTS, labels, file)
    drawn = []
    pattern = again.pattern
    again.pattern = lambda index: drawn.append(index) or pattern(index)
    assert again.run() == whole
    assert drawn == list(range(30, 80))
    assert json.loads(file.read_text())["outcomes"]["trials"] == 80
    assert Campaign(found, Plan(80, k=2, seed=5), POINTS, labels, file).run() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.json"]


def test_a_file_of_another_campaign_is_refused(memory, tmp_path):
    found, file = cells(memory, BitFlips()), tmp_path / "campaign.json"
    Campaign(found, Plan(3, k=2), POINTS, None, file).run()
    other = store(place_model(model_file(dense_model(seed=1))), Quantised(8))
    for campaign in (
        Campaign(found, Plan(9, k=3), POINTS, None, file),
        Campaign(found, Plan(9, k=2, seed=1), POINTS, None, file),
        Campaign(found, Plan(9, k=2), POINTS[:4], None, file),
        Campaign(found, Plan(9, k=2), POINTS, np.zeros(5, int), file),
        Campaign(cells(memory, BitFlips(where=Where(bits=(1,)))), Plan(9, k=2), POINTS, None, file),
        Campaign(cells(other, BitFlips()), Plan(9, k=2), POINTS, None, file),
    ):
        with pytest.raises(InputError, match="of another campaign"):
            campaign.run()
    wrong = ("x", "", [1], None)
    made = [json.dumps({"outcomes": {"trials": value}, "campaign": ""}) for value in wrong]
    made += [
        "",
        "{}",
        "[]",
        '{"outcomes": {"trials": 1}}',
        '{"outcomes": {"x": 1}, "campaign": ""}',
    ]
    made += ['{"outcomes": {"trials": Infinity}, "campaign": ""}']
    for text in made:
        file.write_text(text)
        with pytest.raises(KeptError, match=r"no file of a campaign|of another campaign"):
            Campaign(found, Plan(9, k=2), POINTS, None, file).run()


def test_progress_goes_to_a_terminal_only(memory):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(stream)
        Campaign(cells(memory, BitFlips()), Plan(5, k=1), POINTS, progress=progress).run()
        assert ("injections: 0 of 5" in stream.getvalue()) == shown


def test_intervals_of_outcomes():
    outcomes = Outcomes(trials=100, sdc=10, due=5, undecided=2, correct=80)
    assert outcomes.interval("due") == clopper_pearson(5, 100)
    assert outcomes.interval("sdc", 0.9) == (
        clopper_pearson(10, 100, 0.9)[0],
        clopper_pearson(12, 100, 0.9)[1],
    )
    assert outcomes.interval("correct")[1] == clopper_pearson(82, 100)[1]
    for what, given in (("trials", outcomes), ("correct", Outcomes(10, correct=-1))):
        with pytest.raises(ValueError, match="no share"):
            given.interval(what)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: Plan(0, k=1), "0 trials"),
        (lambda m: Plan(1), "rate or a number of faults, not both"),
        (lambda m: Plan(1, rate=0.1, k=1), "not both"),
        (lambda m: Plan(1, rate=1.5), "bit error rate 1.5"),
        (lambda m: Plan(1, rate=float("nan")), "bit error rate nan"),
        (lambda m: Plan(1, k=0), "0 faults"),
        (lambda m: Plan(1, k=1, seed=-1), "seed -1"),
        (lambda m: Campaign(cells(m, BitFlips()), Plan(1, k=10**6), POINTS), "1000000 faults in"),
        (lambda m: Campaign(cells(m, BitFlips()), Plan(1, k=1), POINTS, [0, 1]), "labels for 5"),
        (
            lambda m: Campaign(cells(m, BitFlips()), Plan(1, k=1), POINTS, [0, 1, 2, 3, 0]),
            "outside",
        ),
    ],
)
def test_campaigns_that_make_no_sense(memory, make, message):
    with pytest.raises(InputError, match=message):
        make(memory)


def test_shared_words_change_everywhere():
    rng = np.random.default_rng(2)
    nodes = [node("MatMul", "x w", "a"), node("Relu", "a", "h"), node("MatMul", "h w", "y")]
    placed = place_model(model_file(graph_bytes(nodes, (1, 3), {"w": floats(rng, 3, 3)})))
    memory = store(placed, Quantised(8))
    campaign = Campaign(cells(memory, BitFlips()), Plan(1, k=4), rng.normal(size=(2, 3)))
    pattern = campaign.pattern(0)
    assert set(campaign._nodes(pattern)) == {place.node for place in placed.of["w"]}
