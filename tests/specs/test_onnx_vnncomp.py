"""Every network of the sample of public benchmarks is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specs.onnx_reader import read_model
from tests.networks import evaluate, onnxruntime_outputs

FOLDER = os.environ.get("FARKAS_VNNCOMP", "")
POINTS = 3
RELATIVE = 2.0**-14
"""float32 sums of up to 2**12 products err by at most 2**-12 of the sum of magnitudes; a
hundredth of that is what random signs leave."""

pytestmark = pytest.mark.skipif(
    not Path(FOLDER, "instances.csv").is_file(),
    reason="FARKAS_VNNCOMP names no folder of benchmarks",
)


def networks() -> list[Any]:
    found = sorted(p for p in Path(FOLDER).glob("*/**/*.onnx*") if p.is_file())
    return [pytest.param(path, id=name_of(path)) for path in found]


def name_of(path: Path) -> str:
    folder = path.relative_to(FOLDER).parts[0]
    return f"{folder}/{path.name.split('.onnx')[0]}"


def test_the_folder_holds_networks() -> None:
    assert len(networks()) > 80


@pytest.mark.parametrize("path", networks() if FOLDER else [])
def test_a_network_computes_what_onnxruntime_computes(path: Path) -> None:
    network, file = read_model(path)
    x = np.random.default_rng(0).random((POINTS, network.input_size)).astype(np.float32)
    ours, theirs = evaluate(network, x), onnxruntime_outputs(file.content, x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RELATIVE * (1 + np.abs(theirs).max()))
