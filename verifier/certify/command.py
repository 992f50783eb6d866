"""The command ``certify``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from proofs.format import replacing
from proofs.targets import check_targets
from specs.errors import InputError


def main(argv: Sequence[str]) -> int:
    """Run ``certify``; returns the exit code.

    Raises:
        InputError: usage, the configuration or something it names is at fault.
    """
    args = _parser().parse_args(list(argv[1:]))
    check_targets(args.json)
    from verifier.certify.config import load_config
    from verifier.certify.report import as_html, as_json, as_text
    from verifier.certify.run import EXIT_CODES, certify
    from verifier.certify.store import Store
    from verifier.progress import Progress

    progress = Progress()
    progress.stage("reading the configuration")
    try:
        config = load_config(args.config)
    finally:
        progress.clear()
    out = args.out or Path("runs") / args.config.stem
    try:
        out.mkdir(parents=True, exist_ok=True)
        outcome = certify(config, Store(out), progress)
        about = json.dumps(as_json(outcome), indent=1).encode()
        for file in filter(None, (out / "results.json", args.json)):
            with replacing(file) as stream:
                stream.write(about)
        with replacing(out / "report.html") as stream:
            stream.write(as_html(outcome).encode())
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
    parser.add_argument("--json", type=Path, metavar="F", help="write the outcome here as well")
    return parser
