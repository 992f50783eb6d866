"""How time is divided between splits and samples."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.partitions.check import check_partition
from specs.probability import Sampling
from tests.partition_models import question, unsafe_above
from tests.proofs.helpers import Net
from verifier.probability.mixture import (
    LEAST_SHARE,
    REPLAY,
    _rounded,
    mixed,
    price_of_samples,
    worth_sampling,
)
from verifier.probability.search import Limits, State


def history(exponent: float, until: float) -> list[State]:
    """Of a search whose open part falls as a power of the time."""
    times = [0.01 * 1.05**k for k in range(400)]
    return [State(0.0, (t / 0.01) ** -exponent, 1, 1, t) for t in times if t <= until]


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0, 3.0], ids=str)
def test_splits_end_where_the_width_is_least(exponent):
    ends = next(
        t
        for t in (0.01 * 1.05**k for k in range(400))
        if worth_sampling(history(exponent, t), 10.0)
    )
    width = lambda t: t**-exponent / (10.0 - t) ** 0.5  # noqa: E731
    least = min((width(10.0 * k / 1000), k / 100) for k in range(1, 1000))
    assert ends == pytest.approx(least[1], rel=0.12)
    assert width(ends) <= 1.01 * least[0]


def test_a_search_without_progress_has_its_least_share():
    assert not worth_sampling(history(0.0, LEAST_SHARE * 10 * 0.9), 10.0)
    assert worth_sampling(history(0.0, LEAST_SHARE * 10 * 1.1), 10.0)
    assert not worth_sampling([State(0.0, 0.0, 1, 0, 9.0)], 10.0)  # nothing is open
    assert not worth_sampling([State(0.0, 1.0, 1, 1, 9.0)], 10.0)  # no progress is known


@given(st.integers(0, 10**8))
def test_counts_are_rounded_down(count):
    found = _rounded(count)
    assert 0.9 * count <= found <= count
    assert len(str(found).rstrip("0")) <= 2


def fold():
    net = Net(2)
    network = net.done(net.dense(net.relu(0), [[1.0, 1.0]]))
    return question(network, [-1, -1], [1, 1], unsafe_above(Fraction(1, 2)))


def test_time_is_used_up_and_the_claim_holds(monkeypatch):
    monkeypatch.setattr("verifier.probability.mixture.price_of_samples", lambda *_: 1e-4)
    ticks = itertools.count()
    clock = lambda: next(ticks) / 50  # noqa: E731
    asked = fold()
    both = mixed(asked, Limits(3.0, decide=False, clock=clock))
    assert both.found.ended in ("enough", "time")
    assert both.found.state.seconds < 3.0 / (1 + REPLAY)
    assert 1000 <= both.samples <= 30_000
    sampling = Sampling(Fraction(99, 100), both.samples, 0)
    stated = replace(asked, sampling=sampling, at_most=Fraction(0))
    found = check_partition(stated, replace(both.found.evidence, question=stated.digest)).found
    assert found is not None
    assert found.measured is not None
    low, high = found.measured
    assert found.interval[0] <= low <= Fraction(15, 32) <= high <= found.interval[1]


def test_nothing_open_is_not_sampled():
    net = Net(1)
    asked = question(net.done(net.dense(0, [[1.0]])), [0], [1], unsafe_above(2))
    assert mixed(asked, Limits(1.0, decide=False)).samples == 0


def test_a_sample_has_a_price():
    ticks = itertools.count()
    assert price_of_samples(fold(), lambda: next(ticks) * 0.2) == pytest.approx(0.2 / 64)
