"""Several flips at once at test points, and the probability of SDC that follows.

A section of ``benchmarks.faults``, made by ``farkas certify``: of the digits classifiers, in int8,
how many sets of 2 and of 4 bits are certified anywhere in a layer and anywhere at all; and upper
bounds of the probability of SDC by bit error rate, beside random injections.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import digits
from benchmarks.tables import table
from proofs.format import replacing
from specs.faults.placed import read_placed
from verifier.certify.config import load_config
from verifier.certify.run import certify
from verifier.certify.store import Store

POINTS = 10
COUNTS = (2, 4)
RATES = ("1e-7", "1e-6", "1e-5", "1e-4")
INJECTED = ("1e-5", "1e-4")
TRIALS = 1000


def configuration(network: Path, layers: list[str]) -> str:
    """What is asked of one network."""
    lines = [
        "[models]",
        f'net = "{network.resolve()}"',
        "[data]",
        'file = "points.npz"',
        'points = "images"',
        'labels = "labels"',
        "[faults]",
        'model = "bit_flips"',
        'format = "int8"',
        "[faults.probability]",
        f"rates = [{', '.join(RATES)}]",
    ]
    for k in COUNTS:
        for layer in ["", *layers]:
            lines += ["[[faults.several]]", f"k = {k}"]
            lines += [f'layers = ["{layer}"]'] if layer else []
    for rate in INJECTED:
        lines += ["[[faults.campaign]]", f"trials = {TRIALS}", f"rate = {rate}"]
    return "\n".join(lines) + "\n"


def asked(network: Path, folder: Path) -> tuple[list[str], list[Mapping[str, Any]]]:
    """The layers of a network, and the facts of its answers, in the order of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    _, _, images, labels = digits.data()
    np.savez(folder / "points.npz", images=images[:POINTS], labels=labels[:POINTS])
    layers = list(dict.fromkeys(place.result for place in read_placed(network).places))
    path = folder / "several.toml"
    with replacing(path) as stream:
        stream.write(configuration(network, layers).encode())
    outcome = certify(load_config(path), Store(folder / "out"))
    return layers, [part.facts for part in outcome.parts["faults"]]


def section(out: Path) -> tuple[str, Any]:
    """Tables and data."""
    sets: list[dict[str, object]] = []
    bounds: list[dict[str, object]] = []
    data = {}
    for kind, path in digits.networks(out / "networks").items():
        layers, facts = asked(path, out / "several" / kind)
        several = [own for own in facts if "certified_sets" in own]
        (probability,) = (own for own in facts if "bounds" in own)
        campaigns = [own for own in facts if "sdc" in own]
        places = [(k, layer) for k in COUNTS for layer in ("anywhere", *layers)]
        for (k, layer), own in zip(places, several, strict=True):
            share = np.mean([good / own["sets"] for good in own["certified_sets"]])
            sets.append(
                {
                    "network": kind,
                    "layer": layer,
                    "k": k,
                    "sets": f"{100 * share:.3f} %",
                    "points": f"{own['certified']}/{POINTS}",
                }
            )
        injected = dict(zip(INJECTED, campaigns, strict=True))
        for rate, name in zip(RATES, probability["bounds"], strict=True):
            counted = injected.get(rate)
            low, high = counted["sdc"]["interval"] if counted else (0.0, 0.0)
            found = f"{counted['sdc']['count']}/{TRIALS} [{low:.1e}, {high:.1e}]" if counted else ""
            bound, more = probability["bounds"][name], probability["two_or_more"][name]
            bounds.append(
                {
                    "network": kind,
                    "bit error rate": rate,
                    "P(SDC) at most": f"{bound:.2e}",
                    "two or more": f"{more:.2e}",
                    "injected SDC": found,
                }
            )
        data[kind] = {"layers": layers, "answers": facts}
    text = (
        f"int8, {POINTS} test images as points. *Sets*: of all sets of k bits, those that are "
        "certified to do no harm together, averaged over the points; *points*: at which no set "
        "does any.\n\n"
        + table(sets)
        + "\nUpper bounds of the probability of SDC at a bit error rate; *two or more*: the "
        "probability of two or more failures, which would be added if single faults alone were "
        "certified.\n\n" + table(bounds)
    )
    return text, data
