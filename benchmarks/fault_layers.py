"""Two and four flips anywhere in a layer: proved, violated or left open, against enumeration.

A section of ``benchmarks.faults``.  One question is a layer of a digits classifier in int8, the
bit positions that may flip, ``k``, and a test image: the image itself, or half the radius at which
the kernel proves the fault-free network robust without hints.  ``farkas verify`` answers, with a
proof or with a witness.

At images, two flips in one of the last two dense layers are enumerated, too, in float64: words of
the last layer move margins by a sum, and so do words of different neurons of the layer before; all
pairs within a neuron are evaluated.  ``differs`` counts answers that contradict the enumeration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks import digits
from benchmarks.fault_regions import Box, boxes
from benchmarks.tables import table
from specs.enclosure import FloatArray
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, Where
from specs.faults.sites import Cells
from specs.faults.struck import WordFaults
from specs.query import Query
from verifier.attack_forward import NumpyEvaluator
from verifier.faults.radius import certified_radius, robust_region
from verifier.options import Options
from verifier.verify import verify

IMAGES = 5
SECONDS = 8.0
LAYERS = {"dense": ("dense1", "dense2", "scores"), "convolutional": ("conv2", "scores")}
BITS = {"all": None, "0 to 5": (0, 1, 2, 3, 4, 5), "0 to 3": (0, 1, 2, 3)}
COUNTS = (2, 4)
CLIP = (Fraction(0), Fraction(1))


def answered(faults: WordFaults, image: FloatArray, label: int, radius: Fraction) -> str:
    """``unsat``: no such flips change the prediction; ``sat``: some do."""
    centre = [Fraction(float(pixel)) for pixel in image]
    stated = robust_region(faults, centre, label, radius, CLIP)
    models = (faults.placed.model,)
    query = Query(faults.network, stated, models, stated.digest, (faults,))
    return verify(query, Options(timeout=SECONDS)).answer


def margins(faults: WordFaults, image: FloatArray, label: int) -> FloatArray:
    """By how much the label exceeds every other output, ``(9,)``."""
    scores = NumpyEvaluator(faults.intact).evaluate(image[None])[0][0]
    return np.delete(scores[label] - scores, label)


def enumerated(faults: WordFaults, image: FloatArray, label: int, layer: str) -> float | None:
    """The least margin that two flips in a dense layer leave; ``None``: not enumerated."""
    cells = faults.cells
    if cells is None or layer not in ("dense2", "scores"):
        return None
    values = {name: faults.values(name) for name in faults.placed.parameters}
    if "dense2.weight" not in values:
        return None
    first = np.maximum(_dense(values, "dense1", image), 0)
    before = _dense(values, "dense2", first)
    read = first if layer == "dense2" else np.maximum(before, 0)
    own = _dense(values, layer, read)
    width = own.size
    steps = _steps(cells, values, layer, read)
    alone = _effects(values, layer, before, own, label, steps)
    margin = margins(faults, image, label)
    worst = np.inf
    for rival in range(margin.size):
        best = np.array([alone[n][:, rival].min(initial=0.0) for n in range(width)])
        two = np.sort(best)[:2].sum()  # in different neurons
        for neuron in range(width):
            pairs = steps[neuron][:, None] + steps[neuron][None]  # also of bits of one word
            np.fill_diagonal(pairs, 0.0)
            moves = [pairs.reshape(-1)]
            both = _effects(values, layer, before, own, label, moves, only=neuron)[0]
            two = min(two, both[:, rival].min(initial=0.0))
        worst = min(worst, float(margin[rival] + two))
    return worst


def _dense(values: dict[str, FloatArray], layer: str, read: FloatArray) -> FloatArray:
    bias = values[f"{layer}.bias"]
    return values[f"{layer}.weight"].reshape(bias.size, -1) @ read + bias


def _flips(cells: Cells, name: str) -> Iterator[tuple[int, float]]:
    """Entry and value of every single flip of a parameter."""
    for batch in cells.batches(name):
        yield from zip(batch.entry.tolist(), batch.value.tolist(), strict=True)


def _steps(
    cells: Cells, values: dict[str, FloatArray], layer: str, read: FloatArray
) -> list[FloatArray]:
    """By neuron, how far each single flip moves it."""
    width = values[f"{layer}.bias"].size
    made: list[list[float]] = [[] for _ in range(width)]
    for name in (f"{layer}.weight", f"{layer}.bias"):
        if name not in cells.exposed:
            continue
        each = cells.exposed[name].size // width
        for entry, value in _flips(cells, name):
            factor = read[entry % each] if name.endswith("weight") else 1.0
            made[entry // each].append((value - values[name][entry]) * factor)
    return [np.array(own) for own in made]


def _effects(
    values: dict[str, FloatArray],
    layer: str,
    before: FloatArray,
    own: FloatArray,
    label: int,
    steps: list[FloatArray],
    only: int | None = None,
) -> list[FloatArray]:
    """By neuron, what moves of it change of the margins to the other outputs, ``(n, 9)``."""
    found = []
    for place, moves in enumerate(steps):
        neuron = place if only is None else only
        if layer == "scores":
            outputs = np.zeros((moves.size, own.size))
            outputs[:, neuron] = moves
        else:
            change = np.maximum(before[neuron] + moves, 0) - max(before[neuron], 0)
            bias = values["scores.bias"]
            column = values["scores.weight"].reshape(bias.size, -1)[:, neuron]
            outputs = change[:, None] * column
        found.append(np.delete(outputs[:, label, None] - outputs, label, axis=1))
    return found


def section(out: Path) -> tuple[str, object]:
    """Answers by network, layer, bits, k and radius."""
    rows: list[dict[str, object]] = []
    for kind in digits.KINDS:
        images = [own for own in boxes(out) if own[0] == kind][:IMAGES]
        for layer in LAYERS[kind]:
            for name, bits in BITS.items():
                for k in COUNTS:
                    rows += list(_rows(kind, images, layer, name, bits, k))
    return table(rows), rows


def _rows(
    kind: str, images: Sequence[Box], layer: str, name: str, bits: tuple[int, ...] | None, k: int
) -> Iterator[dict[str, object]]:
    for share in (Fraction(0), Fraction(1, 2)):
        if share and kind == "convolutional":
            continue
        answers: Counter[str] = Counter()
        listed = differs = 0
        for _, intact, _, image, label in images:
            where = Where(layers=(layer,), bits=bits)
            faults = WordFaults(intact.placed, BitFlips(k, Quantised(8), where))
            centre = [Fraction(float(pixel)) for pixel in image]
            radius = share * certified_radius(intact, centre, label, CLIP) if share else share
            answer = answered(faults, image, label, Fraction(radius))
            answers[answer] += 1
            least = enumerated(faults, image, label, layer) if k == 2 and not share else None
            if least is not None:
                listed += 1
                differs += (answer == "unsat" and least < 0) or (answer == "sat" and least > 0)
        yield {
            "network": kind,
            "layer": layer,
            "bits": name,
            "k": k,
            "inputs": "half the radius" if share else "the image",
            "proved": answers["unsat"],
            "violated": answers["sat"],
            "open": answers["unknown"] + answers["timeout"],
            "enumerated": listed,
            "differs": differs,
        }
