"""What VNN-COMP asks of results: their format, and counterexamples replayed by onnxruntime.

    python -m benchmarks.vnncomp_rules LIST --out DIR [--count N] [--timeout S] [--version 1|2]

runs N queries of a list through ``vnncomp/prepare_instance.sh`` and ``run_instance.sh`` and
judges each results file as the competition's scoring of 2026 does: outputs are computed again in
onnxruntime on the CPU and must violate the property at zero tolerance; inputs must lie in the
region exactly, or within 1e-4 (``correct up to tolerance``).  ``--version 2`` restates the
properties in VNN-LIB 2.0.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from specs.property import Case, Property
from specs.question import load_question
from specs.source import read_source
from verifier.bench import Instance, read_list

ROOT = Path(__file__).resolve().parent.parent
WORDS = ("unsat", "sat", "unknown", "timeout", "error")
TOLERANCE = Fraction(1, 10_000)
PAIR = re.compile(r"\(([XY])_(\d+) ([^\s()]+)\)")
HEADER = re.compile(r"(\S+) (\S+) \[([\d,]*)\]")


class MalformedError(ValueError):
    """A results file that the rules do not accept."""


def parse_results(content: str, network, text: str) -> tuple[str, np.ndarray | None]:
    """The word, and the inputs of a counterexample.

    Raises:
        MalformedError: with what is wrong.
    """
    first, _, rest = content.partition("\n")
    if first not in WORDS:
        raise MalformedError(f"the first line is {first!r}")
    if first != "sat":
        if rest.strip():
            raise MalformedError(f"{first} is followed by {rest[:40]!r}")
        return first, None
    sizes = network.input_size, network.output_size
    found = _pairs(rest, sizes) if "vnnlib-version" not in text else _tensors(rest, text, sizes)
    return first, np.array(found)


def _pairs(rest: str, sizes: tuple[int, int]) -> list[float]:
    body = " ".join(rest.split())
    if not (body.startswith("((") and body.endswith("))")):
        raise MalformedError("a counterexample is a list of pairs in brackets")
    listed = PAIR.findall(body)
    if re.sub(r"\s", "", PAIR.sub("", body)) != "()":
        raise MalformedError("there is something beside pairs")
    names = [(letter, int(index)) for letter, index, _ in listed]
    if names != [("X", k) for k in range(sizes[0])] + [("Y", k) for k in range(sizes[1])]:
        raise MalformedError("variables are missing or out of order")
    return [_number(value) for _, _, value in listed][: sizes[0]]


def _tensors(rest: str, text: str, sizes: tuple[int, int]) -> list[float]:
    import vnnlib

    lines = [line.strip() for line in rest.splitlines() if line.strip()]
    (declared,) = vnnlib.parse_query_string(text).networks
    values: list[float] = []
    for definition in (*declared.inputs, *declared.outputs):
        match = HEADER.fullmatch(lines.pop(0)) if lines else None
        if match is None or match[1] != definition.name:
            raise MalformedError(f"no line declares {definition.name}")
        if match[2] != str(definition).split()[2]:
            raise MalformedError(f"{definition.name} has the type {match[2]}")
        shape = [int(size) for size in match[3].split(",") if size]
        if shape != list(definition.shape):
            raise MalformedError(f"{definition.name} has the shape {shape}")
        count = math.prod(shape)
        if len(lines) < count:
            raise MalformedError(f"values of {definition.name} are missing")
        values += map(_number, lines[:count])
        del lines[:count]
    if lines or len(values) != sum(sizes):
        raise MalformedError("there is something behind the last tensor")
    return values[: sizes[0]]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise MalformedError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise MalformedError(f"{text} is not finite")
    return value


def judge(results: Path, model: Path, stated: Path) -> str:
    """What the scoring would say: the word, or of ``sat`` what the replay makes of it."""
    query = load_question(model, stated)
    try:
        word, inputs = parse_results(
            results.read_text(), query.network, read_source(stated)[0].text
        )
    except MalformedError as error:
        return f"malformed: {error}"
    if inputs is None:
        return word
    import onnxruntime

    session = onnxruntime.InferenceSession(
        query.models[0].content, providers=["CPUExecutionProvider"]
    )
    (entry,) = session.get_inputs()
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[entry.type]
    shape = tuple(size if isinstance(size, int) and size > 0 else 1 for size in entry.shape)
    x = inputs.astype(kind)
    outputs = np.concatenate([y.ravel() for y in session.run(None, {entry.name: x.reshape(shape)})])
    point = [Fraction(float(value)) for value in x]
    values = [Fraction(float(value)) for value in outputs]
    if query.property.violated(point, values):
        return "sat, correct"
    if widened(query.property).violated(point, values):
        return "sat, correct up to tolerance"
    return "sat, WRONG"


def widened(stated: Property) -> Property:
    """The property with regions larger by the tolerance."""
    return replace(stated, cases=tuple(map(_wider, stated.cases)))


def _wider(case: Case) -> Case:
    kept = tuple(
        replace(c, constant=c.constant - TOLERANCE * sum(abs(w) for _, w in c.inputs))
        for c in case.constraints
    )
    return replace(
        case,
        lower=tuple(value - TOLERANCE for value in case.lower),
        upper=tuple(value + TOLERANCE for value in case.upper),
        strict_lower=frozenset(),
        strict_upper=frozenset(),
        constraints=kept,
    )


def as_version_2(text: str, network) -> str:
    """A property in VNN-LIB 1.0, of a network with one input and one output, restated in 2.0."""
    declared = []
    for name, side, numbers in (("X", "input", network.inputs), ("Y", "output", network.outputs)):
        (number,) = numbers
        shape = network.nodes[number].shape
        declared.append(f"(declare-{side} {name} float32 [{','.join(map(str, shape))}])")

        def entry(match, shape=shape, name=name):
            where = np.unravel_index(int(match[1]), shape)
            return f"{name}[{','.join(map(str, where))}]"

        text = re.sub(rf"\(declare-const\s+{name}_\d+\s+Real\)", "", text)
        text = re.sub(rf"\b{name}_(\d+)\b", entry, text)
    text = re.sub(r"(?<=[\s(])(-?\d+)(?=[\s)])", r"\1.0", text)  # integers are no float32
    return f"(vnnlib-version <2.0>)\n(declare-network f {' '.join(declared)})\n{text}"


def run_instance(benchmark: str, files: Sequence[Path], limit: float, results: Path) -> float:
    """Run both scripts on a model and a property; the seconds of the second."""
    environment = os.environ | {"FARKAS_PYTHON": os.environ.get("FARKAS_PYTHON", sys.executable)}
    given = ("v1", benchmark, *map(str, files))
    subprocess.run([ROOT / "vnncomp/prepare_instance.sh", *given], env=environment, check=True)
    start = time.perf_counter()
    command = [ROOT / "vnncomp/run_instance.sh", *given, str(results), f"{limit:g}"]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--only", default="", help="benchmarks, separated by commas")
    parser.add_argument("--version", type=int, choices=(1, 2), default=1)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    only = tuple(filter(None, args.only.split(",")))
    bad = 0
    for number, one in enumerate(chosen(read_list(args.list), args.count, only)):
        results = args.out / f"{number}_{one.benchmark}.txt"
        model, stated = one.folder / one.onnx, one.folder / one.vnnlib
        if args.version == 2:
            query = load_question(model, stated)
            again = args.out / f"{number}_{one.benchmark}.vnnlib"
            again.write_text(as_version_2(read_source(stated)[0].text, query.network))
            stated = again
        seconds = run_instance(one.benchmark, (model, stated), args.timeout, results)
        said = judge(results, model, stated)
        late = "" if seconds <= args.timeout else ", LATE"
        bad += said.startswith("malformed") or said.endswith("WRONG") or bool(late)
        print(f"{one.key[:76]:76} {seconds:7.1f} s  {said}{late}", flush=True)
    print("accepted" if not bad else f"{bad} not accepted")
    return 1 if bad else 0


def chosen(listed: Sequence[Instance], count: int, only: Sequence[str]) -> list[Instance]:
    """Queries of as many benchmarks as there are, ones that are violated and ones that hold."""
    names = list(
        dict.fromkeys(one.benchmark for one in listed if not only or one.benchmark in only)
    )
    found: list[Instance] = []
    for number in range(count):
        if not names:
            break
        name = names[number % len(names)]
        wanted = ("sat", "unsat")[(number + number // len(names)) % 2]
        own = [one for one in listed if one.benchmark == name and one not in found]
        own.sort(key=lambda one: one.expected != wanted)
        found += own[:1]
    return found


if __name__ == "__main__":
    sys.exit(main())
