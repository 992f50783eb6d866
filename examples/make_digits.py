"""Makes the bundled example: a small classifier of handwritten digits and two properties.

Trains a 64-32-16-10 network on scikit-learn's 8x8 digits (pixels scaled to [0, 1]) and
writes, into this script's folder or the one given:

* ``digits.onnx``: the network;
* ``holds.vnnlib``: within 0.08 of one test image in every pixel, the answer never changes;
* ``violated.vnnlib``: within 0.1 of the same image, it does.

Needs the ``[dev]`` extra.  The seed is fixed; other versions of scikit-learn or of the
linear algebra below it may train slightly different weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 20
HOLDS = 0.08
VIOLATED = 0.1


def train() -> tuple[MLPClassifier, np.ndarray, np.ndarray]:
    """The classifier, and the test images with their labels."""
    digits = load_digits()
    images, labels = digits.data / 16.0, digits.target
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    model = MLPClassifier((32, 16), alpha=0.01, max_iter=400, random_state=SEED)
    model.fit(x_train, y_train)
    print(f"accuracy on {len(y_test)} test images: {model.score(x_test, y_test):.3f}")
    return model, x_test, y_test


def export(model: MLPClassifier, path: Path) -> None:
    """Write the classifier's logits as ONNX, with weights in float32."""
    nodes, initialisers = [], []
    tensor = "pixels"
    last = len(model.coefs_) - 1
    for layer, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        names = [f"weight{layer}", f"bias{layer}"]
        for name, values in zip(names, (weight, bias), strict=True):
            initialisers.append(numpy_helper.from_array(values.astype(np.float32), name))
        result = "scores" if layer == last else f"hidden{layer}"
        nodes.append(helper.make_node("Gemm", [tensor, *names], [result]))
        tensor = result
        if layer != last:
            tensor = f"active{layer}"
            nodes.append(helper.make_node("Relu", [result], [tensor]))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        initialisers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    path.write_bytes(made.SerializeToString())


def write_property(image: np.ndarray, label: int, radius: float, path: Path) -> None:
    """Write as VNN-LIB: near ``image``, some digit scores at least as much as ``label``."""
    lines = [f"; digit {label}: every pixel may change by {radius}, within [0, 1]"]
    lines += [f"(declare-const X_{i} Real)" for i in range(64)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(10)]
    for i, pixel in enumerate(image):
        lines.append(f"(assert (>= X_{i} {max(pixel - radius, 0.0):.6f}))")
        lines.append(f"(assert (<= X_{i} {min(pixel + radius, 1.0):.6f}))")
    lines.append("(assert (or")
    lines += [f"    (and (>= Y_{j} Y_{label}))" for j in range(10) if j != label]
    lines.append("))")
    path.write_text("\n".join(lines) + "\n")


def scores(model: MLPClassifier, x: np.ndarray) -> np.ndarray:
    """The logits at the rows of ``x``."""
    for weight, bias in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        x = np.maximum(x @ weight + bias, 0.0)
    return x @ model.coefs_[-1] + model.intercepts_[-1]


def main(folder: Path) -> None:
    """Make the three files."""
    model, images, labels = train()
    top = np.sort(scores(model, images), axis=1)
    right = model.predict(images) == labels
    margin = np.where(right, top[:, -1] - top[:, -2], -np.inf)
    # An image of middling confidence: neither property should be a foregone conclusion.
    chosen = int(np.argsort(margin)[int(0.4 * len(margin))])
    export(model, folder / "digits.onnx")
    for radius, name in ((HOLDS, "holds.vnnlib"), (VIOLATED, "violated.vnnlib")):
        write_property(images[chosen], int(labels[chosen]), radius, folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
