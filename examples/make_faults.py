"""Makes what ``examples/faults.toml`` names: samples of digits, and the network stored in int8.

Writes, into this script's folder or the one given:

* ``digits.npz``: 40 test images of scikit-learn's digits, pixels 0 to 16, and their labels; the
  network was not trained on them;
* ``digits_int8.onnx``: ``digits.onnx`` with its parameters rounded to int8.

Needs the ``[dev]`` extra.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from make_digits import SEED
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from specs.faults.memory import Quantised, store
from specs.faults.placed import read_placed
from verifier.certify.models import stored_model

SAMPLES = 40


def main() -> None:
    """Write both files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    digits = load_digits()
    _, images, _, labels = train_test_split(
        digits.data, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    np.savez_compressed(
        folder / "digits.npz",
        images=images[:SAMPLES].astype(np.uint8),
        labels=labels[:SAMPLES].astype(np.int64),
    )
    memory = store(read_placed(Path(__file__).parent / "digits.onnx"), Quantised(8))
    (folder / "digits_int8.onnx").write_bytes(stored_model(memory))


if __name__ == "__main__":
    main()
