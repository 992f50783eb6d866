"""Which networks of a folder are read, and whether they compute what runtimes compute.

    python -m benchmarks.coverage FOLDER [--only A,B] [--points 5]

Every ``.onnx`` and ``.onnx.gz`` file below the folder is read.  Inputs are drawn from the
boxes of the properties that the folder's lists name beside the network, and from the unit
box where there are none.  Three evaluations are compared: ours in float64, onnxruntime's in
float32, and the ONNX reference's in float64, of the model with every float32 widened.  Where
onnxruntime and we differ, the reference decides; without one, float32 error must explain it.
Exits with 1 where a network is refused or computes something else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import bounded
from specs.errors import FarkasError, InputError
from specs.network import Input, Network, Univariate
from specs.onnx_reader import read_model
from specs.property_reader import read_property
from tests.networks import evaluate, in_float64, onnxruntime_outputs, reference_outputs
from verifier.bench import read_list

FloatArray = npt.NDArray[np.float64]

DOUBLE = 1e-9
"""Largest difference from the reference, relative to the largest output and 1."""
SINGLE = 2.0**-10
"""The same from onnxruntime, where there is no reference; float32 sums are that wrong."""
WIDEST = 1.0
"""Half of the width in which inputs are drawn where a box is open."""


@dataclass(frozen=True)
class Compared:
    """A network and how its outputs differ at a few points.

    Attributes:
        double: the largest difference from the reference in float64, relative to the
            largest output and 1; ``None`` where the reference has no such operator.
        single: the same from onnxruntime in float32, ``None`` where it refuses the model.
        boxes: whether inputs are drawn from a property's boxes.
        seconds: that reading the file took.
        kernel, search: the greatest width of bounds over a small box; ``None`` where one is
            infinite or an output lies outside.
    """

    name: str
    network: Network
    double: float | None
    single: float | None
    boxes: bool
    seconds: float
    kernel: float | None
    search: float | None

    @property
    def bounded(self) -> bool:
        return self.kernel is not None and self.search is not None

    @property
    def verdict(self) -> str:
        if self.double is not None:
            return "the same" if self.double <= DOUBLE else "DIFFERS"
        if self.single is not None:
            return "the same in float32" if self.single <= SINGLE else "DIFFERS"
        return "no runtime"

    @property
    def agrees(self) -> bool:
        return self.verdict.startswith("the same")


Column = tuple[str, Callable[[Compared], str]]

COLUMNS: tuple[Column, ...] = (
    ("network", lambda c: c.name),
    ("nodes", lambda c: kinds(c.network)),
    ("neurons", lambda c: str(c.network.neurons)),
    ("products", lambda c: str(entries(c.network, "product"))),
    ("to float64", lambda c: _shown(c.double)),
    ("to onnxruntime", lambda c: _shown(c.single)),
    ("inputs", lambda c: "boxes" if c.boxes else "unit box"),
    ("read, s", lambda c: f"{c.seconds:.2f}"),
    ("verdict", lambda c: c.verdict),
    ("bounded by kernel", lambda c: _shown(c.kernel)),
    ("bounded by search", lambda c: _shown(c.search)),
)


def kind(node: object) -> str:
    """What a node is called in the table."""
    if isinstance(node, Univariate):
        return node.function
    return type(node).__name__.lower()


def kinds(network: Network) -> str:
    """How many nodes of each kind there are."""
    counted = Counter(kind(node) for node in network.nodes if not isinstance(node, Input))
    return ", ".join(f"{name} {count}" for name, count in counted.most_common())


def entries(network: Network, wanted: str) -> int:
    """How many entries nodes of a kind have."""
    sizes = zip(network.nodes, network.sizes, strict=True)
    return sum(size for node, size in sizes if kind(node) == wanted)


def models(folder: Path) -> list[Path]:
    """The model files below a folder; of two that differ in ``.gz`` only, the plain one."""
    found = {path for path in folder.rglob("*.onnx") if path.is_file()}
    packed = {path for path in folder.rglob("*.onnx.gz") if path.is_file()}
    return sorted(found | {path for path in packed if path.with_suffix("") not in found})


def properties(folder: Path) -> dict[Path, list[Path]]:
    """By model file, without ``.gz``, the property files that lists name beside it."""
    found: dict[Path, list[Path]] = {}
    try:
        instances = read_list(folder)
    except InputError:
        return found
    for instance in instances:
        model = _plain((instance.folder / instance.onnx).resolve())
        found.setdefault(model, []).append(instance.folder / instance.vnnlib)
    return found


def inputs(network: Network, files: Sequence[Path], count: int) -> FloatArray | None:
    """Points drawn from the boxes of the smallest property file, as float32 numbers."""
    sized = [(_size(path), path) for path in files]
    cases = None
    for _, path in sorted(sized):
        try:
            cases = read_property(path, network)[0].cases
        except FarkasError:
            continue
        if cases:
            break
    if not cases:
        return None
    random = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        low, high = cases[random.integers(len(cases))].box()
        low = np.where(np.isfinite(low), low, np.minimum(high, WIDEST) - 2 * WIDEST)
        high = np.where(np.isfinite(high), high, low + 2 * WIDEST)
        rows.append(random.uniform(low, high))
    return np.array(rows).astype(np.float32).astype(np.float64)


def compared(name: str, path: Path, files: Sequence[Path], count: int) -> Compared:
    """A network beside both runtimes.

    Raises:
        FarkasError: it is refused.
    """
    begun = time.perf_counter()
    network, file = read_model(path)
    seconds = time.perf_counter() - begun
    drawn = inputs(network, files, count)
    unit = np.random.default_rng(0).random((count, network.input_size))
    x = unit.astype(np.float32).astype(np.float64) if drawn is None else drawn
    ours = evaluate(network, x)
    single = _difference(ours, lambda: onnxruntime_outputs(file.content, x))
    double = _difference(ours, lambda: reference_outputs(in_float64(file.content), x))
    low, high = bounded.around(x)
    share = np.random.default_rng(1).random((count, network.input_size))
    values = evaluate(network, low + share * (high - low))[:, bounded.chosen(network)]
    kernel = bounded.widest(bounded.by_kernel(network, low, high), values, 1e-9)
    search = bounded.widest(bounded.by_search(network, low, high), values, 1e-6)
    return Compared(name, network, double, single, drawn is not None, seconds, kernel, search)


def table(rows: Iterable[Compared], columns: Sequence[Column] = COLUMNS) -> str:
    """As Markdown."""
    head = "| " + " | ".join(title for title, _ in columns) + " |"
    lines = ["| " + " | ".join(show(row) for _, show in columns) + " |" for row in rows]
    return "\n".join([head, "|---" * len(columns) + "|", *lines])


def summary(rows: Sequence[Compared], refused: dict[str, str]) -> str:
    """How many networks agree, and what is refused, all of it."""
    functions = Counter(
        node.function for row in rows for node in row.network.nodes if isinstance(node, Univariate)
    )
    differ = [row.name for row in rows if not row.agrees]
    loose = [row.name for row in rows if not row.bounded]
    lines = [
        f"{len(rows)} networks read, {len(rows) - len(differ)} of them compute the same",
        "functions: " + ", ".join(f"{name} {count}" for name, count in functions.most_common()),
        f"differ: {', '.join(differ) or 'none'}",
        f"not bounded: {', '.join(loose) or 'none'}",
        f"refused: {', '.join(refused) or 'none'}",
    ]
    return "\n".join([*lines, *(f"  {name}: {reason}" for name, reason in refused.items())])


def _difference(ours: FloatArray, theirs: Callable[[], FloatArray]) -> float | None:
    try:
        found = theirs()
    except Exception:  # runtimes raise errors of every kind on models that they lack
        return None
    if found.shape != ours.shape:
        return float("inf")
    same = (found == ours) | (np.isnan(found) & np.isnan(ours))
    gaps = np.where(same, 0.0, np.abs(found - ours))
    largest = float(np.max(np.abs(found), initial=0.0, where=np.isfinite(found)))
    worst = float(np.max(gaps, initial=0.0)) / (1.0 + largest)
    return worst if np.isfinite(worst) else float("inf")


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".gz" else path


def _size(path: Path) -> int:
    packed = path.parent / (path.name + ".gz")
    found = path if path.exists() else packed
    return found.stat().st_size if found.exists() else sys.maxsize


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="parts of file names, separated by commas")
    parser.add_argument("--points", type=int, default=5)
    options = parser.parse_args()
    known = properties(options.folder)
    wanted = [part for part in options.only.split(",") if part]
    rows: list[Compared] = []
    refused: dict[str, str] = {}
    for path in models(options.folder):
        name = str(path.relative_to(options.folder))
        if wanted and not any(part in name for part in wanted):
            continue
        try:
            files = known.get(_plain(path.resolve()), [])
            rows.append(compared(name, path, files, options.points))
        except FarkasError as error:
            refused[name] = str(error)
        print(name, file=sys.stderr)
    if not rows and not refused:
        print(f"{options.folder}: no networks below it", file=sys.stderr)
        return 1
    print(table(rows))
    print()
    print(summary(rows, refused))
    return int(bool(refused) or not all(row.agrees and row.bounded for row in rows))


if __name__ == "__main__":
    sys.exit(main())
