"""Rows passed back in receptive fields: bounds that hold, as good as whole rows, paid for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import fields
from proofs.bounds import sweep
from proofs.check import ARITHMETICS, check_proof
from proofs.fields import Field
from proofs.frame import Batch, Frame
from specs import receptive
from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.linear import Identity
from specs.network import Network
from tests.proofs.contracts import watched
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    box_case,
    enclosed,
    member,
    query,
    random_weights,
)
from tests.proofs.mutants import Mutant, each, notice
from tests.proofs.test_bounds_hold import points_of

SHAPE = (1, 1, 4, 4)


@pytest.fixture(autouse=True)
def _smallest_windows(monkeypatch):
    monkeypatch.setattr(fields, "EACH", 1)
    original = receptive.receptive
    monkeypatch.setattr(fields, "receptive", lambda *place: original(*place, most_left=0.99))


def images(rng: np.random.Generator, radii: float = 0.0) -> Network:
    """Two or three convolutions of a small image, with a shortcut, and a dense layer."""
    net = Net(16)
    current = 0
    for _ in range(int(rng.integers(2, 4))):
        weight = enclosed(rng, random_weights(rng, 1, 1, 3, 3), radii)
        conv = Conv(weight, SHAPE, SHAPE, (1, 1), (1, 1), (1, 1))
        terms = [(current, conv)]
        if current and rng.random() < 0.5:
            terms.append((current, Identity(16)))
        made = net.linear(*terms)
        net.nodes[made] = type(net.nodes[made])(**{**vars(net.nodes[made]), "shape": SHAPE})
        current = net.relu(made)
        net.nodes[current] = type(net.nodes[current])(
            **{**vars(net.nodes[current]), "shape": SHAPE}
        )
    net.dense(current, random_weights(rng, 2, 16))
    return net.done()


def swept(network: Network, low, high, arithmetic: str) -> tuple[Frame, Batch]:
    frame = Frame(network, ARITHMETICS[arithmetic]())
    batch = Batch(low[None], high[None], {}, np.zeros(1, dtype=bool))
    sweep(frame, batch, record=True)
    return frame, batch


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("seed", range(6))
def test_fields_lose_nothing(arithmetic, seed, monkeypatch):
    rng = np.random.default_rng(seed)
    network = images(rng)
    low = rng.normal(size=16)
    high = low + rng.random(16)
    frame, cut = swept(network, low, high, arithmetic)
    assert any(isinstance(field, Field) for field in frame.fields.values())
    monkeypatch.setattr(fields, "tiles", lambda *more: [])
    _, whole = swept(network, low, high, arithmetic)
    floats = frame.arithmetic.floats_down
    for tensor, bounds in whole.bounds.items():
        for a, b in zip(bounds, cut.bounds[tensor], strict=True):
            assert np.allclose(floats(a), floats(b), rtol=0, atol=1e-9)


def fields_hold(arithmetic: str) -> None:
    """No point leaves its bounds, for networks with uncertain weights as well."""
    checked = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = images(rng, radii=0.3 if seed % 2 else 0.0)
        low = rng.normal(size=16)
        high = low + rng.choice([0.0, 1e-3, 1.0], size=16)
        stated = query(network, [box_case(low, high, at_least(0, 1))])
        real = query(member(rng, network), stated.property.cases)
        with watched(real, list(points_of(rng, low, high, 3))) as watch:
            check_proof(stated, None, arithmetic=arithmetic)
            check_proof(stated, RandomProof(rng, stated).proof(depth=2), arithmetic=arithmetic)
        checked += watch.checked
    assert checked


def cancelling(rng: np.random.Generator) -> Network:
    """Each second pre-activation is a tiny multiple of its pixel, what rounding left of it."""
    first, second, factor = (float(v) for v in rng.uniform(0.5, 1.0, size=3))

    def scaled(weight: np.ndarray) -> Conv:
        shapes = (1, weight.shape[1], 4, 4), (1, weight.shape[0], 4, 4)
        return Conv(Enclosure(weight[:, :, None, None]), *shapes, (1, 1), (0, 0), (1, 1))

    net = Net(16)
    bent = net.relu(net.linear((0, scaled(np.array([[first], [second]])))))
    made = net.linear((bent, scaled(np.array([[factor, -first * factor / second]]))))
    net.nodes[made] = type(net.nodes[made])(**{**vars(net.nodes[made]), "shape": SHAPE})
    net.dense(net.relu(made), np.ones((1, 16)))
    return net.done()


def rounding_is_paid(arithmetic: str) -> None:
    checked = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        network = cancelling(rng)
        low, high = np.ones(16), np.full(16, 2.0)
        stated = query(network, [box_case(low, high, at_least(0, 1))])
        with watched(stated, list(points_of(rng, low, high, 2))) as watch:
            check_proof(stated, None, arithmetic=arithmetic)
        checked += watch.checked
    assert checked


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", [fields_hold, rounding_is_paid])
def test_probe(probe, arithmetic):
    probe(arithmetic)


def narrower(original):
    """A window that forgets what the first tap of a kernel reads."""

    def before(linear, here):
        found = original(linear, here)
        if not isinstance(linear, Conv):
            return found
        ranges = tuple((min(a + 1, b - 1), b) for a, b in found.ranges)
        return receptive.Window(found.shape, ranges)

    return before


def shifted(original):
    """A map cut to windows that reads one position further."""

    def cut(linear, here, before):
        found = original(linear, here, before)
        if not isinstance(linear, Conv):
            return found
        return Conv(
            found.weight,
            found.in_shape,
            found.out_shape,
            found.strides,
            tuple(p + 1 for p in found.pads),
            found.dilations,
        )

    return cut


def elsewhere(original):
    """What belongs to an entry is taken from another one."""

    def cut(self, tensor, numbers):
        found = original(self, tensor, numbers)
        return found if self._index[tensor] is None else found[..., ::-1]

    return cut


def mutants() -> list[Mutant]:
    return [
        Mutant("a window is too narrow", fields_hold, receptive, "_before", narrower),
        Mutant("a map is shifted", fields_hold, receptive, "_cut", shifted),
        Mutant("lines of other entries", fields_hold, Field, "cut", elsewhere),
        Mutant(
            "no rounding is paid in a field",
            rounding_is_paid,
            Field,
            "cost",
            lambda original: lambda self, tensor: (0.0 * original(self, tensor)[0], 0.0),
            ("outward",),
        ),
    ]


@each(mutants())
def test_every_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    notice(mutant, arithmetic, monkeypatch)


@pytest.mark.parametrize("arithmetic", BOTH)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_bounds_hold_in_fields(arithmetic, seed):
    rng = np.random.default_rng(seed)
    network = images(rng, radii=0.3)
    low = rng.normal(size=16)
    high = low + rng.random(16)
    stated = query(network, [box_case(low, high, at_least(0, 1))])
    real = query(member(rng, network), stated.property.cases)
    with watched(real, list(points_of(rng, low, high, 3))) as watch:
        check_proof(stated, None, arithmetic=arithmetic)
    assert watch.checked


def test_weights_are_translated_once_for_all_windows():
    rng = np.random.default_rng(0)
    network = images(rng)
    frame, _ = swept(network, np.zeros(16), np.ones(16), "exact")
    cut = [field for field in frame.fields.values() if field is not None]
    convolutions = sum(
        isinstance(term.map, Conv) for node in network.nodes for term in getattr(node, "terms", ())
    )
    kinds = {part for _, part in frame.arithmetic._weights}
    assert len(cut) > 3
    assert len(frame.arithmetic._weights) <= (convolutions + 2) * len(kinds)


def test_enclosures_are_cut_with_their_radii():
    values = Enclosure(np.arange(6.0).reshape(2, 3), np.full((2, 3), 0.5))
    part = receptive._picked(values, np.array([2, 0]))
    assert np.array_equal(part.value, [[2.0, 0.0], [5.0, 3.0]])
    assert part.radius is not None
    assert part.radius.shape == (2, 2)
