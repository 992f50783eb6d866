"""Exact stars are the activation patterns, enumerated in exact arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("highspy")

from specs.network import Network, Univariate
from specs.property import Case, constraint
from tests.networks import evaluate
from tests.proofs.helpers import Net, box_case, random_network, random_weights
from tests.verifier.starry import faults, holds_output, input_image, stars_of, true_cells
from verifier.stars import sets
from verifier.stars.sets import Origin, Predicates, Star, Why
from verifier.stars.walk import OUTPUT, Budget

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(params=["corners", "programs"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Stars decide by all their corners, or by linear programs."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "programs":
            patch.setattr(sets, "CORNERED", 0)
        yield request.param


def question(seed: int, inputs: int) -> tuple[Network, Case]:
    """A random network, and a region that constraints may cut."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, inputs)
    low = np.rint(rng.normal(size=inputs) * 8) / 8 - 1
    high = low + np.rint(rng.random(inputs) * 8) / 4 + 0.25
    cuts = []
    if inputs == 2 and rng.random() < 0.5:
        row, middle = rng.normal(size=2), 0.5 * (low + high)
        weights = {k: Fraction(v) for k, v in enumerate(row)}
        cuts = [constraint(weights, {}, -Fraction(float(row @ middle)))]
    return network, box_case(low, high, constraints=tuple(cuts))


@pytest.mark.parametrize("inputs", [1, 2])
def test_stars_are_the_cells_of_the_region(inputs: int, way: str) -> None:
    """Number, place, size and image of every star."""

    @settings(deadline=None, max_examples=25)
    @given(SEEDS)
    def check(seed: int) -> None:
        network, case = question(seed, inputs)
        assume(true_cells(network, case) is not None)
        stars = stars_of(network, case)
        assert all(star.exact for star in stars)
        assert faults(network, case, stars) == []

    check()


@pytest.fixture
def bent() -> tuple[Network, Case, list[Star]]:
    """A network with several cells over a triangle, and its stars."""
    net = Net(2)
    rng = np.random.default_rng(5)
    hidden = net.relu(net.dense(0, rng.normal(size=(5, 2)), rng.normal(size=5) / 4))
    again = net.relu(net.dense(hidden, rng.normal(size=(3, 5)), rng.normal(size=3) / 4))
    network = net.done(net.dense(again, rng.normal(size=(2, 3))))
    cut = constraint({0: Fraction(1), 1: Fraction(1)}, {}, Fraction(-1))
    case = box_case([-1, -1], [1, 1], constraints=(cut,))
    stars = stars_of(network, case)
    assert len(stars) > 4
    assert faults(network, case, stars) == []
    return network, case, stars


def without_row(star: Star, row: int) -> Predicates:
    rows = np.delete(star.predicates.rows, row, axis=0)
    limits = np.delete(star.predicates.limits, row)
    return replace(star.predicates, rows=rows, limits=limits, corners=None, parent=None)


def test_a_wrong_half_space_is_noticed(bent: tuple[Network, Case, list[Star]]) -> None:
    """Each row that a star needs is missed, and so are a turned and a moved one."""
    network, case, stars = bent
    noticed = 0
    for row in range(stars[0].predicates.limits.size):
        loose = replace(stars[0], predicates=without_row(stars[0], row))
        noticed += bool(faults(network, case, [loose, *stars[1:]]))
    assert noticed > 0
    # Rows and corners of a star in the middle of the list.
    predicates = replace(stars[1].predicates, corners=None, parent=None)
    turned = replace(predicates, rows=-predicates.rows, limits=-predicates.limits)
    moved = replace(predicates, limits=predicates.limits - 0.05)
    for wrong in (turned, moved):
        try:
            found = faults(network, case, [stars[0], replace(stars[1], predicates=wrong)])
        except ValueError:  # nothing is left of it
            continue
        assert found


def test_a_missing_or_doubled_star_is_noticed(bent: tuple[Network, Case, list[Star]]) -> None:
    network, case, stars = bent
    assert faults(network, case, stars[1:])
    assert faults(network, case, [stars[0], *stars])


def test_a_wrong_image_is_noticed(bent: tuple[Network, Case, list[Star]]) -> None:
    network, case, stars = bent
    image = stars[0].images[OUTPUT].copy()
    image[1, 0] += 0.01
    wrong = replace(stars[0], images={OUTPUT: image})
    assert faults(network, case, [wrong, *stars[1:]])


@pytest.mark.parametrize("function", ["sign", "floor", "round"])
def test_outputs_of_jumps_lie_in_some_star(function: str, way: str) -> None:
    """Also at the jumps themselves, where the function takes a value of its own."""

    @settings(deadline=None, max_examples=15)
    @given(SEEDS)
    def check(seed: int) -> None:
        rng = np.random.default_rng(seed)
        net = Net(2)
        first = net.dense(0, np.rint(rng.normal(size=(2, 2)) * 2) / 2, np.rint(rng.normal(size=2)))
        net.nodes.append(Univariate("jump", (2,), first, function))
        hidden = net.relu(net.dense(first + 1, random_weights(rng, 2, 2)))
        network = net.done(net.dense(hidden, np.eye(2)))
        case = box_case([-1, -1], [1, 1])
        stars = stars_of(network, case)
        grid = np.stack(np.meshgrid([-1, -0.5, 0, 0.5, 1], [-1, -0.5, 0, 0.5, 1]), -1)
        points = np.concatenate([grid.reshape(-1, 2), rng.uniform(-1, 1, (10, 2))])
        for output in evaluate(network, points):
            assert any(holds_output(star, output) for star in stars)

    check()


def test_jumps_of_two_neurons_at_one_corner(way: str) -> None:
    """Each takes a value of its own just there, and neither beside it."""
    net = Net(2)
    first = net.dense(0, [[1.0, -0.5], [-1.0, 0.5]])
    net.nodes.append(Univariate("jump", (2,), first, "round"))
    stars = stars_of(net.done(), box_case([-1, -1], [1, 1]))
    outputs = {tuple(star.images[OUTPUT][0]) for star in stars}
    assert {(2.0, -2.0), (-2.0, 2.0)} <= outputs
    assert (2.0, 2.0) not in outputs


def test_signs_are_few() -> None:
    """Stars of a sign are points: -1 and 1, and 0 where the input is just 0."""
    net = Net(1)
    net.nodes.append(Univariate("s", (1,), 0, "sign"))
    network = net.done()
    found = stars_of(network, box_case([-1], [1]))
    assert sorted(star.images[OUTPUT][0, 0] for star in found) == [-1.0, 0.0, 1.0]
    found = stars_of(network, box_case([0], [1]))
    assert sorted(star.images[OUTPUT][0, 0] for star in found) == [0.0, 1.0]
    found = stars_of(network, box_case([0.25], [1]))
    assert [star.images[OUTPUT][0, 0] for star in found] == [1.0]


@pytest.mark.parametrize("splits", [0, 1, 3])
def test_a_limit_of_splits_is_kept_and_contains_what_is_exact(splits: int, way: str) -> None:
    @settings(deadline=None, max_examples=10)
    @given(SEEDS)
    def check(seed: int) -> None:
        network, case = question(seed, 2)
        stars = stars_of(network, case, Budget(splits))
        assert len(stars) <= 2**splits
        for exact in stars_of(network, case)[:6]:
            for point in exact.predicates.points[:4]:
                output = exact.images[OUTPUT][0] + point @ exact.images[OUTPUT][1:]
                assert any(holds_output(star, output) for star in stars)

    check()


def test_an_empty_region_has_no_star(way: str) -> None:
    net = Net(2)
    network = net.done(net.relu(0))
    outside = constraint({0: Fraction(1), 1: Fraction(1)}, {}, Fraction(3))
    assert stars_of(network, box_case([-1, -1], [1, 1], constraints=(outside,))) == []


def test_a_region_may_be_a_point_or_a_line(way: str) -> None:
    net = Net(2)
    network = net.done(net.relu(net.dense(0, [[1.0, -1.0]])))
    (point,) = stars_of(network, box_case([1, 0.5], [1, 0.5]))
    assert point.predicates.size == 0
    assert point.images[OUTPUT][0, 0] == 0.5
    line = [constraint({0: Fraction(s), 1: Fraction(s)}, {}, Fraction(0)) for s in (1, -1)]
    stars = stars_of(network, box_case([-1, -1], [1, 1], constraints=tuple(line)))
    for share in np.linspace(-1, 1, 9):
        output = evaluate(network, [[share, -share]])[0]
        assert any(holds_output(star, output) for star in stars)
    assert not any(holds_output(star, np.array([2.1])) for star in stars)


def test_six_inputs_by_corners_and_by_programs() -> None:
    """The same number of stars, and every sampled input in just one of them."""
    rng = np.random.default_rng(3)
    net = Net(6)
    hidden = net.relu(net.dense(0, rng.normal(size=(5, 6)), rng.normal(size=5)))
    network = net.done(net.dense(hidden, rng.normal(size=(2, 5))))
    case = box_case([-1] * 6, [1] * 6)
    stars = stars_of(network, case)
    assert all(star.predicates.cornered for star in stars)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "CORNERED", 0)
        others = stars_of(network, case)
    assert len(stars) == len(others) > 20
    points = rng.uniform(-1, 1, (200, 6))
    outputs = evaluate(network, points)
    for union in (stars, others):
        held = np.zeros(len(points), dtype=int)
        for star in union:
            inside = np.all(points @ star.predicates.rows.T <= star.predicates.limits, axis=1)
            held += inside
            images = star.images[OUTPUT][0] + points[inside] @ star.images[OUTPUT][1:]
            np.testing.assert_allclose(images, outputs[inside], atol=1e-9)
        assert np.all(held == 1)


def test_corners_are_given_up_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "MOST_CORNERS", 4)
    for seed in range(12):
        network, case = question(seed, 2)
        if true_cells(network, case) is None:
            continue
        assert faults(network, case, stars_of(network, case)) == []


def test_half_spaces_of_a_star() -> None:
    """Cut by a caller: what is outside leaves nothing, what is inside leaves all."""
    unit = sets.box(-np.ones(2), np.ones(2))
    star = Star(unit, {0: np.array([[0.0, 0.0], [1.0, 1.0], [1.0, -1.0]])})
    why = Origin(Why.CUT)
    assert star.cut(0, np.array([1.0, 0.0]), -2.5, why) is None
    kept = star.cut(0, np.array([1.0, 0.0]), 2.5, why)
    assert kept is not None
    assert kept.predicates is unit
    half = star.cut(0, np.array([1.0, 0.0]), 0.0, why)
    assert half is not None
    assert len(half.predicates.points) == 3
    assert half.predicates.limits.tolist() == [0.0]


def test_inputs_of_a_star() -> None:
    case = box_case([0, 2, 3], [0, 4, 7])
    net = Net(3)
    (star,) = stars_of(net.done(0), case)
    assert [column.entry for column in star.predicates.columns] == [1, 2]
    image = input_image(case, star.predicates)
    np.testing.assert_array_equal(image, star.images[OUTPUT])
