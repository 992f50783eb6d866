"""Damaged, hostile and lying evidence, as much of it as time allows.

    python -m benchmarks.fuzz --seconds 900 --seed 1 --keep findings

Small questions whose answer is known are asked (``benchmarks/fuzz_questions.py``), and evidence
for and against them is changed in many ways (``benchmarks/fuzz_mutations.py``).  Whatever the
readers and the kernel make of it,

- nothing but a verdict or an ``EvidenceError`` comes out, within 20 CPU seconds, and the process
  grows by at most 600 MiB;
- nothing proves what is violated, and no witness violates what holds;
- reading a file twice gives the same, and so does writing what was read and reading it again;
  packed, too, where it is well-formed;
- what ``show`` prints is text that is safe for a terminal.

Input ``N`` of a seed is the same in every run: ``--replay N`` repeats it alone.  ``--keep``
writes inputs that break a rule to a folder.
"""

from __future__ import annotations

import argparse
import ast
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import FrameType

import numpy as np

from benchmarks.fuzz_mutations import OF_PROOFS, changed_arrays, changed_witness
from benchmarks.fuzz_questions import Known, known
from proofs import format as files
from proofs.check import ARITHMETICS, check_proof, check_witness
from proofs.cli import shown
from proofs.proof import Proof
from proofs.signature import content_hash
from proofs.squares import with_squares_of
from proofs.tables import Tables
from proofs.witness import Witness
from specs.errors import EvidenceError

SECONDS, GROWTH = 20.0, 600 << 20
"""CPU seconds that one input may take, and bytes that the process may grow by."""
EACH = 60
"""Inputs for each question."""
READERS = ("format.py", "archive.py", "planes.py", "packing.py", "tables.py", "squares.py")


class TooLongError(BaseException):
    """An input takes longer than any may; no handler of errors stops it."""


@dataclass(frozen=True)
class Finding:
    """An input that breaks a rule.

    Attributes:
        number: of the input.
        rule: which one: ``soundness``, ``crash``, ``time``, ``memory``, ``reading``, ``show``.
        what: in words, or a traceback.
    """

    number: int
    rule: str
    what: str


@dataclass
class Fuzzer:
    """Tries inputs and keeps count.

    Attributes:
        seed: inputs depend on it and on their number alone.
        each: inputs for each question.
        keep: where inputs that break a rule are written.
        outcomes: how often each came, by what was changed.
        sites: places in the readers that refused something.
        findings: inputs that break a rule.
        tried: how many inputs.
    """

    seed: int
    each: int = EACH
    keep: Path | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    sites: set[tuple[str, int]] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    tried: int = 0
    _known: tuple[int, Known] | None = None

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="farkas-fuzz-")

    @property
    def _folder(self) -> Path:
        return Path(self._temporary.name)

    def run(self, numbers: Iterator[int]) -> None:
        """Try the inputs with these numbers."""
        for number in numbers:
            self.attempt(number)

    def attempt(self, number: int) -> str:
        """Try one input; returns what came of it."""
        stated = self._question(number // self.each)
        before, started = _resident(), time.process_time()
        try:
            with _limit(SECONDS):
                rule, outcome = self._one(number, stated)
        except TooLongError:
            rule, outcome = "time", f"more than {SECONDS:.0f} CPU seconds"
        except Exception:
            rule, outcome = "crash", traceback.format_exc()
        if not rule and time.process_time() - started > SECONDS:
            rule, outcome = "time", f"more than {SECONDS:.0f} CPU seconds"
        if not rule and _resident() - before > GROWTH:
            rule, outcome = "memory", f"grew by {(_resident() - before) >> 20} MiB"
        if rule:
            self.findings.append(Finding(number, rule, outcome))
            self._keep(number, rule, outcome)
            outcome = f"FINDING: {rule}"
        self.outcomes[outcome] += 1
        self.tried += 1
        return outcome

    def _question(self, number: int) -> Known:
        if self._known is None or self._known[0] != number:
            self._known = number, known(number, self.seed)
        return self._known[1]

    def _one(self, number: int, stated: Known) -> tuple[str, str]:
        """The rule that is broken, if any, and the outcome."""
        rng = np.random.default_rng([self.seed, 2, number])
        picked = [stated.proofs[int(k)] for k in rng.integers(0, len(stated.proofs), 2)]
        if rng.random() < 0.15:
            files.write_witness(self._folder / "a", stated.witness)
            files.write_witness(self._folder / "b", replace(stated.witness, case=3))
            return self._file(rng, stated, changed_witness, "witness")
        if rng.random() < 0.4:
            for name, proof in zip("ab", picked, strict=True):
                files.write_proof(self._folder / name, proof, pack=bool(rng.random() < 0.5))
            change = OF_PROOFS[int(rng.integers(0, len(OF_PROOFS)))]
            return self._file(rng, stated, change, change.__name__)
        return self._judge(rng, stated, changed_arrays(rng, *picked), "arrays")

    def _file(self, rng: np.random.Generator, stated: Known, change, name) -> tuple[str, str]:
        first, second = ((self._folder / n).read_bytes() for n in "ab")
        path = self._folder / "input"
        path.write_bytes(change(rng, first, second))
        try:
            evidence = files.read_evidence(path)
        except EvidenceError as error:
            self._note(error)
            return "", f"{name}: refused on reading"
        if not _equal(evidence, files.read_evidence(path)):
            return "reading", "reading twice gives two things"
        if isinstance(evidence, Witness):
            files.write_witness(self._folder / "again", evidence)
        else:
            files.write_proof(self._folder / "again", evidence)
        if not _equal(evidence, files.read_evidence(self._folder / "again")):
            return "reading", "what was written and read again is something else"
        if isinstance(evidence, Proof) and self._fits(stated, evidence):
            files.write_proof(self._folder / "again", evidence, pack=True)
            if content_hash(evidence) != content_hash(files.read_evidence(self._folder / "again")):
                return "reading", "what was packed and read again has another content"
        for line in shown(evidence):
            if not line.isprintable():
                return "show", f"a line that is not printable: {line!r:.200}"
        return self._judge(rng, stated, evidence, name)

    def _judge(
        self, rng: np.random.Generator, stated: Known, evidence: Proof | Witness, name: str
    ) -> tuple[str, str]:
        arithmetic = str(rng.choice(list(ARITHMETICS)))
        if isinstance(evidence, Witness):
            lie = replace(evidence, question=stated.holding.digest)
            if check_witness(stated.holding, lie).valid:
                return "soundness", "a witness of what holds"
            verdict = check_witness(stated.violated, evidence).verdict
        else:
            verdict = check_proof(
                stated.violated, evidence, arithmetic=arithmetic, processes=1
            ).verdict
            if verdict == "valid unsat":
                return "soundness", f"what is violated is proved in {arithmetic} arithmetic"
            if verdict == "unreadable":
                self._fits(stated, evidence)
            elif rng.random() < 0.2:  # how much of the evidence is still good for anything
                meant = replace(evidence, question=stated.holding.digest)
                found = check_proof(stated.holding, meant, arithmetic=arithmetic, processes=1)
                self.outcomes[f"the same, of a neighbour that holds: {found.verdict}"] += 1
        return "", f"{name}: {verdict}"

    def _fits(self, stated: Known, proof: Proof) -> bool:
        """Whether the kernel's reader accepts a proof; if not, it is noted where it refuses."""
        try:
            Tables(with_squares_of(stated.violated, proof), proof)
        except EvidenceError as error:
            self._note(error)
            return False
        return True

    def _note(self, error: BaseException | None) -> None:
        while error is not None:
            for frame in traceback.extract_tb(error.__traceback__):
                self.sites.add((Path(frame.filename).name, frame.lineno or 0))
            error = error.__cause__

    def _keep(self, number: int, rule: str, what: str) -> None:
        if self.keep is None:
            return
        self.keep.mkdir(parents=True, exist_ok=True)
        stem = self.keep / f"{self.seed}-{number}-{rule}"
        stem.with_suffix(".txt").write_text(what + "\n")
        given = self._folder / "input"
        if given.is_file():
            stem.with_suffix(".input").write_bytes(given.read_bytes())

    def reached(self) -> tuple[list[str], list[str]]:
        """Refusals of the readers that were seen, and those that were not, by place."""
        seen, never = [], []
        for place, lines in refusals().items():
            found = any((place[0], line) in self.sites for line in lines)
            (seen if found else never).append(f"{place[0]}:{place[1]}")
        return seen, never


def refusals() -> dict[tuple[str, int], range]:
    """Every ``raise EvidenceError`` of the readers, with the lines that it takes."""
    found = {}
    folder = Path(files.__file__).parent
    for name in READERS:
        if not (folder / name).is_file():
            continue
        for node in ast.walk(ast.parse((folder / name).read_text())):
            if isinstance(node, ast.Raise) and "EvidenceError" in ast.unparse(node):
                found[name, node.lineno] = range(node.lineno, (node.end_lineno or 0) + 1)
    return found


def _equal(one: Proof | Witness, other: Proof | Witness) -> bool:
    if isinstance(one, Witness) or isinstance(other, Witness):
        return one == other
    texts = [json.dumps(dict(p.manifest), sort_keys=True) for p in (one, other)]
    return (
        (one.question, one.tensors, texts[0]) == (other.question, other.tensors, texts[1])
        and one.arrays.keys() == other.arrays.keys()
        and all(_alike(array, other.arrays[name]) for name, array in one.arrays.items())
    )


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit by bit; an array without entries is left out of a file, and with it its type."""
    return one.tobytes() == other.tobytes() and (one.dtype == other.dtype or not one.size)


def _resident() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _until(end: float) -> Iterator[int]:
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1


def main(argv: Sequence[str] | None = None) -> int:
    """Try inputs, print a tally; 1 where a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="K")
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--replay", type=int, metavar="N", help="this input alone")
    args = parser.parse_args(argv)
    fuzzer = Fuzzer(args.seed, keep=args.keep)
    started, cpu = time.monotonic(), time.process_time()
    numbers = _until(started + args.seconds) if args.replay is None else iter([args.replay])
    fuzzer.run(numbers)
    total = fuzzer.tried
    print(f"seed {args.seed}: {total} inputs in {time.monotonic() - started:.0f} s", end="")
    print(f" ({time.process_time() - cpu:.0f} CPU seconds, {_resident() >> 20} MiB at most)")
    for outcome, count in sorted(fuzzer.outcomes.items()):
        print(f"{count:8} {outcome}")
    seen, never = fuzzer.reached()
    print(f"refusals of the readers: {len(seen)} of {len(seen) + len(never)} seen")
    for place in never:
        print(f"         never: {place}")
    for finding in fuzzer.findings:
        print(f"input {finding.number} breaks '{finding.rule}': {finding.what}")
    return int(bool(fuzzer.findings))


if __name__ == "__main__":
    sys.exit(main())
