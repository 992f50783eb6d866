"""Up to four flips in one int8 parameter, as BFAVerifier asks, in a table like theirs.

    python -m benchmarks.bfa --out runs/bfa [--images N] [--parameters N] [--nets 3x10,3x30]

A question is a network, a test image, a radius, ``k`` and a parameter: does the class of the image
stay the same for every input within the radius and every way to flip at most ``k`` bits of that
parameter?  Parameters are drawn at random, as many in every layer; images are the first of the test
set for which the network without faults is proved to keep the right class within 4/255.

*violated*: there is a witness that the kernel evaluates exactly.  *proved*: the kernel closes the
leaf of a proof in which all faults strike that parameter, with default slopes and no search;
parameters of a layer share a proof.  All else is undecided.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digits import data, dense_layers, export, trained
from benchmarks.tables import table
from proofs.check import check_proof, check_witness
from proofs.format import replacing
from proofs.proof import Proof, ProofBuilder
from proofs.witness import Witness
from specs.builders import ball, misclassified
from specs.faults.exact import WordFault
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips, Where
from specs.faults.placed import Placed, read_placed
from specs.faults.struck import WordFaults
from specs.property import Case, Property
from specs.query import Query

NETS = {"3x10": (10,) * 3, "3x30": (30,) * 3, "3x50": (50,) * 3, "3x100": (100,) * 3}
NETS["5x100"] = (100,) * 5
RADII = {"0": Fraction(0), "2/255": Fraction(2, 255), "4/255": Fraction(4, 255)}
FLIPS = (1, 2, 3, 4)
TRIED = 2
"""Values of a parameter for which inputs are moved."""
STEPS = 4

Layers = list[tuple[np.ndarray, np.ndarray]]
Groups = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Stated:
    """A question, and what an attack needs to know.

    Attributes:
        query: the question.
        faults: of it.
        layer: the number of the layer that is struck.
        layers: weights ``(out, in)`` and biases, as stored.
        centre, radius: of the region, which is cut to [0, 1].
        label: the class that must not change.
    """

    query: Query
    faults: WordFaults
    layer: int
    layers: Layers
    centre: np.ndarray
    radius: float
    label: int


def networks(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The classifiers by name, trained unless the folder holds them already."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / f"{name}.onnx" for name in names}
    for name, path in found.items():
        if not path.exists():
            widths = NETS[name]
            export(trained(lambda widths=widths: dense_layers(widths), (1, 64)), (1, 64), path)
    return found


def stored_layers(placed: Placed) -> Layers:
    """Weights and biases of a fully connected network, as int8 stores them."""
    values = store(placed, Quantised(8)).values
    pairs = list(placed.parameters.values())
    return [
        (values[w.name].reshape(w.shape), values[b.name])
        for w, b in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def forward(layers: Layers, x: np.ndarray, first: int = 0) -> np.ndarray:
    """Scores of inputs ``(n, .)`` of a layer, or of its results where ``first`` is negative."""
    for number, (weight, bias) in enumerate(layers[first:], first):
        x = x @ weight.T + bias
        if number < len(layers) - 1:
            x = np.maximum(x, 0.0)
    return x


def margins(scores: np.ndarray, label: int) -> np.ndarray:
    """How far a class leads, ``(n,)``."""
    return scores[:, label] - np.delete(scores, label, axis=1).max(axis=1)


def asked(
    placed: Placed, layers: Layers, image: np.ndarray, radius: Fraction, k: int, layer: int
) -> Stated:
    """The question about a layer."""
    label = int(forward(layers, image[None])[0].argmax())
    name = list(dict.fromkeys(place.result for place in placed.places))[layer]
    faults = WordFaults(placed, BitFlips(k, Quantised(8), Where(layers=(name,)), per_word=True))
    low, high = ball(image.size, image.tolist(), radius, 0, 1)
    case = Case(low, high, misclassified(10, label))
    stated = Property(image.size, 10, (case,))
    query = Query(faults.network, stated, (placed.model,), stated.digest, (faults,), name)
    return Stated(query, faults, layer, layers, image, float(radius), label)


def steady(
    placed: Placed, layers: Layers, pictures: np.ndarray, labels: np.ndarray
) -> Iterator[int]:
    """Images that the network without faults is proved to classify rightly, at every radius."""
    network = store(placed, Quantised(8)).network
    for i in np.flatnonzero(forward(layers, pictures).argmax(axis=1) == labels).tolist():
        low, high = ball(pictures[i].size, pictures[i].tolist(), max(RADII.values()), 0, 1)
        case = Case(low, high, misclassified(10, int(labels[i])))
        stated = Property(pictures[i].size, 10, (case,))
        query = Query(network, stated, (placed.model,), stated.digest, (), f"image {i}")
        if check_proof(query, None, processes=1).valid:
            yield i


def violation(asked: Stated, name: str, entry: int) -> Witness | None:
    """Flips of a parameter and an input that change the class, if some are found.

    The parameter takes the values at the ends of what it can become, and those of single flips;
    for the worst of them inputs follow the gradient's sign.
    """
    cells = asked.faults.cells
    if cells is None:
        raise ValueError("the faults are not of bits")
    stored, hull, place = cells.memory.stored[name], cells.hull(name), np.array([entry])
    ends = np.array([hull.lower[entry], hull.upper[entry]])
    old = int(stored.words[entry])
    words = {int(word) for word in stored.format.encode(ends, stored.channel[[entry, entry]])}
    words |= {old ^ 1 << bit for bit in range(8)}
    tried = []
    for word in sorted(words - {old}):
        value = float(stored.decode(place, np.array([word], dtype=np.uint32))[0][0])
        layers = _struck(asked, name, entry, value)
        tried.append((margins(forward(layers, asked.centre[None]), asked.label)[0], word, layers))
    for _, word, layers in sorted(tried, key=lambda each: each[0])[:TRIED]:
        point = _moved(asked, layers)
        scores = forward(layers, point[None])[0]
        rival = int(np.argmax(np.delete(scores, asked.label)))
        bits = tuple(bit for bit in range(8) if (word ^ old) >> bit & 1)
        faults = (WordFault(name, entry, bits),)
        witness = Witness(asked.query.digest, 0, rival, _inside(asked, point), faults)
        if check_witness(asked.query, witness).valid:
            return witness
    return None


def _struck(asked: Stated, name: str, entry: int, value: float) -> Layers:
    layers = list(asked.layers)
    weight, bias = (part.copy() for part in layers[asked.layer])
    part = weight if asked.faults.values(name).size == weight.size else bias
    part.reshape(-1)[entry] = value
    layers[asked.layer] = (weight, bias)
    return layers


def _moved(asked: Stated, layers: Layers) -> np.ndarray:
    """An input of the region at which the class leads by little."""
    best = asked.centre
    if not asked.radius:
        return best
    lead, point = margins(forward(layers, best[None]), asked.label)[0], best
    for _ in range(STEPS):
        step = asked.radius * np.sign(_gradient(layers, point, asked.label))
        point = np.clip(asked.centre - step, 0.0, 1.0)
        now = margins(forward(layers, point[None]), asked.label)[0]
        if now >= lead:
            break
        lead, best = now, point
    return best


def _gradient(layers: Layers, x: np.ndarray, label: int) -> np.ndarray:
    """Of the lead over the best rival, by the input."""
    active = []
    for weight, bias in layers[:-1]:
        x = np.maximum(weight @ x + bias, 0.0)
        active.append(x > 0)
    scores = layers[-1][0] @ x + layers[-1][1]
    rival = int(np.argmax(np.where(np.arange(len(scores)) == label, -np.inf, scores)))
    row = layers[-1][0][label] - layers[-1][0][rival]
    for (weight, _), mask in zip(layers[-2::-1], active[::-1], strict=True):
        row = (row * mask) @ weight
    return np.asarray(row)


def _inside(asked: Stated, point: np.ndarray) -> tuple[Fraction, ...]:
    """The point as rationals, moved into the region where floats were rounded out of it."""
    (case,) = asked.query.property.cases
    ends = zip(map(Fraction, point.tolist()), case.lower, case.upper, strict=True)
    return tuple(min(max(value, low), high) for value, low, high in ends)


def written(query: Query, groups: Groups, closed: frozenset[int]) -> tuple[Proof, dict[int, int]]:
    """A proof that splits faults into groups of words, and the leaves of some of them.

    Args:
        query: the question.
        groups: first words and the words after the last, one group behind the other.
        closed: the groups that are to be closed, by their first words; others are left open.
    """
    builder, nodes, count = ProofBuilder(query), dict[int, int](), 0
    builder.begin_case(0)
    builder.begin_tree()
    stack = [(0, len(groups))]
    while stack:
        first, last = stack.pop()
        if last - first > 1:
            middle = (first + last) // 2
            builder.split_faults(groups[middle][0], 2)
            count += 1
            stack += [(first, middle), (middle, last)]  # no fault before the middle comes first
        elif groups[first][0] in closed:
            builder.sweep()
            builder.close()
            nodes[groups[first][0]] = count + 1
            count += 2
        else:
            builder.hole()
            count += 1
    return builder.finish(), nodes


def proved(asked: Stated, words: Sequence[int]) -> set[int]:
    """The words of which the kernel closes the leaf."""
    total = sum(asked.faults.values(name).size for name in asked.faults.parameters)
    cuts = sorted({0, total, *words, *(word + 1 for word in words)})
    groups = list(itertools.pairwise(cuts))
    proof, nodes = written(asked.query, groups, frozenset(words))
    checked = check_proof(asked.query, proof, processes=1)
    if not checked.ended and not checked.valid:
        return set()
    rejected = {each.node for each in checked.rejected}
    return {word for word in words if nodes[word] not in rejected}


def answers(asked: Stated, rng: np.random.Generator, parameters: int) -> dict[str, int]:
    """How many parameters of a layer, drawn at random, have which answer."""
    places = [(n, e) for n in asked.faults.parameters for e in range(asked.faults.values(n).size)]
    chosen = rng.permutation(len(places))[:parameters].tolist()
    first = asked.faults.first_words
    open_ = [k for k in chosen if violation(asked, *places[k]) is None]
    words = [first[places[k][0]] + places[k][1] for k in open_]
    shown = len(proved(asked, words)) if words else 0
    violated = len(chosen) - len(open_)
    return {"proved": shown, "violated": violated, "undecided": len(open_) - shown}


def section(
    out: Path,
    images: int = 5,
    parameters: int = 10,
    nets: Sequence[str] = tuple(NETS),
    flips: Sequence[int] = FLIPS,
) -> tuple[str, dict[str, Any]]:
    """The table, and its numbers."""
    rows: list[dict[str, object]] = []
    _, _, pictures, labels = data()
    for name, path in networks(out / "networks", nets).items():
        placed = read_placed(path)
        layers = stored_layers(placed)
        chosen = list(itertools.islice(steady(placed, layers, pictures, labels), images))
        for radius, size in RADII.items():
            for k in flips:
                began, counted = time.monotonic(), Counter[str]()
                for i in chosen:
                    rng = np.random.default_rng(i)  # the same parameters for all radii and k
                    for layer in range(len(layers)):
                        stated = asked(placed, layers, pictures[i], size, k, layer)
                        counted.update(answers(stated, rng, parameters))
                rows.append(_row(name, radius, k, counted, time.monotonic() - began))
                print(" ".join(map(str, rows[-1].values())), file=sys.stderr, flush=True)
    said = f"{images} test images, {parameters} parameters of each layer, drawn at random.\n\n"
    return said + table(rows), {"images": images, "parameters": parameters, "rows": rows}


def _row(
    name: str, radius: str, k: int, counted: Mapping[str, int], seconds: float
) -> dict[str, object]:
    total = sum(counted.values())
    kinds = {kind: counted[kind] for kind in ("proved", "violated", "undecided")}
    decided = f"{100 * (1 - counted['undecided'] / total):.1f} %"
    head: dict[str, object] = {"network": name, "radius": radius, "k": k, "questions": total}
    return {**head, **kinds, "decided": decided, "ms a question": f"{1000 * seconds / total:.0f}"}


def main() -> None:
    """Answer all questions and write ``bfa.md`` and ``bfa.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--parameters", type=int, default=10, help="of each layer")
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--flips", default=",".join(map(str, FLIPS)))
    options = parser.parse_args()
    flips = [int(k) for k in options.flips.split(",")]
    nets = options.nets.split(",")
    if unknown := [name for name in nets if name not in NETS]:
        parser.error(f"no network '{unknown[0]}'; there are {', '.join(NETS)}")
    text, found = section(options.out, options.images, options.parameters, nets, flips)
    for name, content in (("bfa.md", text), ("bfa.json", json.dumps(found, indent=1) + "\n")):
        with replacing(options.out / name) as stream:
            stream.write(content.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
