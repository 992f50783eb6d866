"""A network cut to a receptive field computes there what the whole network computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.convolution import Conv
from specs.enclosure import Enclosure, zeros
from specs.linear import Identity, MatMul
from specs.network import Input, Linear, Network, Node, Term, Univariate
from specs.receptive import MOST_TILES, Window, receptive, tiles
from tests.networks import values

Integers = np.random.Generator


def convolution(random: Integers, shape: tuple[int, ...], draw: st.DataObject) -> Conv:
    """Any convolution (or its transpose) of an image of the given shape, integer weights."""
    axes = len(shape) - 2
    for _ in range(50):
        kernel = [draw.draw(st.integers(1, 3)) for _ in range(axes)]
        strides = [draw.draw(st.integers(1, 3)) for _ in range(axes)]
        dilations = [draw.draw(st.integers(1, 2)) for _ in range(axes)]
        pads = [draw.draw(st.integers(0, k)) for k in kernel]
        groups = draw.draw(st.sampled_from([1, shape[1]]))
        channels = groups * draw.draw(st.integers(1, 2))
        transposed = draw.draw(st.booleans())
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        spatial, rest = shape[2:], draw.draw(st.integers(0, 1))
        if transposed:
            sizes = [
                (n - 1) * s + r - p - rest
                for n, s, r, p in zip(spatial, strides, reach, pads, strict=True)
            ]
            weight = (shape[1], channels // groups, *kernel)
            ends = (shape[0], channels, *sizes), shape
        else:
            sizes = [
                (n + p + rest - r) // s + 1
                for n, s, r, p in zip(spatial, strides, reach, pads, strict=True)
            ]
            weight = (channels, shape[1] // groups, *kernel)
            ends = shape, (shape[0], channels, *sizes)
        if min(sizes) >= 1:
            return Conv(
                Enclosure(random.integers(-3, 4, weight).astype(float)),
                *ends,
                tuple(strides),
                tuple(pads),
                tuple(dilations),
                groups,
                transposed,
            )
    raise AssertionError("no convolution fits")


def image_network(draw: st.DataObject) -> Network:
    """Convolutions with Relus between them, and a shortcut now and then."""
    random = np.random.default_rng(draw.draw(st.integers(0, 1000)))
    axes = draw.draw(st.integers(1, 2))
    nodes: list[Node] = [Input("x", (1, 2, *([7] * axes)))]
    if draw.draw(st.booleans()):  # what a dense layer made is whole in every field
        size = 2 * 7**axes
        weight = Enclosure(random.integers(-2, 3, (3, size)).astype(float))
        nodes = [Input("x", (3,))]
        nodes.append(Linear("d", (1, 2, *([7] * axes)), (Term(0, MatMul(weight)),), zeros(size)))
    for depth in range(draw.draw(st.integers(1, 4))):
        last, shape = len(nodes) - 1, nodes[-1].shape
        map_ = convolution(random, shape, draw)
        size = map_.target_size
        into = map_.in_shape if map_.transposed else map_.out_shape
        terms = [Term(last, map_)]
        alike = [n for n, node in enumerate(nodes) if node.shape == into]
        if alike and draw.draw(st.booleans()):
            terms.append(Term(draw.draw(st.sampled_from(alike)), Identity(size)))
        offset = Enclosure(random.integers(-3, 4, size).astype(float))
        nodes.append(Linear(f"z{depth}", into, tuple(terms), offset))
        nodes.append(Univariate(f"h{depth}", into, len(nodes) - 1, "relu"))
    return Network(tuple(nodes), (len(nodes) - 1,))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_entry_of_the_field_has_its_value(draw: st.DataObject) -> None:
    network = image_network(draw)
    tensor = len(network.nodes) - draw.draw(st.integers(1, 2))
    shape = network.nodes[tensor].shape
    ranges = []
    for size in shape[2:]:
        start = draw.draw(st.integers(0, size - 1))
        ranges.append((start, draw.draw(st.integers(start + 1, size))))
    field = receptive(network, tensor, Window(shape, tuple(ranges)), most_left=1.0)
    assert field is not None
    x = np.random.default_rng(1).integers(-4, 5, (3, network.input_size)).astype(float)
    whole = values(network, x)
    columns = field.index.get(0)
    given_ = x if columns is None else x[:, columns]
    extra = np.zeros((3, field.network.input_size - given_.shape[1]))
    reached = 0 in field.index
    cut = values(field.network, np.hstack([given_, extra]) if reached else extra)
    for number, index in field.index.items():
        expected = whole[number] if index is None else whole[number][:, index]
        assert np.array_equal(cut[number], expected), number
    assert np.array_equal(field.index[tensor], Window(shape, tuple(ranges)).index)


def test_a_field_is_smaller_than_its_network() -> None:
    weight = Enclosure(np.ones((2, 2, 3, 3)))
    conv = Conv(weight, (1, 2, 16, 16), (1, 2, 16, 16), (1, 1), (1, 1), (1, 1))
    nodes = (
        Input("x", (1, 2, 16, 16)),
        Linear("z", (1, 2, 16, 16), (Term(0, conv),), zeros(512)),
        Univariate("h", (1, 2, 16, 16), 1, "relu"),
        Linear("y", (1, 2, 16, 16), (Term(2, conv),), zeros(512)),
    )
    network = Network(nodes, (3,))
    field = receptive(network, 3, Window((1, 2, 16, 16), ((0, 1), (5, 7))))
    assert field is not None
    assert [node.shape for node in field.network.nodes] == [
        (1, 2, 3, 6),
        (1, 2, 2, 4),
        (1, 2, 2, 4),
        (1, 2, 1, 2),
    ]
    assert receptive(network, 3, Window.around((1, 2, 16, 16))) is None


@given(st.integers(1, 40), st.sets(st.integers(0, 2 * 9 * 7 - 1), min_size=1))
def test_tiles_hold_every_entry_once(each: int, chosen: set[int]) -> None:
    shape, entries = (1, 2, 9, 7), np.array(sorted(chosen))
    found = tiles(shape, entries, each)
    places = np.concatenate([inside for _, inside in found])
    assert sorted(places) == list(range(len(entries)))
    for window, inside in found:
        assert set(entries[inside]) <= set(window.index)


def test_a_large_image_has_few_tiles() -> None:
    shape = (1, 64, 224, 224)
    found = tiles(shape, np.arange(0, 64 * 224 * 224, 7), 1)
    assert 16 <= len(found) <= MOST_TILES


@pytest.mark.parametrize("shape", [(4,), (1, 6)])
def test_flat_tensors_have_no_tiles(shape: tuple[int, ...]) -> None:
    assert tiles(shape, np.arange(4), 2) == []
