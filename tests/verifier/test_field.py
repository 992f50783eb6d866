"""The search's sweep in receptive fields finds what the sweep over whole tensors finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specs import receptive
from tests.proofs.test_fields import images
from verifier import bounds_field, bounds_sweep
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh, sweep


@pytest.mark.parametrize("seed", range(8))
def test_fields_lose_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    network = images(random)
    low = torch.tensor(random.normal(size=(3, 16)))
    high = low + torch.tensor(random.random((3, 16)))
    whole = compile_network(network)
    monkeypatch.setattr(bounds_sweep, "parts", lambda net, tensor, entries: _uncut(entries))
    expected = sweep(whole, fresh(whole, low, high)).domains
    monkeypatch.undo()
    monkeypatch.setattr(bounds_field, "EACH", 1)
    cut = receptive.receptive
    monkeypatch.setattr(bounds_field, "receptive", lambda *a: cut(*a, most_left=0.99))
    net = compile_network(network)
    found = sweep(net, fresh(net, low, high)).domains
    assert any(field is not None for field in net.fields.values())
    assert torch.allclose(found.lower, expected.lower, rtol=0, atol=1e-9)
    assert torch.allclose(found.upper, expected.upper, rtol=0, atol=1e-9)


def _uncut(entries: torch.Tensor):
    yield None, torch.arange(len(entries)), entries
