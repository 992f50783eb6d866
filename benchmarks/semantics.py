"""What float semantics cost: verdicts, time and margin against real semantics.

    python -m benchmarks.semantics FOLDER-or-INSTANCES.csv [--semantics float32]
        [--timeout 20] [--only A,B] [--most 4] [--out FILE.csv]

Each question of the list, at most so many of a benchmark, evenly spread, is verified twice
in this process, once under each semantics; the order alternates.  The margin is the least
bound that default slopes give at the root, over all cases: positive means proved.  A row
of the table is a benchmark: verdicts under both, how many are decided under real semantics
only, the ratio of the summed times of the questions decided under both, and what of the
margin is lost, as the median over questions in absolute terms and relative to the margin.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from specs.errors import FarkasError
from specs.perturbation import FORMATS, REAL
from specs.query import Query
from specs.question import load_question
from verifier.bab_boxes import assess
from verifier.bench import Instance, read_list
from verifier.bounds_compile import compile_network
from verifier.bounds_errors import error_radii
from verifier.bounds_spec import build_table
from verifier.bounds_sweep import fresh, sweep, until
from verifier.options import Options
from verifier.verify import verify

DECIDED = ("sat", "unsat")


@dataclass(frozen=True)
class Outcome:
    """One question under one semantics.

    Attributes:
        answer: the verdict's, or ``refused``: an operator has no rule.
        seconds: of verifying, reading included.
        margin: the least bound at the root; NaN where there is none.
    """

    benchmark: str
    question: str
    semantics: str
    answer: str
    seconds: float
    margin: float


def margin(query: Query, seconds: float) -> float:
    """The least bound of any case by default slopes at its root."""
    tick = until(time.monotonic() + seconds)
    net = compile_network(query.network, radii=error_radii(query, tick))
    least = float("inf")
    for case in query.property.cases:
        table = build_table([case], net, query.property.output_size)
        low, high = (torch.tensor(side)[None] for side in case.box())
        swept = sweep(net, fresh(net, low, high), tick)
        found = assess(net, table, swept, torch.zeros(1, dtype=torch.long), 0.0)
        least = min(least, float(found.value.min()))
    return least


def outcome(instance: Instance, semantics: str, limit: float) -> Outcome:
    """Verify one question, and bound it at the root."""
    files = instance.folder / instance.onnx, instance.folder / instance.vnnlib
    name = f"{files[0].stem} {files[1].stem}"
    began, answer, least = time.monotonic(), "refused", float("nan")
    try:
        query = load_question(*files, semantics=semantics)
        answer = verify(query, Options(timeout=limit), start=began).answer
    except FarkasError as error:
        print(f"  {' '.join(str(error).split())[:300]}", file=sys.stderr)
    seconds = time.monotonic() - began
    if answer != "refused":
        try:
            least = margin(query, limit)
        except FarkasError as error:
            print(f"  no margin: {error}", file=sys.stderr)
    return Outcome(instance.benchmark, name, semantics, answer, seconds, least)


def spread(instances: Sequence[Instance], most: int) -> list[Instance]:
    """At most so many of each benchmark, evenly spread over its list."""
    chosen: list[Instance] = []
    for benchmark in dict.fromkeys(i.benchmark for i in instances):
        own = [i for i in instances if i.benchmark == benchmark]
        step = max(1.0, len(own) / most)
        chosen += [own[int(k * step)] for k in range(min(most, len(own)))]
    return chosen


def table(pairs: Sequence[tuple[Outcome, Outcome]]) -> str:
    """Markdown, a row for each benchmark."""
    semantics = pairs[0][1].semantics if pairs else ""
    lines = [
        f"| benchmark | questions | real unsat/sat | {semantics} unsat/sat | lost | refused "
        "| time ratio | margin lost | of the margin |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for benchmark in dict.fromkeys(real.benchmark for real, _ in pairs):
        own = [pair for pair in pairs if pair[0].benchmark == benchmark]
        counts = [
            "/".join(str(sum(p[k].answer == a for p in own)) for a in ("unsat", "sat"))
            for k in (0, 1)
        ]
        both = [p for p in own if all(o.answer in DECIDED for o in p)]
        lost = sum(p[0].answer in DECIDED for p in own) - len(both)
        times = [sum(p[k].seconds for p in both) for k in (0, 1)]
        gaps = [(p[0].margin - p[1].margin, p[0].margin) for p in own]
        gaps = [(gap, of) for gap, of in gaps if gap == gap and abs(gap) < float("inf")]
        shares = [gap / abs(of) for gap, of in gaps if of]
        ratio = f"{times[1] / times[0]:.2f}" if times[0] else "-"
        refused = sum(p[1].answer == "refused" for p in own)
        median = statistics.median(gap for gap, _ in gaps) if gaps else float("nan")
        share = statistics.median(shares) if shares else float("nan")
        lines.append(
            f"| {benchmark} | {len(own)} | {counts[0]} | {counts[1]} | {lost} | {refused} "
            f"| {ratio} | {median:.2g} | {share:.2g} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the list and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("list", type=Path)
    parser.add_argument("--semantics", default="float32", choices=sorted(FORMATS))
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--most", type=int, default=4)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    names = [name for name in args.only.split(",") if name]
    instances = [i for i in read_list(args.list) if not names or i.benchmark in names]
    pairs: list[tuple[Outcome, Outcome]] = []
    for number, instance in enumerate(spread(instances, args.most)):
        order = (REAL, args.semantics) if number % 2 == 0 else (args.semantics, REAL)
        found = {s: outcome(instance, s, args.timeout) for s in order}
        pairs.append((found[REAL], found[args.semantics]))
        for each in pairs[-1]:
            print(
                f"{each.benchmark} {each.question} {each.semantics}: {each.answer} "
                f"{each.seconds:.1f} s, margin {each.margin:.6g}",
                file=sys.stderr,
                flush=True,
            )
    if args.out is not None:
        with args.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(Outcome.__dataclass_fields__))
            writer.writeheader()
            writer.writerows(asdict(each) for pair in pairs for each in pair)
    print(table(pairs), end="")


if __name__ == "__main__":
    main()
