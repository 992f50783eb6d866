"""The command ``explain``.

It stands here, not beside ``check``, since it draws: pictures are the verifier's, and
``proofs`` imports nothing of it.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proofs.targets import check_targets
from specs.errors import InputError

if TYPE_CHECKING:
    from proofs.explain import Explanation
    from proofs.features import Layout
    from specs.query import Query

LISTED = 20
"""Features that are printed; all of them are in the JSON."""


def main(argv: Sequence[str]) -> int:
    """Run ``explain``; returns the exit code.

    Raises:
        InputError: usage, the question or the proof is at fault.
    """
    start = time.monotonic()
    args = _parser().parse_args(list(_joined(argv[1:])))
    if len(args.files) not in (2, 3):
        raise InputError(
            "explain takes a question (NET.onnx PROPERTY.vnnlib, or QUESTION.toml) and one proof"
        )
    _check_options(args)
    from proofs.features import layout
    from proofs.format import read_evidence
    from proofs.proof import Proof
    from proofs.tree import DeadlineError
    from specs.question import load_question

    deadline = None if args.timeout is None else start + args.timeout
    *files, evidence = args.files
    query = load_question(*files, semantics=args.semantics)
    proof = read_evidence(evidence)
    if not isinstance(proof, Proof):
        raise InputError(f"{evidence}: a witness explains itself; explain takes a proof")
    image = None if args.shape == "table" else layout(query.network, args.shape)
    try:
        found = _explain(args, query, proof, image, deadline)
    except DeadlineError as error:
        print(f"timeout\n{error}")
        return 2
    _write(args, query, found, image)
    print("\n".join(_lines(query, found)))
    return 0 if found.minimal else 2


def _joined(argv: Sequence[str]) -> Iterator[str]:
    """``--domain -1,1`` as one word, which argparse would take for two options."""
    words = iter(argv)
    for word in words:
        yield f"{word}={next(words, '')}" if word == "--domain" else word


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="farkas explain",
        description="What does a proof rest on?  A subset-minimal set of neurons of a layer, or "
        "of inputs: the proof still checks where the others are replaced by intervals.  The "
        "first line printed is minimal, not minimal or timeout.",
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="QUESTION PROOF",
        help="NET.onnx PROPERTY.vnnlib or QUESTION.toml, then the proof",
    )
    add(
        "--layer",
        metavar="L",
        help="a tensor's name, or a number among the layers of neurons, 1 the first and -1 the "
        "last; by default the last before the outputs",
    )
    add("--inputs", action="store_true", help="explain by inputs instead")
    add(
        "--regions",
        type=_size,
        metavar="HxW",
        help="explain by rectangles of so many pixels; implies --inputs",
    )
    add(
        "--domain",
        type=_domain,
        metavar="LOW,HIGH",
        help="what values a dropped input may take; by default those of all cases' regions",
    )
    add(
        "--shape",
        type=_shape,
        metavar="CxHxW",
        help="the image that the input is, or table if it is none; guessed by default",
    )
    add("--picture", type=Path, metavar="F", help="draw it (.png, .svg or .pdf)")
    add("--tree", type=Path, metavar="F", help="draw the explanation's tree of splits (.svg)")
    add("--out", type=Path, metavar="F", help="write the explanation, which is a proof")
    add(
        "--property",
        type=Path,
        metavar="F",
        help="with --inputs: write the wider property that the explanation proves (.vnnlib)",
    )
    add("--json", type=Path, metavar="F", help="write everything found")
    add("--timeout", type=_positive, metavar="S", help="seconds; then the best found so far")
    add("--semantics", metavar="X", help="real (default), float32, float16 or bfloat16")
    return parser


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what makes no sense before any work starts."""
    args.inputs = args.inputs or args.regions is not None
    if args.inputs and args.layer is not None:
        raise InputError("--layer is for neurons, --inputs and --regions are for inputs: say one")
    for name in ("domain", "property"):
        if getattr(args, name) is not None and not args.inputs:
            raise InputError(f"--{name} is for explanations by inputs: say --inputs or --regions")
    if args.inputs and args.out is not None and args.property is None:
        raise InputError(
            "--out writes a proof of a wider question: say with --property where to write it"
        )
    if args.picture is not None:
        from verifier.pictures import require_matplotlib

        require_matplotlib(args.picture)
    if args.tree is not None and args.tree.suffix != ".svg":
        raise InputError(f"--tree {args.tree}: the tree is drawn as .svg")
    check_targets(args.picture, args.tree, args.out, args.property, args.json)


def _explain(
    args: argparse.Namespace,
    query: Query,
    proof: Any,
    image: Layout | None,
    deadline: float | None,
) -> Explanation:
    from proofs.explain import explain_inputs, explain_neurons
    from proofs.features import single_inputs
    from verifier.progress import Progress

    shown = Progress()

    def progress(asked: int, left: int) -> None:
        shown.stage(f"{left} features left, {asked} checks")

    shown.stage("checking the proof")
    try:
        if not args.inputs:
            layer = args.layer
            if layer is not None and re.fullmatch(r"-?\d+", layer):
                named = layer in query.network.tensors
                layer = layer if named else int(layer)
            return explain_neurons(query, proof, layer, deadline=deadline, progress=progress)
        features = single_inputs(query.network)
        if args.regions is not None:
            if image is None:
                raise InputError("the input is no image as far as can be told: say --shape CxHxW")
            features = image.features(*args.regions)
        return explain_inputs(
            query, proof, features, args.domain, deadline=deadline, progress=progress
        )
    finally:
        shown.clear()


def _write(
    args: argparse.Namespace, query: Query, found: Explanation, image: Layout | None
) -> None:
    from proofs.format import replacing, write_proof

    if args.property is not None and found.text is None:
        raise InputError(
            f"cannot write {args.property}: VNN-LIB would state the wider property as other cases"
        )
    texts: list[tuple[Path | None, str]] = [(args.property, found.text or "")]
    if args.json is not None:
        texts.append((args.json, json.dumps(report(found), indent=2) + "\n"))
    if args.tree is not None:
        from proofs.probe import survey
        from verifier.pictures.tree import tree_svg

        seen = survey(found.query, found.proof)
        texts.append((args.tree, tree_svg(found.query, found.proof, seen)))
    try:
        if args.out is not None:
            write_proof(args.out, found.proof)
        for path, text in texts:
            if path is not None:
                with replacing(path) as stream:
                    stream.write(text.encode())
        if args.picture is not None:
            from verifier.pictures.explanation import draw

            with replacing(args.picture) as stream:
                draw(query, found, image, stream, args.picture.suffix[1:])
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror or error}") from error


def report(found: Explanation) -> dict[str, Any]:
    """Everything about an explanation, for JSON."""
    falls = dict(zip(found.kept, found.falls, strict=True))
    return {
        "kind": found.kind,
        "layer": found.layer,
        "features": len(found.features),
        "minimal": found.minimal,
        "kept": [
            {
                "name": found.features[k].name,
                "entries": list(found.features[k].entries),
                "fall": falls[k] if isfinite(falls[k]) else None,
            }
            for k in found.kept
        ],
        "dropped": [f.name for k, f in enumerate(found.features) if k not in falls],
        "slack": found.slack if isfinite(found.slack) else None,
        "question": found.query.digest,
        "property": found.query.property_digest,
        "asked": found.asked,
        "seconds": found.seconds,
        "check_seconds": found.check_seconds,
    }


def _lines(query: Query, found: Explanation) -> list[str]:
    what = f"neurons of {found.layer}" if found.layer is not None else "groups of inputs"
    if found.layer is None and all(len(f.entries) == 1 for f in found.features):
        what = "inputs"
    kept, every = len(found.kept), len(found.features)
    lines = [
        "minimal" if found.minimal else "not minimal",
        f"{query.title}: the proof rests on {kept} of {every} {what}"
        + ("" if found.minimal else "; whether fewer would do was not settled in time"),
    ]
    pairs = zip(found.falls, found.kept, strict=True)
    known = sorted((pair for pair in pairs if not isnan(pair[0])), key=lambda pair: -pair[0])
    for fall, k in known[:LISTED]:
        lines.append(f"    {found.features[k].name}: slack falls by {fall:.4g} without it")
    if kept > len(known[:LISTED]):
        lines.append(f"    {kept - len(known[:LISTED])} more")
    lines.append(
        f"slack {found.slack:.4g}; {found.asked} checks in {found.seconds:.2f} s; "
        f"the proof given takes {found.check_seconds:.2f} s"
    )
    return lines


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: must be HxW, as in 4x4")
    return int(match[1]), int(match[2])


def _shape(text: str) -> tuple[int, int, int] | str:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})x(\d{1,6})", text)
    if text == "table":
        return text
    if match is None:
        raise argparse.ArgumentTypeError(f"{text}: must be CxHxW, as in 1x28x28, or table")
    return int(match[1]), int(match[2]), int(match[3])


def _domain(text: str) -> tuple[Fraction, Fraction]:
    from specs.decimals import parse_decimal

    parts = text.split(",")
    try:
        low, high = map(parse_decimal, parts)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be LOW,HIGH, as in 0,1") from None
    return low, high


def _positive(text: str) -> float:
    from verifier.cli import positive

    return positive(text)
