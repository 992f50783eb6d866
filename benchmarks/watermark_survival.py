"""How far the parameters of all layers may change before triggers lose their labels.

    python -m benchmarks.watermark_survival --out runs/watermarks

The marked digits classifiers of ``benchmarks.watermark_removal``; changes of several kinds.  For
every trigger the largest size that is certified, and the least at which an attack takes its label;
then the share of triggers that are certified, and broken, over the size.  At the size at which
half of the triggers are certified, every trigger's question is written with its evidence, for
``farkas check FOLDER``.  What is done is kept, and an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.watermark_removal import marked
from specs.faults.models import followed
from specs.faults.placed import place_model
from specs.onnx_reader import read_model
from specs.watermarks.samples import Labelled, read_samples
from verifier.certify.section import Place
from verifier.progress import Progress
from verifier.watermarks.survival import Changes, Settings, Span, Trigger, answers, curve, surviving

KINDS = {
    "box of all layers": (Changes({"model": "weight_box"}, "absolute"), Fraction(1, 500)),
    "relative box of all layers": (Changes({"model": "weight_box"}, "relative"), Fraction(1, 50)),
    "box of the last layer": (
        Changes({"model": "weight_box", "layers": ["scores"]}, "absolute"),
        Fraction(1, 50),
    ),
    "pruned anywhere": (Changes({"model": "pruning"}, "k"), Fraction(2)),
    "int8 bits flipped anywhere": (
        Changes({"model": "bit_flips", "format": "int8"}, "k"),
        Fraction(1),
    ),
}
SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.0)
KEYS = ("network", "changes", "trigger", "certified", "broken", "seconds")


def measured(rows: Sequence[dict[str, str]]) -> list[Span]:
    """What rows say, exactly."""
    return [
        Span(Fraction(row["certified"]), Fraction(row["broken"]) if row["broken"] else None)
        for row in rows
    ]


def line(name: str, found: Sequence[Span]) -> str:
    """A row of the table: the sizes up to which shares of the triggers are certified."""
    sizes = sorted((span.certified for span in found), reverse=True)
    held = [sizes[max(0, int(np.ceil(share * len(sizes))) - 1)] for share in SHARES]
    broken = sorted(span.broken for span in found if span.broken is not None)
    ratios = [float(s.certified / s.broken) for s in found if s.broken]
    middle = "" if not broken else f"{float(broken[len(broken) // 2]):.4g}"
    cells = [f"{float(size):.4g}" for size in held]
    return f"| {name} | {len(found)} | {' | '.join(cells)} | {middle} | {np.median(ratios):.3f} |"


def table(rows: Sequence[dict[str, str]]) -> str:
    """The results, by kind of change."""
    shares = " | ".join(f"{share:.0%}" if share else "any" for share in SHARES)
    lines = [
        f"| changes | triggers | {shares} | attack, median | certified / attack, median |",
        "|---|" + "---|" * (len(SHARES) + 3),
    ]
    for name in KINDS:
        own = [row for row in rows if row["changes"] == name]
        if own:
            lines.append(line(name, measured(own)))
    wrong = [
        row
        for row in rows
        if row["broken"] and Fraction(row["broken"]) <= Fraction(row["certified"])
    ]
    lines.append(f"\n{len(wrong)} of {len(rows)} attacks lie within what is certified")
    return "\n".join(lines)


def evidence(folder: Path, net: Path, held: Labelled, name: str, found: Sequence[Span]) -> str:
    """Every trigger's question at the size at which half of them are certified."""
    sizes = sorted(span.certified for span in found)
    size = sizes[len(sizes) // 2]
    if not size:
        return f"{name}: half of the triggers are certified for no change"
    place = Place(folder / "evidence" / name.replace(" ", "-"), folder, Progress())
    place.evidence.mkdir(parents=True, exist_ok=True)
    asked = answers(place, read_model(net)[1], held, KINDS[name][0], size, 60.0)
    return f"{name}: for size {float(size):.4g} at least {surviving(asked)} of {len(asked)} survive"


def section(folder: Path, networks: int = 1, triggers: int = 25, seconds: float = 10.0) -> str:
    """Measure what is missing; the table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "survival.csv"
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    done = {(row["network"], row["changes"], int(row["trigger"])) for row in rows}
    lines = []
    for seed in range(1, networks + 1):
        net, whole = folder / f"marked{seed}.onnx", folder / f"triggers{seed}.npz"
        if not (net.exists() and whole.exists()):
            marked(net, whole, seed)
        held = read_samples(whole)
        held = Labelled(held.points[:triggers], held.labels[:triggers])
        for name, (changes, start) in KINDS.items():
            placed = place_model(read_model(net)[1], *followed(changes.model(Fraction(1))))
            for number, (point, label) in enumerate(zip(held.points, held.labels, strict=True)):
                if (net.name, name, number) in done:
                    continue
                begun = time.perf_counter()
                settings = Settings(seconds)
                one = Trigger(placed, point.tolist(), int(label), changes, settings)
                span = one.span(start)
                row = {
                    "network": net.name,
                    "changes": name,
                    "trigger": str(number),
                    "certified": str(span.certified),
                    "broken": "" if span.broken is None else str(span.broken),
                    "seconds": f"{time.perf_counter() - begun:.1f}",
                }
                new = not path.exists()
                with path.open("a", newline="") as stream:
                    writer = csv.DictWriter(stream, KEYS)
                    if new:
                        writer.writeheader()
                    writer.writerow(row)
                rows.append(row)
            own = [r for r in rows if (r["network"], r["changes"]) == (net.name, name)]
            lines.append(evidence(folder, net, held, name, measured(own)))
            steps = curve(measured(own))
            drawn = ", ".join(f"{float(s.size):.4g}: {s.certified}/{s.broken}" for s in steps)
            lines.append(f"  certified/broken by size: {drawn}")
    return "\n".join([table(rows), "", *lines])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/watermarks"))
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--triggers", type=int, default=25, help="of each network")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one proof, or attack")
    given = parser.parse_args(arguments)
    folder = given.out / "survival"
    print(section(folder, given.networks, given.triggers, given.seconds))


if __name__ == "__main__":
    main()
