"""Marked classifiers of the 8x8 digits, one for each scheme, and unmarked ones beside them.

    python -m benchmarks.watermarked --out runs/watermarked

For ``dense`` and ``convolutional`` (``benchmarks/digits.py``) it makes, unless they lie there,

* ``unmarked/KIND-00.onnx`` to ``-29.onnx``, with seeds of their own: 00 is what BlackMarks starts
  from, 01 to 04 are what its key inputs are chosen by, and from 05 on they are models without a
  mark by which chance matches are counted;
* ``KIND-SCHEME.onnx``, and ``KIND-blackmarks.npy`` with key inputs;
* ``KIND-SCHEME-present.toml``, that the mark is in the model, and ``KIND-SCHEME-chance.toml``, how
  improbable that is without it, with evidence beside them: ``farkas check FOLDER`` takes them all;
* ``data.npz``: images and labels to train with (``x``, ``y``) and to test with (``x_test``,
  ``y_test``).

``tensor`` of the linear marks is not folded.  Everything is seeded; on one machine and one version
of torch, the same files are made again.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.digits import KINDS, data, export
from benchmarks.tables import table
from proofs.format import replacing, write_mark
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.watermarks.tails import log2_text, poisson_binomial_tail
from specs.watermarks.key import Key
from specs.watermarks.mark import Commitment, LinearMark, Mark
from specs.watermarks.question import load_mark_question
from specs.watermarks.schemes import blackmarks, neuralmark, triggers, uchida
from verifier.progress import Progress
from verifier.watermarks.attacks.forging import read_matches
from verifier.watermarks.blackmarks import Making, chance_hits, embed_blackmarks
from verifier.watermarks.claim_file import mark_keys, write_claim
from verifier.watermarks.embed import Embedding, embed_answers, embed_bits
from verifier.watermarks.graph import Trainable, accuracy
from verifier.watermarks.parameters import parameters
from verifier.watermarks.training import Training, train

SCHEMES = ("neuralmark", "uchida", "triggers", "blackmarks")
TENSORS = {"dense": "dense2.weight", "convolutional": "conv2.weight"}
"""That carry linear marks."""
CLASSES, PIXELS = 10, 64

UNMARKED, CHOOSING = 30, 4
PLAIN = Training(epochs=25, rate=4e-3)
LINEAR = Embedding(Training(epochs=40), weight=3.0, gain=2.0)
ANSWERS = Embedding(Training(epochs=60, noise=0.03))
MAKING = Making(count=48)
TRIGGERS = 100
UCHIDA_BITS = 64
NEURALMARK = (256, 512, 1)
"""Bits, length and rounds: with four rounds a tensor of 3,000 entries would hold no group."""
TIME = "2026-01-01"
"""As the owner states it; nothing verifies it."""


@dataclass(frozen=True, eq=False)
class MarkedNet:
    """A marked model.

    Attributes:
        kind: of the network.
        scheme: of the mark.
        path: of the model file.
        mark: as its claim file states it.
        present, chance: question files.
        record: accuracy, matches and the like.
    """

    kind: str
    scheme: str
    path: Path
    mark: Any
    present: Path
    chance: Path
    record: Mapping[str, Any]


def key_of(kind: str, scheme: str) -> Key:
    """The owner's key, one for each model."""
    return Key(hashlib.sha256(f"farkas benchmark {kind} {scheme}".encode()).digest())


def untrained(folder: Path, kind: str, seed: int) -> bytes:
    """A model file with parameters as torch draws them."""
    make, shape = KINDS[kind]
    path = folder / f".{kind}-{seed}.onnx"
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    export(make().eval(), shape, path)
    torch.random.set_rng_state(state)
    content = path.read_bytes()
    path.unlink()
    return content


def unmarked(folder: Path, kind: str, progress: Progress | None = None) -> list[Path]:
    """Models without a mark, trained unless they are there."""
    (folder / "unmarked").mkdir(parents=True, exist_ok=True)
    x, y, _, _ = data()
    found = []
    for number in range(UNMARKED):
        path = folder / "unmarked" / f"{kind}-{number:02d}.onnx"
        found.append(path)
        if not path.exists():
            if progress is not None:
                progress.count(f"unmarked, {kind}", number, UNMARKED)
            model = Trainable(untrained(folder, kind, 1000 + number))
            settings = Training(PLAIN.epochs, PLAIN.batch, PLAIN.rate, seed=number)
            train(model, x, y, settings)
            _write(path, model.content())
    return found


def linear(kind: str, scheme: str) -> LinearMark:
    """The mark of a white-box scheme."""
    key, tensor = key_of(kind, scheme), TENSORS[kind]
    if scheme == "uchida":
        text = uchida.text_of(tensor, UCHIDA_BITS, 0)
        return uchida.Uchida(key, tensor, UCHIDA_BITS, 0, Commitment(key.commitment(text)))
    text = neuralmark.text_of(tensor, *NEURALMARK)
    commitment = Commitment(key.commitment(text))
    return neuralmark.NeuralMark(key, tensor, *NEURALMARK, commitment)


def _linear(folder: Path, kind: str, scheme: str, progress: Progress) -> tuple[bytes, Mark]:
    x, y, _, _ = data()
    mark = linear(kind, scheme)
    return embed_bits(untrained(folder, kind, 20), x, y, mark, LINEAR, progress), mark


def _triggers(folder: Path, kind: str, scheme: str, progress: Progress) -> tuple[bytes, Mark]:
    x, y, _, _ = data()
    key = key_of(kind, scheme)
    points = triggers.drawn(key, TRIGGERS, PIXELS)
    commitment = Commitment(key.commitment(triggers.text_of(points, CLASSES)))
    mark = triggers.Triggers(key, points, CLASSES, commitment)
    start = untrained(folder, kind, 20)
    return embed_answers(start, x, y, points, mark.labels, ANSWERS, progress), mark


def _blackmarks(folder: Path, kind: str, scheme: str, progress: Progress) -> tuple[bytes, Mark]:
    x, y, _, _ = data()
    key = key_of(kind, scheme)
    first, *others = [path.read_bytes() for path in unmarked(folder, kind, progress)]
    made = embed_blackmarks(first, x, y, key, others[:CHOOSING], MAKING, progress)
    bits = blackmarks.signature(key, MAKING.count)
    fresh = others[CHOOSING:]
    hits = tuple(chance_hits(fresh, made.points, bits, made.clusters))
    commitment = Commitment(key.commitment(blackmarks.text_of(made.points, made.clusters)))
    doubt = blackmarks.DOUBT
    mark = blackmarks.BlackMarks(
        key, made.points, made.clusters, hits, len(fresh), doubt, commitment
    )
    return made.content, mark


MAKERS: dict[str, Callable[[Path, str, str, Progress], tuple[bytes, Mark]]] = {
    "neuralmark": _linear,
    "uchida": _linear,
    "triggers": _triggers,
    "blackmarks": _blackmarks,
}


def matches_of(content: bytes, mark: Any) -> int:
    """How much of a mark a model carries, in floats; claims are decided exactly."""
    if hasattr(mark, "system"):
        return read_matches(parameters(content)[mark.tensor].astype(np.float64), mark)
    answers = np.argmax(Trainable(content).scores(mark.points), axis=1)
    return sum(mark.matching(answers.tolist()))


def marked(folder: Path, kind: str, scheme: str, progress: Progress | None = None) -> MarkedNet:
    """A marked model, made unless it is there with its claim files."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{kind}-{scheme}"
    path, note = folder / f"{stem}.onnx", folder / f"{stem}.json"
    present, chance = (folder / f"{stem}-{what}.toml" for what in ("present", "chance"))
    if not note.exists():  # it is written last
        _made(folder, kind, scheme, path, (present, chance), progress or Progress(enabled=False))
    mark = load_mark_question(present).mark
    return MarkedNet(kind, scheme, path, mark, present, chance, json.loads(note.read_text()))


def _made(
    folder: Path,
    kind: str,
    scheme: str,
    path: Path,
    questions: tuple[Path, Path],
    progress: Progress,
) -> None:
    _, _, x_test, y_test = data()
    started = time.process_time()
    content, mark = MAKERS[scheme](folder, kind, scheme, progress)
    seconds = time.process_time() - started
    _write(path, content)
    stored = None
    if scheme == "blackmarks":
        stored = f"{path.stem}.npy"
        held = io.BytesIO()
        np.save(held, mark.points.astype(np.float32))
        _write(folder / stored, held.getvalue())
    matches = matches_of(content, mark)
    tail = poisson_binomial_tail(mark.null, matches)
    kind_of = "extraction" if hasattr(mark, "system") else "answers"
    claims = (
        {"kind": kind_of, "at_least": matches},
        {"kind": "false_claim", "at_least": matches, "level": _level(tail)},
    )
    keys = mark_keys(mark, stored, TIME)
    for question, claim in zip(questions, claims, strict=True):
        write_claim(question, {"net": path.name}, keys, claim)
        digest = load_mark_question(question).digest
        write_mark(question.with_suffix(".farkas"), MarkEvidence(digest, HOLDS))
    record = {
        "kind": kind,
        "scheme": scheme,
        "size": mark.size,
        "matches": matches,
        "chance": log2_text(tail),
        "accuracy": accuracy(content, x_test, y_test),
        "unmarked_accuracy": [
            accuracy(each.read_bytes(), x_test, y_test) for each in unmarked(folder, kind)[:5]
        ],
        "unmarked_matches": [
            matches_of(each.read_bytes(), mark) for each in unmarked(folder, kind)[1 + CHOOSING :]
        ],
        "cpu_seconds": seconds,
    }
    _write(path.with_suffix(".json"), json.dumps(record, indent=1).encode())


def _level(tail: Fraction) -> str | int:
    """The power of two, with a whole exponent, that is nearest above a tail."""
    level = log2_text(tail, 0)
    return 1 if level == "2^0" else level


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as stream:
        stream.write(content)


def networks(folder: Path, progress: Progress | None = None) -> list[MarkedNet]:
    """All marked models, made unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data.npz").exists():
        held = io.BytesIO()
        np.savez(held, **dict(zip(("x", "y", "x_test", "y_test"), data(), strict=True)))
        _write(folder / "data.npz", held.getvalue())
    for kind in KINDS:
        unmarked(folder, kind, progress)
    return [marked(folder, kind, scheme, progress) for kind in KINDS for scheme in SCHEMES]


def rows(found: list[MarkedNet]) -> list[dict[str, object]]:
    """One row for each model."""
    lines = []
    for net in found:
        record = net.record
        plain = record["unmarked_accuracy"]
        lines.append(
            {
                "network": net.kind,
                "scheme": net.scheme,
                "matches": f"{record['matches']} of {record['size']}",
                "by chance": record["chance"],
                "unmarked models match": f"{min(record['unmarked_matches'])} to "
                f"{max(record['unmarked_matches'])}",
                "accuracy": f"{record['accuracy']:.3f}",
                "unmarked": f"{min(plain):.3f} to {max(plain):.3f}",
                "CPU s": f"{record['cpu_seconds']:.1f}",
            }
        )
    return lines


def section(out: Path) -> tuple[str, list[dict[str, object]]]:
    """A section of ``benchmarks.watermarks``."""
    progress = Progress()
    found = networks(out / "marked", progress)
    progress.clear()
    return table(rows(found)), [dict(net.record) for net in found]


def main() -> None:
    """Make all and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, default=Path("runs/watermarked"), metavar="DIR")
    progress = Progress()
    found = networks(options.parse_args().out, progress)
    progress.clear()
    print(table(rows(found)))


if __name__ == "__main__":
    main()
