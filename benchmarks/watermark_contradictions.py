"""Does any attack remove a mark within a certified budget?  A section of ``benchmarks.watermarks``.

Every attacked model of the section *attacks* is compared with the budgets of the sections *margins*
and *survival*.  As most attacks go far beyond, each one's change is also scaled down until it lies
just within each budget; cheapest changes that margins found are scaled likewise; and of pruned
weights as many are taken as the budget allows, at random, the smallest, and those that matter most.

A linear mark is removed when fewer bits match than a false claim of 2^-20 needs, decided exactly.
Of triggers more is asked: as many must match as are certified for boxes of the change's size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, numpy_helper

from benchmarks import watermark_attacks, watermark_margins, watermark_survival
from benchmarks.tables import table
from benchmarks.watermark_attacks import needed
from benchmarks.watermarked import MarkedNet, matches_of, networks
from proofs.format import read_evidence, replacing
from proofs.watermarks.evidence import MarkEvidence
from proofs.watermarks.persistence import refuted
from specs.watermarks.changes import Ball, Pruned
from specs.watermarks.claims.persistence import ChangedWeights
from specs.watermarks.question import load_mark_question
from verifier.progress import Progress
from verifier.watermarks.attacks.cost import cost
from verifier.watermarks.parameters import parameters

LEVEL = 20
WITHIN = 1.0 - 2.0**-20
"""What scaled changes are, in units of the budget; of trigger sets less, as they are rounded."""
DRAWN = 25
"""Random choices of pruned weights for each budget."""


@dataclass(frozen=True)
class Tried:
    """A change of a marked model, compared with a budget.

    Attributes:
        network, scheme, budget, attack: names.
        scaled: whether the attack was scaled down to the budget, or made for it.
        share: cost over budget, at most 1 within it.
        removed: of a change within the budget, whether it contradicts the certificate.
        accuracy: of the attacked model, where it is one.
        gone: whether the attack as it is removed the mark.
    """

    network: str
    scheme: str
    budget: str
    attack: str
    scaled: bool
    share: float
    removed: bool
    accuracy: float | None
    gone: bool = False


def linear(net: MarkedNet, out: Path, runs: Sequence[Mapping[str, Any]]) -> Iterator[Tried]:
    """All attacks on a linear mark, in all norms and of pruned weights."""
    before = parameters(net.path.read_bytes())[net.mark.tensor].astype(np.float64).reshape(-1)
    moves = {
        f"{run['attack']}, {run['strength']}, {run['seed']}": (
            run,
            attacked(net, out, run) - before,
        )
        for run in runs
    }
    for kind in (*watermark_margins.NORMS, "pruned"):
        stem = f"{net.present.stem}-{LEVEL}-{kind}"
        path = out / "margins" / f"{stem}-holds.toml"
        if not path.exists():
            continue
        claim = load_mark_question(path).claim
        assert isinstance(claim, ChangedWeights)
        (allowed,) = claim.sets
        for name, (run, move) in moves.items():
            share = share_of(move, allowed, before)
            accuracy = run["accuracy"]
            hit = share <= 1.0 and removes(claim, move)
            gone = bool(run["removed"])
            yield Tried(net.kind, net.scheme, kind, name, False, share, hit, accuracy, gone)
            if isinstance(allowed, Ball) and share > 1.0:
                yield scaled(net, kind, name, claim, move, share)
        fails = path.with_name(f"{stem}-fails.farkas")
        if isinstance(allowed, Ball) and fails.exists():
            found = read_evidence(fails)
            assert isinstance(found, MarkEvidence)
            move = found.floats("change")
            yield scaled(net, kind, "cheapest", claim, move, share_of(move, allowed, before))
        if isinstance(allowed, Pruned):
            for name, gone in prunings(claim, allowed.count):
                move = np.where(gone, -before, 0.0)
                hit = removes(claim, move)
                yield Tried(net.kind, net.scheme, kind, name, True, 1.0, hit, None)


def attacked(net: MarkedNet, out: Path, run: Mapping[str, Any]) -> np.ndarray:
    """``(N,)`` the marked tensor of an attacked model."""
    content = (out / "marked" / "attacked" / run["file"]).read_bytes()
    return parameters(content)[net.mark.tensor].astype(np.float64).reshape(-1)


def share_of(move: np.ndarray, allowed: object, before: np.ndarray) -> float:
    """Cost over budget; infinite where the change is of another kind."""
    if isinstance(allowed, Pruned):
        changed = move != 0.0
        pruned = np.array_equal(move[changed], -before[changed])
        return float(changed.sum() / allowed.count) if pruned and allowed.count else math.inf
    assert isinstance(allowed, Ball)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[allowed.norm]
    return float(np.linalg.norm(move, order) / float(allowed.radius))


def removes(claim: ChangedWeights, move: np.ndarray) -> bool:
    """Whether a change refutes a claim that the kernel has accepted; exactly."""
    return refuted(claim.demands, claim.sets, claim.weights, move).holds


def scaled(
    net: MarkedNet, kind: str, name: str, claim: ChangedWeights, move: np.ndarray, share: float
) -> Tried:
    """A change of the same direction just within the budget."""
    within = move * (WITHIN / share)
    steps = [Fraction(step) for step in within.tolist()]
    if not all(each.contains(steps, claim.weights) for each in claim.sets):
        raise RuntimeError(f"{name}: the scaled change is not within the budget")
    return Tried(net.kind, net.scheme, kind, name, True, WITHIN, removes(claim, within), None)


def prunings(claim: ChangedWeights, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Weights to be pruned: at random, the smallest, and those that support matches most."""
    weights, rng = claim.weights, np.random.default_rng(0)
    for number in range(DRAWN):
        yield (
            f"random {number}",
            np.isin(np.arange(weights.size), rng.permutation(weights.size)[:count]),
        )
    order = np.argsort(np.abs(weights))
    yield "smallest", np.isin(np.arange(weights.size), order[:count])
    (demand,) = claim.demands
    forms = demand.rows.expanded(0, demand.rows.bits) * -demand.signs[:, None]
    support = (forms * weights).sum(axis=0)
    yield "most useful", np.isin(np.arange(weights.size), np.argsort(-support)[:count])
    for row in range(min(DRAWN, demand.rows.bits)):
        some = (forms[row : row + 8] * weights).sum(axis=0)
        yield (
            f"useful to bits from {row}",
            np.isin(np.arange(weights.size), np.argsort(-some)[:count]),
        )


def triggers(
    net: MarkedNet, out: Path, runs: Sequence[Mapping[str, Any]], rows: Sequence[Any]
) -> Iterator[Tried]:
    """All attacks on a trigger set: boxes around all parameters."""
    content = net.path.read_bytes()
    for kind in ("box", "relative box"):
        sizes = [
            Fraction(row.certified)
            for row in rows
            if (row.network, row.scheme, row.changes) == (net.kind, net.scheme, kind)
        ]
        enough = needed(net)
        if len(sizes) < enough:
            continue
        budget = sorted(sizes, reverse=True)[enough - 1]
        for run in runs:
            name = f"{run['attack']}, {run['strength']}, {run['seed']}"
            after = (out / "marked" / "attacked" / run["file"]).read_bytes()
            spent = size_of(content, after, kind)
            certain = sum(size >= spent for size in sizes)
            hit = run["matches"] < certain
            share = float(spent / budget) if budget and math.isfinite(spent) else math.inf
            yield Tried(
                net.kind,
                net.scheme,
                kind,
                name,
                False,
                share,
                hit,
                run["accuracy"],
                bool(run["removed"]),
            )
            if share > 1.0 and math.isfinite(share):
                near = between(content, after, float(budget / Fraction(spent)) * 0.999)
                spent = size_of(content, near, kind)
                if spent > budget:  # rounding to float32 led out of it
                    continue
                certain = sum(size >= spent for size in sizes)
                hit = matches_of(near, net.mark) < certain
                yield Tried(
                    net.kind, net.scheme, kind, name, True, float(spent / budget), hit, None
                )


def size_of(before: bytes, after: bytes, kind: str) -> Fraction | float:
    """The box that two models lie in."""
    change = cost(before, after).every
    if kind == "box":
        return change.linf
    # A quotient in floats: what is compared with a budget is a little more.
    return (
        change.relative_linf
        if math.isinf(change.relative_linf)
        else Fraction(change.relative_linf * (1.0 + 1e-12))
    )


def between(before: bytes, after: bytes, share: float) -> bytes:
    """A model file on the way from one to the other."""
    first, second = ModelProto.FromString(before), ModelProto.FromString(after)
    there = {tensor.name: tensor for tensor in second.graph.initializer}
    for tensor in first.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if old.dtype != np.float32:
            continue
        new = numpy_helper.to_array(there[tensor.name])
        moved = (old + share * (new.astype(np.float64) - old)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    found: bytes = first.SerializeToString()
    return found


def section(out: Path) -> tuple[str, list[dict[str, Any]]]:
    """Counts by mark and budget, and a picture."""
    progress = Progress()
    runs = watermark_attacks.runs(out / "marked", progress)
    nets = networks(out / "marked", progress)
    watermark_margins.section(out)
    rows = watermark_survival.all_found(out)
    found: list[Tried] = []
    for number, net in enumerate(nets):
        progress.count("contradictions", number, len(nets))
        own = [run for run in runs if (run["network"], run["scheme"]) == (net.kind, net.scheme)]
        made = (
            linear(net, out, own) if hasattr(net.mark, "system") else triggers(net, out, own, rows)
        )
        found += made
    progress.clear()
    lines = []
    for group in dict.fromkeys((t.network, t.scheme, t.budget) for t in found):
        own = [t for t in found if (t.network, t.scheme, t.budget) == group]
        as_they_are = [t for t in own if not t.scaled]
        inside = [t for t in as_they_are if t.share <= 1.0]
        beyond = [t.share for t in as_they_are if 1.0 < t.share < math.inf]
        lines.append(
            {
                "network": group[0],
                "mark": group[1],
                "budget": group[2],
                "attacks": len(as_they_are),
                "within": len(inside),
                "scaled to it": sum(t.scaled for t in own),
                "contradictions": sum(t.removed for t in own),
                "cost over budget, of the others": f"{min(beyond):.2g} to {max(beyond):.2g}"
                if beyond
                else "",
            }
        )
    total = [t for t in found if t.scaled or t.share <= 1.0]
    removed = sum(t.removed for t in found)
    text = f"{len(total)} changes within budgets, {removed} contradict a certificate.\n\n"
    text += table(lines)
    draw(found, out / "attacks.png")
    plain = [t.__dict__ for t in found]
    with replacing(out / "contradictions-all.json") as stream:
        stream.write(json.dumps(plain, indent=1).encode())
    return f"{text}\n![accuracy against cost over certified budget](attacks.png)\n", lines


def draw(found: Sequence[Tried], path: Path) -> None:
    """Accuracy against cost over budget, one panel for each mark; crosses: the mark is gone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    marks = list(dict.fromkeys((t.network, t.scheme) for t in found))
    figure, panels = pyplot.subplots(2, -(-len(marks) // 2), figsize=(15, 6.5), sharey=True)
    for panel, mark in zip(panels.reshape(-1), marks, strict=False):
        own = [t for t in found if (t.network, t.scheme) == mark and t.accuracy is not None]
        budgets = list(dict.fromkeys(t.budget for t in own))
        for number, budget in enumerate(budgets):
            points = [t for t in own if t.budget == budget and 0 < t.share < math.inf]
            for gone, marker, size in ((False, "o", 3), (True, "x", 6)):
                some = [t for t in points if t.gone == gone]
                panel.plot(
                    [t.share for t in some],
                    [t.accuracy for t in some],
                    marker,
                    color=f"C{number}",
                    markersize=size,
                    label=None if gone else budget,
                )
        panel.axvline(1.0, color="black", linewidth=1)
        panel.axvspan(1e-4, 1.0, color="green", alpha=0.08)
        panel.set_xscale("log")
        panel.set_title(f"{mark[0]}, {mark[1]}", fontsize=9)
        panel.set_xlabel("cost over certified budget")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    for row in panels:
        row[0].set_ylabel("accuracy after the attack")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
