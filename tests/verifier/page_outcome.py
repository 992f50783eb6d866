"""An outcome with one of everything that a page shows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from verifier.certify.delivery import (
    BY_EVALUATION,
    BY_EVIDENCE,
    BY_SAMPLES,
    Asked,
    Measured,
    Pair,
    Sweep,
    Swept,
)
from verifier.certify.run import Outcome
from verifier.certify.section import Judged, Part, Rows
from verifier.certify.watermark.budgets import Budget, draw

BUDGETS = (
    Budget("L2 norm of the change", Fraction(1, 2), Fraction(3, 4), Fraction(1, 4)),
    Budget("flipped bits", Fraction(0), None),
    Budget("weights set to 0", Fraction(14), Fraction(14), Fraction(20)),
)
VERDICTS = ("proved", "proved", "proved", "refuted", "undecided", "proved")


def asked(count: int) -> tuple[Asked, ...]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        verdict = VERDICTS[number % len(VERDICTS)]
        seconds = float(np.exp(rng.normal()))
        proof = verdict == "proved"
        found.append(
            Asked(
                f"sample {number}, radius 2/255",
                verdict,
                seconds if verdict != "undecided" else 20.0,
                {"undecided": "no time is left", "refuted": "two evaluations agree"}.get(
                    verdict, f"{number + 1} leaves closed"
                ),
                None if verdict == "undecided" else f"{number:016x}.farkas",
                int(1000 * np.exp(rng.normal())) if proof else None,
                0.01 * seconds if proof else None,
                "searched" if proof else "",
            )
        )
    return tuple(found)


def pairs(images: np.ndarray) -> tuple[Pair, ...]:
    rng = np.random.default_rng(1)
    found = []
    for number, image in enumerate(images):
        flat = image.ravel().astype(np.float64) / 16
        noise = rng.uniform(-0.06, 0.06, flat.size) * (rng.random(flat.size) < 0.5)
        changed = np.clip(flat + noise, 0, 1)
        found.append(
            Pair(f"sample {number}, radius 1/16", flat, changed, (1, 8, 8), "class 3", "class 8")
        )
    plain = np.arange(20.0)
    found.append(
        Pair("sample 9, no image", plain, plain + np.linspace(0, 1e-3, 20), None, "0", "2")
    )
    return tuple(found)


def heat(figure) -> None:
    panel = figure.add_subplot()
    values = np.random.default_rng(2).random((6, 8))
    image = panel.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_yticks(range(6), [f"layer{k}.weight" for k in range(6)])
    panel.set_xlabel("bit position; 0 is the least significant")
    figure.colorbar(image, label="certified benign share")


def outcome(count: int = 60, images: np.ndarray | None = None) -> Outcome:
    """An outcome; ``images`` of digits ``(n, 8, 8)`` from 0 to 16."""
    if images is None:
        images = np.load(Path(__file__).parents[2] / "examples/digits.npz")["images"][:3]
    radii = [Fraction(k, 255) for k in (1, 2, 4, 8)]
    shares = [(9, 10), (7, 9), (4, 7), (1, 4)]
    sweep = Sweep(
        "Certified accuracy, L-infinity",
        tuple(
            Swept(radius, Fraction(low, 10), Fraction(high, 10))
            for radius, (low, high) in zip(radii, shares, strict=True)
        ),
        Fraction(97, 100),
    )
    robust = Part(
        "Robustness of the classifier",
        ("norm: every input within the radius of a sample", f"{count} questions were asked"),
        ("samples are the inputs that were given", "the network is evaluated in real numbers"),
        (
            Judged(
                "certified accuracy at 2/255 at least 0.6", "at least 0.7, at most 0.9", "proved"
            ),
            Judged(
                "certified accuracy at 8/255 at least 0.6", "at least 0.1, at most 0.4", "refuted"
            ),
            Judged(
                "certified accuracy at 4/255 at least 0.5", "at least 0.4, at most 0.7", "undecided"
            ),
        ),
        asked=asked(count),
        sweeps=(sweep,),
        pairs=pairs(images),
        basis=(BY_EVIDENCE,),
    )
    faults = Part(
        'Critical bits <of> a "model" & more',
        ("8 single faults of 6 parameters",),
        ("samples are the inputs that were given",),
        (Judged("certified benign at least 0.85", "at least 0.9", "proved"),),
        tables=(
            Rows(
                "By parameter",
                ("parameter", "faults", "benign share", "verdict"),
                tuple(
                    (f"layer{k}.weight", str(8 * k), f"{k / 20:.2f}", "proved") for k in range(20)
                ),
            ),
        ),
        drawings=(("Certified benign share, by parameter and bit", heat),),
        basis=(BY_EVALUATION,),
    )
    watermark = Part(
        "Watermark", ("4 triggers",), drawings=(("Budgets", draw(BUDGETS)),), basis=(BY_EVIDENCE,)
    )
    sampled = Part(
        "Samples",
        ("3 intervals",),
        judged=(Judged("mean at least 0.5", "sampled in [0.6, 0.7]", "supported"),),
        basis=(BY_SAMPLES,),
        measured=(
            Measured("intervals", Fraction(99, 100), 3),
            Measured("all radii together", Fraction(999, 1000), judged=True),
        ),
    )
    parts = {"robustness": [robust], "faults": [faults], "watermark": [watermark], "s": [sampled]}
    return Outcome("Digits: nightly gate", parts, 55, 9, 83.4)
