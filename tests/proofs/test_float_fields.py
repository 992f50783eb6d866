"""Rows that pass through a part of an image pay the same errors as in the whole network."""

from __future__ import annotations

import numpy as np
import pytest

from proofs import fields
from proofs.bounds import bound_rows, propagate
from proofs.check import ARITHMETICS
from proofs.fields import Field, parts
from proofs.frame import Batch, Frame, Relaxations
from proofs.proof import Side
from specs import receptive
from specs.onnx_reader import read_model_bytes
from specs.perturbation import FORMATS
from tests.rounded import Graph


@pytest.fixture(autouse=True)
def _smallest_windows(monkeypatch):
    monkeypatch.setattr(fields, "EACH", 1)
    original = receptive.receptive
    monkeypatch.setattr(fields, "receptive", lambda *place: original(*place, most_left=0.99))


def image_network(format, size):
    graph = Graph(format, np.random.default_rng(5), (1, 1, size, size), 0.5)
    graph.convolution(2)
    graph.normalise()
    graph.relu()
    graph.convolution(2)
    graph.relu()
    return read_model_bytes(graph.model(), None, "m", format)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_fields_and_the_whole_network_agree(arithmetic):
    network = image_network(FORMATS["float16"], 10 if arithmetic == "outward" else 7)
    frame = Frame(network, ARITHMETICS[arithmetic]())
    low = np.zeros((1, network.input_size))
    batch = Batch(low, low + 0.25, {}, np.zeros(1, dtype=bool))
    with np.errstate(all="ignore"):
        propagate(frame, batch, record=True)
        lines = Relaxations(frame, batch)
        tensor = max(frame.preactivations)
        entry = np.arange(network.sizes[tensor])
        cut = 0
        for part in parts(frame, tensor, entry):
            own = np.zeros_like(part.place)
            found = bound_rows(part.frame, part.relaxations(lines), tensor, own, part.inside)
            whole = bound_rows(frame, lines, tensor, own, entry[part.place])
            cut += isinstance(part.frame, Field)
            for side in Side:
                ends = [frame.arithmetic.floats_down(b[side]) for b in (found, whole)]
                np.testing.assert_allclose(ends[0], ends[1], rtol=1e-9, atol=1e-9)
    assert cut > 1
    radius = frame.arithmetic.floats_up(frame.radius(tensor))
    assert np.all(radius > 0)
