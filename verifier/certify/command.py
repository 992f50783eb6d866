"""The command ``certify``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from proofs.format import replacing
from proofs.targets import check_targets
from specs.errors import InputError

if TYPE_CHECKING:
    from verifier.certify.workbench import Crew


def main(argv: Sequence[str]) -> int:
    """Run ``certify``; returns the exit code.

    Raises:
        InputError: usage, the configuration or something it names is at fault.
    """
    args = _parser().parse_args(list(argv[1:]))
    check_targets(args.json, args.junit, args.sarif)
    from verifier.certify.config import device_here, load_config
    from verifier.certify.exchange import as_junit, as_sarif
    from verifier.certify.report import as_html, as_json, as_text
    from verifier.certify.run import EXIT_CODES, certify
    from verifier.certify.store import Store
    from verifier.progress import Progress

    progress = Progress()
    progress.stage("reading the configuration")
    try:
        config = load_config(args.config)
        if args.ray is None:  # a cluster's machines may have what this one has not
            device_here(config)
    finally:
        progress.clear()
    out = args.out or Path("runs") / args.config.stem
    try:
        out.mkdir(parents=True, exist_ok=True)
        outcome = certify(config, Store(out), progress, _crew(args, out))
        about = json.dumps(as_json(outcome), indent=1).encode()
        for file in filter(None, (out / "results.json", args.json)):
            with replacing(file) as stream:
                stream.write(about)
        if args.junit is not None:
            with replacing(args.junit) as stream:
                stream.write(as_junit(outcome).encode())
        if args.sarif is not None:
            with replacing(args.sarif) as stream:
                stream.write(as_sarif(outcome, args.config, Path.cwd()).encode())
        with replacing(out / "report.html") as stream:
            stream.write(as_html(outcome, out / "plots.json").encode())
    except OSError as error:
        where = error.filename or out
        raise InputError(f"cannot write {where}: {error.strerror or error}") from error
    print(outcome.verdict)
    print(outcome.title)
    print("\n".join(as_text(outcome)))
    print()
    print(f"report: {out / 'report.html'}")
    print(f"{outcome.seconds:.2f} s; {outcome.done} results made, {outcome.found} kept from before")
    return EXIT_CODES[outcome.verdict]


def _crew(args: argparse.Namespace, out: Path) -> Crew | None:
    """The processes that do the tasks; ``None``: this one."""
    from verifier.certify.workbench import SPLIT_AFTER

    if args.processes is not None and args.processes < 1:
        raise InputError(f"--processes {args.processes}: it must be at least 1")
    if args.gpus is not None and not args.gpus > 0:
        raise InputError(f"--gpus {args.gpus:g}: it must be positive")
    after = SPLIT_AFTER if args.split_after is None else args.split_after
    if not after > 0:
        raise InputError(f"--split-after {after:g}: it must be positive")
    if args.ray is not None:
        from verifier.certify.cluster import Cluster

        return Cluster(args.config, out, args.ray, args.processes, args.gpus, after)
    if args.gpus is not None:
        raise InputError("--gpus goes with --ray")
    if args.split_after is not None and args.processes in (None, 1):
        raise InputError("--split-after goes with --processes above 1, or --ray")
    if args.processes in (None, 1):
        return None
    from verifier.certify.processes import Processes

    return Processes(args.config, out, args.processes, after)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="farkas certify",
        description="Answers the questions of a configuration about models and data sets, and "
        "judges its thresholds.  The first line printed is proved, refuted, undecided, supported "
        "or contradicted (where sampling decides), or reported where no threshold is stated.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="see docs/certify.md")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where results, evidence and report go; runs/CONFIG where left out.  Results that "
        "lie there already are not computed again",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="worker processes on this machine; with --ray local, its CPUs",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="do the tasks on a Ray cluster, see docs/scale.md; local starts one here",
    )
    parser.add_argument(
        "--gpus",
        type=float,
        metavar="G",
        help="GPUs of the cluster that each task takes, or a part",
    )
    parser.add_argument(
        "--split-after",
        type=float,
        metavar="S",
        help="seconds of branch and bound after which a question is divided among the processes, "
        "5 where left out",
    )
    parser.add_argument("--json", type=Path, metavar="F", help="write the outcome here as well")
    parser.add_argument(
        "--junit", type=Path, metavar="F", help="write thresholds and questions as JUnit's XML"
    )
    parser.add_argument(
        "--sarif", type=Path, metavar="F", help="write what is not proved as SARIF 2.1.0"
    )
    return parser
