"""The commands ``verify`` and ``bench``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proofs.targets import check_targets
from specs.errors import InputError

if TYPE_CHECKING:
    from proofs.proof import Proof
    from verifier.overrides import Value
    from verifier.quantised.question import Question
    from verifier.verdict import Verdict

EXIT_CODES = {"unsat": 0, "sat": 1, "unknown": 2, "timeout": 2}


def main(argv: Sequence[str]) -> int:
    """Run ``argv[0]``; returns the exit code."""
    start = time.monotonic()
    command = {"verify": _verify, "bench": _bench}[argv[0]]
    return command(argv[1:], start)


def positive(text: str) -> float:
    """A positive number of seconds, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number of seconds")
    return value


class _ListSettings(argparse.Action):
    """Prints all settings and leaves, as ``--help`` does."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """See :class:`argparse.Action`."""
        from verifier.overrides import listing
        from verifier.policy import attack_defaults

        print(listing(attack_defaults()), end="")
        parser.exit()


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="replace a setting of the policy, the attacks or a search; may be repeated",
    )
    parser.add_argument(
        "--list-settings",
        action=_ListSettings,
        help="print the settings for --set, their defaults and meanings, and leave",
    )


_SEMANTICS = "real (default), float32, float16 or bfloat16: what the network is evaluated in"


def _add_semantics(parser: argparse.ArgumentParser, help: str = _SEMANTICS) -> None:
    parser.add_argument(
        "--semantics",
        metavar="X",
        help=help,
    )


def _add_effort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--proof-effort",
        default="default",
        metavar="E",
        help="how small a proof is made: none, default (what takes little time) or high",
    )


def _add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        default="auto",
        metavar="M",
        help="auto (default), bounds, bab, star, smt, attack",
    )


def _settings(args: argparse.Namespace) -> dict[str, Value]:
    """What ``--set`` says, by name."""
    from verifier.overrides import read_pairs, validated

    return validated(read_pairs(args.set))


def _verify_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="farkas verify",
        description="Does the network have the property?  The first line printed is unsat "
        "(it has), sat (it has not), unknown or timeout.",
    )
    parser.add_argument(
        "question",
        nargs="+",
        metavar="QUESTION",
        help="NET.onnx PROPERTY.vnnlib, or QUESTION.toml",
    )
    parser.add_argument("--proof", type=Path, metavar="F", help="write the proof of unsat here")
    parser.add_argument("--witness", type=Path, metavar="F", help="write the witness of sat here")
    parser.add_argument("--json", type=Path, metavar="F", help="write everything about the verdict")
    parser.add_argument(
        "--timeout", type=positive, metavar="S", help="seconds, start to verdict, check included"
    )
    _add_method(parser)
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default) or cuda")
    _add_semantics(parser, f"{_SEMANTICS}; integer: bit by bit, a quantised model")
    _add_effort(parser)
    parser.add_argument(
        "--reuse",
        type=Path,
        metavar="PROOF",
        help="try the hints of an old proof first, made before the network or property changed",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the attacks")
    _add_settings(parser)
    return parser


def _verify(argv: Sequence[str], start: float) -> int:
    args = _verify_parser().parse_args(argv)
    check_targets(args.proof, args.json)
    check_targets(args.witness, args.json)  # which is never written beside a proof
    from verifier.options import Options
    from verifier.overrides import in_words
    from verifier.progress import Progress
    from verifier.quantised.question import load
    from verifier.verify import verify

    options = Options(
        args.timeout,
        args.method,
        args.device,
        args.seed,
        args.proof_effort,
        _settings(args),
        None if args.reuse is None else _old_proof(args.reuse),
    )
    progress = Progress()
    progress.stage("reading the question")
    try:
        question = load(*args.question, semantics=args.semantics)
    finally:
        progress.clear()
    verdict = verify(question, options, start=start, progress=progress)
    try:
        written = _write(args, question, verdict, start)
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from error
    if verdict.uncertified_claim is not None:
        print(f"uncertified_claim: {verdict.uncertified_claim}", file=sys.stderr)
    print(verdict.answer)
    print(f"{question.title}: {verdict.reason}")
    print("".join(f"{line}\n" for line in _semantics_in_words(question)), end="")
    for note in question.property.notes:
        print(f"note: {note}")
    if options.settings:
        print(f"settings: {in_words(options.settings)}")
    if verdict.reused is not None:
        print(f"old proof: {verdict.reused.in_words()}")
    for name, value in written.items():
        print(f"{name.replace('_', ' ')}: {value}")
    wall, cpu = verdict.seconds()
    print(f"{time.monotonic() - start:.2f} s ({wall:.2f} s in the stages, {cpu:.2f} CPU seconds)")
    return EXIT_CODES[verdict.answer]


def _semantics_in_words(question: Question) -> list[str]:
    """What is to be said of any semantics but that of real numbers."""
    from proofs.statement import semantics_in_words
    from specs.query import Query

    if not isinstance(question, Query):
        return question.semantics_in_words()
    return [] if question.rounding is None else semantics_in_words(question)


def _old_proof(path: Path) -> Proof:
    from proofs.format import read_evidence
    from proofs.proof import Proof

    evidence = read_evidence(path)
    if not isinstance(evidence, Proof):
        raise InputError(f"--reuse {path}: it is a witness; a proof is wanted")
    return evidence


def _write(
    args: argparse.Namespace, question: Question, verdict: Verdict, start: float
) -> dict[str, str | int]:
    """Write the files asked for; returns what was written where."""
    from proofs.format import replacing, write_proof, write_witness
    from proofs.proof import Proof
    from proofs.witness import Witness
    from verifier.verdict import as_json

    written: dict[str, str | int] = {}
    if isinstance(verdict.evidence, Proof) and args.proof is not None:
        pack = args.proof_effort != "none"
        size = write_proof(args.proof, verdict.evidence, pack=pack)
        written = {"proof": str(args.proof), "proof_bytes": size}
    if isinstance(verdict.evidence, Witness) and args.witness is not None:
        write_witness(args.witness, verdict.evidence)
        written = {"witness_file": str(args.witness)}
    if args.json is not None:
        data = as_json(question, verdict) | written | {"seconds": time.monotonic() - start}
        with replacing(args.json) as stream:
            stream.write((json.dumps(data, indent=2) + "\n").encode())
    return written


def _bench_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="farkas bench",
        description="Verify a list of questions and print a table of the answers.",
    )
    parser.add_argument(
        "list",
        type=Path,
        metavar="FOLDER-or-INSTANCES.csv",
        help="a competition list (onnx,vnnlib,timeout), one with a header, or a folder "
        "that holds instances.csv",
    )
    parser.add_argument(
        "--timeout", type=positive, metavar="S", help="replaces the limits of the list"
    )
    parser.add_argument("--only", metavar="A,B", help="benchmarks to run, or parts of file names")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="results, evidence and table; resumed when run again",
    )
    parser.add_argument(
        "--memory", type=float, default=0.0, metavar="GB", help="of one query (default: 3/4 of all)"
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default) or cuda")
    _add_method(parser)
    _add_semantics(parser)
    _add_effort(parser)
    _add_settings(parser)
    return parser


def _bench(argv: Sequence[str], start: float) -> int:
    args = _bench_parser().parse_args(argv)
    from proofs.minimise import EFFORTS
    from verifier import bench
    from verifier.options import Options

    only = tuple(part for part in (args.only or "").split(",") if part)
    out = args.out or Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    from specs.perturbation import REAL, rounding_of

    semantics = args.semantics or REAL
    rounding_of(semantics)
    settings = bench.Settings(
        args.timeout,
        only,
        out,
        args.memory,
        args.device,
        _settings(args),
        semantics,
        args.proof_effort,
        args.method,
    )
    Options(method=settings.method)  # refused before anything runs
    if settings.proof_effort not in EFFORTS:
        raise InputError(f"proof effort '{args.proof_effort}': use one of {', '.join(EFFORTS)}")
    print(bench.run(args.list, settings, log=sys.stderr), end="")
    return 0
