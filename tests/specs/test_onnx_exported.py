"""Modules as PyTorch exports them are read, and compute what onnxruntime computes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from specs.onnx_reader import read_model_bytes
from tests.networks import assert_agrees, functions_of

torch = pytest.importorskip("torch")
nn = torch.nn


class Applied(nn.Module):  # type: ignore[misc, name-defined]
    """A function as a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


class First(nn.Module):  # type: ignore[misc, name-defined]
    """The first output of a recurrent layer."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


class Causal(nn.Module):  # type: ignore[misc, name-defined]
    """A layer of a transformer in which no token sees a later one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 6, batch_first=True, activation="gelu")
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(3))

    def forward(self, x: Any) -> Any:
        return self.layer(x, self.mask)


def attended(x: Any) -> Any:
    return nn.functional.scaled_dot_product_attention(x, 2 * x, x + 1, is_causal=True)


NORMALISED = ["power", "sqrt", "reciprocal", "product"]
ATTENTION = ["product", "exp", "reciprocal", "product"]

CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...], list[str] | None]] = {
    "gelu": (nn.GELU, (1, 4), ["gelu"]),
    "gelu by tanh": (lambda: nn.GELU("tanh"), (1, 4), ["power", "tanh", "product"]),
    "silu": (nn.SiLU, (1, 4), ["silu"]),
    "mish": (nn.Mish, (1, 4), ["mish"]),
    "hardswish": (nn.Hardswish, (1, 4), ["hardswish"]),
    "softplus": (lambda: nn.Softplus(beta=2), (1, 4), ["softplus"]),
    "log sigmoid": (nn.LogSigmoid, (1, 4), ["softplus"]),
    "celu": (lambda: nn.CELU(0.3), (1, 4), ["elu"]),
    "softshrink": (nn.Softshrink, (1, 4), None),
    "glu": (nn.GLU, (1, 4), ["sigmoid", "product"]),
    "layer norm": (lambda: nn.LayerNorm(4), (2, 4), NORMALISED),
    "group norm": (lambda: nn.GroupNorm(2, 4), (1, 4, 3, 3), NORMALISED),
    "instance norm": (lambda: nn.InstanceNorm2d(4, affine=True), (1, 4, 3, 3), NORMALISED),
    "local response": (lambda: nn.LocalResponseNorm(3), (1, 4, 3, 3), None),
    "lstm": (lambda: First(nn.LSTM(4, 3, 2, bidirectional=True)), (3, 1, 4), None),
    "gru": (lambda: First(nn.GRU(4, 3, batch_first=True)), (1, 3, 4), None),
    "transformer": (Causal, (1, 3, 8), [*ATTENTION, *NORMALISED, "gelu", *NORMALISED]),
    "causal attention": (lambda: Applied(attended), (1, 2, 3, 4), ATTENTION),
    "cosine": (
        lambda: Applied(lambda x: nn.functional.cosine_similarity(x[:, :2], x[:, 2:])),
        (1, 4),
        None,
    ),
    "choice": (lambda: Applied(lambda x: torch.where(x > 0, 2 * x, x - 1)), (1, 4), None),
    "step": (lambda: Applied(lambda x: (x > 0).float()), (1, 4), ["sign", "relu"]),
    "outer": (lambda: Applied(lambda x: x.unsqueeze(2) * x.unsqueeze(1)), (1, 4), ["product"]),
    "einsum": (
        lambda: Applied(lambda x: torch.einsum("bij,bkj->bik", x, x)),
        (1, 3, 4),
        ["product"],
    ),
    "log sum exp": (lambda: Applied(lambda x: x.logsumexp(1)), (1, 4), ["exp", "log"]),
    "running sum": (lambda: Applied(lambda x: x.cumsum(1).tril()), (1, 3, 3), []),
    "bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 3), []),
}


@pytest.mark.parametrize("name", CASES)
def test_an_exported_module_is_read(name: str) -> None:
    make, shape, functions = CASES[name]
    torch.manual_seed(0)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the exporter knows the slow path only
    written = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module, x = make().eval(), torch.randn(shape)
            torch.onnx.export(module, (x,), written, opset_version=17, dynamo=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    content = written.getvalue()
    size = read_model_bytes(content, None, name).input_size
    points = np.random.default_rng(3).normal(size=(4, size)).astype(np.float32)
    network = assert_agrees(content, points, reference=None)
    if functions is not None:
        assert functions_of(network) == functions
