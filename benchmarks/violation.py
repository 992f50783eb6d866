"""Probabilities of violations, proved by partitions: width against time, and against sampling.

    python -m benchmarks.violation --out runs/violation [--seconds 5,20]
        [--only acasxu,digits,normal]

The acasxu networks are those of the folder that FARKAS_VNNCOMP names; the digits classifiers are
trained by ``benchmarks.probability_models``.  All times are CPU seconds of this process.  For each
question:

* *proved*: the interval after some seconds of search, checked again by the kernel from the
  evidence alone, with the time of that check;
* *both*: the time is divided between a partition and samples of what it leaves open, the check
  of both included;
* *samples alone*: the same network evaluated in float64 at uniform inputs for as long as *both*
  took in the end, with the interval of Clopper and Pearson: nothing is proved.

Where inputs are normal, published figures stand beside (``violation_published.py``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import digits, probability_models
from benchmarks.tables import table
from benchmarks.violation_published import FIGURES, SOURCE, conditional, normal_inputs
from proofs.partitions.check import check_partition
from proofs.partitions.sampling import lower_bound, upper_bound
from specs.probability import (
    NORMAL,
    Distribution,
    ProbabilityQuestion,
    Sampling,
    load_probability_question,
)
from verifier.attack_forward import NumpyEvaluator
from verifier.probability.mixture import mixed
from verifier.probability.search import Limits, search
from verifier.toml import document

CONFIDENCE = Fraction(999, 1000)
BATCH = 4096
ACASXU = (
    ("2_1", 2), ("4_3", 2), ("5_4", 2), ("3_8", 2), ("2_9", 2), ("1_6", 2), ("1_1", 2),
    ("1_1", 3), ("1_7", 3), ("1_9", 4), ("5_4", 4),
)  # fmt: skip
PATCHES = ((0, 2, 2), (2, 3, 3))
"""Test images, and of each how many pixels in the middle may have any value."""
PARTS = ("acasxu", "digits", "normal")
SECONDS = (5.0, 20.0)

Question = tuple[str, ProbabilityQuestion]


def section(
    out: Path, seconds: Sequence[float] = SECONDS, parts: Sequence[str] = PARTS
) -> tuple[str, dict[str, Any]]:
    """The section's text and data; files go below ``out``, and rows that are there stay."""
    out.mkdir(parents=True, exist_ok=True)
    named = os.environ.get("FARKAS_VNNCOMP")
    uniform, normal = [], []
    if named and "acasxu" in parts:
        uniform += [_row(out, *_acasxu(out, Path(named), *each), seconds) for each in ACASXU]
    if "digits" in parts:
        uniform += [_row(out, *each, seconds) for each in _patches(out)]
    if named and "normal" in parts:
        for net, number in FIGURES:
            row = _row(out, *_acasxu(out, Path(named), net, number, True), seconds[-1:])
            normal.append({**row, "published": conditional(net, number)})
    text = (
        "Inputs are uniform on the box of the property (acasxu), or in a patch of pixels of an "
        "image whose other pixels stay (digits). CPU seconds of one core; confidence "
        f"{float(CONFIDENCE):g} wherever samples speak. Every interval was checked from the "
        "evidence.\n\n" + table([_shown(row, at) for row in uniform for at in seconds])
    )
    if normal:
        text += (
            "\nInputs are normal around the middle of their sides, three deviations from each end, "
            f"and cut there; beside them the figures of {SOURCE}, given the box.\n\n"
        ) + table([_shown_published(row, seconds[-1]) for row in normal])
    if not named:
        text += "\nFARKAS_VNNCOMP names no folder: acasxu was left out.\n"
    data = {"seconds": list(seconds), "confidence": str(CONFIDENCE), "rows": uniform + normal}
    return text, data


def _acasxu(out: Path, folder: Path, net: str, number: int, normal: bool = False) -> Question:
    model = folder / f"acasxu/onnx/ACASXU_run2a_{net}_batch_2000.onnx"
    stated = folder / f"acasxu/vnnlib/prop_{number}.vnnlib"
    name = f"acasxu N{net} property {number}{', normal' if normal else ''}"
    file = f"acasxu_{net}_{number}"
    asked = _question(out, file, model, {"file": str(stated.resolve())}, {})
    if not normal:
        return name, asked
    means, deviations = normal_inputs(asked.case.lower, asked.case.upper)
    return name, replace(
        asked, distribution=Distribution("normal", tuple(means), tuple(deviations))
    )


def _patches(out: Path) -> list[Question]:
    _, _, images, labels = digits.data()
    made = []
    for kind, model in probability_models.models(out / "models").items():
        for number, height, width in PATCHES if kind == "plain" else PATCHES[1:]:
            image, label = images[number], int(labels[number])
            low, high = image.reshape(8, 8).copy(), image.reshape(8, 8).copy()
            rows, columns = (slice(4 - size // 2, 4 - size // 2 + size) for size in (height, width))
            low[rows, columns], high[rows, columns] = 0.0, 1.0
            region = {
                "lower": [Fraction(float(v)) for v in low.reshape(-1)],
                "upper": [Fraction(float(v)) for v in high.reshape(-1)],
            }
            name = f"digits {kind}, image {number}, {height} x {width} pixels"
            statement = {"kind": "robust", "label": label}
            file = f"digits_{kind}_{number}"
            made.append((name, _question(out, file, model.resolve(), region, statement)))
    return made


def _question(
    out: Path, name: str, model: Path, region: dict[str, Any], statement: dict[str, Any]
) -> ProbabilityQuestion:
    path = out / f"{name}.toml"
    tables = {"models": {"net": str(model)}, "region": region}
    tables |= {"statement": statement} if statement else {}
    path.write_text(document({**tables, "probability": {"at_most": 1}}))
    return load_probability_question(path)


def _row(
    out: Path, name: str, asked: ProbabilityQuestion, seconds: Sequence[float]
) -> dict[str, Any]:
    key = hashlib.sha256(f"{name} {asked.digest} {list(seconds)}".encode()).hexdigest()[:16]
    kept = out / f"row_{key}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    both = [_both(asked, at) for at in seconds]
    clock = time.process_time
    normal = asked.distribution.kind == NORMAL  # of which published figures are all that is asked
    alone = search(asked, Limits(1.0 if normal else max(seconds), decide=False, clock=clock))
    checked = check_partition(asked, alone.evidence)
    if checked.found is None:
        raise ValueError(f"{name}: {checked.checked.reason}")
    spent = [each["seconds"] for each in both]
    closed = not any(each["samples"] for each in both)  # samples alone cannot do better
    row: dict[str, Any] = {
        "question": name,
        "seconds": list(seconds),
        "ended": alone.ended,
        "proved": list(map(str, checked.found.interval)),
        "leaves": checked.found.leaves,
        "unproved": checked.found.unproved,
        "check_seconds": checked.checked.cpu_seconds,
        "widths": [[s.seconds, s.high - s.low] for s in alone.history],
        "both": both,
        "sampled": []
        if normal or closed
        else _samples_alone(asked, [max(pair) for pair in zip(seconds, spent, strict=True)]),
        "load": os.getloadavg()[0],
    }
    kept.write_text(json.dumps(row))
    print(json.dumps({key: row[key] for key in row if key != "widths"}), flush=True)
    return row


def _both(asked: ProbabilityQuestion, seconds: float) -> dict[str, Any]:
    """A partition and samples of its open part, within some seconds; checked."""
    begun = time.process_time()
    made = mixed(asked, Limits(seconds, decide=False, clock=time.process_time))
    sampling = Sampling(CONFIDENCE, made.samples, 0) if made.samples else None
    # Nobody claims that nothing is unsafe: the check says what it can support.
    stated = replace(asked, sampling=sampling, at_most=Fraction(0))
    evidence = replace(made.found.evidence, question=stated.digest, claims="unsat")
    checked = check_partition(stated, evidence)
    if checked.found is None:
        raise ValueError(checked.checked.reason)
    measured = checked.found.measured
    return {
        "interval": list(map(str, measured or checked.found.interval)),
        "proved": list(map(str, checked.found.interval)),
        "samples": made.samples,
        "searched": made.found.state.seconds,
        "check_seconds": checked.checked.cpu_seconds,
        "seconds": time.process_time() - begun,
    }


def _samples_alone(asked: ProbabilityQuestion, marks: Sequence[float]) -> list[dict[str, Any]]:
    """As many samples as there is time for up to each mark, and the intervals that they give."""
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
    found = []
    begun = time.process_time()
    for mark in marks:
        while (spent := time.process_time() - begun) < mark:
            x = low + (high - low) * rng.random((BATCH, low.size))
            values = network.values(x)
            y = np.concatenate([values[t] for t in asked.query.network.outputs], axis=1)
            hit = np.zeros(BATCH, dtype=bool)
            for disjunct in forms:
                hit |= np.all([x @ a + y @ b + c <= 0 for a, b, c in disjunct], axis=0)
            count, bad = count + BATCH, bad + int(hit.sum())
        miss = (1 - CONFIDENCE) / 2
        ends = lower_bound(bad, count, miss), upper_bound(bad, count, miss)
        part = {"samples": count, "unsafe": bad, "seconds": spent}
        found.append({**part, "interval": list(map(str, ends))})
    return found


def _coefficients(terms: tuple[tuple[int, Fraction], ...], size: int) -> np.ndarray:
    made = np.zeros(size)
    for index, coefficient in terms:
        made[index] = float(coefficient)
    return made


def _shown(row: dict[str, Any], seconds: float) -> dict[str, object]:
    """A row of the table, with some of the times that were tried."""
    place = row["seconds"].index(seconds)
    both = row["both"][place]
    sampled = row["sampled"][place] if row["sampled"] else None
    before = [found for spent, found in row["widths"] if spent <= seconds]
    ours = _width(both["interval"])
    theirs = None if sampled is None else _width(sampled["interval"])
    low, high = map(Fraction, both["interval"])
    return {
        "question": row["question"],
        "s": f"{seconds:g}",
        "P(unsafe), both": f"[{_down(low)}, {_up(high)}]",
        "proved alone: width": f"{before[-1]:.2e}" if before else "1",
        "both: width": f"{ours:.2e}" if both["samples"] else f"{ours:.2e} (proved)",
        "samples": both["samples"],
        "CPU s in all": f"{both['seconds']:.1f}",
        "of it the check": f"{both['check_seconds']:.1f}",
        "samples alone: width": "" if theirs is None else f"{theirs:.2e}",
        "of": "" if sampled is None else sampled["samples"],
        "ratio": "0" if theirs is None else f"{ours / theirs:.3f}",
    }


def _shown_published(row: dict[str, Any], seconds: float) -> dict[str, object]:
    both = row["both"][-1]
    low, high = map(Fraction, both["interval"])
    proved = [Fraction(end) for end in both["proved"]]
    return {
        "question": row["question"],
        SOURCE: " and ".join(f"{figure:.6g}" for figure in row["published"]),
        "proved": f"[{_down(proved[0], 9)}, {_up(proved[1], 9)}]",
        f"both (99.9 %), {seconds:g} s": f"[{_down(low, 9)}, {_up(high, 9)}]",
        "samples": both["samples"],
        "CPU s in all": f"{both['seconds']:.1f}",
    }


def _width(ends: list[str]) -> float:
    return float(Fraction(ends[1]) - Fraction(ends[0]))


def _down(value: Fraction, digits: int = 6) -> str:
    return f"{value * 10**digits // 1 / 10**digits:.{digits}f}"


def _up(value: Fraction, digits: int = 6) -> str:
    return f"{-(-value * 10**digits // 1) / 10**digits:.{digits}f}"


def main() -> None:
    """Write ``violation.md`` and ``violation.json``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", default=",".join(f"{each:g}" for each in SECONDS))
    parser.add_argument("--only", default=",".join(PARTS))
    args = parser.parse_args()
    seconds = [float(each) for each in args.seconds.split(",")]
    text, data = section(args.out, seconds, args.only.split(","))
    (args.out / "violation.md").write_text(text)
    (args.out / "violation.json").write_text(json.dumps(data, indent=1))
    print(text)


if __name__ == "__main__":
    main()
