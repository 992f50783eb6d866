"""The commands ``check`` and ``show``: what an auditor needs, without the search."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from proofs.check import Checked, check_file
from proofs.format import read_evidence, replacing
from proofs.proof import NodeKind, Proof
from proofs.statement import established, near, statement
from proofs.witness import Witness
from specs.errors import InputError
from specs.query import Query
from specs.question import load_question

CODES = {"valid unsat": 0, "valid sat": 1, "invalid": 2, "incomplete": 2, "unreadable": 3}


def main(argv: Sequence[str]) -> int:
    """Run ``argv[0]``, ``check`` or ``show``; returns the exit code.

    Raises:
        InputError: usage or a question is at fault.
    """
    command = {"check": _check, "show": _show}[argv[0]]
    return command(argv[1:])


def _check(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farkas check",
        description="Is the evidence valid for the question?  The first line printed is "
        "valid unsat, valid sat, invalid, incomplete or unreadable.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="QUESTION EVIDENCE",
        help="NET.onnx PROPERTY.vnnlib or QUESTION.toml, then the proof or witness",
    )
    parser.add_argument(
        "--arithmetic",
        choices=("outward", "exact"),
        default="outward",
        help="floats rounded outward (default), or integers",
    )
    parser.add_argument(
        "--expect",
        choices=("unsat", "sat"),
        help="exit with 0 for valid evidence of this kind, with 1 for valid evidence of the other",
    )
    parser.add_argument("--json", type=Path, metavar="F", help="write everything found")
    parser.add_argument(
        "--semantics", metavar="X", help="real (default), float32, float16 or bfloat16"
    )
    parser.add_argument("--timeout", type=_positive, metavar="S", help="seconds")
    parser.add_argument(
        "--processes",
        type=_count,
        metavar="N",
        help="for large proofs; the processors there are, by default",
    )
    args = parser.parse_args(argv)
    if len(args.files) not in (2, 3):
        raise InputError(
            "check takes a question (NET.onnx PROPERTY.vnnlib, or QUESTION.toml) "
            "and one evidence file"
        )
    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    *question, evidence = args.files
    query = load_question(*question, semantics=args.semantics)
    ticker = _Ticker()
    try:
        checked = check_file(
            query,
            evidence,
            arithmetic=args.arithmetic,
            deadline=deadline,
            progress=ticker,
            processes=args.processes,
        )
    finally:
        ticker.clear()
    if args.json is not None:
        _write_json(args.json, _report(query, checked, evidence))
    print(checked.verdict)
    print(established(query, checked))
    for line in statement(query):
        print(line)
    print(
        f"arithmetic: {checked.arithmetic}; {checked.leaves} leaves, "
        f"{checked.cpu_seconds:.2f} CPU seconds"
    )
    return exit_code(checked, args.expect)


def exit_code(checked: Checked, expect: str | None = None) -> int:
    """0 holds, 1 violated, 2 invalid or incomplete, 3 unreadable.

    With ``expect``: 0 for valid evidence of that kind, 1 for valid evidence of the other.
    """
    if checked.valid and expect is not None:
        return int(checked.verdict != f"valid {expect}")
    return CODES[checked.verdict]


def _report(query: Query, checked: Checked, evidence: str) -> dict[str, Any]:
    return {
        **asdict(checked),
        "evidence": evidence,
        "models": [model.digest for model in query.models],
        "property": query.property_digest,
        "semantics": query.semantics,
        "not_modelled": [] if query.rounding is None else list(query.rounding.not_modelled),
        "statement": [established(query, checked), *statement(query)],
    }


def _show(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farkas show", description="What is in a proof or a witness file."
    )
    parser.add_argument("file", metavar="FILE")
    args = parser.parse_args(argv)
    print("\n".join(shown(read_evidence(args.file))))
    return 0


def shown(evidence: Proof | Witness) -> list[str]:
    """What is in a proof or a witness, as lines of text that are safe for a terminal."""
    lines = _witness_lines(evidence) if isinstance(evidence, Witness) else _proof_lines(evidence)
    return [printable(line) for line in lines]


def printable(text: str) -> str:
    """A text without characters that a terminal may act upon: they are written as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _witness_lines(witness: Witness) -> list[str]:
    lines = [
        f"witness for question {witness.question}",
        f"claims: case {witness.case}, disjunct {witness.disjunct}, is violated at",
    ]
    return lines + [f"  x[{i}] = {x} = {near(x)}" for i, x in enumerate(witness.point)]


def _proof_lines(proof: Proof) -> list[str]:
    arrays = proof.arrays
    kinds = arrays["node_kind"]
    counts = {kind.name: int(np.count_nonzero(kinds == kind)) for kind in NodeKind}
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    lines = [
        f"proof for question {proof.question}",
        f"cases with hints: {arrays['case_number'].size}; all others have the empty proof",
        f"trees: {arrays['tree_case'].size}, nodes: {kinds.size}"
        + (f" ({listed})" if listed else ""),
        f"leaves: {proof.leaves}, of them open: {proof.holes}",
        f"bound steps: {arrays['step_target'].size}",
        f"substitutions: {arrays['sub_stop'].size}, with {arrays['multiplier_kind'].size} "
        f"multipliers and {arrays['block_tensor'].size} blocks of slopes",
        f"slopes: {arrays['slope'].size} of type {arrays['slope'].dtype}",
        f"tensors named: {', '.join(proof.tensors) or 'none'}",
        "arrays, in bytes:",
    ]
    sizes = sorted(((a.nbytes, name) for name, a in arrays.items() if a.size > 1), reverse=True)
    lines += [f"  {name}: {size}" for size, name in sizes]
    known = ("format", "version", "question", "tensors")
    lines += [f"{key}: {value!r:.200}" for key, value in proof.manifest.items() if key not in known]
    return lines


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        with replacing(path) as stream:
            stream.write((json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _positive(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number of seconds")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number")
    return value


class _Ticker:
    """Leaves checked so far, on a terminal's standard error."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._start = self._last = time.monotonic()

    def __call__(self, leaves: int) -> None:
        now = time.monotonic()
        if self._shown and now - self._last > 0.2:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{now - self._start:6.1f} s  {leaves} leaves checked")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
