"""A focused network bounds, and finds gradients, as the whole network does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from specs.enclosure import Enclosure, zeros
from specs.linear import MatMul
from specs.network import Input, Linear, Network, Term
from tests.proofs.test_fields import images
from tests.verifier.test_bounds import FAR, boxes, network, query
from verifier.alpha import Effort, Multipliers, Problem, bounded, initial, optimise
from verifier.bab import Search, Settings
from verifier.bounds import Domains, Rows, TorchNetwork
from verifier.bounds_compile import compile_network
from verifier.bounds_focus import Focused, focused
from verifier.bounds_sweep import fresh, sweep


def rooted(seed: int, kind: str) -> tuple[TorchNetwork, Domains, Focused]:
    """A network, its bounds over a small box, and the network focused on these."""
    random = np.random.default_rng(seed)
    source: Network = (
        images(random) if kind == "images" else network(seed, (3, 9, 9, 9, 2), kind == "skip")
    )
    net = compile_network(source)
    low, high = boxes(seed, 1, net.input_size)
    state = sweep(net, fresh(net, low, (low + high) / 2)).domains
    return net, state, focused(net, net, state)


def problem(net: TorchNetwork, state: Domains, signs: torch.Tensor) -> Problem:
    count = len(signs)
    random = np.random.default_rng(0)
    forms = torch.tensor(random.normal(size=(count, 1, net.sizes[net.outputs[0]])))
    rows = Rows({net.outputs[0]: forms}, torch.zeros(count, 1, dtype=torch.float64))
    lower = state.lower.where(signs >= 0, state.lower.clamp(min=0.0))
    upper = state.upper.where(signs <= 0, state.upper.clamp(max=0.0))
    return Problem(net, rows, state.low, state.high, lower, upper, signs)


@pytest.mark.parametrize("kind", ["plain", "skip", "images"])
@pytest.mark.parametrize("seed", range(6))
def test_bounds_and_gradients_are_the_same(seed: int, kind: str) -> None:
    net, state, focus = rooted(seed, kind)
    generator = torch.Generator().manual_seed(seed)
    count, columns = 4, focus.columns
    signs = torch.zeros(count, net.neuron_count, dtype=torch.float64)
    if len(columns):
        split = columns[torch.randint(len(columns), (count,), generator=generator)]
        signs[torch.arange(count), split] = torch.tensor([1.0, -1.0, 1.0, -1.0]).double()
    alpha, beta = (
        torch.rand(count, net.neuron_count, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    whole = bounded(problem(net, state, signs), Multipliers(alpha, beta), gradient=True)
    own = focus.domains(state)
    asked = problem(focus.sure, own, signs[:, columns])
    cut = bounded(asked, Multipliers(alpha[:, columns], beta[:, columns]), gradient=True)
    assert torch.allclose(cut.bound, whole.bound, rtol=0, atol=1e-12)
    assert torch.allclose(cut.matrix, whole.matrix, rtol=0, atol=1e-12)
    assert cut.values is not None
    assert whole.values is not None
    assert torch.allclose(cut.values, whole.values[:, columns], rtol=0, atol=1e-12)
    unstable = ((state.lower < 0) & (state.upper > 0))[0].nonzero()[:, 0]
    assert torch.equal(columns, unstable)


def test_dense_layers_lose_what_is_zero() -> None:
    sizes = []
    for seed in range(6):
        net, state, focus = rooted(seed, "plain")
        for tensor, where in list(net.neurons.items())[1:]:
            dead = int((state.upper[0, where] <= 0).sum())
            assert focus.sure.sizes[tensor] == net.sizes[tensor] - dead
            sizes.append(dead)
    assert sum(sizes) > 0


def test_the_inner_loop_asks_for_no_value() -> None:
    """Bounds, gradient and step of a batch run on a device without waiting for it.

    Tensors on the device ``meta`` have a shape and no values: reading one raises, as does
    an operation on tensors of two devices.
    """
    _, state, focus = rooted(1, "images")
    signs = torch.zeros(5, focus.sure.neuron_count, dtype=torch.float64)
    asked = problem(focus.sure, focus.domains(state), signs)

    def meta(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to("meta")

    bound, best = optimise(_moved(asked, meta), initial(asked).map(meta), Effort(steps=3))
    assert bound.device.type == "meta"
    assert bound.shape == (5,)
    assert best.alpha.shape == (5, focus.sure.neuron_count)
    with pytest.raises(RuntimeError, match="meta"):  # looking at every step needs values
        optimise(_moved(asked, meta), initial(asked).map(meta), Effort(steps=3, look=1))


def _moved(asked: Problem, move) -> Problem:
    """A problem with every tensor replaced, those of its network too."""
    forms = {t: move(m) for t, m in asked.forms.coefficients.items()}
    parts = {
        name: move(getattr(asked, name)) for name in ("low", "high", "lower", "upper", "signs")
    }
    rows = Rows(forms, move(asked.forms.constant))
    return replace(asked, net=_replaced(asked.net, move), forms=rows, **parts)


def _replaced(thing, move):
    """A copy of nested dataclasses, tuples and mappings with every tensor replaced."""
    if isinstance(thing, torch.Tensor):
        return move(thing)
    if isinstance(thing, tuple):
        return tuple(_replaced(part, move) for part in thing)
    if isinstance(thing, dict):
        return {key: _replaced(part, move) for key, part in thing.items()}
    if hasattr(thing, "__dataclass_fields__") and type(thing).__module__.startswith("verifier."):
        kept = {"source", "weights", "fields", "relaxation", "shape"}
        values = {n: getattr(thing, n) for n in thing.__dataclass_fields__}
        parts = {n: v for n, v in values.items() if n not in kept or isinstance(v, int)}
        return replace(thing, **{n: _replaced(v, move) for n, v in parts.items()})
    return thing


def test_a_network_without_neurons_is_decided_or_left() -> None:
    weight = Enclosure(np.array([[1.0, -1.0], [2.0, 0.5]]))
    nodes = (Input("x", (2,)), Linear("y", (2,), (Term(0, MatMul(weight)),), zeros(2)))
    for threshold, status in ((50.0, "closed"), (0.0, "exhausted")):
        asked = query(Network(nodes, (1,)), threshold)
        assert Search(asked, deadline=FAR, settings=Settings(method="neurons")).run() == status
