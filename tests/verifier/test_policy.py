"""The policy: features of a question, and what is decided from them."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from proofs.check import ARITHMETICS
from proofs.frame import Frame
from proofs.tree import Walker
from specs.network import Univariate
from specs.property import Case, Property, constraint
from specs.query import Query
from tests.verifier.small import box_query, random_mlp
from verifier.options import METHODS
from verifier.policy import ATTACKS, ORDER, Budget, Features, Policy, Seen, Settings, unstable

F = Fraction
TINY = Features(inputs=2, neurons=10, unstable=5, multiplications=100, cases=1, disjuncts=1)
HUGE = dataclasses.replace(TINY, unstable=10**5, multiplications=10**8)


def changed(**more: Any) -> Features:
    return dataclasses.replace(TINY, **more)


def test_features_are_those_of_the_question() -> None:
    network, model = random_mlp([3, 7, 5, 2], 0)
    disjunct = (constraint({}, {0: F(-1)}, F(1)),)
    point = Case((F(0), F(1), F(2)), (F(0), F(1), F(2)), (disjunct,))
    box = Case((F(0), F(1), F(2)), (F(1), F(1), F(3)), (disjunct, disjunct))
    prop = Property(3, 2, (point, box))
    found = Features.of(Query(network, prop, (model,), prop.digest))
    assert found == Features(
        inputs=2,
        neurons=12,
        unstable=found.unstable,
        multiplications=3 * 7 + 7 * 5 + 5 * 2,
        cases=2,
        disjuncts=2,
    )
    assert 0 < found.unstable < 12


def test_unstable_neurons_are_those_of_the_kernel_s_intervals() -> None:
    made = random_mlp([3, 20, 20, 2], 1)
    query = box_query(made, [-1] * 3, [1] * 3, [[constraint({}, {0: F(-1)}, F(1))]])
    walker = Walker(query, Frame(query.network, ARITHMETICS["outward"]()), None)
    bounds = walker.root(0).batch.bounds
    wanted = sum(
        int(np.count_nonzero((bounds[node.source][0] < 0) & (bounds[node.source][1] > 0)))
        for node in query.network.nodes
        if isinstance(node, Univariate)
    )
    assert Features.of(query).unstable == wanted > 0


def test_a_point_and_an_endless_box_have_unstable_neurons_too() -> None:
    network, _ = random_mlp([3, 20, 2], 1)
    point, far = np.zeros(3), np.full(3, np.inf)
    assert unstable(network, [(point, point)]) == 0
    assert unstable(network, [(-far, far)]) == 20
    assert unstable(network, [(-far, far), (point, point)]) == 10


def test_a_property_without_cases_has_features() -> None:
    network, model = random_mlp([3, 7, 2], 0)
    prop = Property(3, 2, ())
    found = Features.of(Query(network, prop, (model,), prop.digest))
    assert (found.inputs, found.cases, found.disjuncts) == (0, 0, 0)


def test_every_method_has_members_in_one_order() -> None:
    assert set(ORDER) == set(METHODS)
    for members in ORDER.values():
        assert list(members) == [name for name in (*ORDER["auto"], "smt") if name in members]


@pytest.mark.parametrize(
    ("budget", "now", "deadline", "end"),
    [
        (Budget(0.25), 100.0, 140.0, 110.0),
        (Budget(0.25, most=2.0), 100.0, 140.0, 102.0),
        (Budget(0.25), 100.0, 90.0, 90.0),
        (Budget(0.25), 100.0, math.inf, math.inf),
        (Budget(0.25, most=2.0), 100.0, math.inf, 102.0),
        (Budget(0.0), 100.0, 140.0, 100.0),
    ],
)
def test_a_budget_is_a_share_of_the_time_left(
    budget: Budget, now: float, deadline: float, end: float
) -> None:
    assert budget.deadline(now, deadline) == end


def test_an_attack_before_the_search_is_quick_and_one_alone_is_thorough() -> None:
    quick, alone = Policy(TINY), Policy(TINY, "attack")
    assert quick.descent().most == Settings().quick_attack_seconds
    assert quick.attack_settings("attack") == ATTACKS["quick"]
    assert alone.descent() == Budget(1.0)
    assert alone.attack_settings("attack") == ATTACKS["thorough"]


def test_the_cheaper_of_kernel_and_attack_comes_first() -> None:
    assert Policy(TINY).members(60.0) == ("look", "kernel", "attack", "search")
    slow = changed(unstable=5000, multiplications=3 * 10**6)
    assert Policy(slow).members(60.0) == ("look", "attack", "kernel", "search")
    assert Policy(slow, "bounds").members(60.0) == ("kernel", "search")


def test_a_kernel_that_cannot_end_in_its_time_is_left_out() -> None:
    assert Policy(HUGE).members(60.0) == ("look", "attack", "search")
    assert "kernel" in Policy(HUGE).members(10**6)
    assert "kernel" in Policy(HUGE).members(math.inf)
    more = Policy(HUGE, settings=Settings(kernel_patience=1e9))
    assert "kernel" in more.members(60.0)


def test_the_seed_reaches_every_attack() -> None:
    policy = Policy(TINY, seed=11)
    assert {policy.attack_settings(kind).seed for kind in ("look", "attack", "repeated")} == {11}


def test_no_more_time_is_kept_from_the_search_than_a_check_takes() -> None:
    policy, settings = Policy(TINY), Settings()
    for splits, share in ((True, settings.input_search_share), (False, settings.search_share)):
        assert policy.search(None, 60.0, splits_inputs=splits).share == share
        brief = Seen(True, 0.1)
        assert policy.search(brief, 60.0, splits_inputs=splits).share == share
    slow = policy.search(Seen(True, 24.0), 60.0, splits_inputs=True).share
    assert slow == pytest.approx(0.6)
    never = policy.search(Seen(False, 500.0), 60.0, splits_inputs=True).share
    assert never == settings.least_search_share


def test_a_search_goes_on_but_for_its_overrun_and_the_check() -> None:
    policy = Policy(TINY)
    assert policy.more(None, 10.0, 2.0).most == pytest.approx(10.0 - 1.5 * 2.0)
    assert policy.more(Seen(True, 4.0), 10.0, 2.0).most == pytest.approx(3.0)
    assert 9.0 < policy.more(None, 10.0, -5.0).most < 10.0
    assert policy.more(Seen(True, 40.0), 10.0, 2.0).most == 0.0


def test_a_check_that_cannot_end_is_not_begun() -> None:
    assert Policy(TINY).worth_checking(None, 0.1)
    assert not Policy(HUGE).worth_checking(None, 5.0)
    assert not Policy(HUGE).worth_checking(Seen(False, 5.0), 5.0)
    assert Policy(HUGE).worth_checking(Seen(True, 5.0), 5.0)
    assert not Policy(TINY).worth_checking(Seen(True, 50.0), 5.0)
    assert Policy(HUGE).worth_checking(None, math.inf)


def test_many_cases_are_the_kernel_s() -> None:
    many = changed(cases=Settings().many_cases + 1)
    assert Policy(many).kernel().share > Policy(TINY).kernel().share


def test_a_member_without_a_share_does_not_run() -> None:
    assert Policy(TINY, settings=Settings(kernel_share=0.0)).members(60.0) == (
        "look",
        "attack",
        "search",
    )
    assert Policy(TINY, settings=Settings(attack_share=0.0)).members(60.0) == ("kernel", "search")
    many = changed(cases=10**6)
    assert "kernel" in Policy(many, settings=Settings(kernel_share=0.0)).members(1e9)


def test_settings_given_for_attacks_hold_in_all_of_them() -> None:
    policy = Policy(TINY, attack={"steps": 3, "seed": 2}, seed=1)
    for kind in ("look", "attack", "repeated"):
        chosen = policy.attack_settings(kind)
        assert (chosen.steps, chosen.seed) == (3, 2)
        assert chosen.rows == Policy(TINY).attack_settings(kind).rows


def test_making_proofs_smaller_leaves_time_for_the_check() -> None:
    policy = Policy(TINY)
    share, most = policy.settings.proof_share, policy.settings.high_proof_share
    assert policy.minimising("default", 10.0, math.inf) == pytest.approx(share * 10.0)
    assert policy.minimising("default", 10.0, 11.0) == pytest.approx(1.0)
    assert policy.minimising("default", 10.0, 9.0) == 0.0
    assert policy.minimising("high", 10.0, 100.0) == pytest.approx(most * 100.0)
    assert policy.minimising("high", 10.0, 12.0) == pytest.approx(2.0)
    assert policy.minimising("high", 10.0, math.inf) == math.inf
