"""Protections of one network compared: injected faults beside certified bounds.

    python -m benchmarks.protections --out runs/protections

A section of ``benchmarks.faults``, too.

The dense classifier of ``benchmarks.digits`` is stored in int8 (one scale a tensor), Q15.16 and
float32, the convolutional one, with some of the protections, in the first two; what is hardened
is each time the network with exactly the stored values.  Bounds are words, too, and faulted: in
float32 beside int8 weights, otherwise in the weights' format.

Both are of the same test points, but where the map is slow (``SLOW_POINTS``).

For every protection: the test set's predictions against the unprotected network's; the single
flips that are certified benign at test points (``single_fault_maps``), and what follows from them,
``P(SDC) <= p * (uncertified flips, mean over points) + P(Bin(bits, p) >= 2)``; and campaigns of
random flips, with exact intervals.  A word that is no number counts as detected.  Of the weights'
flips the map is made with bounds as constants, of the bounds' flips with bounds as parameters:
the same function of real numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from benchmarks.digits import data, networks
from proofs.format import replacing
from specs.faults.formats import FLOAT32, FixedFormat
from specs.faults.memory import Choice, Memory, Quantised, store
from specs.faults.models import BitFlips, Where
from specs.faults.placed import Placed, place_model, read_placed, rewritten
from specs.faults.sites import cells
from specs.query import ModelFile
from verifier.faults.campaign import Campaign, Plan
from verifier.faults.maps import single_fault_maps
from verifier.harden import schemes
from verifier.harden.agreement import in_runtime, on_samples
from verifier.harden.clipact import Thresholds
from verifier.harden.config import read_config
from verifier.harden.data import Samples
from verifier.harden.harden import certified
from verifier.harden.surgery import PREFIX, Restriction, behind, restricted, restrictions_of
from verifier.harden.theorem import answer, beyond, probe, query_of, stated
from verifier.harden.tuned import Training
from verifier.progress import Progress

FORMATS = ("int8", "Q15.16", "float32")
RATES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
PROTECTIONS = (
    "unprotected",
    "Ranger",
    "FT-ClipAct",
    "FitAct",
    "ProAct",
    "profiled, per neuron",
    "learnt, per neuron",
    "certified, per layer",
    "certified, per neuron",
    "certified zero, per neuron",
)
JOBS = (
    *(("dense", format, name) for format in FORMATS for name in PROTECTIONS),
    *(
        ("convolutional", format, name)
        for format in ("int8", "Q15.16")
        for name in PROTECTIONS
        if name.startswith(("unprotected", "Ranger", "certified, "))
    ),
)
"""Network, format and protection."""
SLOW_POINTS = {"FitAct": 2}
"""Points of the map where sigmoids make it slow, in formats of 32 bits."""
CONFIG = """[domain]
lower = 0
upper = 1
[restrict]
bounds = "certified"
action = "{action}"
per = "{per}"
seconds = {seconds}
"""
TIGHTENING = 40
CONFIDENCE = 0.95
TRIALS, POINTS = 1000, 20


Choices = Choice | dict[str, Choice]


def choice(format: str, placed: Placed) -> Choices:
    """How the weights are stored, with the scales of the original's tensors."""
    if format == "float32":
        return FLOAT32
    if format == "Q15.16":
        return FixedFormat(15, 16)
    return {
        name: Quantised(8, scale=Quantised(8).format_of(each.values).scale)
        for name, each in placed.parameters.items()
    }


def chosen(format: str, choices: Choices, names: Iterable[str]) -> dict[str, Choice]:
    """How the parameters of a hardened model are stored: bounds beside int8 in float32."""
    bounds = FLOAT32 if format == "int8" else choices
    return {
        name: bounds
        if name.startswith(PREFIX)
        else choices[name]
        if isinstance(choices, dict)
        else choices
        for name in names
    }


def file_of(content: bytes) -> ModelFile:
    return ModelFile(None, content, "0" * 64)


def made(name: str, content: bytes, format: str, folder: Path) -> list[Restriction]:
    """The restrictions of a protection of the network with the stored values."""
    x, y, _, _ = data()
    samples, progress = Samples(x, y), Progress()
    relus = behind(content, ["Relu"])
    given = schemes.subject(content, probe(content, relus))
    match name.partition(","):
        case ("unprotected", _, _):
            return []
        case ("Ranger", _, _):
            wider = behind(content, ["Relu"], schemes.FOLLOWING)
            return schemes.ranger(schemes.subject(content, probe(content, wider)), samples)
        case ("FT-ClipAct", _, _):
            kept = BitFlips(format=None if format == "float32" else FixedFormat(15, 16))
            if format == "int8":
                kept = BitFlips(format=Quantised(8))
            search = Thresholds(rates=(1e-5, 1e-4, 1e-3))
            return schemes.clipact(given, samples, kept, search, progress)
        case ("FitAct", _, _):
            return schemes.fitact(given, samples, Training(), progress)
        case ("ProAct", _, _):
            return schemes.proact(given, samples, Training(), progress)
        case ("profiled", _, _):
            ends = schemes.profile(given, samples)
            return schemes.from_ends(given, ends, per="neuron", action="clip", widen=False)
        case ("learnt", _, _):
            return schemes.learnt(given, samples, "neuron", Training(), progress)
    per = name.rpartition(" ")[2]
    path = folder / "certified.toml"
    action = "zero" if " zero" in name else "clip"
    seconds = TIGHTENING if per == "layer" else 0
    path.write_text(CONFIG.format(per=per, action=action, seconds=seconds))
    config = read_config(path)
    box = config.domain(given.probe.network.input_size)
    if box is None:
        raise ValueError("no domain")
    return certified(given, box, samples, config, progress)[0]


def proved_as_stored(memory: Memory, restrictions: list[Restriction]) -> str:
    """Whether the bounds hold over [0, 1]^64 of the network with exactly the stored values."""
    content = memory.placed.model.content
    read = probe(content, [each.tensor for each in restrictions])
    placed = place_model(file_of(read.content))
    own = {name: memory.values[name] for name in placed.parameters}
    again = replace(read, network=placed.with_values(own))
    size = again.network.input_size
    domain = ((Fraction(0),) * size, (Fraction(1),) * size)
    query = query_of(again, stated(again, beyond(again, restrictions), [domain]))
    return answer(query, 120.0).answer


def stem(network: str, format: str, name: str) -> str:
    """Of files about a job."""
    return f"{network}-{name.replace(',', '').replace(' ', '-')}-{format}"


def hardened(job: tuple[str, str, str], folder: Path) -> tuple[bytes, Choices, bytes]:
    """The stored network, how its words are stored, and the hardened model, kept in a file."""
    network, format, name = job
    placed = read_placed(networks(folder / "networks")[network])
    choices = choice(format, placed)
    content = rewritten(placed.model, store(placed, choices).values)
    file = folder / f"hardened-{stem(*job)}.onnx"
    if not file.exists():
        made_now = restricted(content, made(name, content, format, folder))
        with replacing(file) as stream:
            stream.write(made_now)
    return content, choices, file.read_bytes()


def measured(job: tuple[str, str, str], folder: Path, trials: int, count: int) -> dict[str, Any]:
    """One protection of one network in one format."""
    network, format, name = job
    started = time.perf_counter()
    content, choices, intact = hardened(job, folder)
    tuned = time.perf_counter() - started
    restrictions = restrictions_of(intact)
    _, _, inputs, labels = data()
    words = restricted(content, [replace(each, stored=True) for each in restrictions])
    faulty = place_model(file_of(words))
    memory = store(faulty, chosen(format, choices, faulty.parameters))
    file = folder / f"map-{stem(*job)}.json"
    if not file.exists():
        found: dict[str, Any] = {"network": network, "protection": name, "format": format}
        found |= {"bits": memory.bits, "bound words": schemes.entries(restrictions)}
        found |= {"seconds to tune": tuned}
        plain = store(place_model(file_of(intact)), choices)
        before = store(place_model(file_of(content)), choices)
        if restrictions:
            read = probe(content, [each.tensor for each in restrictions])
            samples = Samples(inputs, labels)
            counts = on_samples(before.network, plain.network, read, restrictions, samples)
            found["test set"] = asdict(counts)
            found["onnxruntime"] = asdict(in_runtime(content, intact, inputs, before.network))
        if name.startswith("certified"):
            found["proved as stored"] = proved_as_stored(before, restrictions)
        slow = format != "int8" and name in SLOW_POINTS
        found |= mapped(plain, memory, inputs[: SLOW_POINTS[name] if slow else count])
        with replacing(file) as stream:
            stream.write((json.dumps(found, indent=1) + "\n").encode())
    found = json.loads(file.read_text())
    found["injected"] = {}
    found["injected points"] = count
    for rate in RATES:
        plan = Plan(trials, rate=rate, seed=1)
        kept = folder / f"campaign-{stem(*job)}-{rate:g}.json"
        points = inputs[:count], labels[:count]
        out = Campaign(cells(memory, BitFlips()), plan, *points, kept, Progress()).run()
        found["injected"][f"{rate:g}"] = asdict(out) | {
            f"{what} interval": out.interval(what, CONFIDENCE) for what in ("sdc", "due", "correct")
        }
    found["seconds"] = time.perf_counter() - started
    return found


def mapped(plain: Memory, memory: Memory, points: np.ndarray) -> dict[str, Any]:
    """Single flips: of weights with intact bounds, of bounds where these are parameters."""
    kinds = ("faults", "benign", "critical", "not a number", "undecided")
    totals, parts = dict.fromkeys(kinds, 0), []
    open_, seconds = 0, 0.0
    bounds = tuple(name for name in memory.stored if name.startswith(PREFIX))
    jobs = [cells(plain, BitFlips())]
    if bounds:
        jobs.append(cells(memory, BitFlips(where=Where(tensors=bounds))))
    for job in jobs:
        maps = single_fault_maps(job, points, Progress().count)
        seconds += maps.seconds
        parts.append(maps.totals)
        for key, value in maps.totals.items():
            totals[key] += value
        for each in maps.maps.values():
            open_ += int(each.critical.sum()) + int(each.undecided.sum())
    if totals["faults"] != memory.bits:
        raise ValueError(f"{totals['faults']} flips listed of {memory.bits}")
    mean = open_ / len(points)
    certified = {}
    for rate in RATES:
        tail = float(binom.sf(1, memory.bits, rate))
        certified[f"{rate:g}"] = min(1.0, rate * mean + tail)
    return {
        "map": totals,
        "map of weights": parts[0],
        "map of bounds": parts[1] if bounds else None,
        "map points": len(points),
        "map seconds": seconds,
        "uncertified flips a point": mean,
        "certified P(SDC)": certified,
    }


def table(results: list[Mapping[str, Any]]) -> str:
    """All results as Markdown."""
    lines = []
    for network, format in dict.fromkeys((each["network"], each["format"]) for each in results):
        own = [each for each in results if (each["network"], each["format"]) == (network, format)]
        lines += ["", f"## {network}, {format}", ""]
        lines.append(
            "| protection | bits | bound words | changed predictions | right of 450 | benign of "
            "the weights' flips | benign of all | uncertified a point (points) | detected |"
        )
        lines.append("|---|---|---|---|---|---|---|---|---|")
        for each in own:
            counts, totals = each.get("test set"), each["map"]
            changed = "-" if counts is None else counts["changed"]
            right = "-" if counts is None else counts["right"]
            share = totals["benign"] / totals["faults"]
            part = each["map of weights"]
            weights = part["benign"] / part["faults"]
            lines.append(
                f"| {each['protection']} | {each['bits']} | {each['bound words']} | {changed} "
                f"| {right} | {weights:.4%} | {share:.4%} "
                f"| {each['uncertified flips a point']:.2f} ({each['map points']}) "
                f"| {totals['not a number']} |"
            )
        lines += ["", "P(SDC): injected, with its 95 % interval; and the certified upper bound."]
        lines += ["", "| protection | " + " | ".join(f"{rate:g}" for rate in RATES) + " |"]
        lines.append("|---|" + "---|" * len(RATES))
        for each in own:
            entries = []
            for rate in RATES:
                out = each["injected"][f"{rate:g}"]
                low, high = out["sdc interval"]
                entries.append(
                    f"{out['sdc'] / out['trials']:.3f} [{low:.3f}, {high:.3f}]; "
                    f"<= {each['certified P(SDC)'][f'{rate:g}']:.3g}"
                )
            lines.append(f"| {each['protection']} | " + " | ".join(entries) + " |")
        lines += ["", "DUE and accuracy, injected:"]
        lines += ["", "| protection | " + " | ".join(f"{rate:g}" for rate in RATES) + " |"]
        lines.append("|---|" + "---|" * len(RATES))
        for each in own:
            entries = []
            for rate in RATES:
                out = each["injected"][f"{rate:g}"]
                shares = (out[what] / out["trials"] for what in ("due", "correct"))
                entries.append(", ".join(f"{share:.3f}" for share in shares))
            lines.append(f"| {each['protection']} | " + " | ".join(entries) + " |")
    return "\n".join(lines) + "\n"


def picture(results: list[Mapping[str, Any]], path: Path) -> None:
    """Injected SDC with intervals, and certified bounds, against the bit error rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    formats = [f for f in FORMATS if any(each["format"] == f for each in results)]
    figure, axes = pyplot.subplots(
        1, len(formats), figsize=(6.2 * len(formats), 5.4), sharey=True, squeeze=False
    )
    for axis, format in zip(axes[0], formats, strict=True):
        own = [each for each in results if each["format"] == format]
        for number, each in enumerate(own):
            colour = f"C{PROTECTIONS.index(each['protection'])}"
            shifted = np.array(RATES) * 10 ** (0.045 * (number - (len(own) - 1) / 2))
            outs = [each["injected"][f"{rate:g}"] for rate in RATES]
            share = np.array([out["sdc"] / out["trials"] for out in outs])
            low, high = np.array([out["sdc interval"] for out in outs]).T
            seen = share > 0
            errors = np.stack([share - low, high - share])[:, seen]
            name, more = each["protection"], {"color": colour, "markersize": 4}
            axis.errorbar(shifted[seen], share[seen], errors, fmt="o", label=name, **more)
            axis.plot(shifted[~seen], high[~seen], "v", markerfacecolor="none", **more)
            bound = [each["certified P(SDC)"][f"{rate:g}"] for rate in RATES]
            axis.plot(RATES, bound, "--", color=colour, linewidth=1)
        tail = binom.sf(1, own[0]["bits"], RATES)
        axis.plot(RATES, tail, ":", color="black", linewidth=1, label="two flips or more")
        axis.set(xscale="log", yscale="log", title=f"{format} ({own[0]['bits']} bits)")
        axis.set_xlabel("bit error rate")
        axis.set_ylim(1e-5, 1.5)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("P(silent data corruption)")
    axes[0][-1].legend(fontsize=8, loc="lower right")
    figure.suptitle(
        "Points: injected, with 95 % intervals (beside their rate; triangles: no event, upper "
        "end).\nDashed: certified upper bounds, uncertified single flips and two flips or more."
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def section(out: Path) -> tuple[str, object]:
    """The tables, and all results; the picture is written."""
    results = run(out / "protections", TRIALS, POINTS)
    return f"{TRIALS} trials a rate, at {POINTS} test points.\n{table(results)}", results


def run(out: Path, trials: int, points: int) -> list[dict[str, Any]]:
    """All results, made or read where they were made before; table and picture are written."""
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for job in JOBS:
        results.append(last := measured(job, out, trials, points))
        share = last["map"]["benign"] / last["map"]["faults"]
        print(f"{', '.join(job)}: benign {share:.4%}, {last['seconds']:.0f} s", flush=True)
    text = f"# Protections ({math.floor(trials)} trials a rate)\n" + table(results)
    for path, content in (("table.md", text), ("results.json", json.dumps(results, indent=1))):
        with replacing(out / path) as stream:
            stream.write(content.encode())
    picture([each for each in results if each["network"] == "dense"], out / "protections.png")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/protections"))
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--points", type=int, default=POINTS)
    args = parser.parse_args()
    run(args.out, args.trials, args.points)


if __name__ == "__main__":
    main()
