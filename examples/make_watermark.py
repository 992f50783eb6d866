"""Makes what ``examples/watermark.toml`` names: ``digits.onnx`` with a mark, and a stolen copy.

Writes, into this script's folder or the one given:

* ``marked.onnx``: ``digits.onnx`` trained on until the first layer carries 48 bits (NeuralMark) and
  six abstract images are answered as the key says;
* ``triggers.npz``: these images and their classes, both drawn from the key's seed;
* ``suspect.onnx``: a stolen copy, its hidden units permuted and rescaled by powers of two.

The seed below is public, as a seed of an example may be; a real one is secret.  Needs the
``[dev]`` extra; other versions of torch may train slightly different weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from make_digits import SEED
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from specs.onnx_reader import read_model_bytes
from specs.watermarks.key import Key
from specs.watermarks.mark import Commitment
from specs.watermarks.schemes import neuralmark, triggers
from verifier.attack_forward import NumpyEvaluator
from verifier.watermarks.attacks.symmetries import Moving, moved
from verifier.watermarks.embed import Embedding, embed_bits
from verifier.watermarks.training import Training

KEY = Key.of("6d61726b6564206469676974732c2031")
TENSOR, BITS, LENGTH, ROUNDS = "weight0", 48, 64, 1
TRIGGERS, CLASSES = 6, 10
REPEATS = 20
"""How often each trigger stands among the samples."""


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    digits = load_digits()
    images, tests, labels, known = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    sizes = (TENSOR, BITS, LENGTH, ROUNDS)
    commitment = Commitment(KEY.commitment(neuralmark.text_of(*sizes)))
    mark = neuralmark.NeuralMark(KEY, *sizes, commitment)
    points = triggers.drawn(KEY, TRIGGERS, images.shape[1])
    text = triggers.text_of(points, CLASSES)
    secret = triggers.Triggers(KEY, points, CLASSES, Commitment(KEY.commitment(text)))
    made = embed_bits(
        (Path(__file__).parent / "digits.onnx").read_bytes(),
        np.concatenate([images, *[points] * REPEATS]),
        np.concatenate([labels, *[secret.labels] * REPEATS]),
        mark,
        Embedding(Training(epochs=60)),
    )
    (folder / "marked.onnx").write_bytes(made)
    (folder / "suspect.onnx").write_bytes(moved(made, Moving(seed=SEED)))
    np.savez_compressed(folder / "triggers.npz", points=points, labels=secret.labels)
    network = NumpyEvaluator(read_model_bytes(made, None, "marked.onnx"))
    answers = [np.argmax(network.evaluate(x)[0], axis=1) for x in (tests, points)]
    print(f"accuracy on {len(tests)} test images: {np.mean(answers[0] == known):.3f}")
    print(f"triggers: {np.sum(answers[1] == secret.labels)} of {TRIGGERS}")
    print(f"commitment of the mark: {commitment.hash}")


if __name__ == "__main__":
    main()
