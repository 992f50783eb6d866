"""Probabilities of violations, proved by partitions: width against time, and against sampling.

    python -m benchmarks.violation --out runs/violation [--seconds 20]

The acasxu networks are those of the folder that FARKAS_VNNCOMP names; the digits classifier is
trained by ``benchmarks.digits``.  For each question:

* *proved*: the interval after some seconds of search, checked again by the kernel from the
  evidence alone, with the time of that check;
* *samples alone*: the same network evaluated in float64 at uniform inputs for the same time, with
  the interval of Clopper and Pearson: nothing is proved, and it holds with the confidence stated;
* *both*: the same partition, where samples speak for the open part only.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import digits
from benchmarks.tables import table
from proofs.partitions.check import check_partition
from proofs.partitions.sampling import lower_bound, upper_bound
from specs.probability import ProbabilityQuestion, Sampling, load_probability_question
from verifier.attack_forward import NumpyEvaluator
from verifier.probability.search import Limits, Result, search
from verifier.toml import toml

CONFIDENCE = Fraction(999, 1000)
SAMPLES = 20_000
"""Of the open part."""
BATCH = 4096
ACASXU = (
    ("2_1", 2), ("4_3", 2), ("5_4", 2), ("3_8", 2), ("1_7", 3), ("1_1", 3), ("1_9", 4), ("5_4", 4),
)  # fmt: skip
PATCHES = ((2, 2), (2, 3), (3, 3))
"""Of pixels in the middle of an image that may have any value."""
MARKS = (1.0, 5.0)
"""Seconds at which the proved width is noted as well."""


def section(out: Path, seconds: float = 20.0) -> tuple[str, dict[str, Any]]:
    """The section's text and data; files go below ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    named = os.environ.get("FARKAS_VNNCOMP")
    if named:
        rows += [_row(out, *_acasxu(out, Path(named), *each), seconds) for each in ACASXU]
    rows += [_row(out, *each, seconds) for each in _patches(out)]
    shown = [_shown(row, seconds) for row in rows]
    text = (
        f"Inputs are uniform on the box of the property (acasxu), or in a patch of pixels of a "
        f"test image whose other pixels stay (digits). {seconds:g} s of search on one core; "
        f"confidence {float(CONFIDENCE):g} wherever samples speak. Every interval that is called "
        "proved was checked again from the evidence.\n\n" + table(shown)
    )
    if not named:
        text += "\nFARKAS_VNNCOMP names no folder: acasxu was left out.\n"
    return text, {"seconds": seconds, "confidence": str(CONFIDENCE), "rows": rows}


def _acasxu(out: Path, folder: Path, net: str, number: int) -> tuple[str, ProbabilityQuestion]:
    model = folder / f"acasxu/onnx/ACASXU_run2a_{net}_batch_2000.onnx"
    stated = folder / f"acasxu/vnnlib/prop_{number}.vnnlib"
    return f"acasxu N{net} property {number}", _question(
        out, f"acasxu_{net}_{number}", model, {"file": str(stated.resolve())}, {}
    )


def _patches(out: Path) -> list[tuple[str, ProbabilityQuestion]]:
    model = digits.networks(out / "models")["dense"]
    _, _, images, labels = digits.data()
    made = []
    for number, (height, width) in enumerate(PATCHES):
        image, label = images[number], int(labels[number])
        low, high = image.reshape(8, 8).copy(), image.reshape(8, 8).copy()
        rows, columns = (slice(4 - size // 2, 4 - size // 2 + size) for size in (height, width))
        low[rows, columns], high[rows, columns] = 0.0, 1.0
        region = {
            "lower": [Fraction(float(v)) for v in low.reshape(-1)],
            "upper": [Fraction(float(v)) for v in high.reshape(-1)],
        }
        name = f"digits image {number}, {height} x {width} pixels"
        statement = {"kind": "robust", "label": label}
        file = f"digits_{number}"
        made.append((name, _question(out, file, model.resolve(), region, statement)))
    return made


def _question(
    out: Path, name: str, model: Path, region: dict[str, Any], statement: dict[str, Any]
) -> ProbabilityQuestion:
    path = out / f"{name}.toml"
    tables = {"models": {"net": str(model)}, "region": region, "statement": statement}
    lines = []
    for title, values in {**tables, "probability": {"at_most": 1}}.items():
        if values:
            lines += [f"[{title}]", *(f"{key} = {toml(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    return load_probability_question(path)


def _row(out: Path, name: str, asked: ProbabilityQuestion, seconds: float) -> dict[str, Any]:
    found = search(asked, Limits(seconds, decide=False))
    checked = check_partition(asked, found.evidence)
    if checked.found is None:
        raise ValueError(f"{name}: {checked.checked.reason}")
    low, high = checked.found.interval
    row: dict[str, Any] = {
        "question": name,
        "ended": found.ended,
        "search_seconds": found.state.seconds,
        "proved": [str(low), str(high)],
        "leaves": checked.found.leaves,
        "unproved": checked.found.unproved,
        "check_seconds": checked.checked.cpu_seconds,
        "widths": [[s.seconds, s.high - s.low] for s in found.history],
        "sampled": _samples_alone(asked, seconds),
        "both": None if low == high else _both(asked, found),
    }
    print(json.dumps({key: row[key] for key in row if key != "widths"}), flush=True)
    return row


def _samples_alone(asked: ProbabilityQuestion, seconds: float) -> dict[str, Any]:
    """As many samples as there is time for, and the interval that they give."""
    network = NumpyEvaluator(asked.query.network)
    low, high = (
        np.array([float(end) for end in ends]) for ends in (asked.case.lower, asked.case.upper)
    )
    forms = [
        [
            (
                _coefficients(c.inputs, low.size),
                _coefficients(c.outputs, asked.query.network.output_size),
                float(c.constant),
            )
            for c in d
        ]
        for d in asked.case.unsafe
    ]
    rng, count, bad = np.random.default_rng(0), 0, 0
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        x = low + (high - low) * rng.random((BATCH, low.size))
        values = network.values(x)
        y = np.concatenate([values[t] for t in asked.query.network.outputs], axis=1)
        hit = np.zeros(BATCH, dtype=bool)
        for disjunct in forms:
            hit |= np.all([x @ a + y @ b + c <= 0 for a, b, c in disjunct], axis=0)
        count, bad = count + BATCH, bad + int(hit.sum())
    miss = (1 - CONFIDENCE) / 2
    ends = lower_bound(bad, count, miss), upper_bound(bad, count, miss)
    return {"samples": count, "unsafe": bad, "seconds": spent, "interval": list(map(str, ends))}


def _coefficients(terms: tuple[tuple[int, Fraction], ...], size: int) -> np.ndarray:
    made = np.zeros(size)
    for index, coefficient in terms:
        made[index] = float(coefficient)
    return made


def _both(asked: ProbabilityQuestion, found: Result) -> dict[str, Any]:
    """What samples of the open part add; the time is that of a whole check."""
    claim = Fraction(found.state.low)  # nobody claims it: the check says what it can support
    stated = replace(asked, sampling=Sampling(CONFIDENCE, SAMPLES, 0), at_most=claim)
    made = replace(found.evidence, question=stated.digest, claims="unsat")
    checked = check_partition(stated, made)
    if checked.found is None or checked.found.measured is None:
        raise ValueError(f"nothing was drawn: {checked.checked.reason}")
    ends = [str(end) for end in checked.found.measured]
    return {"interval": ends, "seconds": checked.checked.cpu_seconds, "samples": SAMPLES}


def _shown(row: dict[str, Any], seconds: float) -> dict[str, object]:
    def width(ends: list[str]) -> str:
        return f"{float(Fraction(ends[1]) - Fraction(ends[0])):.2e}"

    def at(mark: float) -> str:
        before = [found for spent, found in row["widths"] if spent <= mark]
        return f"{before[-1]:.2e}" if before else "1"

    low, high = map(Fraction, row["proved"])
    sampled, both = row["sampled"], row["both"]
    return {
        "question": row["question"],
        "proved: P(unsafe) in": f"[{_down(low)}, {_up(high)}]",
        "leaves": row["leaves"],
        **{f"width at {mark:g} s": at(mark) for mark in MARKS},
        f"at {seconds:g} s": width(row["proved"]),
        "check, s": f"{row['check_seconds']:.1f}",
        "samples alone: width (99.9 %)": f"{width(sampled['interval'])} of {sampled['samples']:,}",
        "rate found": f"{sampled['unsafe'] / sampled['samples']:.3g}",
        f"both: width (99.9 %, {SAMPLES:,} samples)": "0"
        if both is None
        else width(both["interval"]),
    }


def _down(value: Fraction) -> str:
    return f"{value * 10**6 // 1 / 10**6:.6f}"


def _up(value: Fraction) -> str:
    return f"{-(-value * 10**6 // 1) / 10**6:.6f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    text, data = section(args.out, args.seconds)
    (args.out / "violation.md").write_text(text)
    (args.out / "violation.json").write_text(json.dumps(data, indent=1))
    print(text)


if __name__ == "__main__":
    main()
