"""Triggers when parameters of all layers change: how many certainly keep their labels.

A section of ``benchmarks.watermarks``.  For each marked model with a trigger set, and each kind
of change, every trigger has a largest certified size, found by halving: the empty proof or one
with better slopes.  For some triggers attacks look for the least size at which the label falls.
The same change acts on all triggers, and every trigger's certificate covers it, so the number of
triggers that are certified at a size is a number that certainly match.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import table
from benchmarks.watermarked import MarkedNet, networks
from proofs.format import replacing
from specs.faults.models import followed
from specs.faults.placed import place_model
from specs.onnx_reader import read_model
from specs.query import ModelFile
from specs.watermarks.samples import Labelled
from verifier.certify.section import Place
from verifier.progress import Progress
from verifier.watermarks.graph import Trainable
from verifier.watermarks.survival import (
    Changes,
    Settings,
    Span,
    Trigger,
    answers,
    largest_count,
    largest_size,
)

SCHEMES = ("triggers", "blackmarks")
KINDS = {
    "box": (Changes({"model": "weight_box"}, "absolute"), Fraction(1, 1000)),
    "relative box": (Changes({"model": "weight_box"}, "relative"), Fraction(1, 200)),
    "pruned": (Changes({"model": "pruning"}, "k"), Fraction(1)),
    "flips of int8": (Changes({"model": "bit_flips", "format": "int8"}, "k"), Fraction(1)),
}
"""By name: the changes, and a size to begin with."""
PROVING = Settings(seconds=0.2)
ATTACKING = Settings(seconds=1.0)
ATTACKED = 3
"""Triggers of each mark, the first ones that match, that attacks look for changes against."""
MAIN, MOST, FIRST = "box", 40, 12
"""The kind of change that is measured on ``MOST`` triggers of each mark; others on ``FIRST``."""
STATED = 15
"""Triggers whose questions are written with their evidence, at the median certified box."""


@dataclass(frozen=True)
class Found:
    """A trigger, and sizes as text."""

    network: str
    scheme: str
    changes: str
    trigger: int
    label: int
    certified: str
    broken: str | None


def measured(net: MarkedNet, name: str, file: ModelFile, progress: Progress) -> list[Found]:
    """All triggers of a mark that match."""
    changes, start = KINDS[name]
    placed = place_model(file, *followed(changes.model(start)))
    answers = np.argmax(Trainable(net.path.read_bytes()).scores(net.mark.points), axis=1)
    matching = np.flatnonzero(net.mark.matching(answers.tolist()))
    found = []
    matching = matching[: MOST if name == MAIN else FIRST]
    for place, number in enumerate(matching.tolist()):
        progress.count(f"{net.kind}, {net.scheme}, {name}", place, matching.size)
        label = int(answers[number])
        point = net.mark.points[number].tolist()
        one = Trigger(placed, point, label, changes, PROVING)
        span = certified_span(one, start, changes)
        if place < ATTACKED:
            other = Trigger(placed, point, label, changes, ATTACKING)
            span = other.span(span.certified or start)
        start = span.certified or start
        broken = None if span.broken is None else str(span.broken)
        found.append(Found(net.kind, net.scheme, name, number, label, str(span.certified), broken))
    return found


def stated(net: MarkedNet, file: ModelFile, found: list[Found], folder: Path) -> None:
    """Questions at the median certified size, with evidence."""
    size = sorted(Fraction(each.certified) for each in found)[len(found) // 2]
    evidence = folder / f"{net.kind}-{net.scheme}-evidence"
    evidence.mkdir(exist_ok=True)
    chosen = [each.trigger for each in found[:STATED]]
    labels = np.array([each.label for each in found[:STATED]])
    held = Labelled(net.mark.points[chosen], labels)
    answers(Place(evidence, folder, Progress()), file, held, KINDS[MAIN][0], size, 20.0)


def certified_span(one: Trigger, start: Fraction, changes: Changes) -> Span:
    """The certified size alone."""
    if changes.counted:
        return Span(largest_count(one.proved, int(start)), None)
    return Span(largest_size(one.proved, start, PROVING), None)


def all_found(out: Path) -> list[Found]:
    """Of all marks; those that were measured before are read."""
    progress, rows = Progress(), []
    folder = out / "survival"
    folder.mkdir(parents=True, exist_ok=True)
    for net in networks(out / "marked", progress):
        if net.scheme not in SCHEMES:
            continue
        _, file = read_model(net.path)
        for name in KINDS:
            note = folder / f"{net.kind}-{net.scheme}-{name.replace(' ', '-')}.json"
            if not note.exists():
                made = [asdict(each) for each in measured(net, name, file, progress)]
                if name == MAIN:
                    stated(net, file, [Found(**each) for each in made], folder)
                with replacing(note) as stream:
                    stream.write(json.dumps(made, indent=1).encode())
            rows += [Found(**each) for each in json.loads(note.read_text())]
    progress.clear()
    return rows


def section(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """A table of quantiles, and a picture of the curves."""
    rows = all_found(out)
    lines = []
    groups = dict.fromkeys((row.network, row.scheme, row.changes) for row in rows)
    for network, scheme, changes in groups:
        own = [r for r in rows if (r.network, r.scheme, r.changes) == (network, scheme, changes)]
        sizes = sorted(Fraction(row.certified) for row in own)
        attacked = [row for row in own if row.broken is not None]
        gaps = [Fraction(row.certified) / Fraction(row.broken or 1) for row in attacked]
        lines.append(
            {
                "network": network,
                "mark": scheme,
                "changes": changes,
                "triggers": len(own),
                **{
                    f"{share:.0%} certified at": _quantile(sizes, share)
                    for share in (0.9, 0.5, 0.1)
                },
                "attacked": len(attacked),
                "certified over broken, median": f"{float(np.median([float(g) for g in gaps])):.2f}"
                if gaps
                else "",
            }
        )
    draw(rows, out / "survival.png")
    text = f"{table(lines)}\n![share of triggers certified, against the size](survival.png)\n"
    return text, [asdict(row) for row in rows]


def _quantile(sizes: list[Fraction], share: float) -> str:
    """The size at which so many are certified."""
    return f"{float(sizes[int((1 - share) * (len(sizes) - 1))]):.3g}"


def draw(rows: list[Found], path: Path) -> None:
    """Share of triggers certified against the size, one panel for each kind of change."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(KINDS), figsize=(4 * len(KINDS), 3.2), sharey=True)
    for panel, name in zip(panels, KINDS, strict=True):
        for network, scheme in dict.fromkeys((row.network, row.scheme) for row in rows):
            own = [r for r in rows if (r.network, r.scheme, r.changes) == (network, scheme, name)]
            sizes = sorted(float(Fraction(row.certified)) for row in own)
            shares = [1 - k / len(own) for k in range(len(own))]
            panel.step(sizes, shares, where="pre", label=f"{network}, {scheme}")
        panel.set_title(name)
        panel.xaxis.set_major_locator(pyplot.MaxNLocator(5))
        panel.set_xlabel("certified size")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("share of triggers")
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
