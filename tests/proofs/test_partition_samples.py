"""Enclosed shares of normals, samples of what is left open, and exact binomial bounds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.outward import Outward
from proofs.partitions.check import check_partition
from proofs.partitions.evidence import read_tree
from proofs.partitions.measure import (
    BITS,
    Measure,
    normal_quantile,
    normal_share,
    product,
    quantiles,
)
from proofs.partitions.probability import enough, replay
from proofs.partitions.prover import Prover
from proofs.partitions.sampling import draw, excludes_above, lower_bound, upper_bound
from specs.probability import Distribution, Sampling
from tests.partition_models import partition, question, unsafe_above
from tests.proofs.helpers import Net

ENDS = st.fractions(-5, 5, max_denominator=64)
NORMAL = Distribution("normal", (Fraction(0), Fraction(1, 3)), (Fraction(1), Fraction(1, 2)))


@given(st.lists(ENDS, min_size=4, max_size=4, unique=True).map(sorted))
def test_shares_of_a_normal_are_enclosed(ends):
    first, low, high, last = ends
    below, above = normal_share(low, high, first, last)
    assert 0 <= below <= above <= 1
    assert above - below <= Fraction(4, 1 << BITS)
    whole = [normal_share(a, b, first, last) for a, b in itertools.pairwise(ends)]
    assert sum(low for low, _ in whole) <= 1 <= sum(high for _, high in whole)
    cdf = NormalDist().cdf
    near = (cdf(high) - cdf(low)) / (cdf(last) - cdf(first))
    assert float(below) == pytest.approx(near, rel=1e-6, abs=1e-12)


def test_shares_far_from_the_mean_keep_their_digits():
    for first in (20, -24):
        parts = [
            normal_share(Fraction(k), Fraction(k + 1), Fraction(first), Fraction(first + 4))
            for k in range(first, first + 4)
        ]
        assert sum(low for low, _ in parts) <= 1 <= sum(high for _, high in parts)
        assert all(low > 0 for low, _ in parts)


@given(
    st.fractions(0, 1, max_denominator=1000), st.tuples(ENDS, ENDS).filter(lambda e: e[0] < e[1])
)
def test_quantiles_lie_around(share, ends):
    low, high = ends
    below, above = normal_quantile(share, low, high)
    assert low <= below <= above <= high
    if low < below:
        assert normal_share(low, below, low, high)[1] <= share
    if above < high:
        assert normal_share(low, above, low, high)[0] >= share
    assert float(above - below) < 1e-3


def test_products_are_rounded_outward():
    third = (Fraction(1, 3), Fraction(1, 3))
    assert product([third, third]) == (Fraction(1, 9), Fraction(1, 9))
    low, high = product([(Fraction(1, 3), Fraction(1, 3) + Fraction(1, 1 << BITS)), third])
    assert low <= Fraction(1, 9) <= high
    assert low.denominator <= 1 << BITS


def slanted(distribution=None, **how):
    """Unsafe where ``x0 + x1 >= 1`` on the unit square: a half, if uniform."""
    net = Net(2)
    network = net.done(net.dense(0, [[1.0, 1.0]]))
    how = {"at_most": Fraction(3, 4)} | how
    return question(
        network,
        [0, 0],
        [1, 1],
        unsafe_above(1),
        distribution=distribution or Distribution("uniform"),
        **how,
    )


def test_a_normal_partition_adds_up():
    asked = slanted(NORMAL)
    made = partition(asked, "//soo", (0, 0.5), (1, 0.25))
    tree = read_tree(made, 2, 1)
    found = replay(Prover(asked.query, Outward()), Measure(asked), tree)
    parts = found.safe, found.unsafe, found.open
    assert sum(low for low, _ in parts) <= 1 <= sum(high for _, high in parts)
    cdf = [
        NormalDist(float(m), float(d)).cdf
        for m, d in zip(NORMAL.means, NORMAL.deviations, strict=True)
    ]
    share = [
        (cdf[k](end) - cdf[k](0)) / (cdf[k](1) - cdf[k](0)) for k, end in enumerate((0.5, 0.25))
    ]
    assert float(found.safe[0]) == pytest.approx(share[0] * share[1], rel=1e-9)


@pytest.mark.parametrize(
    "distribution", [Distribution("uniform"), NORMAL], ids=["uniform", "normal"]
)
def test_cells_cover_their_side_in_order(distribution):
    measure = Measure(slanted(distribution))
    ends = [quantiles(measure, 1, 0.25, 1.0, part, 3) for part in range(8)]
    assert ends[0][0] == Fraction(1, 4)
    assert ends[-1][1] == 1
    for (_, above), (below, _) in itertools.pairwise(ends):
        assert below <= above


@pytest.mark.parametrize("miss", [Fraction(1, 1000), Fraction(1, 20), Fraction(1, 2)], ids=str)
def test_binomial_bounds_are_those_of_clopper_and_pearson(miss):
    beta = pytest.importorskip("scipy.stats").beta
    for n in (1, 10, 1000, 10**6):
        for k in {0, 1, n // 3, n - 1, n}:
            high = upper_bound(k, n, miss)
            wanted = beta.ppf(1 - float(miss), k + 1, n - k) if k < n else 1.0
            assert float(high) == pytest.approx(wanted, rel=1e-6, abs=1e-15)
            assert excludes_above(k, n, high, miss)
            assert not excludes_above(k, n, high * (1 - Fraction(1, 10**6)), miss) or k == n
            assert lower_bound(n - k, n, miss) == 1 - high
    assert float(upper_bound(0, 299, Fraction(1, 20))) < 0.01  # as the field counts


def test_samples_bound_what_is_left_open():
    asked = slanted(sampling=Sampling(Fraction(99, 100), 600, 0), at_most=Fraction(3, 5))
    made = partition(asked, "/s/oo", (0, 0.0625), (1, 0.5))
    wrong = check_partition(asked, made)
    assert wrong.checked.verdict == "valid unsat"
    assert wrong.statistical
    facts = dict(wrong.facts)
    low, high = (
        float(facts[f"measured, both with confidence 0.99: P(unsafe) at {end}"])
        for end in ("least", "most")
    )
    assert low < 0.5 < high < 0.6
    assert float(facts["proved: P(unsafe) at most"]) == 1.0
    assert check_partition(replace(asked, at_most=Fraction(1, 2)), replace(
        made, question=replace(asked, at_most=Fraction(1, 2)).digest)
    ).checked.verdict == "invalid"  # fmt: skip


def test_what_is_proved_needs_no_samples():
    asked = slanted(sampling=Sampling(Fraction(99, 100), 600, 0), at_most=1)
    found = check_partition(asked, partition(asked, "o"))
    assert (found.checked.verdict, found.statistical) == ("valid unsat", False)
    assert not [name for name, _ in found.facts if name.startswith("samples")]


def test_samples_refute_as_well_and_never_without_confidence():
    sampling = Sampling(Fraction(99, 100), 400, 1)
    asked = slanted(sampling=sampling, at_most=Fraction(1, 4))
    found = check_partition(asked, partition(asked, "o", claims="sat"))
    assert (found.checked.verdict, found.statistical) == ("valid sat", True)
    plain = slanted(at_most=Fraction(1, 4))
    assert check_partition(plain, partition(plain, "o", claims="sat")).checked.verdict == "invalid"
    least = slanted(sampling=sampling, at_most=None, at_least=Fraction(1, 4))
    found = check_partition(least, partition(least, "o"))
    assert (found.checked.verdict, found.statistical) == ("valid unsat", True)


def test_draws_depend_on_question_seed_and_partition():
    def counts(seed: int, text: str, *splits) -> tuple[int, int]:
        asked = slanted(sampling=Sampling(Fraction(9, 10), 300, seed))
        made = partition(asked, text, *splits)
        prover, tree = Prover(asked.query, Outward()), read_tree(made, 2, 1)
        found = draw(asked, made, prover, replay(prover, Measure(asked), tree))
        assert found.count == 300
        assert found.unsafe <= found.not_safe <= 300
        return found.unsafe, found.not_safe

    runs = [counts(seed, "o") for seed in range(6)]
    assert len(set(runs)) > 1
    assert counts(3, "o") == runs[3]
    assert [counts(seed, "/oo", (0, 0.5)) for seed in range(6)] != runs


def test_intervals_cover_the_truth_as_often_as_they_say():
    # Half of what is left open is unsafe; 80 % one-sided, so 90 % of each end.
    miss, covered = Fraction(1, 10), 0
    for seed in range(60):
        asked = slanted(sampling=Sampling(Fraction(8, 10), 100, seed))
        made = partition(asked, "o")
        prover = Prover(asked.query, Outward())
        found = draw(asked, made, prover, replay(prover, Measure(asked), read_tree(made, 2, 1)))
        covered += upper_bound(found.not_safe, 100, miss) >= Fraction(1, 2)
    assert covered >= 48  # 54 expected at least; below 48 with probability 1e-2 or less


@settings(max_examples=30)
@given(st.fractions(0, 1))
def test_probabilities_are_printed_outward(value):
    low, high = Fraction(enough(value)), Fraction(enough(value, up=True))
    assert low <= value <= high
    assert high - low <= max(value, Fraction(1, 10**12)) / 10**5
