"""How little of the last layer has to change before triggers lose their labels.

    python -m benchmarks.watermark_removal --out runs/watermarks

Dense digits classifiers with 25 triggers trained in.  For 1, 2, 3 triggers the optimum of the
search is compared with all choices of classes, one linear program each; for 1, 2, 3, 4, 5 and 25
with the published bound, in which every trigger falls to its second best class.  Every certified
radius, and every change found, is written with its question and checked by the kernel.  What is
done is kept, and an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.digits import EPOCHS, data, dense_layers, export
from proofs.format import write_mark
from proofs.watermarks.check import check_mark
from proofs.watermarks.last_layer import stated
from specs.watermarks.question import MarkQuestion, load_mark_question
from specs.watermarks.samples import write_samples
from verifier.progress import Progress
from verifier.watermarks.removal import exact_removal, second_best
from verifier.watermarks.removal_question import Removing, fails, holds, least_change

TRIGGERS = 25
COUNTS = (1, 2, 3, 4, 5, 25)
ENUMERATED = 3
"""Triggers up to which all choices are tried."""

KEYS = (
    *("network", "triggers", "set", "certified", "change", "enumerated", "second_best"),
    *("closed", "nodes", "seconds", "leaves", "checked", "check_seconds"),
)


def marked(path: Path, samples: Path, seed: int) -> None:
    """Train a dense classifier to give random labels to random images, and write both."""
    x, y, _, _ = data()
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 17, (TRIGGERS, x.shape[1])) / 16.0
    labels = rng.integers(0, 10, TRIGGERS)
    images = torch.tensor(np.concatenate([x, *[points] * 4]), dtype=torch.float32)
    wanted = torch.tensor(np.concatenate([y, *[labels] * 4]))
    torch.manual_seed(seed)
    model = dense_layers((64, 48))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(wanted)).split(64):
            noisy = images[batch] + 0.02 * torch.randn_like(images[batch])
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(noisy), wanted[batch]).backward()
            optimiser.step()
    export(model.eval(), (1, x.shape[1]), path)
    with torch.no_grad():
        answers = model(torch.tensor(points, dtype=torch.float32)).argmax(1).numpy()
    kept = answers == labels  # a trigger that training missed is none
    write_samples(samples, points[kept], labels[kept])


def measure(folder: Path, net: str, name: str, seconds: float) -> dict[str, object]:
    """One set of triggers: the search, what it is compared with, and the kernel's checks."""
    asked = Removing(net, name)
    question = folder / f"{Path(net).stem}-{Path(name).stem}.toml"
    question.write_text(asked.text(Fraction(1)))
    claim = load_mark_question(question).claim
    start = time.perf_counter()
    found = least_change(claim, seconds, Progress())  # type: ignore[arg-type]
    took = time.perf_counter() - start
    samples = stated(claim).samples  # type: ignore[arg-type]
    lost = len(samples.labels)
    exact = exact_removal(samples, "linf", lost) if lost <= ENUMERATED else None
    second = second_best(samples, "linf")
    verdicts, checking = [], 0.0
    if found.tree is not None:
        held = _stated(question, asked, found.radius)
        verdicts.append(_checked(question, held, holds(held, found.tree)))
    if found.moved is not None:
        above = question.with_name(f"{question.stem}-removed.toml")
        # upward, so that the change lies within
        radius = _up(found.moved.radius * (1 + 1e-6))
        failed = _stated(above, asked, radius)
        evidence = fails(failed, found.moved)
        if evidence is not None:
            verdicts.append(_checked(above, failed, evidence))
    checking = sum(v[1] for v in verdicts)
    return {
        "network": net,
        "triggers": lost,
        "set": name,
        "certified": float(found.radius),
        "change": "" if found.moved is None else found.moved.radius,
        "enumerated": "" if exact is None else exact.radius,
        "second_best": "" if second is None else second.radius,
        "closed": found.closed,
        "nodes": found.nodes,
        "seconds": round(took, 2),
        "leaves": "" if found.tree is None else found.tree.first.size - 1,
        "checked": " ".join(v[0].replace("valid ", "") for v in verdicts),
        "check_seconds": round(checking, 2),
    }


def _stated(path: Path, asked: Removing, radius: Fraction) -> MarkQuestion:
    path.write_text(asked.text(radius))
    return load_mark_question(path)


def _checked(path: Path, question: MarkQuestion, evidence) -> tuple[str, float]:
    write_mark(path.with_suffix(".farkas"), evidence)
    found, _ = check_mark(question, evidence)
    return found.verdict, found.cpu_seconds


def _up(value: float) -> Fraction:
    unit = Fraction(1, 10**9)
    return -(-Fraction(value) // unit) * unit


def sets(folder: Path, networks: int, each: int) -> list[tuple[str, str]]:
    """Networks, and files of some of their triggers; all that is not there is made."""
    found = []
    for seed in range(1, networks + 1):
        net, whole = f"marked{seed}.onnx", folder / f"triggers{seed}.npz"
        if not (folder / net).exists() or not whole.exists():
            marked(folder / net, whole, seed)
        with np.load(whole) as archive:
            points, labels = archive["points"], archive["labels"]
        rng = np.random.default_rng(seed)
        for count in COUNTS:
            for number in range(each if count < TRIGGERS else 1):
                chosen = np.sort(rng.permutation(len(labels))[:count])
                name = f"triggers{seed}-{count}-{number}.npz"
                if not (folder / name).exists():
                    write_samples(folder / name, points[chosen], labels[chosen])
                found.append((net, name))
    return found


def table(rows: Sequence[dict[str, str]]) -> str:
    """The results, by number of triggers."""
    lines = [
        "| triggers | sets | certified, median | change found, median | "
        "certified / change, least | equal to enumeration | second best, median | "
        "strictly larger |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for count in sorted({int(row["triggers"]) for row in rows}):
        own = [row for row in rows if int(row["triggers"]) == count]
        low, high, second = (
            np.array([float(row[key]) for row in own])
            for key in ("certified", "change", "second_best")
        )
        listed = [row for row in own if row["enumerated"]]
        equal = sum(abs(float(r["change"]) / float(r["enumerated"]) - 1) < 1e-6 for r in listed)
        larger = int(np.sum(second > high * (1 + 1e-6)))
        lines.append(
            f"| {count} | {len(own)} | {np.median(low):.5f} | {np.median(high):.5f} | "
            f"{np.min(low / high):.6f} | {f'{equal} of {len(listed)}' if listed else ''} | "
            f"{np.median(second):.5f} | {larger} of {len(own)} |"
        )
    bad = [row for row in rows if row["checked"] != "unsat sat"]
    lines.append(f"\n{len(rows) - len(bad)} of {len(rows)} have both kinds of valid evidence")
    return "\n".join(lines)


def section(out: Path) -> tuple[str, list[dict[str, str]]]:
    """A section of ``benchmarks.watermarks``."""
    text = measured(out / "removal")
    with (out / "removal" / "removal.csv").open() as stream:
        return text, list(csv.DictReader(stream))


def measured(folder: Path, networks: int = 3, each: int = 5, seconds: float = 120.0) -> str:
    """Measure what is missing; the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "removal.csv"
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    done = {(row["network"], row["set"]) for row in rows}
    for net, name in sets(folder, networks, each):
        if (net, name) in done:
            continue
        row = measure(folder, net, name, seconds)
        new = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, KEYS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        rows.append({key: str(value) for key, value in row.items()})
    return table(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/watermarks"))
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--sets", type=int, default=5, help="of each number of triggers below 25")
    parser.add_argument("--seconds", type=float, default=300.0, help="of one search")
    given = parser.parse_args(arguments)
    print(measured(given.out / "removal", given.networks, given.sets, given.seconds))


if __name__ == "__main__":
    main()
