"""Squares beside the products of a network: it computes the same, under other numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.evaluate import evaluate
from specs.convolution import Conv
from specs.enclosure import Enclosure, zeros
from specs.errors import ModelError
from specs.linear import Identity, Scale
from specs.network import RESERVED, Linear, Network, Product, Squares, Term, moved
from specs.receptive import Window, receptive
from specs.squares import GREATEST, with_squares
from tests.proofs.helpers import Net


def network(seed: int = 0) -> Network:
    """Two products, the second of the first one's; two outputs, the first one before the last."""
    rng = np.random.default_rng(seed)
    net = Net(2)
    left, right = net.dense(0, rng.normal(size=(3, 2))), net.dense(0, rng.normal(size=(3, 2)))
    first = net.product(left, right)
    second = net.product(net.relu(first), left)
    last = net.dense(second, rng.normal(size=(2, 3)))
    return replace(net.done(last, first), aliases={"other": second, "input": 0, "rows": left})


FIRST, SECOND = 3, 5
RATIOS = {FIRST: np.array([0.5, 1.0, 3.0]), SECOND: np.array([GREATEST, 1 / GREATEST, 0.1])}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.lists(st.fractions(-5, 5, max_denominator=99), min_size=2, max_size=2),
    st.integers(0, 99),
    st.sets(st.sampled_from([FIRST, SECOND])),
)
def test_it_computes_the_same(point, seed: int, chosen) -> None:
    before = network(seed)
    after = with_squares(before, {tensor: RATIOS[tensor] for tensor in chosen})
    assert evaluate(after, point) == evaluate(before, point)
    assert len(after.nodes) == len(before.nodes) + 2 * len(chosen)
    assert (after.input_size, after.output_size) == (2, 5)


def test_tensors_keep_their_names_under_new_numbers() -> None:
    before, after = network(), with_squares(network(), RATIOS)
    assert [before.nodes[t].name for t in before.outputs] == ["n6", "n3"]
    assert [after.nodes[t].name for t in after.outputs] == ["n6", "n3"]
    assert set(before.aliases) == set(after.aliases)
    for name, tensor in before.tensors.items():
        assert after.nodes[after.tensors[name]].name == before.nodes[tensor].name
    for tensor in (FIRST, SECOND):
        old = before.nodes[tensor]
        new = after.nodes[after.tensors[old.name]]
        assert [after.nodes[t].name for t in new.sources] == [
            before.nodes[t].name for t in old.sources
        ]


@pytest.mark.parametrize("tensor", [FIRST, SECOND])
def test_both_forms_are_what_they_are_called(tensor: int) -> None:
    before = network()
    after = with_squares(before, {tensor: RATIOS[tensor]})
    name = before.nodes[tensor].name
    product = after.nodes[after.tensors[name]]
    assert isinstance(product, Product)
    assert product.squares is not None
    beside = product.squares.total, product.squares.difference
    labels = [f"{RESERVED}{name}/{label}" for label in ("sum", "difference")]
    assert [after.nodes[t].name for t in beside] == labels
    assert not set(labels) & set(before.tensors)
    assert product.bounded == (product.left, product.right, *beside)
    assert set(beside) <= set(after.preactivations)
    assert after.tensors[name] in after.readers[beside[0]]
    assert np.array_equal(product.squares.scale, RATIOS[tensor])
    point = [Fraction(1, 3), Fraction(-5, 7)]
    tensors = (product.left, product.right, *beside)
    values = [v for v, _ in evaluate(Network(after.nodes, tensors), point)]
    x, y, total, difference = (values[k : k + 3] for k in range(0, 12, 3))
    for k, t in enumerate(map(Fraction, RATIOS[tensor])):
        assert total[k] == x[k] + t * y[k]
        assert difference[k] == x[k] - t * y[k]


def test_without_ratios_nothing_changes() -> None:
    before = network()
    after = with_squares(before, {})
    assert [node.name for node in after.nodes] == [node.name for node in before.nodes]
    assert all(node.squares is None for node in after.nodes if isinstance(node, Product))


ONE = np.ones(3)
REFUSED = {
    "beside the input": {0: np.ones(2)},
    "beside a linear tensor": {1: ONE},
    "beside a function": {4: ONE},
    "beside a product and a function": {**RATIOS, 4: ONE},
    "too few entries": {FIRST: np.ones(2)},
    "too many entries": {FIRST: np.ones(4)},
    "no entries": {FIRST: np.ones(0)},
    "a table": {FIRST: np.ones((1, 3))},
    "a number": {FIRST: np.float64(1.0)},
    "a tensor that does not exist": {7: ONE},
    "a negative tensor": {-1: ONE},
    "a tensor far away": {FIRST: ONE, 1000: ONE},
    "above the greatest": {FIRST: np.array([1.0, 1.0, np.nextafter(GREATEST, np.inf)])},
    "below the least": {FIRST: np.array([1.0, np.nextafter(1 / GREATEST, 0.0), 1.0])},
    "zero": {FIRST: ONE * 0.0},
    "negative": {SECOND: np.array([1.0, 1.0, -1.0])},
    "NaN": {SECOND: np.array([np.nan, 1.0, 1.0])},
    "infinite": {SECOND: ONE * np.inf},
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_squares_are_refused(name: str) -> None:
    with pytest.raises(ModelError):
        with_squares(network(), REFUSED[name])


def test_squares_are_not_put_beside_twice() -> None:
    once = with_squares(network(), {FIRST: ONE})
    with pytest.raises(ModelError, match="without squares"):
        with_squares(once, {once.tensors["n3"]: ONE})


def test_a_name_that_is_taken_is_refused() -> None:
    crowded = replace(network(), aliases={f"{RESERVED}n3/sum": 1})
    with pytest.raises(ModelError, match="same name"):
        with_squares(crowded, {FIRST: ONE})
    assert with_squares(crowded, {SECOND: ONE}).tensors["n5"] == SECOND + 2


def test_moving_a_product_moves_its_squares() -> None:
    node = Product("p", (3,), 1, 2, Squares(3, 4, ONE))
    found = moved(node, lambda tensor: tensor + 10)
    assert isinstance(found, Product)
    assert found.bounded == (11, 12, 13, 14)
    assert found.squares is not None
    assert found.squares.scale is ONE
    alone = moved(replace(node, squares=None), lambda tensor: tensor + 10)
    assert alone.bounded == (11, 12)


@pytest.mark.parametrize("squares", [Squares(5, 2, ONE), Squares(1, 6, ONE), Squares(0, 1, ONE)])
def test_squares_that_do_not_fit_are_refused(squares: Squares) -> None:
    """Tensors after the product, the product itself, or of another size."""
    nodes = list(network().nodes)
    nodes[5] = replace(nodes[5], squares=squares)
    with pytest.raises(ModelError):
        Network(tuple(nodes), (6,))


def image() -> Network:
    """A product of an image of 1 x 8 with its double, and a convolution of it."""
    net = Net(8)
    terms = (Term(0, Scale(Enclosure(np.full(8, 2.0)))),)
    net.nodes.append(Linear("double", (1, 1, 8), terms, zeros(8)))
    product = net.product(0, 1)
    wide = Conv(Enclosure(np.ones((1, 1, 2))), (1, 1, 8), (1, 1, 7), (1,), (0,), (1,), 1)
    net.linear((product, wide))
    wide = Conv(Enclosure(np.ones((1, 1, 2))), (1, 1, 7), (1, 1, 6), (1,), (0,), (1,), 1)
    net.linear((3, wide))
    last = net.linear((4, Identity(6)))
    return net.done(last)


def test_a_receptive_field_keeps_squares_whole() -> None:
    after = with_squares(image(), {2: np.arange(1.0, 9.0)})
    last = len(after.nodes) - 1
    cut = receptive(after, last, Window((1, 1, 6), ((2, 3),)), most_left=1.0)
    assert cut is not None
    product = cut.network.nodes[after.tensors["n2"]]
    assert isinstance(product, Product)
    assert product.squares is not None
    for tensor in product.bounded:
        assert cut.index[tensor] is None
        assert cut.network.sizes[tensor] == 8
    assert cut.network.sizes[last] == 1
    point = [Fraction(k, 3) for k in range(8)]
    whole = evaluate(Network(after.nodes, (last,)), point)
    assert evaluate(cut.network, point) == whole[2:3]
