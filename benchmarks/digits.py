"""Classifiers of scikit-learn's 8x8 digits, trained here, for benchmarks about faults.

``networks`` trains and writes, with a fixed seed,

* ``dense``: 64-64-48-10, fully connected (7,770 parameters);
* ``convolutional``: two convolutions with batch normalisation, not folded, and a dense layer
  (7,650 parameters).

Pixels are scaled to [0, 1]; a quarter of the images is kept for tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from proofs.format import replacing

SEED = 20
EPOCHS = 60
PIXELS = "pixels"
SCORES = "scores"

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@cache
def data() -> Split:
    """Images ``(n, 64)`` and labels to train with, and those to test with."""
    digits = load_digits()
    images, labels = digits.data / 16.0, digits.target
    x, x_test, y, y_test = train_test_split(
        images, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    return x, y, x_test, y_test


def dense_layers(widths: tuple[int, ...]) -> nn.Sequential:
    """A fully connected classifier with Relus: 64, then ``widths``, then 10."""
    sizes = [64, *widths, 10]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional_layers() -> nn.Sequential:
    """Two convolutions with batch normalisation, and a dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(384, 10),
    )


KINDS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = {
    "dense": (lambda: dense_layers((64, 48)), (1, 64)),
    "convolutional": (convolutional_layers, (1, 1, 8, 8)),
}


def trained(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], seed: int = SEED
) -> nn.Sequential:
    """A classifier after ``EPOCHS`` epochs of Adam on slightly noisy images.

    Args:
        make: its layers.
        shape: of one input, with the batch axis.
        seed: of weights, batches and noise.
    """
    x, y, _, _ = data()
    images = torch.tensor(x, dtype=torch.float32).reshape(-1, *shape[1:])
    labels = torch.tensor(y)
    torch.manual_seed(seed)
    model = make()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    model.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(64):
            noisy = images[batch] + 0.05 * torch.randn_like(images[batch])
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(noisy), labels[batch]).backward()
            optimiser.step()
    return model.eval()


def export(model: nn.Sequential, shape: tuple[int, ...], path: Path) -> None:
    """Write a classifier as ONNX, every parameter an initialiser, nothing folded."""
    nodes: list[onnx.NodeProto] = []
    initialisers: list[onnx.TensorProto] = []
    tensor, number = PIXELS, 0
    for place, layer in enumerate(model):
        number += isinstance(layer, nn.Linear | nn.Conv2d)
        result = SCORES if place == len(model) - 1 else f"{_name(layer)}{number}"
        own = {"weight": f"{result}.weight", "bias": f"{result}.bias"}
        if isinstance(layer, nn.BatchNorm2d):
            own |= {key: f"{result}.{key}" for key in ("running_mean", "running_var")}
        state = layer.state_dict()
        for key in own if state else ():
            values = state[key].numpy().astype(np.float32)
            initialisers.append(numpy_helper.from_array(values, own[key]))
        read = [tensor, *own.values()] if state else [tensor]
        nodes.append(_node(layer, read, result))
        tensor = result
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, [1, 10])],
        initialisers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    with replacing(path) as stream:
        stream.write(made.SerializeToString())


def networks(folder: Path) -> dict[str, Path]:
    """The classifiers by kind, trained unless the folder holds them already."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for kind, (make, shape) in KINDS.items():
        found[kind] = folder / f"{kind}.onnx"
        if not found[kind].exists():
            export(trained(make, shape), shape, found[kind])
    return found


def _name(layer: nn.Module) -> str:
    names = {nn.Linear: "dense", nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.ReLU: "active"}
    return names.get(type(layer), "flat")


def _node(layer: nn.Module, read: list[str], result: str) -> onnx.NodeProto:
    match layer:
        case nn.Linear():
            return helper.make_node("Gemm", read, [result], transB=1)
        case nn.Conv2d():
            pads, strides = [*layer.padding, *layer.padding], list(layer.stride)
            return helper.make_node("Conv", read, [result], pads=pads, strides=strides)
        case nn.BatchNorm2d():
            return helper.make_node("BatchNormalization", read, [result], epsilon=layer.eps)
        case nn.ReLU():
            return helper.make_node("Relu", read, [result])
        case nn.Flatten():
            return helper.make_node("Flatten", read, [result])
    raise TypeError(f"no ONNX operator for {type(layer).__name__}")


def main() -> None:
    """Train into ``runs/digits`` and print the accuracies."""
    from specs.onnx_reader import read_model
    from verifier.attack_forward import NumpyEvaluator

    _, _, images, labels = data()
    for kind, path in networks(Path("runs/digits")).items():
        scores, _ = NumpyEvaluator(read_model(path)[0]).evaluate(images)
        print(f"{kind}: {np.mean(np.argmax(scores, axis=1) == labels):.3f} of {len(labels)} right")


if __name__ == "__main__":
    main()
