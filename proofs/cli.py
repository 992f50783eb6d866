"""The commands ``check`` and ``show``: what an auditor needs, without the search."""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proofs.arrays import array_lines
from proofs.certificate import audit, certificate
from proofs.check import Checked, usable_processors
from proofs.claims import report_of
from proofs.folder import Report, check_pieces, pieces
from proofs.format import Evidence, read_evidence, replacing
from proofs.proof import NodeKind, Proof
from proofs.signature import KEY, content_hash, signatures
from proofs.statement import established, fault_in_words, made_for, near, statement
from proofs.targets import check_targets
from proofs.theorem import theorem
from proofs.witness import Witness
from specs.errors import EvidenceError, InputError
from specs.question import load_question

CODES = {"valid unsat": 0, "valid sat": 1, "invalid": 2, "incomplete": 2, "unreadable": 3}


def main(argv: Sequence[str]) -> int:
    """Run ``argv[0]``, ``check`` or ``show``; returns the exit code.

    Raises:
        InputError: usage or a question is at fault.
    """
    command = {"check": _check, "show": _show}[argv[0]]
    if isinstance(sys.stdout, io.TextIOWrapper):  # where it cannot print what mathematics needs
        sys.stdout.reconfigure(errors="backslashreplace")
    return command(argv[1:])


def _check(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farkas check",
        description="Is the evidence valid for the question?  The first line printed is "
        "valid unsat, valid sat, invalid, incomplete or unreadable.  Of a folder, each line "
        "begins so, and the last one is a summary.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="QUESTION EVIDENCE",
        help="NET.onnx PROPERTY.vnnlib or QUESTION.toml, then the proof or witness; or a FOLDER "
        "of both",
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
    parser.add_argument(
        "--json", type=Path, metavar="F", help="write a certificate (docs/certificate.md)"
    )
    parser.add_argument(
        "--semantics", metavar="X", help="real (default), float32, float16 or bfloat16"
    )
    parser.add_argument(
        "--timeout", type=positive, metavar="S", help="seconds; of a folder, for each piece"
    )
    parser.add_argument(
        "--processes",
        type=_count,
        metavar="N",
        help="for large proofs and for folders; the processors there are, by default",
    )
    parser.add_argument(
        "--questions",
        type=Path,
        metavar="FOLDER",
        help="of a folder of evidence: where the questions that its evidence.csv names lie",
    )
    args = parser.parse_args(argv)
    check_targets(args.json)
    if len(args.files) == 1 and Path(args.files[0]).is_dir():
        return _check_folder(Path(args.files[0]), args)
    if len(args.files) not in (2, 3) or args.questions is not None:
        raise InputError(
            "check takes a question (NET.onnx PROPERTY.vnnlib, or QUESTION.toml) and one "
            "evidence file; or a folder of both, if wanted with --questions"
        )
    *question, evidence = args.files
    report = report_of(question)
    if report is not None:
        return _check_claim(report, question[0], evidence, args)
    query = load_question(*question, semantics=args.semantics)
    ticker = _Ticker()
    try:
        found = audit(
            query,
            evidence,
            arithmetic=args.arithmetic,
            timeout=args.timeout,
            progress=lambda leaves: ticker(f"{leaves} leaves checked"),
            processes=args.processes,
        )
    finally:
        ticker.clear()
    checked = found.checked
    if args.json is not None:
        _write_json(args.json, certificate(found))
    lines = [established(query, checked), *statement(query)]
    if isinstance(found.evidence, Proof):
        lines += _signature_lines(found.evidence)
    print(checked.verdict)
    for line in lines:
        print(printable(line))
    print(
        f"arithmetic: {checked.arithmetic}; {checked.leaves} leaves, "
        f"{checked.cpu_seconds:.2f} CPU seconds"
    )
    return exit_code(checked, args.expect)


def _check_claim(report: Any, question: str, evidence: str, args: argparse.Namespace) -> int:
    if args.semantics is not None:
        raise InputError(f"{question}: a claim of this kind has no --semantics; leave it out")
    ticker = _Ticker()
    try:
        found = report.audit_claim(
            question,
            evidence,
            args.timeout,
            args.arithmetic,
            lambda leaves: ticker(f"{leaves} leaves checked"),
        )
    finally:
        ticker.clear()
    if args.json is not None:
        _write_json(args.json, report.claim_certificate(found))
    print(found.checked.verdict)
    for line in report.lines_of(found):
        print(printable(line))
    print(f"arithmetic: {found.checked.arithmetic}; {found.checked.cpu_seconds:.2f} CPU seconds")
    return exit_code(found.checked, args.expect)


def _check_folder(folder: Path, args: argparse.Namespace) -> int:
    listed = pieces(folder, args.questions)
    ticker = _Ticker()
    ended = 0

    def done(report: Report) -> None:
        nonlocal ended
        ended += 1
        ticker.clear()
        print(printable(report.line()), flush=True)
        ticker(f"{ended} of {len(listed)} checked")

    try:
        reports = check_pieces(
            listed,
            usable_processors() if args.processes is None else args.processes,
            arithmetic=args.arithmetic,
            expect=args.expect,
            semantics=args.semantics,
            timeout=args.timeout,
            done=done,
        )
    finally:
        ticker.clear()
    if args.json is not None:
        _write_json(args.json, [report.cells() for report in reports])
    tally = Counter(report.verdict for report in reports)
    unexpected = sum(report.code == 1 for report in reports)
    words = [f"{count} {verdict}" for verdict, count in sorted(tally.items())]
    words += [f"{unexpected} of the kind that was not expected"] if unexpected else []
    measured = sum(report.statistical for report in reports)
    words += [f"{measured} of these statistical, not proved"] if measured else []
    print(f"{len(reports)} checked: {', '.join(words)}")
    return max(report.code for report in reports)


def exit_code(checked: Checked, expect: str | None = None) -> int:
    """0 holds, 1 violated, 2 invalid or incomplete, 3 unreadable.

    With ``expect``: 0 for valid evidence of that kind, 1 for valid evidence of the other.
    """
    if checked.valid and expect is not None:
        return int(checked.verdict != f"valid {expect}")
    return CODES[checked.verdict]


def _show(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farkas show",
        description="What is in a proof or a witness; or, of a question, the theorem that it asks "
        "about.  A question may be followed by evidence: both are shown.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a proof or a witness; or NET.onnx PROPERTY.vnnlib or QUESTION.toml, and if wanted "
        "a proof or a witness",
    )
    parser.add_argument(
        "--statement", action="store_true", help="the theorem alone, in readable mathematics"
    )
    parser.add_argument("--full", action="store_true", help="leave nothing out of the theorem")
    parser.add_argument(
        "--hash", action="store_true", help="print the hash of the evidence's content alone"
    )
    parser.add_argument(
        "--semantics", metavar="X", help="real (default), float32, float16 or bfloat16"
    )
    args = parser.parse_args(argv)
    question, evidence = _told_apart(args.files)
    if args.hash and (question or evidence is None):
        raise InputError("show --hash takes one file, a proof or a witness")
    if not question and (args.statement or args.full or args.semantics is not None):
        raise InputError(
            "show --statement, --full and --semantics need a question: NET.onnx "
            "PROPERTY.vnnlib or QUESTION.toml, before the evidence if there is any"
        )
    read = None if evidence is None else read_evidence(evidence)
    report = report_of(question)
    if report is not None:
        print("\n".join(map(printable, report.claim_shown(question[0], read))))
        return 0
    query = load_question(*question, semantics=args.semantics) if question else None
    if read is not None and args.hash:
        print(content_hash(read))
        return 0
    lines = [] if query is None else theorem(query, full=args.full)
    if query is not None and read is not None:
        lines += ["", made_for(query.digest, read)]
    if read is not None and not args.statement:
        lines += [*([""] if lines else []), *shown(read)]
    print("\n".join(map(printable, lines)))
    return 0


def _told_apart(files: list[str]) -> tuple[list[str], str | None]:
    """The files of a question, if any, and the evidence, if any."""
    count = 1 if files[0].endswith(".toml") else 2
    if len(files) == 1 and count == 2:
        return [], files[0]
    if len(files) > count + 1:
        raise InputError(
            "show takes evidence, or a question (NET.onnx PROPERTY.vnnlib, or QUESTION.toml) "
            "and if wanted evidence"
        )
    return files[:count], (files[count] if len(files) > count else None)


def shown(evidence: Evidence) -> list[str]:
    """What is in evidence, as lines of text that are safe for a terminal."""
    if isinstance(evidence, Witness):
        lines = _witness_lines(evidence)
    else:
        lines = _proof_lines(evidence) if isinstance(evidence, Proof) else array_lines(evidence)
    return [
        printable(line) for line in (lines[0], f"content: {content_hash(evidence)}", *lines[1:])
    ]


def printable(text: str) -> str:
    """A text without characters that a terminal may act upon: they are written as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _witness_lines(witness: Witness) -> list[str]:
    lines = [
        f"witness for question {witness.question}",
        f"claims: case {witness.case}, disjunct {witness.disjunct}, is violated at",
    ]
    lines += [f"  x[{i}] = {x} = {near(x)}" for i, x in enumerate(witness.point)]
    return lines + [f"  with {fault_in_words(fault)}" for fault in witness.faults]


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
    lines += _signature_lines(proof)
    known = ("format", "version", "question", "tensors", KEY)
    lines += [f"{key}: {value!r:.200}" for key, value in proof.manifest.items() if key not in known]
    return lines


def _signature_lines(proof: Proof) -> list[str]:
    try:
        listed = signatures(proof)
        content = content_hash(proof) if listed else ""
    except EvidenceError as error:
        return [f"signatures: {error}"]
    return [
        f"signature carried, not verified: by {each.by}, {each.scheme}, over "
        + ("this content" if each.over == content else f"ANOTHER content, {each.over}")
        for each in listed
    ]


def _write_json(path: Path, content: Any) -> None:
    try:
        with replacing(path) as stream:
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            stream.write(text.encode(errors="backslashreplace"))  # JSON's own escapes
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def positive(text: str) -> float:
    """A positive number of seconds, for argparse."""
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
    """What has been done so far, on a terminal's standard error."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._start = self._last = time.monotonic()

    def __call__(self, done: str) -> None:
        now = time.monotonic()
        if self._shown and now - self._last > 0.2:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{now - self._start:6.1f} s  {done}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
