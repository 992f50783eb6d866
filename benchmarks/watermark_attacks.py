"""Attacks on the marked digits classifiers, with what they cost and what they leave.

    python -m benchmarks.watermark_attacks --out runs/watermarked

Every attack runs on every marked model (``benchmarks/watermarked.py``) at several strengths and
seeds.  The attacked model files lie in ``DIR/attacked``, so that costs can be computed from them
exactly; ``DIR/attacks.jsonl`` has a line for each run, and a run whose line is there is not made
again.  A mark counts as removed when fewer places match than a false claim of ``LEVEL`` needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digits import data
from benchmarks.tables import table
from benchmarks.watermarked import ANSWERS, LINEAR, MarkedNet, matches_of, networks
from proofs.format import replacing
from proofs.watermarks.tails import poisson_binomial_threshold
from specs.watermarks.key import Key
from specs.watermarks.schemes.triggers import Triggers, drawn
from verifier.progress import Progress
from verifier.watermarks.attacks.forging import searched
from verifier.watermarks.attacks.inversion import Inversion, unlearned
from verifier.watermarks.attacks.pruning import pruned
from verifier.watermarks.attacks.quantising import quantised
from verifier.watermarks.attacks.report import judged
from verifier.watermarks.attacks.symmetries import Moving, moved
from verifier.watermarks.attacks.tuning import fine_tuned, overwritten
from verifier.watermarks.embed import embed_answers
from verifier.watermarks.parameters import parameters
from verifier.watermarks.training import Training

LEVEL = Fraction(1, 2**20)
"""A mark is removed when the chance of so many matches is larger than this."""
SEEDS = (0, 1)
TRIES = (1, 30, 1000)
THIEF = 700
"""Samples that whoever attacks has, the first ones to train with."""


@dataclass(frozen=True, eq=False)
class Attack:
    """An attack at one strength.

    Attributes:
        name: of the attack.
        strength: in words.
        run: from the marked model, its file's content and a seed to the attacked file.
        seeded: the seed changes something.
    """

    name: str
    strength: str
    run: Callable[[MarkedNet, bytes, int], bytes]
    seeded: bool = True


def thief() -> tuple[np.ndarray, np.ndarray]:
    """The samples of whoever attacks."""
    x, y, _, _ = data()
    return x[:THIEF], y[:THIEF]


def _tuning(rate: float, epochs: int) -> Attack:
    def run(net: MarkedNet, content: bytes, seed: int) -> bytes:
        return fine_tuned(content, *thief(), Training(epochs=epochs, rate=rate, seed=seed))

    return Attack("fine-tuning", f"rate {rate:g}, {epochs} epochs", run)


def _pruning(share: Fraction, order: str) -> Attack:
    def run(net: MarkedNet, content: bytes, seed: int) -> bytes:
        return pruned(content, _weights(content), share, order, seed)

    return Attack(f"pruning, {order}", f"{float(share):.0%}", run, order == "random")


def _quantising(name: str) -> Attack:
    def run(net: MarkedNet, content: bytes, seed: int) -> bytes:
        return quantised(content, _weights(content), name).content

    return Attack("quantising", name, run, False)


def _overwriting(rate: float) -> Attack:
    def run(net: MarkedNet, content: bytes, seed: int) -> bytes:
        key = Key(hashlib.sha256(f"thief {net.kind} {net.scheme} {seed}".encode()).digest())
        training = Training(epochs=15, rate=rate, seed=seed)
        if hasattr(net.mark, "system"):
            second = replace(net.mark, key=key)
            return overwritten(content, *thief(), second, replace(LINEAR, training=training))
        points = drawn(key, net.mark.size, net.mark.points.shape[1])
        second_mark = Triggers(key, points, net.mark.classes, net.mark.commitment)
        embedding = replace(ANSWERS, training=training)
        return embed_answers(content, *thief(), points, second_mark.labels, embedding)

    return Attack("overwriting", f"rate {rate:g}", run)


def _inversion(rounds: int, rate: float) -> Attack:
    def run(net: MarkedNet, content: bytes, seed: int) -> bytes:
        training = Training(epochs=15, rate=rate, noise=0.03, seed=seed)
        plan = Inversion(rounds=rounds, unlearning=training, seed=seed)
        return unlearned(content, *thief(), plan).content

    return Attack("inversion", f"rate {rate:g}, rounds {rounds}", run)


def _symmetry(words: str, moving: Moving) -> Attack:
    def run(net: MarkedNet, content: bytes, seed: int) -> bytes:
        return moved(content, replace(moving, seed=seed))

    return Attack("symmetry", words, run)


def attacks() -> list[Attack]:
    """All of them, from weak to strong."""
    tuning = [_tuning(rate, 10) for rate in (3e-5, 3e-4, 3e-3, 1e-2)]
    shares = [Fraction(s, 100) for s in (5, 20, 40, 60, 80, 90)]
    pruning = [_pruning(s, order) for order in ("magnitude", "random") for s in shares]
    narrow = [_quantising(name) for name in ("float16", "bfloat16", "int8", "int4", "int3", "int2")]
    over = [_overwriting(rate) for rate in (3e-4, 3e-3)]
    inverting = [_inversion(*each) for each in ((1, 3e-4), (1, 2e-3), (4, 2e-3))]
    moving = [
        _symmetry("permuted", Moving(scales="none", flip=False)),
        _symmetry("rescaled and flipped", Moving(permute=False)),
    ]
    return [*tuning, *pruning, *narrow, *over, *inverting, *moving]


def _weights(content: bytes) -> list[str]:
    """Matrices and kernels: what is pruned and quantised."""
    return [name for name, values in parameters(content).items() if values.ndim > 1]


def needed(net: MarkedNet) -> int:
    """Matches below which the mark counts as removed."""
    return poisson_binomial_threshold(net.mark.null, LEVEL)


def run(net: MarkedNet, attack: Attack, seed: int, folder: Path, before: bytes) -> dict[str, Any]:
    """One run; the attacked file is written into a folder."""
    _, _, x_test, y_test = data()
    after = attack.run(net, before, seed)
    words = f"{net.kind}-{net.scheme}-{attack.name}-{attack.strength}-{seed}"
    path = folder / f"{words.replace(', ', '-').replace(' ', '-').replace('%', '')}.onnx"
    with replacing(path) as stream:
        stream.write(after)
    found = judged(before, after, x_test, y_test)
    matches, enough = matches_of(after, net.mark), needed(net)
    marked = None
    if hasattr(net.mark, "system"):
        marked = found.cost.of(net.mark.tensor).record()
    return {
        "network": net.kind,
        "scheme": net.scheme,
        "attack": attack.name,
        "strength": attack.strength,
        "seed": seed,
        "file": path.name,
        "matches": matches,
        "needed": enough,
        "size": net.mark.size,
        "removed": matches < enough,
        "accuracy_before": found.before,
        "accuracy": found.after,
        "marked": marked,
        "every": found.cost.every.record(),
    }


def runs(out: Path, progress: Progress | None = None) -> list[dict[str, Any]]:
    """All runs; those whose lines are there are read."""
    nets = networks(out, progress)
    folder, log = out / "attacked", out / "attacks.jsonl"
    folder.mkdir(exist_ok=True)
    known = {_name(line): line for line in _lines(log)}
    if log.exists() and not log.read_bytes().endswith(b"\n"):
        with log.open("a") as stream:
            stream.write("\n")
    plan = [
        (net, attack, seed)
        for net in nets
        for attack in attacks()
        for seed in (SEEDS if attack.seeded else SEEDS[:1])
    ]
    found = []
    for number, (net, attack, seed) in enumerate(plan):
        name = (net.kind, net.scheme, attack.name, attack.strength, seed)
        if name not in known:
            if progress is not None:
                progress.count("attacks", number, len(plan))
            known[name] = run(net, attack, seed, folder, net.path.read_bytes())
            with log.open("a") as stream:
                stream.write(json.dumps(known[name]) + "\n")
        found.append(known[name])
    return found


def _name(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[key] for key in ("network", "scheme", "attack", "strength", "seed"))


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    """Lines that are whole; the last one may have been cut off."""
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def rows(found: list[dict[str, Any]]) -> list[dict[str, object]]:
    """One row for each network, scheme, attack and strength."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault(_name(each)[:4], []).append(each)
    lines = []
    for (kind, scheme, attack, strength), group in groups.items():
        parts = [each["marked"] or each["every"] for each in group]
        lines.append(
            {
                "network": kind,
                "scheme": scheme,
                "attack": f"{attack}, {strength}",
                "matches": " ".join(str(each["matches"]) for each in group),
                "of": str(group[0]["size"]),
                "removed": f"{sum(each['removed'] for each in group)} of {len(group)}",
                "L-inf": " ".join(f"{part['linf']:.3g}" for part in parts),
                "L2": " ".join(f"{part['l2']:.3g}" for part in parts),
                "L1": " ".join(f"{part['l1']:.3g}" for part in parts),
                "zeroed": " ".join(str(part["zeroed"]) for part in parts),
                "accuracy": f"{group[0]['accuracy_before']:.3f} to "
                + " ".join(f"{each['accuracy']:.3f}" for each in group),
            }
        )
    return lines


def forged(nets: list[MarkedNet], tries: tuple[int, ...] = TRIES) -> list[dict[str, object]]:
    """Best of many keys made after the model, for the schemes that read parameters."""
    lines = []
    for net in nets:
        if not hasattr(net.mark, "system"):
            continue
        mark, content = net.mark, net.path.read_bytes()
        for count in tries:
            best = searched(
                content,
                lambda key, mark=mark: replace(mark, key=key),
                b"a thief's, 16 bytes",
                count,
            )
            enough = poisson_binomial_threshold(mark.null, LEVEL / count)
            lines.append(
                {
                    "network": net.kind,
                    "scheme": net.scheme,
                    "keys tried": str(count),
                    "best matches": f"{best.matches} of {mark.size}",
                    "needed for so many keys": str(enough),
                    "false claim": "yes" if best.matches >= enough else "no",
                }
            )
    return lines


def section(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """A section of ``benchmarks.watermarks``."""
    progress = Progress()
    found = runs(out / "marked", progress)
    progress.clear()
    note = f"{len(found)} runs; cost on the marked tensor, or on all parameters.\n\n"
    forging = table(forged(networks(out / "marked")))
    keys = f"\nForging: a key is searched for after the model is known.\n\n{forging}"
    return note + table(rows(found)) + keys, found


def main() -> None:
    """Run all and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, default=Path("runs/watermarked"), metavar="DIR")
    progress = Progress()
    out = options.parse_args().out
    found = runs(out, progress)
    progress.clear()
    print(f"{len(found)} runs; cost on the marked tensor, or on all parameters\n")
    print(table(rows(found)))
    print("\nForging: a key is searched for after the model is known\n")
    print(table(forged(networks(out))))


if __name__ == "__main__":
    main()
