"""Gradients and uses of coefficients are those of the map itself."""

from __future__ import annotations

import numpy as np
import pytest

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.linear import MatMul, Scale, Sparse

RNG = np.random.default_rng(0)


def conv(weight, image, result, strides, pads, dilations, groups=1, transposed=False):
    coefficients = Enclosure(RNG.normal(size=weight))
    return Conv(coefficients, image, result, strides, pads, dilations, groups, transposed)


PLAIN = ((4, 2, 3, 2), (1, 4, 5, 6), (1, 4, 3, 3), (2, 2), (1, 0), (1, 1), 2)
MAPS = {
    "dense": MatMul(Enclosure(RNG.normal(size=(4, 3)))),
    "rows": MatMul(Enclosure(RNG.normal(size=(4, 3))), rows=5),
    "scale": Scale(Enclosure(RNG.normal(size=6))),
    "sparse": Sparse(Enclosure(RNG.normal(size=4)), [0, 2, 2, 1], [1, 0, 1, 1], 3, 2),
    "conv": conv(*PLAIN),
    "transposed": conv(*PLAIN, transposed=True),
    "dilated": conv((3, 2, 2), (2, 2, 7), (2, 3, 5), (1,), (1,), (3,)),
    "padding only": conv((2, 1, 5, 5), (1, 1, 1, 1), (1, 2, 1, 1), (1, 1), (2, 2), (1, 1)),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_gradient_is_what_coefficients_are_multiplied_by(name):
    linear = MAPS[name]
    rows = RNG.normal(size=(2, linear.target_size))
    values = RNG.normal(size=(2, linear.source_size))
    found = linear.gradient(rows, values, np.matmul)
    assert found.shape == (2, *linear.weight.shape)
    for position in range(linear.weight.value.size):
        unit = np.zeros(linear.weight.value.size)
        unit[position] = 1.0
        image = linear.forward(values, unit.reshape(linear.weight.shape), np.matmul)
        expected = (rows * image).sum(axis=1)
        np.testing.assert_allclose(found.reshape(2, -1)[:, position], expected, atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
def test_uses_are_the_products_of_the_map(name):
    linear = MAPS[name]
    values = RNG.normal(size=(1, linear.source_size))
    flat = linear.weight.value.reshape(-1)
    positions = RNG.permutation(flat.size)
    which, target, source = linear.uses(positions)
    image = np.zeros(linear.target_size)
    np.add.at(image, target, flat[positions[which]] * values[0, source])
    np.testing.assert_allclose(
        image, linear.forward(values, linear.weight.value, np.matmul)[0], atol=1e-12
    )
    some = positions[:2]
    part, target, source = linear.uses(some)
    for place in range(len(some)):
        own = which == np.flatnonzero(positions == some[place])[0]
        assert own.sum() == (part == place).sum()
