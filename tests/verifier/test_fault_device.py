"""Faults in batches on a torch device are decided as numpy and rationals decide them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from specs.enclosure import Enclosure
from specs.errors import FarkasError, InputError
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips
from specs.faults.placed import place_model
from specs.faults.sites import cells
from specs.network import Network
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from verifier.faults import device as module
from verifier.faults.device import Device
from verifier.faults.floats import Floats, ends
from verifier.faults.maps import single_fault_maps
from verifier.faults.struck import Struck

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def padded_model():
    """Index maps that leave entries out, and a layer whose weights are in all products."""
    rng = np.random.default_rng(3)
    stored = {
        "k": floats(rng, 2, 1, 2, 2),
        "s": np.array([1, 32], dtype=np.int64),
        "w": floats(rng, 32, 3),
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 0], dtype=np.int64),
        "f": floats(rng, 1, 2, 1, 1),
    }
    nodes = [
        node("Conv", "x k", "a"),
        node("Relu", "a", "h"),
        node("Pad", "h p", "q"),
        node("Mul", "q f", "m"),
        node("Reshape", "m s", "r"),
        node("MatMul", "r w", "y"),
    ]
    return graph_bytes(nodes, (1, 1, 3, 4), stored)


MODELS = {"dense": dense_model((4, 5, 4, 3)), "conv": conv_model(), "padded": padded_model()}


def setting(name, choice, seed=0):
    if name == "padded":
        placed = place_model(model_file(MODELS[name]), ("k", "f", "w"))
    else:
        placed = place_model(model_file(MODELS[name]))
    points = np.random.default_rng(seed).normal(size=(3, placed.network.input_size))
    return store(placed, choice), points


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("name", "choice"), [("dense", None), ("conv", None), ("conv", Quantised(8))]
)
def test_maps_are_the_same(name, choice, device):
    memory, points = setting(name, choice)
    found = cells(memory, BitFlips())
    one, other = (single_fault_maps(found, points, device=d) for d in ("numpy", device))
    assert one.totals == other.totals
    for tensor, each in one.maps.items():
        assert np.array_equal(each.critical, other.maps[tensor].critical)
        assert np.array_equal(each.first, other.maps[tensor].first)
    assert other.tally.floats > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_outputs_overlap_with_those_of_numpy(name, device):
    memory, points = setting(name, None)
    evaluator = Floats(memory.network)
    held = Device(evaluator, device)
    tensors = dict(enumerate(evaluator.run(points[:1])))
    for tensor, places in memory.placed.of.items():
        struck = Struck(evaluator, places[0], memory.stored[tensor].values)
        entry = np.arange(struck.values.size)
        rng = np.random.default_rng(4)
        value = struck.values + np.abs(rng.normal(size=entry.size)) * 10.0 ** rng.integers(-3, 30)
        steps = struck.steps(entry, value)
        ours = evaluator.outputs(
            {**tensors, places[0].node: struck.moved(tensors, entry, steps)}, places[0].node
        )
        theirs = held.outputs(held.sent(tensors), struck, entry, steps)
        (low, high), (below, above) = ends(ours), ends(theirs)
        assert np.all(low <= above)
        assert np.all(below <= high)
        assert np.all(np.isfinite(theirs.value))


def test_devices_and_networks_that_do_not_fit(monkeypatch):
    memory, _ = setting("dense", None)
    evaluator = Floats(memory.network)
    with pytest.raises(InputError, match="device 'tpu': use one of cpu, cuda"):
        Device(evaluator, "tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            Device(evaluator, "cuda")
    smooth = graph_bytes([node("Tanh", "x", "y")], (1, 2), {})
    with pytest.raises(InputError, match="the function 'tanh' has no rule"):
        Device(Floats(place_model(model_file(smooth)).network), "cpu")
    product = graph_bytes([node("Mul", "x h", "y"), node("Relu", "x", "h")][::-1], (1, 2), {})
    with pytest.raises(InputError, match="products have no rule"):
        Device(Floats(place_model(model_file(product)).network), "cpu")
    monkeypatch.setattr(module, "LARGEST", 10)
    with pytest.raises(InputError, match="a map of 4 to 5 entries is too large"):
        Device(evaluator, "cpu")


def wrong_product(make):
    """Torch with another matrix product."""

    class Fake:
        def __getattr__(self, name):
            return getattr(torch, name)

        def tensor(self, *args, **kwargs):
            return torch.tensor(*args, **kwargs).as_subclass(make)

        def arange(self, *args, **kwargs):
            return torch.arange(*args, **kwargs).as_subclass(make)

    return Fake()


class Mixing(torch.Tensor):
    """One exponent for a block, as emulated float64 has it."""

    def __matmul__(self, other):
        a, b = self.as_subclass(torch.Tensor), other.as_subclass(torch.Tensor)
        unit = a.abs().max() * 2.0**-40
        return (a / unit).round() * unit @ b


class Narrow(torch.Tensor):
    def __matmul__(self, other):
        a, b = self.as_subclass(torch.Tensor), other.as_subclass(torch.Tensor)
        return (a.float() @ b.float()).double()


@pytest.mark.parametrize("wrong", [Mixing, Narrow])
def test_unfit_products_are_noticed(wrong):
    module._self_test(torch, "cpu")
    with pytest.raises(FarkasError, match="matrix product"):
        module._self_test(wrong_product(wrong), "cpu")


def test_enclosures_of_weights_count_on_a_device():
    memory, points = setting("dense", None)
    network = memory.network
    nodes = list(network.nodes)
    last = nodes[-1]
    term = last.terms[0]
    weight = Enclosure(term.map.weight.value, np.full(term.map.weight.shape, 1e-3))
    moved = dataclasses.replace(term, map=dataclasses.replace(term.map, weight=weight))
    nodes[-1] = dataclasses.replace(last, terms=(moved,))
    evaluator = Floats(Network(tuple(nodes), network.outputs))
    tensors = dict(enumerate(evaluator.run(points[:1])))
    held = Device(evaluator, "cpu")
    place = memory.placed.of["w0"][0]
    struck = Struck(evaluator, place, memory.stored["w0"].values)
    steps = struck.steps(np.array([0]), np.array([1.0]))
    found = held.outputs(held.sent(tensors), struck, np.array([0]), steps)
    hidden = tensors[last.sources[0]].value
    assert found.error.min() > 1e-3 * np.abs(hidden).max()
