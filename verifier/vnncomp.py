"""One instance as VNN-COMP runs it: files and a time limit in, a results file out.

The results file begins with ``unsat``, ``sat``, ``unknown``, ``timeout`` or ``error``; after
``sat`` comes the counterexample, in the format that belongs to the property's version.  The scripts
in ``vnncomp/`` call this module.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from proofs.format import replacing
from specs.errors import FarkasError, InputError

if TYPE_CHECKING:
    from specs.query import Query
    from verifier.verdict import Verdict

EARLY = 2.0
"""Seconds before the limit at which the search stops: writing and leaving take time, too."""

STARTED = "FARKAS_STARTED"
"""The environment variable that says when the script was called, in seconds since the epoch."""

EVIDENCE = "FARKAS_EVIDENCE"
"""The environment variable that names a folder for proofs and witnesses."""

_VERSION_2 = re.compile(r"\s*(?:;[^\n]*\n\s*)*\(vnnlib-version\s+<2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run an instance, or with ``--prepare`` say what hinders that; returns the exit code."""
    started = float(os.environ.get(STARTED, time.time()))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    args = _parser().parse_args(argv)
    try:
        model = single_model(args.onnx)
        if args.prepare:
            _present(model)
            _present(Path(args.vnnlib))
            return 0
    except InputError as error:
        print(error, file=sys.stderr)
        if not args.prepare:  # else 0, too: a failure there would end the whole benchmark
            _write(args.results, "unknown\n")
        return 0
    if args.results is None or args.timeout is None:
        print("a results file and a time limit are needed", file=sys.stderr)
        return 1
    _write(args.results, "timeout\n")  # what stands there if this process is ended
    _write(args.results, _answer(model, Path(args.vnnlib), started + args.timeout, args.category))
    return 0


def single_model(field: str) -> Path:
    """The model's path: given as it is, or as a list of one pair of a name and a path.

    Raises:
        InputError: several networks.
    """
    if not field.lstrip().startswith("["):
        return Path(field)
    try:
        pairs = [(str(name), str(path)) for name, path in ast.literal_eval(field)]
    except (SyntaxError, ValueError, TypeError):
        raise InputError(f"no list of names and paths of networks: {field}") from None
    if len(pairs) != 1:
        raise InputError(f"{len(pairs)} networks: properties of one network are supported")
    return Path(pairs[0][1])


def _answer(model: Path, stated: Path, deadline: float, category: str) -> str:
    """The content of the results file; the deadline counts from the epoch."""
    from specs.errors import MissingExtraError
    from specs.question import load_question
    from specs.source import read_source
    from verifier.options import Options
    from verifier.verify import verify

    try:
        query = load_question(model, stated)
        left = deadline - EARLY - time.time()
        if left <= 0:
            return "timeout\n"
        verdict = verify(query, Options(left, proof_effort="none"))
        print(verdict.reason, file=sys.stderr)
        _keep(verdict, f"{category}_{model.stem}_{stated.stem}")
        if verdict.answer != "sat":
            return f"{verdict.answer}\n"
        return "sat\n" + counterexample(query, verdict, read_source(stated)[0].text)
    except MissingExtraError as error:
        print(error, file=sys.stderr)
        return "error\n"
    except InputError as error:
        print(error, file=sys.stderr)
        return "unknown\n"  # what cannot be read cannot be decided; nothing went wrong
    except (FarkasError, MemoryError, ArithmeticError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return "error\n"


def counterexample(query: Query, verdict: Verdict, text: str) -> str:
    """The float32 input that was replayed, and the outputs there, as the rules want them written.

    Args:
        query: the question.
        verdict: ``sat``, with witness and replay.
        text: of the property, whose version decides the format: ``((X_0 0.5) ... (Y_0 1.5))`` for
            1.0; for 2.0 each declared tensor with type and shape, its entries below, a line each.
    """
    from proofs.witness import Witness
    from verifier.attack_targets import rounded_to_float32

    if not isinstance(verdict.evidence, Witness) or verdict.replay is None:
        raise FarkasError("a violation without a replayed witness")
    inputs = [float(value) for value in rounded_to_float32(verdict.evidence.point)]
    lines = _version_2 if _VERSION_2.match(text) else _version_1
    return "\n".join(lines(text, inputs, verdict.replay.outputs)) + "\n"


def _version_1(text: str, inputs: Sequence[float], outputs: Sequence[float]) -> Iterator[str]:
    pairs = [f"(X_{k} {value!r})" for k, value in enumerate(inputs)]
    pairs += [f"(Y_{k} {value!r})" for k, value in enumerate(outputs)]
    pairs[0], pairs[-1] = f"({pairs[0]}", f"{pairs[-1]})"
    yield from pairs


def _version_2(text: str, inputs: Sequence[float], outputs: Sequence[float]) -> Iterator[str]:
    import math

    import vnnlib

    (declared,) = vnnlib.parse_query_string(text).networks
    for definitions, values in ((declared.inputs, inputs), (declared.outputs, outputs)):
        start = 0
        for definition in definitions:
            kind = str(definition).split()[2]
            size = math.prod(definition.shape)
            yield f"{definition.name} {kind} [{','.join(map(str, definition.shape))}]"
            yield from map(repr, values[start : start + size])
            start += size


def _keep(verdict: Verdict, name: str) -> None:
    from proofs.format import write_proof, write_witness
    from proofs.proof import Proof
    from proofs.witness import Witness

    if EVIDENCE not in os.environ:
        return
    folder = Path(os.environ[EVIDENCE])
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(verdict.evidence, Proof):
        write_proof(folder / f"{name}.farkas", verdict.evidence)
    elif isinstance(verdict.evidence, Witness):
        write_witness(folder / f"{name}.witness.json", verdict.evidence)


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())


def _present(path: Path) -> None:
    if not path.is_file() and not path.with_name(path.name + ".gz").is_file():
        raise InputError(f"{path}: there is no such file")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m verifier.vnncomp", description=__doc__)
    parser.add_argument("category", help="the benchmark; it changes nothing")
    parser.add_argument("onnx", help="a model, or a list [('NAME', 'PATH')] of one")
    parser.add_argument("vnnlib", help="a property")
    parser.add_argument("results", nargs="?", type=Path, help="the results file")
    parser.add_argument("timeout", nargs="?", type=float, help="seconds")
    parser.add_argument(
        "--prepare", action="store_true", help="say only what hinders an answer, if anything does"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
