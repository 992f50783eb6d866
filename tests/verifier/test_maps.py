"""Torch's forms of convolutions are the maps they were made from, cut to windows or not."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.convolution import Conv
from specs.enclosure import Enclosure
from tests.specs.test_receptive import convolution
from verifier.bounds_maps import Weights, compile_map


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_compiled_convolutions(draw: st.DataObject) -> None:
    random = np.random.default_rng(draw.draw(st.integers(0, 1000)))
    axes = draw.draw(st.integers(1, 2))
    source = convolution(random, (1, 2, *([6] * axes)), draw)
    shift = tuple(pad - draw.draw(st.integers(0, 3)) for pad in source.pads)
    source = dataclasses.replace(source, pads=shift)  # windows may cut off what is before
    compiled = compile_map(source, Weights("cpu", torch.float64))
    x = random.integers(-4, 5, (3, source.source_size)).astype(float)
    rows = random.integers(-4, 5, (3, source.target_size)).astype(float)
    weight = source.weight.value
    for found, expected in (
        (compiled.forward(torch.tensor(x)), source.forward(x, weight, np.matmul)),
        (compiled.magnitude(torch.tensor(x)), source.forward(x, np.abs(weight), np.matmul)),
        (compiled.adjoint(torch.tensor(rows)), source.adjoint(rows, weight, np.matmul)),
    ):
        assert np.array_equal(found.numpy(), expected)


def test_usual_padding_is_left_to_the_operator() -> None:
    weight = np.ones((2, 3, 3, 3))
    for stride, size in ((1, 8), (2, 4)):
        conv = Conv(
            Enclosure(weight), (1, 3, 8, 8), (1, 2, size, size), (stride,) * 2, (1, 1), (1, 1)
        )
        assert compile_map(conv, Weights("cpu", torch.float32)).pads == ()  # type: ignore[attr-defined]
