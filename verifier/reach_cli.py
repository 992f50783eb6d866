"""The command ``reach``: which outputs the regions of a question can lead to."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proofs.targets import check_targets
from specs.errors import InputError
from verifier.needs import PROGRAMS, need

if TYPE_CHECKING:
    from specs.query import Query
    from verifier.stars.corners import FloatArray
    from verifier.stars.planes import Projection
    from verifier.stars.reach import Part, Reached

SPLITS = 6
"""On a path, where neither ``--exact`` nor ``--over`` is said."""
SAMPLES = 400
"""Outputs of random inputs in a picture."""
LISTED = 20
"""Output ranges that are printed; all are in the JSON."""
UNTRUSTED = "floating-point sets: no certificate, checked by no kernel"


def main(argv: Sequence[str]) -> int:
    """Run ``reach``; returns the exit code.

    Raises:
        InputError: usage or the question is at fault.
    """
    start = time.monotonic()
    args = _parser().parse_args(list(_joined(argv[1:])))
    _check_options(args)
    from specs.question import load_question
    from verifier.progress import Progress
    from verifier.stars.lp import SolverError
    from verifier.stars.planes import projected
    from verifier.stars.reach import ranges, reach
    from verifier.stars.sets import Solver
    from verifier.stars.walk import OUTPUT, Budget

    progress = Progress()
    progress.stage("reading the question")
    try:
        query = load_question(*args.question)
        axes = _axes(args, query)
        splits = None if args.exact else 0 if args.over else SPLITS
        deadline = None if args.timeout is None else start + args.timeout
        found = reach(
            query,
            Budget(splits),
            deadline=deadline,
            processes=args.processes,
            progress=lambda done, waiting: progress.leaves("stars", waiting, done),
        )
        progress.stage("ranges and projections")
        ends = ranges(found.parts, query.network.output_size, deadline)
        solver = Solver(deadline)
        shown = [projected(part.star, OUTPUT, axes, solver) for part in found.parts]
    except SolverError as error:
        print(f"unknown\n{error}")
        return 2
    finally:
        progress.clear()
    about = report(found, ends, axes, shown)
    about["seconds"] = time.monotonic() - start
    try:
        _write(args, found, ends, axes, shown, about)
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror or error}") from error
    print("\n".join(_lines(found, about)))
    if found.stopped == "interrupted":
        print("farkas: interrupted", file=sys.stderr)
        return 130
    return 2 if found.stopped else 0


def _joined(argv: Sequence[str]) -> Iterator[str]:
    """``--project -1`` as one word, which argparse would take for an option."""
    words = iter(argv)
    for word in words:
        yield f"{word}={next(words, '')}" if word == "--project" else word


def _parser() -> argparse.ArgumentParser:
    from verifier.cli import positive

    parser = argparse.ArgumentParser(
        prog="farkas reach",
        description="Which outputs can the inputs of a question's regions lead to?  A union of "
        "stars, in floating point and without a certificate.  The first line printed is exact, "
        "over-approximate, timeout or interrupted.",
    )
    add = parser.add_argument
    add("question", nargs="+", metavar="QUESTION", help="NET.onnx PROPERTY.vnnlib or QUESTION.toml")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--exact", action="store_true", help="split every unstable neuron; piecewise linear only"
    )
    how.add_argument(
        "--over",
        action="store_true",
        help=f"relax every unstable neuron; by default those after {SPLITS} splits",
    )
    add(
        "--timeout",
        type=positive,
        metavar="S",
        help="seconds; then boxes cover what was not done",
    )
    add("-o", "--out", type=Path, metavar="F", help="write the stars (.npz, see docs/reach.md)")
    add("--picture", type=Path, metavar="F", help="draw the projection (.png, .svg or .pdf)")
    add(
        "--project",
        type=_entries,
        metavar="I,J",
        help="outputs, one or two, to project to; by default the first two",
    )
    add("--json", type=Path, metavar="F", help="write ranges, areas and counts")
    add("--processes", type=_count, default=1, metavar="N", help="that share the work")
    return parser


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what makes no sense before any work starts."""
    if args.out is not None and args.out.suffix != ".npz":
        raise InputError(f"-o {args.out}: stars are written as .npz")
    if args.picture is not None:
        from verifier.pictures import require_matplotlib

        require_matplotlib(args.picture)
    check_targets(args.out, args.picture, args.json)
    need(PROGRAMS, "farkas reach")


def _axes(args: argparse.Namespace, query: Query) -> tuple[int, ...]:
    size = query.network.output_size
    if args.project is None:
        return tuple(range(min(2, size)))
    for output in args.project:
        if output >= size:
            raise InputError(f"--project {output}: outputs are numbered from 0 to {size - 1}")
    axes: tuple[int, ...] = args.project
    return axes


def report(
    found: Reached, ends: FloatArray, axes: tuple[int, ...], shown: Sequence[Projection]
) -> dict[str, Any]:
    """Everything about a reachable set but its stars, for JSON."""
    from verifier.stars.planes import area, covered

    polygons = [projection.corners for projection in shown]
    union = covered(polygons)
    return {
        "question": found.query.digest,
        "answer": answer(found),
        "certificate": None,
        "note": UNTRUSTED,
        "stars": len(found.parts),
        "exact_stars": sum(part.star.exact for part in found.parts),
        "boxes_of_what_was_not_done": found.boxes,
        "boxes_after_solver_trouble": found.troubled,
        "empty_cases": found.empty,
        "ranges": [[low, high] for low, high in ends.tolist()] if found.parts else [],
        "projection": list(axes),
        "areas_summed": sum(map(area, polygons)),
        "area_of_the_union_on_a_grid": union,
        "splits": found.splits,
        "relaxed_neurons": found.relaxed,
        "linear_programs": found.programs,
        "reach_seconds": found.seconds,
    }


def answer(found: Reached) -> str:
    """The first line: what the set is."""
    if found.stopped is not None:
        return found.stopped
    return "exact" if found.exact else "over-approximate"


def _lines(found: Reached, about: dict[str, Any]) -> list[str]:
    lines = [
        answer(found),
        f"{found.query.title}: {about['stars']} stars, {about['exact_stars']} of them exact, "
        f"from {len(found.query.property.cases)} regions",
    ]
    if found.boxes:
        lines.append(f"{found.boxes} stars were not done; boxes cover what they lead to")
    if found.troubled:
        lines.append(f"{found.troubled} stars are boxes, as the solver gave no answer")
    if found.empty:
        lines.append(f"{len(found.empty)} regions are empty")
    for output, (low, high) in enumerate(about["ranges"][:LISTED]):
        lines.append(f"    output {output} in [{low:.6g}, {high:.6g}]")
    if len(about["ranges"]) > LISTED:
        lines.append(f"    {len(about['ranges']) - LISTED} more")
    if found.parts and about["projection"]:
        what = "area" if len(about["projection"]) == 2 else "length"
        lines.append(
            f"projected to outputs {', '.join(map(str, about['projection']))}: "
            f"{what} {about['area_of_the_union_on_a_grid']:.4g} (union, on a grid), "
            f"{about['areas_summed']:.4g} (stars summed)"
        )
    lines.append(UNTRUSTED)
    lines.append(
        f"{about['seconds']:.2f} s; {found.splits} splits, {found.relaxed} relaxed neurons, "
        f"{found.programs} linear programs"
    )
    return lines


def _write(
    args: argparse.Namespace,
    found: Reached,
    ends: FloatArray,
    axes: tuple[int, ...],
    shown: Sequence[Projection],
    about: dict[str, Any],
) -> None:
    from proofs.format import replacing

    if args.out is not None:
        from verifier.stars.files import write_stars

        with replacing(args.out) as stream:
            write_stars(stream, found.query, found.parts, ends, axes, shown, about)
    if args.json is not None:
        with replacing(args.json) as stream:
            stream.write((json.dumps(about, indent=2) + "\n").encode())
    if args.picture is not None:
        from verifier.pictures.stars import draw

        samples = _samples(found.query, found.parts)[:, list(axes)]
        exact = [part.star.exact for part in found.parts]
        title = f"{found.query.title}: {answer(found)}"
        with replacing(args.picture) as stream:
            polygons = [projection.corners for projection in shown]
            draw(polygons, exact, samples, axes, title, stream, args.picture.suffix[1:])


def _samples(query: Query, parts: Sequence[Part]) -> FloatArray:
    """Outputs ``(n, outputs)`` at random inputs of the regions, the same every time."""
    import numpy as np

    from verifier.attack_forward import NumpyEvaluator

    rng = np.random.default_rng(0)
    points = []
    cases = sorted({part.case for part in parts})
    for number in cases:
        case = query.property.cases[number]
        low, high = case.box()
        drawn = rng.uniform(low, high, (max(1, SAMPLES // len(cases)), low.size))
        kept = np.ones(len(drawn), dtype=bool)
        for constraint in case.constraints:
            total = np.full(len(drawn), float(constraint.constant))
            for k, coefficient in constraint.inputs:
                total += float(coefficient) * drawn[:, k]
            kept &= total <= 0
        points.append(drawn[kept])
    inputs = np.concatenate([np.zeros((0, query.network.input_size)), *points])
    outputs, _ = NumpyEvaluator(query.network).evaluate(inputs)
    return outputs


def _entries(text: str) -> tuple[int, ...]:
    match = re.fullmatch(r"(\d{1,9})(?:,(\d{1,9}))?", text)
    found = () if match is None else tuple(int(part) for part in match.groups() if part)
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text}: must be one output or two, as in 0,3")
    return found


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of processes, 1 to 1024")
    return value
