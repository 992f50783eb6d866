"""The policy: features of a question, and what is decided from them."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest

from specs.property import Case, Property, constraint
from specs.query import Query
from tests.verifier.small import random_mlp
from verifier.policy import ORDER, Budget, Features, Policy, Seen, Settings
from verifier.verify import METHODS

F = Fraction
TINY = Features(inputs=2, neurons=10, multiplications=100, cases=1, disjuncts=1)


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
        inputs=2, neurons=12, multiplications=3 * 7 + 7 * 5 + 5 * 2, cases=2, disjuncts=2
    )


def test_a_property_without_cases_has_features() -> None:
    network, model = random_mlp([3, 7, 2], 0)
    prop = Property(3, 2, ())
    found = Features.of(Query(network, prop, (model,), prop.digest))
    assert (found.inputs, found.cases, found.disjuncts) == (0, 0, 0)


def test_every_method_has_members_in_one_order() -> None:
    assert set(ORDER) == set(METHODS)
    for members in ORDER.values():
        assert list(members) == [name for name in ORDER["auto"] if name in members]


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


def test_small_networks_are_attacked_without_torch_and_briefly() -> None:
    settings = Settings()
    small = Policy(TINY)
    large = Policy(changed(multiplications=settings.small_multiplications + 1))
    assert small.small
    assert not large.small
    assert small.descent().most == settings.quick_attack_seconds
    assert large.descent().most == math.inf
    assert small.attack_settings("attack").rows < large.attack_settings("attack").rows
    alone = Policy(TINY, "attack")
    assert alone.attack_settings("attack") == large.attack_settings("attack")


def test_the_seed_reaches_every_attack() -> None:
    policy = Policy(TINY, seed=11)
    assert {policy.attack_settings(kind).seed for kind in ("look", "attack", "repeated")} == {11}


def test_a_kernel_that_did_not_end_leaves_more_time_for_the_check() -> None:
    policy = Policy(TINY)
    slow = policy.search(Seen(kernel_ended=False)).share
    assert slow < policy.search(Seen(kernel_ended=True)).share
    assert policy.search(Seen()).share == policy.search(Seen(kernel_ended=True)).share


def test_many_cases_are_the_kernel_s() -> None:
    many = changed(cases=Settings().many_cases + 1)
    assert Policy(many).kernel().share > Policy(TINY).kernel().share


def test_a_member_without_a_share_does_not_run() -> None:
    assert Policy(TINY, settings=Settings(kernel_share=0.0)).members == ("look", "attack", "search")
    assert Policy(TINY, settings=Settings(attack_share=0.0)).members == ("kernel", "search")
    many = changed(cases=10**6)
    assert "kernel" in Policy(many, settings=Settings(kernel_share=0.0)).members


def test_settings_given_for_attacks_hold_in_all_of_them() -> None:
    policy = Policy(TINY, attack={"steps": 3, "seed": 2}, seed=1)
    for kind in ("look", "attack", "repeated"):
        chosen = policy.attack_settings(kind)
        assert (chosen.steps, chosen.seed) == (3, 2)
        assert chosen.rows == Policy(TINY).attack_settings(kind).rows
