"""Every network of the sample of public benchmarks is read, or refused with all reasons."""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from specs.errors import UnsupportedOperatorError
from specs.onnx_reader import read_model
from specs.reader.calls import RULES
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

REFUSED = {
    "cgan/cGAN_imgSz32_nCh_3_upsample": {"Sigmoid": 1},
    "dist_shift/mnist_concat": {"Sigmoid": 1},
    "lsnc/quadrotor2d_output": {"Cos": 4, "Div": 2, "Mul": 4},
    "lsnc/quadrotor2d_state": {"Sin": 1, "Cos": 1, "Mul": 4},
    "ml4acopf_2024/118_ieee_ml4acopf-linear-nonresidual": {"Mul": 10},
    "ml4acopf_2024/118_ieee_ml4acopf": {"Sigmoid": 1, "Cos": 1, "Sin": 1, "Mul": 3, "Pow": 7},
    "ml4acopf_2024/14_ieee_ml4acopf-linear-nonresidual": {"Mul": 10},
    "ml4acopf_2024/14_ieee_ml4acopf-linear-residual": {"Mul": 12, "Floor": 2},
    "ml4acopf_2024/14_ieee_ml4acopf": {"Sigmoid": 1, "Cos": 1, "Sin": 1, "Mul": 3, "Pow": 7},
    "nn4sys/pensieve_big_parallel": {"Pow": 2, "Div": 2},
    "vit/ibp_3_3_8": {"MatMul": 6, "Softmax": 3},
    "vit/pgd_2_3_16": {"MatMul": 4, "Softmax": 2},
}


def networks() -> list[Any]:
    found = sorted(p for p in Path(FOLDER).glob("*/onnx/**/*.onnx*") if p.is_file())
    return [pytest.param(path, id=name_of(path)) for path in found]


def name_of(path: Path) -> str:
    folder = path.relative_to(FOLDER).parts[0]
    return f"{folder}/{path.name.split('.onnx')[0]}"


def test_the_folder_holds_networks() -> None:
    assert len(networks()) > 80
    assert {parameter.id for parameter in networks()} >= set(REFUSED)


@pytest.mark.parametrize("path", networks() if FOLDER else [])
def test_a_network_computes_what_onnxruntime_computes(path: Path) -> None:
    if name_of(path) in REFUSED:
        with pytest.raises(UnsupportedOperatorError) as caught:
            read_model(path)
        named = Counter(re.findall(r"^  (\w+) \(tensor '", str(caught.value), re.MULTILINE))
        assert named == REFUSED[name_of(path)]
        missing = {node.op_type for node in loaded(path).graph.node} - set(RULES)
        assert missing <= set(named)
        return
    network, file = read_model(path)
    x = np.random.default_rng(0).random((POINTS, network.input_size)).astype(np.float32)
    ours, theirs = evaluate(network, x), onnxruntime_outputs(file.content, x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RELATIVE * (1 + np.abs(theirs).max()))


def loaded(path: Path) -> onnx.ModelProto:
    content = path.read_bytes()
    return onnx.load_from_string(gzip.decompress(content) if path.suffix == ".gz" else content)
