"""How small proofs get, how much faster their check, and what that costs.

    python -m benchmarks.proofs VNNCOMP --out runs/proofs [--timeout 60] [--only A,B]
                                [--passes 5] [--exact 60] [--high 0] [--warm]

Every query of the list is verified without minimising; its proof is then made smaller as
``--proof-effort default`` does it, in a part of the time that it took to find, and both are
checked.  Each query has a process of its own, as with ``farkas verify``: the search's seconds
include the start of torch.  With ``--warm`` all have one, and they do not.

With ``--passes S`` every pass is also tried alone, in ``S`` seconds; with
``--exact S`` the smaller proofs are checked in exact arithmetic, too, as far as that ends in
``S`` seconds; with ``--high S`` they are made as small as they get in ``S`` seconds.  Rows go to
``proofs.csv``; a run that is interrupted goes on where it stopped.  Seconds are CPU seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from proofs.check import Checked, check_proof
from proofs.draft import draft_of, written
from proofs.format import write_proof
from proofs.minimise import Size, minimise, passes
from proofs.oracle import Oracle
from proofs.passes import thin
from proofs.passes.edits import Work
from proofs.proof import Proof
from proofs.tree import DeadlineError
from proofs.workers import cpu_seconds
from specs.errors import FarkasError
from specs.query import Query
from specs.question import load_question
from verifier.bench import Instance, read_list
from verifier.options import Options
from verifier.policy import Features, Policy
from verifier.verify import verify

LEAVES = 10
"""Proofs of at least so many leaves count for the medians."""

LEAST_RUNS, MOST_RUNS, ENOUGH = 2, 5, 3.0
"""Checks of each proof, and seconds after which there are no more of them than the least."""

MARABOU = (
    ("acasxu", "prop_4", 188_000_000),
    ("safenlp", "medical", 45_000_000),
    ("mnist_fc", "256x2", 8_000_000),
)
"""Bytes of one proof of Marabou's in a group of queries; see the field notes on proofs."""


@dataclass
class Row:
    """A query; ``_0`` before, ``_1`` after.

    Attributes:
        search: seconds of the kernel without hints, the attacks and the search.
        plain: bytes of the file as the search wrote it; ``packed``: of the same, packed.
        bytes_1: of the smaller proof, packed; ``bytes_high``, ``leaves_high``, ``check_high``:
            with ``--high``.
        minimise: seconds; ``check_0``, ``check_1``: of the kernel, the least of some runs.
        valid: of the smaller proof; ``exact``: in exact arithmetic, empty if not asked.
        passes: by pass what is left of packed bytes, leaves and work, as JSON.
    """

    key: str
    benchmark: str
    answer: str
    search: float = 0.0
    plain: int = 0
    packed: int = 0
    bytes_1: int = 0
    bytes_high: int = 0
    check_high: float = 0.0
    leaves_0: int = 0
    leaves_1: int = 0
    leaves_high: int = 0
    splits_0: int = 0
    splits_1: int = 0
    hints_0: int = 0
    hints_1: int = 0
    steps_0: int = 0
    steps_1: int = 0
    minimise: float = 0.0
    check_0: float = 0.0
    check_1: float = 0.0
    valid: str = ""
    exact: str = ""
    passes: str = ""

    @property
    def cost(self) -> float:
        """What default effort adds to verifying, over the time of the search."""
        return (self.minimise + self.check_1 - self.check_0) / max(self.search, 1e-9)


def measured(query: Query, row: Row, options: argparse.Namespace) -> Proof | None:
    """Fill in a row; returns the smaller proof, if the property was proved."""
    verdict = verify(query, Options(timeout=options.timeout, proof_effort="none"))
    row.answer = verdict.answer
    proof = verdict.evidence
    if verdict.answer != "unsat" or not isinstance(proof, Proof):
        return None
    row.search = verdict.seconds("kernel", "attack", "search", "smt")[1]
    before = Size.of(proof)
    row.plain, row.packed = Size.of(proof, pack=False).bytes, before.bytes
    if not any(stage.name == "search" for stage in verdict.stages):  # the empty proof
        row.check_0 = row.check_1 = check_proof(query, proof).cpu_seconds
        _note(row, before, before)
        row.valid = verdict.checked.verdict if verdict.checked is not None else ""
        return proof
    cpu = cpu_seconds()
    until = time.monotonic() + _budget(query, row.search)
    made = minimise(query, proof, deadline=until)
    row.minimise = cpu_seconds() - cpu
    _note(row, before, Size.of(made.proof))
    (row.check_0, _), (row.check_1, checked) = _by_turns(query, proof, made.proof)
    row.valid = checked.verdict
    if options.exact:
        row.exact = _exact(query, made.proof, options.exact).verdict
    if options.high:
        from verifier.reoptimise import Reoptimiser  # with torch

        until = time.monotonic() + options.high
        high = minimise(
            query, proof, effort="high", deadline=until, reoptimise=Reoptimiser(until)
        ).proof
        ((row.check_high, checked),) = _by_turns(query, high)
        if checked.valid:
            row.bytes_high, row.leaves_high = Size.of(high).bytes, Size.of(high).leaves
    if options.passes:
        row.passes = json.dumps(dict(_alone(query, proof, options.passes)))
    return made.proof


def _by_turns(query: Query, *proofs: Proof) -> list[tuple[float, Checked]]:
    """The least CPU seconds of some checks of each proof, and what the first one says.

    Proofs take turns, so that a machine that is slower for a while is so for all of them.
    """
    began, checked = time.monotonic(), [[check_proof(query, proof)] for proof in proofs]
    while len(checked[0]) < LEAST_RUNS or (
        len(checked[0]) < MOST_RUNS and time.monotonic() - began < ENOUGH
    ):
        for own, proof in zip(checked, proofs, strict=True):
            own.append(check_proof(query, proof))
    return [(min(each.cpu_seconds for each in own), own[0]) for own in checked]


def _budget(query: Query, search: float) -> float:
    """What ``verify`` gives default effort where there is no time limit."""
    return Policy(Features.of(query)).minimising("default", search, math.inf)


def _note(row: Row, before: Size, after: Size) -> None:
    row.bytes_1 = after.bytes
    row.leaves_0, row.leaves_1 = before.leaves, after.leaves
    row.splits_0, row.splits_1 = before.splits, after.splits
    row.hints_0, row.hints_1 = before.hints, after.hints
    row.steps_0, row.steps_1 = before.steps, after.steps


def _exact(query: Query, proof: Proof, limit: float) -> Checked:
    return check_proof(query, proof, arithmetic="exact", deadline=time.monotonic() + limit)


def _alone(query: Query, proof: Proof, limit: float) -> Iterator[tuple[str, list[float]]]:
    """What each pass alone leaves of bytes, leaves and work."""
    from verifier.reoptimise import Reoptimiser

    before = Size.of(proof)
    for name, each in passes(Reoptimiser()):
        draft = draft_of(query, proof)
        work = Work(draft, Oracle(draft.query, deadline=time.monotonic() + limit))
        try:
            each(work, [tree.root for tree in draft.trees()])
        except DeadlineError:
            work.give_up()
        thin.remove_skipped(draft)
        after = Size.of(written(draft)[0])
        yield (
            name,
            [
                after.bytes / before.bytes,
                after.leaves / before.leaves,
                after.work / before.work,
            ],
        )


def report(rows: Sequence[Row]) -> str:
    """Tables by benchmark, by pass, and of what must hold."""
    proved = [row for row in rows if row.answer == "unsat"]
    large = [row for row in proved if row.leaves_0 >= LEAVES]
    lines = [
        f"{len(proved)} proofs, {len(large)} of at least {LEAVES} leaves.  Bytes: as the search "
        "wrote it / packed / smaller.",
        "",
        "| benchmark | proofs | bytes | leaves | splits | hints | steps | check s | minimise s | "
        "search s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted({row.benchmark for row in proved}):
        own = [row for row in proved if row.benchmark == name]

        def total(field: str, own: Sequence[Row] = own) -> float:
            return sum(getattr(row, field) for row in own)

        def pair(field: str, total: Callable[[str], float] = total) -> str:
            return f"{total(field + '_0'):.0f} / {total(field + '_1'):.0f}"

        lines.append(
            f"| {name} | {len(own)} | {total('plain'):.0f} / {total('packed'):.0f} / "
            f"{total('bytes_1'):.0f} | {pair('leaves')} | {pair('splits')} | {pair('hints')} | "
            f"{pair('steps')} | {total('check_0'):.1f} / {total('check_1'):.1f} | "
            f"{total('minimise'):.1f} | {total('search'):.1f} |"
        )
    lines += ["", *_figures(proved, large), "", *_by_pass(large)]
    return "\n".join(lines) + "\n"


def _figures(proved: Sequence[Row], large: Sequence[Row]) -> Iterator[str]:
    if large:
        ratios = {
            "bytes, smaller over as the search wrote it (at most 0.2)": [
                row.bytes_1 / row.plain for row in large
            ],
            "of that by packing alone": [row.packed / row.plain for row in large],
            "bytes, smaller over packed": [row.bytes_1 / row.packed for row in large],
            "check seconds, after over before (at most 0.5)": [
                row.check_1 / max(row.check_0, 1e-9) for row in large
            ],
            "leaves, after over before": [row.leaves_1 / row.leaves_0 for row in large],
            "bytes a leaf, before": [row.plain / row.leaves_0 for row in large],
            "bytes a leaf, after": [row.bytes_1 / row.leaves_1 for row in large],
            "minimising over search": [row.minimise / max(row.search, 1e-9) for row in large],
            "cost over search: minimising and the change of the check (at most 0.2)": [
                row.cost for row in large
            ],
        }
        high = [row for row in large if row.bytes_high]
        if high:
            ratios["bytes, high effort over as the search wrote it"] = [
                row.bytes_high / row.plain for row in high
            ]
            ratios["check seconds, high effort over before"] = [
                row.check_high / max(row.check_0, 1e-9) for row in high
            ]
            ratios["leaves, high effort over before"] = [
                row.leaves_high / row.leaves_0 for row in high
            ]
        yield f"| median over proofs of at least {LEAVES} leaves | figure | worst |"
        yield "|---|---|---|"
        for name, values in ratios.items():
            yield f"| {name} | {median(values):.2f} | {max(values):.2f} |"
        yield ""
    yield "| group | largest of ours, bytes | Marabou's, bytes | share (at most 0.001) |"
    yield "|---|---|---|---|"
    for benchmark, part, theirs in MARABOU:
        ours = [row.bytes_1 for row in proved if row.benchmark == benchmark and part in row.key]
        if ours:
            yield f"| {benchmark} {part} | {max(ours)} | {theirs} | {max(ours) / theirs:.6f} |"
    yield ""
    invalid = [row.key for row in proved if row.valid != "valid unsat"]
    yield f"smaller proofs that are not valid: {', '.join(invalid) or 'none'}"
    exact = [row for row in proved if row.exact]
    refuted = [row.key for row in exact if row.exact not in ("valid unsat", "incomplete")]
    done = sum(row.exact == "valid unsat" for row in exact)
    yield (
        f"in exact arithmetic: {done} of {len(exact)} valid, "
        f"{len(exact) - done - len(refuted)} not ended in time, refuted: "
        f"{', '.join(refuted) or 'none'}"
    )


def _by_pass(large: Sequence[Row]) -> Iterator[str]:
    tried = [json.loads(row.passes) for row in large if row.passes]
    if not tried:
        return
    yield "| pass, alone | bytes left | leaves left | work left | proofs made smaller |"
    yield "|---|---|---|---|---|"
    for name in tried[0]:
        parts = [each[name] for each in tried]
        smaller = sum(part[0] * part[2] < 1.0 for part in parts)
        cells = [f"{median(part[k] for part in parts):.2f}" for k in range(3)]
        yield f"| {name} | {' | '.join(cells)} | {smaller} of {len(parts)} |"


def _row(instance: Instance, options: argparse.Namespace, target: Path) -> Row:
    """Measure a query; its smaller proof goes to ``target``."""
    row = Row(instance.key, instance.benchmark, "error")
    try:
        files = (instance.folder / instance.onnx, instance.folder / instance.vnnlib)
        proof = measured(load_question(*files), row, options)
        if proof is not None:
            write_proof(target, proof, pack=True)
    except FarkasError as error:
        row.answer = f"error: {error}"[:200]
    return row


def _alone_in_a_process(instance: Instance, options: argparse.Namespace, target: Path) -> Row:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_row, instance, options, target).result()


def _wanted(instance: Instance, only: str) -> bool:
    names = [name for name in only.split(",") if name]
    return not names or any(name in f"{instance.benchmark} {instance.key}" for name in names)


def main() -> int:
    """Measure what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path, help="as given to farkas bench")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--passes", type=float, default=0.0)
    parser.add_argument("--exact", type=float, default=0.0)
    parser.add_argument("--high", type=float, default=0.0)
    parser.add_argument("--warm", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "proofs.csv"
    names = [f.name for f in fields(Row)]
    rows: list[Row] = []
    if target.is_file():
        kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Row)}
        with target.open(newline="") as stream:
            for cells in csv.DictReader(stream):
                rows.append(Row(**{name: kinds[name](cells[name]) for name in names}))
    seen = {row.key for row in rows}
    with target.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        if not rows:
            writer.writeheader()
        for number, instance in enumerate(read_list(options.list)):
            if instance.key in seen or not _wanted(instance, options.only):
                continue
            made = _row if options.warm else _alone_in_a_process
            row = made(instance, options, options.out / f"{number}.farkas")
            rows.append(row)
            writer.writerow({name: getattr(row, name) for name in names})
            stream.flush()
            print(
                f"{row.answer} {row.plain} -> {row.bytes_1} bytes, {row.leaves_0} -> "
                f"{row.leaves_1} leaves  {row.key}",
                file=sys.stderr,
            )
    text = report(rows)
    (options.out / "proofs.md").write_text(text)
    print(text, end="")
    return int(any(row.answer == "unsat" and row.valid != "valid unsat" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
