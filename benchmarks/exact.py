"""Re-check the proofs of a run in exact arithmetic.

    python -m benchmarks.exact VNNCOMP runs/first

reads the list and the results that ``farkas bench VNNCOMP --out runs/first`` left, and
checks each proof again from its file, in outward-rounded and in exact arithmetic: every
proof of up to 100 leaves on a network under 2,000 neurons, and beyond that ten per
benchmark.  A proof that outward rounding accepts and exact arithmetic refutes would be a
fault of the kernel.  Rows go to ``exact.csv`` beside the results; a run that is interrupted
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from proofs.check import check_file
from specs.query import Query
from specs.question import load_question
from verifier.bench import Instance, read_list, read_results
from verifier.bench_table import Row

SMALL_LEAVES, SMALL_NEURONS = 100, 2000


@dataclass(frozen=True)
class Recheck:
    """What the two arithmetics said of one proof.

    Attributes:
        required: whether the proof is small, so that exact arithmetic must decide it.
        outward, exact: the verdicts; ``exact`` is ``incomplete`` when time ran out.
    """

    key: str
    benchmark: str
    leaves: int
    neurons: int
    required: bool
    outward: str
    exact: str
    outward_seconds: float
    exact_seconds: float


def chosen(
    instances: Sequence[Instance], rows: Sequence[Row], beyond: int
) -> Iterator[tuple[Instance, Row, Query, bool]]:
    """The proofs to check again: all small ones, and up to ``beyond`` others a benchmark."""
    by_key = {row.key: row for row in rows}
    taken: Counter[str] = Counter()
    for instance in instances:
        row = by_key.get(instance.key)
        if row is None or row.answer != "unsat" or not row.evidence:
            continue
        query = load_question(instance.folder / instance.onnx, instance.folder / instance.vnnlib)
        small = row.leaves <= SMALL_LEAVES and query.network.neurons < SMALL_NEURONS
        if not small:
            taken[row.benchmark] += 1
            if taken[row.benchmark] > beyond:
                continue
        yield instance, row, query, small


def recheck(query: Query, row: Row, path: Path, required: bool, limit: float) -> Recheck:
    """Check one proof in both arithmetics."""
    verdicts, seconds = [], []
    for arithmetic in ("outward", "exact"):
        began = time.monotonic()
        found = check_file(query, path, arithmetic=arithmetic, deadline=began + limit)
        verdicts.append(found.verdict)
        seconds.append(time.monotonic() - began)
    neurons = query.network.neurons
    return Recheck(row.key, row.benchmark, row.leaves, neurons, required, *verdicts, *seconds)


def summary(checks: Sequence[dict[str, str]]) -> str:
    """A table by benchmark, and what must never happen."""
    lines = [
        "| benchmark | small proofs | valid in exact | others tried | valid in exact | refuted |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted({c["benchmark"] for c in checks}):
        mine = [c for c in checks if c["benchmark"] == name]
        cells = [name]
        for required in ("True", "False"):
            part = [c for c in mine if c["required"] == required]
            cells += [str(len(part)), str(sum(c["exact"] == "valid unsat" for c in part))]
        cells.append(str(sum(contradicts(c) for c in mine)))
        lines.append("| " + " | ".join(cells) + " |")
    bad = [c["key"] for c in checks if contradicts(c)]
    lines += ["", f"accepted outward, refuted exactly: {len(bad)}", *(f"- {k}" for k in bad)]
    return "\n".join(lines) + "\n"


def contradicts(check: dict[str, str]) -> bool:
    """Outward accepts what exact refutes; running out of time is no refutation."""
    accepted = check["outward"] == "valid unsat"
    return accepted and check["exact"] not in ("valid unsat", "incomplete")


def main() -> int:
    """Run the checks that are missing and print the table; 1 if any contradicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path, help="as given to farkas bench")
    parser.add_argument("out", type=Path, help="the folder of its results")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds a check")
    parser.add_argument("--beyond", type=int, default=10, help="large proofs a benchmark")
    args = parser.parse_args()
    results = read_results(args.out / "results.csv")
    target = args.out / "exact.csv"
    names = [f.name for f in fields(Recheck)]
    done: list[dict[str, str]] = []
    if target.is_file():
        with target.open(newline="") as stream:
            done = list(csv.DictReader(stream))
    seen = {check["key"] for check in done}
    with target.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        if not done:
            writer.writeheader()
        for _, row, query, required in chosen(read_list(args.list), results, args.beyond):
            if row.key in seen:
                continue
            check = recheck(query, row, args.out / row.evidence, required, args.limit)
            written = {name: str(getattr(check, name)) for name in names}
            writer.writerow(written)
            stream.flush()
            done.append(written)
            print(f"{check.exact} {check.exact_seconds:.1f} s  {row.key}", file=sys.stderr)
    text = summary(done)
    (args.out / "exact.md").write_text(text)
    print(text, end="")
    return int(any(contradicts(check) for check in done))


if __name__ == "__main__":
    sys.exit(main())
