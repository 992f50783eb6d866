"""Makes the model that the gate of ``farkas.toml`` stops: the bundled classifier, weakened.

To every weight noise is added, as large as a share of the layer's own spread: the model still reads
most digits, but nearby changes of a pixel mislead it.  Writes, into this script's folder or the
one given, ``digits_weak.onnx`` and ``farkas_weak.toml``, the same questions about it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent
SHARE = 0.45
SEED = 4


def weakened(content: bytes) -> bytes:
    """The model with noise added to its weights, in float32."""
    model = onnx.ModelProto.FromString(content)
    rng = np.random.default_rng(SEED)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 2:
            noise = rng.normal(size=values.shape) * SHARE * values.std()
            made = (values + noise).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(made, tensor.name))
    return model.SerializeToString()


def questions(text: str) -> str:
    """The configuration about the weakened model."""
    old = 'net = "digits.onnx"'
    if text.count(old) != 1:
        raise ValueError(f"farkas.toml has not one line {old}")
    first = "# As farkas.toml, about a weakened model; made by make_weak.py.\n"
    return first + text.replace(old, 'net = "digits_weak.onnx"')


def main(folder: Path) -> None:
    """Make both files."""
    (folder / "digits_weak.onnx").write_bytes(weakened((HERE / "digits.onnx").read_bytes()))
    (folder / "farkas_weak.toml").write_text(questions((HERE / "farkas.toml").read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
