"""The command ``harden``: range restrictions in a model, and the proof that they change nothing."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proofs.targets import check_targets
from specs.errors import InputError


def main(argv: Sequence[str]) -> int:
    """Run ``harden``; returns the exit code.

    Raises:
        InputError: usage, model, configuration or data are at fault.
    """
    start = time.monotonic()
    args = _parser().parse_args(argv[1:])
    if args.check:
        return _check(args)
    if args.out is None:
        raise InputError("say where to write the hardened model: -o HARDENED.onnx")
    if args.semantics is not None:
        raise InputError("--semantics goes with --check; the configuration states its own")
    check_targets(args.out, args.json)
    if args.out.suffix != ".onnx":
        raise InputError(f"-o {args.out}: models are written as .onnx")
    if args.out.exists() and args.out.samefile(args.net):
        raise InputError(f"-o {args.out}: it is the model itself; say another name")
    from specs.onnx_reader import read_model
    from verifier.harden.config import read_config
    from verifier.harden.files import contents, stale
    from verifier.harden.harden import NotProvedError, harden
    from verifier.progress import Progress

    progress = Progress()
    try:
        config = read_config(args.second)
        _, model = read_model(args.net)
        made = harden(model, config, progress)
    except NotProvedError as error:
        print(f"unknown\n{error}")
        return 2
    finally:
        progress.clear()
    files = contents(args.out, made)
    check_targets(*files, args.json)
    report = made.report | {"files": [str(path) for path in files]}
    _write(files, args.json, report)
    for path in stale(args.out, files):
        path.unlink()
    print("\n".join(_lines(report, time.monotonic() - start)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="farkas harden",
        description="Put range restrictions behind the activations of a model.  The first line "
        "printed is certified (no restriction changes a value on the domain; the proof is "
        "written), hardened, or unknown (nothing is written).",
    )
    add = parser.add_argument
    add("net", type=Path, metavar="NET.onnx", help="the model")
    add("second", type=Path, metavar="CONFIG.toml", help="what to do (docs/harden.md)")
    add("-o", "--out", type=Path, metavar="F", help="write the hardened model here (.onnx)")
    add("--json", type=Path, metavar="F", help="write the report: bounds, agreement, files")
    add(
        "--check",
        action="store_true",
        help="NET.onnx HARDENED.onnx: check the proof that lies beside a certified model, and "
        "that it is about this model and these bounds",
    )
    add("--semantics", metavar="X", help="with --check: of the theorem; real where left out")
    return parser


def _check(args: argparse.Namespace) -> int:
    from verifier.harden.files import check_hardened

    if args.out is not None or args.json is not None:
        raise InputError("--check writes nothing: leave out -o and --json")
    found = check_hardened(args.net, args.second, args.semantics)
    print(found.verdict)
    print(f"{args.second}: {found.restrictions} restrictions; {found.reason}")
    return 0 if found.verdict == "valid unsat" else 2


def _write(files: Mapping[Path, bytes], target: Path | None, report: dict[str, Any]) -> None:
    from proofs.format import replacing

    everything = dict(files)
    if target is not None:
        everything[target] = (json.dumps(report, indent=2) + "\n").encode()
    try:
        for path, content in everything.items():
            with replacing(path) as stream:
                stream.write(content)
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from error


def _lines(report: dict[str, Any], seconds: float) -> list[str]:
    """What is printed."""
    found = ["certified" if report["theorem"] else "hardened", report["scheme"]]
    for each in report["restrictions"]:
        sides = [
            f"{side} {values['least']:.6g}"
            + (f" to {values['greatest']:.6g} ({values['count']})" if values["count"] > 1 else "")
            for side, values in each.items()
            if side in ("lower", "upper")
        ]
        found.append(f"{each['tensor']}: {each['action']}, {', '.join(sides)}")
    if report["theorem"]:
        found.append(f"theorem: {report['theorem']}")
    if report["note"]:
        found.append(f"note: {report['note']}")
    if "agreement" in report:
        found += _agreement(report["agreement"])
    found += [f"written: {path}" for path in report["files"]]
    found.append(f"{seconds:.2f} s")
    return found


def _agreement(given: dict[str, Any]) -> list[str]:
    real, runtime = given["real"], given["onnxruntime"]
    found = [
        f"of {real['samples']} samples: {real['untouched']} untouched by any restriction, "
        f"{real['changed']} changed predictions, {real['unsure']} without a certain one"
    ]
    if real["right"] >= 0:
        found.append(f"right: {real['right_before']} before, {real['right']} after")
    found.append(
        f"in onnxruntime: {runtime['identical']} of {runtime['samples']} bit for bit the same, "
        f"{runtime['changed']} changed predictions"
    )
    boxes = given.get("boxes")
    if isinstance(boxes, dict):
        found.append(
            f"boxes of radius {boxes['radius']}: untouched in {len(boxes['proved'])} of "
            f"{boxes['boxes']}, proved"
        )
    return found
