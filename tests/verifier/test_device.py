"""Batches and pools follow a device's memory; with a device, its search proves the same."""

from __future__ import annotations

import pytest
import torch

from proofs.check import check_proof
from tests.verifier.test_bounds import FAR, network, query
from verifier.bab import Search
from verifier.bab_pool import Pool
from verifier.bab_settings import FILL, Settings, fitted


def test_batches_fill_a_device_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8e10, 8e10))
    given = Settings(neuron_limit=7, steps=3)
    found = fitted(given, "cuda")
    assert found.work_bytes == found.device_bytes == FILL * 8e10
    assert found.batch > Settings().batch
    assert (found.neuron_limit, found.steps) == (7, 3)
    assert fitted(given, "cpu") == given


@pytest.mark.parametrize("device_bytes", [0.0, 200.0, float("inf")])
def test_a_pool_gives_back_what_it_was_given(device_bytes: float) -> None:
    pool = Pool(1e9, device_bytes)
    values = torch.arange(60, dtype=torch.float64).flip(0)
    for part in values.split(7):
        pool.add(part, wide=part[:, None].expand(-1, 3).float(), number=part.long())
    value, taken = pool.take(10)
    assert value.tolist() == list(range(10))
    assert taken["number"].tolist() == list(range(10))
    assert taken["wide"].shape == (10, 3)
    pool.add(value, **taken)
    assert len(pool) == 60
    assert sorted(pool.take(60)[1]["number"].tolist()) == list(range(60))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["inputs", "neurons"])
@pytest.mark.parametrize("seed", range(3))
def test_searches_on_a_device_have_valid_proofs(seed: int, method: str) -> None:
    asked = query(network(seed), 2.0)
    settings = Settings(method=method)
    expected = Search(asked, deadline=FAR, settings=settings).run()
    search = Search(asked, deadline=FAR, device="cuda", settings=settings)
    assert search.run() == expected
    if expected == "closed":
        assert check_proof(asked, search.proof()).verdict == "valid unsat"
