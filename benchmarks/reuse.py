"""How much of a proof survives when its network or question changes, and the time that saves.

    python -m benchmarks.reuse [--images 12] [--margins 1e-7,0.1,0.3] [--out DIR]

Robustness questions about the bundled network of digits (test images that it classifies
rightly, at radii from 0.02 on), of those that hold and that the empty proof does not settle.
Each is proved with every setting of ``search.margin``, by how much the search wants leaves to
close, and with one ``--proof-effort``.  Then the proofs are tried on

* ``tuned``: the network after one more epoch over its training images (stochastic gradient
  descent on the cross entropy, batches of 32, at the learning rate ``--rate``);
* ``int8``: weights (biases not) rounded to 255 steps per tensor, and back in floats;
* ``pruned``: the 10 % smallest weights of every tensor set to 0;
* ``radius``: the same network at 0.9 times the radius;
* ``same``: nothing changed.

``unchanged`` is the share of proofs valid at once, ``leaves`` the share of all leaves that
close as they are.  Seconds are sums over the questions that hold before and after, from start
to verdict with the check, with reuse and from scratch.  Questions that no longer
hold, by a witness, are counted apart.

*Slack* is a question's radius over the largest one of its image that was proved (radii are
multiples of 0.01): at 1 there is the least to spare.

Where ``FARKAS_VNNCOMP`` names a folder with the competition's queries, some of acasxu and
mnist_fc follow, with weights rounded to int8 and with noise of 0.1 % on every weight.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from proofs.check import check_proof
from proofs.proof import Proof
from specs.builders import robustness
from specs.onnx_reader import read_model
from specs.query import Query
from specs.question import load_question
from verifier import verify as portfolio
from verifier.verdict import Verdict

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples" / "digits.onnx"
SEED = 20  # of examples/make_digits.py, so that the images are those it did not see
RADII = [Fraction(k, 100) for k in range(2, 13)]
COMPETITION = (
    ("acasxu", "ACASXU_run2a_2_3_batch_2000", "prop_3"),
    ("acasxu", "ACASXU_run2a_1_6_batch_2000", "prop_1"),
    ("acasxu", "ACASXU_run2a_2_1_batch_2000", "prop_1"),
    ("acasxu", "ACASXU_run2a_1_2_batch_2000", "prop_4"),
    ("mnist_fc", "mnist-net_256x2", "prop_8_0.03"),
    ("mnist_fc", "mnist-net_256x4", "prop_3_0.05"),
)

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One proof on one changed question.

    Attributes:
        margin: ``search.margin`` of the proof; ``slack``: see above.
        leaves, survived, added: of the proof.
        answer: with reuse; ``scratch``: without.
        seconds, scratch_seconds: start to verdict.
    """

    question: str
    margin: float
    slack: float
    change: str
    leaves: int
    survived: int
    added: int
    answer: str
    scratch: str
    seconds: float
    scratch_seconds: float


def weights_of(path: Path) -> Arrays:
    """A model's constants by name."""
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def with_weights(path: Path, weights: Mapping[str, np.ndarray], out: Path) -> Path:
    """The model with other constants."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        changed = weights[tensor.name].astype(numpy_helper.to_array(tensor).dtype)
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, out)
    return out


def _matrices(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    """A change of the floating-point tensors with more than one axis."""

    def changed(weights: Arrays) -> Arrays:
        return {
            name: change(w) if w.ndim > 1 and w.dtype.kind == "f" and w.any() else w
            for name, w in weights.items()
        }

    return changed


def int8(weight: np.ndarray) -> np.ndarray:
    """Rounded to multiples of a 127th of the largest."""
    step = np.abs(weight).max() / 127
    return np.round(weight / step) * step


def pruned(weight: np.ndarray) -> np.ndarray:
    """Without the smallest tenth."""
    return np.where(np.abs(weight) < np.quantile(np.abs(weight), 0.1), 0.0, weight)


def noisy(weight: np.ndarray) -> np.ndarray:
    """Each times ``1 + 0.001 n`` with a standard normal ``n``."""
    return weight * (1 + 1e-3 * np.random.default_rng(0).standard_normal(weight.shape))


def images() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, test images, and their labels."""
    digits = load_digits()
    found = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    return tuple(found)


def tuned(weights: Arrays, x: np.ndarray, labels: np.ndarray, rate: float) -> Arrays:
    """After one epoch of stochastic gradient descent on the cross entropy."""
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    layers = range(len(weights) // 2)
    pairs = [[torch.tensor(weights[f"{n}{k}"]) for n in ("weight", "bias")] for k in layers]
    for tensor in (t for pair in pairs for t in pair):
        tensor.requires_grad_()
    descent = torch.optim.SGD([t for pair in pairs for t in pair], lr=rate)
    data, wanted = torch.tensor(x, dtype=torch.float32), torch.tensor(labels)
    for batch in torch.randperm(len(data)).split(32):
        value = data[batch]
        for number, (weight, bias) in enumerate(pairs):
            value = value @ weight + bias
            value = value.relu() if number < len(pairs) - 1 else value
        descent.zero_grad()
        functional.cross_entropy(value, wanted[batch]).backward()
        descent.step()
    return {
        f"{name}{k}": tensor.detach().numpy()
        for k, pair in enumerate(pairs)
        for name, tensor in zip(("weight", "bias"), pair, strict=True)
    }


def asked(path: Path, image: np.ndarray, label: int, radius: Fraction) -> Query:
    """Whether the network keeps to a label."""
    return robustness(read_model(path), image, label, radius, lower=0, upper=1)


def timed(query: Query, **options: object) -> tuple[Verdict, float]:
    """A verdict, and the seconds it took."""
    began = time.perf_counter()
    verdict = portfolio.verify(query, portfolio.Options(timeout=120.0, **options))
    return verdict, time.perf_counter() - began


def proved(query: Query, margin: float, effort: str) -> Proof | None:
    """A proof, if it is found."""
    verdict, _ = timed(query, settings={"search.margin": margin}, proof_effort=effort)
    return verdict.evidence if isinstance(verdict.evidence, Proof) else None


def compared(
    name: str, margin: float, slack: float, change: str, query: Query, proof: Proof
) -> Row:
    """An old proof on a changed question, beside a search from scratch."""
    again, seconds = timed(query, reuse=proof)
    scratch, alone = timed(query)
    kept = again.reused
    counts = (0, 0, 0) if kept is None else (kept.leaves, kept.survived, kept.added or 0)
    return Row(name, margin, slack, change, *counts, again.answer, scratch.answer, seconds, alone)


def digits(
    count: int, margins: Sequence[float], rate: float, effort: str, folder: Path
) -> Iterator[Row]:
    """The questions about digits."""
    x, x_test, labels, wanted = images()
    weights = weights_of(DIGITS)
    changes = {
        "tuned": tuned(weights, x, labels, rate),
        "int8": _matrices(int8)(weights),
        "pruned": _matrices(pruned)(weights),
    }
    files = {n: with_weights(DIGITS, w, folder / f"{n}.onnx") for n, w in changes.items()}
    files |= {"radius": DIGITS, "same": DIGITS}
    chosen = 0
    for number, (image, label) in enumerate(zip(x_test, wanted.tolist(), strict=True)):
        held = []
        for radius in RADII:
            query = asked(DIGITS, image, label, radius)
            if check_proof(query, None).valid:
                continue
            found = {margin: proved(query, margin, effort) for margin in margins}
            proofs = {margin: proof for margin, proof in found.items() if proof is not None}
            if len(proofs) < len(found):
                break
            held.append((radius, proofs))
        chosen += bool(held)
        for radius, proofs in held:
            for change, path in files.items():
                query = asked(
                    path, image, label, radius * Fraction(9 if change == "radius" else 10, 10)
                )
                for margin, proof in proofs.items():
                    slack = float(radius / held[-1][0])
                    yield compared(
                        f"{number} at {float(radius)}", margin, slack, change, query, proof
                    )
        if chosen == count:
            return


def competition(folder: Path, margins: Sequence[float], effort: str, out: Path) -> Iterator[Row]:
    """Queries of the competition."""
    for benchmark, network, stated in COMPETITION:
        packed = folder / benchmark / "onnx" / f"{network}.onnx"
        plain = out / packed.name
        with gzip.open(f"{packed}.gz") if not packed.exists() else open(packed, "rb") as stream:
            plain.write_bytes(stream.read())
        prop = folder / benchmark / "vnnlib" / f"{stated}.vnnlib"
        for margin in margins:
            proof = proved(load_question(plain, prop), margin, effort)
            for name, change in (("int8", int8), ("noise", noisy)):
                if proof is None:
                    continue
                weights = _matrices(change)(weights_of(plain))
                changed = with_weights(plain, weights, out / f"{network}-{name}.onnx")
                query = load_question(changed, prop)
                yield compared(f"{network} {stated}", margin, 1.0, name, query, proof)


def table(rows: Iterable[Row], least: float = 0.0, most: float = 1.0) -> str:
    """A line for each margin and change, of the rows within bounds of their slack."""
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if least < row.slack <= most:
            groups.setdefault((row.change, row.margin), []).append(row)
    lines = ["| change | margin | proofs | violated | unchanged | leaves | s reuse | s scratch |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for (change, margin), group in sorted(groups.items()):
        held = [r for r in group if "sat" not in (r.answer, r.scratch)]
        leaves = sum(r.leaves for r in held) or 1
        share = sum(r.survived == r.leaves for r in held) / (len(held) or 1)
        lines.append(
            f"| {change} | {margin:g} | {len(held)} | {len(group) - len(held)} | {share:.0%} "
            f"| {sum(r.survived for r in held) / leaves:.0%} "
            f"| {sum(r.seconds for r in held):.1f} | {sum(r.scratch_seconds for r in held):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reuse")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--margins", default="1e-7,0.1,0.3")
    parser.add_argument("--proof-effort", default="default")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--out", type=Path, help="a folder for rows.csv")
    options = parser.parse_args()
    margins = [float(margin) for margin in options.margins.split(",")]
    portfolio.verify(asked(DIGITS, np.full(64, 0.5), 0, Fraction(1)))  # torch is imported
    with tempfile.TemporaryDirectory() as name:
        effort, made = options.proof_effort, Path(name)
        rows = list(digits(options.images, margins, options.rate, effort, made))
        print("digits\n" + table(rows), flush=True)
        for least, most in ((0.0, 0.99), (0.99, 1.0)):
            print(f"\ndigits, slack above {least} up to {most}\n" + table(rows, least, most))
        folder = os.environ.get("FARKAS_VNNCOMP")
        more = [] if folder is None else list(competition(Path(folder), margins[:2], effort, made))
    if more:
        print("\ncompetition\n" + table(more))
    else:
        print("FARKAS_VNNCOMP is not set: no competition queries", file=sys.stderr)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        with open(options.out / "rows.csv", "w", newline="") as stream:
            writer = csv.DictWriter(stream, [f.name for f in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in [*rows, *more])


if __name__ == "__main__":
    main()
