"""When branch and bound on inputs optimises slopes."""

from __future__ import annotations

import pytest

from verifier.bab_pays import ALLOWED, SAVED, Pays


def evaluated() -> Pays:
    pays = Pays()
    pays.evaluated(100, 1.0)
    return pays


@pytest.mark.parametrize(
    ("closed", "seconds", "worthwhile"),
    [
        (50, 0.1, True),
        (50, 0.99 * SAVED / 2, True),
        (0, 0.1, True),  # little was spent
        (0, 2 * ALLOWED, False),
        (1, 2.0, False),
        (50, 50.0, False),
    ],
)
def test_what_saves_more_than_it_costs_pays(closed: int, seconds: float, worthwhile: bool):
    pays = evaluated()
    pays.tried(closed, seconds)
    assert pays.worthwhile() == worthwhile


def test_it_is_tried_at_first_and_when_time_has_been_spent_otherwise():
    pays = Pays()
    assert pays.worthwhile()
    pays.evaluated(10, 0.1)
    pays.tried(0, 1.0)
    rounds = 0
    while not pays.worthwhile():
        pays.evaluated(10, 0.1)
        rounds += 1
    assert rounds == pytest.approx(1.0 / (ALLOWED * 0.1) - 1, abs=1)


def test_success_does_not_last_forever():
    pays = evaluated()
    for _ in range(100):
        pays.tried(100, 0.1)
    pays.tried(0, 0.1)
    assert pays.worthwhile()
    pays.tried(0, 0.1)
    assert not pays.worthwhile()


def test_a_clock_that_has_not_moved_says_nothing():
    pays = Pays()
    pays.evaluated(100, 0.0)
    pays.tried(10, 0.0)
    assert pays.worthwhile()
