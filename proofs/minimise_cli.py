"""The command ``minimize``: a smaller proof of the same question."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from proofs.check import check_proof
from proofs.cli import positive
from proofs.format import read_evidence, replacing, write_proof
from proofs.minimise import EFFORTS, ORDERS, Minimised, Size, minimise
from proofs.passes.closing import Reoptimise
from proofs.proof import Proof
from proofs.targets import check_targets
from specs.errors import InputError
from specs.question import load_question


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="farkas minimize",
        allow_abbrev=False,  # what asks for the search's help is looked for by its whole name
        description="A smaller proof of the same question, checked.  The first line printed is "
        "smaller, or unchanged; what is written is always valid.",
    )
    made.add_argument(
        "files",
        nargs="+",
        metavar="QUESTION PROOF",
        help="NET.onnx PROPERTY.vnnlib or QUESTION.toml, then the proof",
    )
    made.add_argument(
        "-o", dest="out", type=Path, required=True, metavar="SMALLER", help="write the proof here"
    )
    made.add_argument(
        "--timeout",
        type=positive,
        metavar="S",
        help="seconds, after which the smallest proof so far is checked and written, as it is "
        "after an interruption",
    )
    made.add_argument(
        "--effort",
        choices=EFFORTS,
        default="high",
        help="high (default): all passes until none gains; default: what is gained quickly; "
        "none: the same proof, packed",
    )
    made.add_argument(
        "--by",
        choices=tuple(ORDERS),
        default="both",
        help="what is to be small: bytes, the time of a check, leaves, or bytes times time "
        "(both, default)",
    )
    made.add_argument(
        "--reoptimise",
        action="store_true",
        help="ask the search for multipliers that close inner nodes (needs the verifier)",
    )
    made.add_argument(
        "--semantics", metavar="X", help="real (default), float32, float16 or bfloat16"
    )
    made.add_argument("--json", type=Path, metavar="F", help="write what every pass did")
    return made


def main(argv: Sequence[str], reoptimise: Reoptimise | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 where the proof given is not valid.

    Raises:
        InputError: usage, question or proof is at fault.
    """
    args = parser().parse_args(argv[1:])
    if len(args.files) not in (2, 3):
        raise InputError("minimize takes a question and one proof; see farkas minimize --help")
    if args.reoptimise and reoptimise is None:
        raise InputError("--reoptimise needs the search; run it as farkas minimize")
    check_targets(args.out, args.json)
    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    *question, file = args.files
    query = load_question(*question, semantics=args.semantics)
    proof = read_evidence(file)
    if not isinstance(proof, Proof):
        raise InputError(f"{file} is a witness; minimize takes a proof")
    made = minimise(
        query,
        proof,
        effort=args.effort,
        order=args.by,
        deadline=deadline,
        reoptimise=reoptimise,
        progress=_show if sys.stderr.isatty() else lambda name, size: None,
        interruptible=True,
    )
    checked = check_proof(query, made.proof)
    if not checked.valid and made.proof is not proof:
        made = Minimised(proof, made.taken, made.finished)
        checked = check_proof(query, proof)
    if not checked.valid:
        print(checked.verdict)
        print(f"{file}: {checked.reason}; nothing is written")
        return 2
    before = Path(file).stat().st_size  # it may be replaced
    size = write_proof(args.out, made.proof, pack=True)
    if args.json is not None:
        _write_json(args.json, made, before, size)
    print("smaller" if size < before else "unchanged")
    first, last = Size.of(proof), Size.of(made.proof)
    print(
        f"{before} -> {size} bytes, {first.leaves} -> {last.leaves} leaves, "
        f"work {first.work:.0f} -> {last.work:.0f}"
    )
    for taken in made.taken:
        print(
            f"{taken.name}: {taken.before.bytes} -> {taken.after.bytes} bytes, "
            f"{taken.before.leaves} -> {taken.after.leaves} leaves, {taken.seconds:.1f} s"
        )
    if not made.finished:
        print("stopped early; more time may make the proof smaller still")
    print(f"valid unsat: {checked.leaves} leaves, {checked.cpu_seconds:.2f} CPU seconds")
    return 0


def _show(name: str, size: Size) -> None:
    sys.stderr.write(f"{name}: {size.bytes} bytes, {size.leaves} leaves\n")


def _write_json(path: Path, made: Minimised, before: int, after: int) -> None:
    content = {
        "bytes": {"before": before, "after": after},
        "finished": made.finished,
        "passes": [asdict(taken) for taken in made.taken],
    }
    try:
        with replacing(path) as stream:
            stream.write((json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
