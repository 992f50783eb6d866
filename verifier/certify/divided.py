"""Hard questions in portions, for whoever does tasks in several processes.

A question that branch and bound has not decided after a while is handed over: its open leaves go
to several *portions*, which are done like tasks, and their results are grafted into its proof.
What they leave open makes the portions of another *round*.  All of that goes through files below
the scratch folder of the task that asks::

    portions/QUESTION/ROUND/proof.farkas    the unfinished proof
                            round.json      appears when the round may begin
                            K.farkas        what portion K closed, or
                            K.witness.json  a violation
                            K.json          appears when portion K is done
    portions/QUESTION/open.json             the question was left open

The time limit of a question is on the seconds of all processes together.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from proofs.check import check_proof, read_and_check
from proofs.draft import Draft, draft_of, written
from proofs.format import read_evidence, replacing, write_proof, write_witness
from proofs.proof import Proof
from proofs.witness import Witness
from specs.errors import EvidenceError, FarkasError
from specs.query import Query
from specs.question import load_question
from verifier.options import HandOver, Options
from verifier.portions import dealt, graft, holes, reopened, search_portion
from verifier.verdict import Stage, Verdict

FOLDER = "portions"

EACH, MOST = 4, 512
"""Portions for each process, where there are so many open leaves, and most of them at first."""

LEAST = 0.5
"""Seconds that a portion gets at least."""

MARGIN, WIDER, REJECTIONS = 1e-7, 10.0, 5
"""The margin, by how much it grows when the kernel rejects leaves, and how often at most."""

BEFORE = "portions"
"""The stage of a verdict that stands for earlier searches."""


class NotYetError(Exception):
    """A question waits for portions.

    Attributes:
        portions: that have to be searched before it is asked again.
    """

    def __init__(self, portions: tuple[str, ...]) -> None:
        super().__init__(f"{len(portions)} portions have to be searched first")
        self.portions = portions


@dataclass(frozen=True)
class Dividing:
    """When questions are divided.

    Attributes:
        after: seconds of branch and bound.
        processes: that search portions.
    """

    after: float
    processes: int

    @property
    def hand_over(self) -> HandOver:
        """For the search that comes first."""
        return HandOver(self.after, min(2 * EACH * self.processes, MOST))


@dataclass(frozen=True)
class Round:
    """Portions that are searched side by side.

    Attributes:
        number: of the round.
        proof: digest of the file of the unfinished proof.
        margin: see :func:`verifier.portions.search_portion`.
        count: of portions.
        seconds: that each of them has.
        device: where they are searched.
        spent: seconds before this round.
        rejections: how often the kernel has rejected leaves.
    """

    number: int
    proof: str
    margin: float
    count: int
    seconds: float
    device: str
    spent: float
    rejections: int

    def unfinished(self, folder: Path) -> Proof:
        """The proof that the portions are of.

        Raises:
            EvidenceError: it is damaged.
        """
        file = folder / "proof.farkas"
        proof = read_evidence(file)
        if not isinstance(proof, Proof) or _digest(file) != self.proof:
            raise EvidenceError(f"{file}: it is not the proof that was divided")
        return proof


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read(file: Path) -> Any:
    """A file of JSON; ``None``: it is not there, or damaged."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def _result(file: Path) -> Any:
    """What is known of a portion; ``None``: it is not done."""
    found = _read(file)
    complete = isinstance(found, dict) and {"status", "seconds", "of"} <= found.keys()
    return found if complete else None


def _write(file: Path, values: Mapping[str, Any]) -> None:
    with replacing(file) as stream:
        stream.write(json.dumps(dict(values), indent=1).encode())


def _removed(folder: Path) -> None:
    """Remove a folder; another run in the same folder may be doing that, too."""
    shutil.rmtree(folder, ignore_errors=True)


def _round(folder: Path) -> Round | None:
    """The round of a folder; ``None``: it has not begun."""
    found = _read(folder / "round.json")
    try:
        return None if found is None else Round(**found)
    except TypeError:
        return None


def waiting(scratch: Path, name: str) -> bool:
    """Whether a task waits for portions of a question.

    Args:
        scratch: the folder of scratch folders.
        name: of the question.
    """
    return any(scratch.glob(f"*/{FOLDER}/{name}/*/round.json"))


def do_portion(portion: str, evidence: Path, scratch: Path) -> None:
    """Search a portion, unless that is done, or not wanted any more.

    Args:
        portion: as :class:`NotYetError` names it.
        evidence: the folder of questions.
        scratch: the folder of scratch folders.

    Raises:
        FarkasError: the question, or its unfinished proof, cannot be read.
    """
    task, name, number, own = portion.split("/")
    folder = scratch / task / FOLDER / name / number
    begun = _round(folder)

    def unwanted() -> bool:
        return any(folder.glob("*.witness.json")) or not folder.is_dir()

    if begun is None or _result(folder / f"{own}.json") is not None or unwanted():
        return
    question = evidence / f"{name}.toml"
    try:
        _portion(question, folder, int(own), begun, unwanted)
    except (OSError, FarkasError):
        if _round(folder) == begun and question.exists():
            raise
        # Another run in the same folder has ended the round, and removed it; or it has tidied up
        # the question, which is written again when the task finds that the portion is missing.


def _portion(
    question: Path, folder: Path, own: int, begun: Round, unwanted: Callable[[], bool]
) -> None:
    """Search a portion of a round, and write what is found.

    Raises:
        FarkasError: the question, or its unfinished proof, cannot be read.
    """
    start = time.monotonic()
    found = search_portion(
        load_question(question),
        begun.unfinished(folder),
        own,
        begun.count,
        deadline=start + begun.seconds,
        margin=begun.margin,
        device=begun.device,
        unwanted=unwanted,
    )
    if found.proof is not None:
        write_proof(folder / f"{own}.farkas", found.proof)
    if found.witness is not None:
        write_witness(folder / f"{own}.witness.json", found.witness)
    about = {"status": found.status, "seconds": time.monotonic() - start, "of": begun.proof}
    _write(folder / f"{own}.json", about)


class Divided:
    """A question that is divided where it is hard.

    Args:
        scratch: of the task that asks.
        name: of the question's file.
        query: the question.
        options: how it is searched; with a time limit.
        dividing: when it is divided.
    """

    def __init__(
        self, scratch: Path, name: str, query: Query, options: Options, dividing: Dividing
    ) -> None:
        self._folder = scratch / FOLDER / name
        self._prefix = f"{scratch.name}/{name}"
        self._query, self._options, self._dividing = query, options, dividing
        self._limit = options.timeout or 0.0

    def verdict(self, search: Callable[[Options], Verdict]) -> Verdict:
        """The answer; the seconds of earlier searches stand in its stage ``"portions"``.

        Args:
            search: for an answer from the beginning.

        Raises:
            NotYetError: portions have to be searched first.
        """
        noted = _read(self._folder / "open.json")
        if noted is not None:
            return _with(Verdict(noted["answer"], noted["reason"]), noted["seconds"])
        begun = self._latest()
        if begun is not None:
            return self._joined(*begun, search)
        start = time.monotonic()
        verdict = search(replace(self._options, hand_over=self._dividing.hand_over))
        spent = time.monotonic() - start
        if verdict.unfinished is None:
            self._note(verdict, spent)
            return verdict
        return self._next(draft_of(self._query, verdict.unfinished), spent)

    def _latest(self) -> tuple[Round, Proof] | None:
        """The round that has begun; one that is damaged is removed."""
        folders = self._folder.glob("[0-9]*")
        for folder in sorted(folders, key=lambda each: int(each.name), reverse=True):
            begun = _round(folder)
            if begun is None:
                continue
            try:
                return begun, begun.unfinished(folder)
            except EvidenceError:
                _removed(folder)
        return None

    def _joined(self, begun: Round, given: Proof, search: Callable[[Options], Verdict]) -> Verdict:
        """What follows from a round."""
        folder, owns = self._folder / str(begun.number), range(begun.count)
        results = {own: _result(folder / f"{own}.json") for own in owns}
        done = {own: found for own, found in results.items() if found is not None}
        spent = begun.spent + sum(found["seconds"] for found in done.values())
        witnesses = list(folder.glob("*.witness.json"))
        for file in witnesses:
            checked, evidence = read_and_check(self._query, file)
            if checked.valid and isinstance(evidence, Witness):
                reason = "a witness, found in a portion of the search"
                return _with(Verdict("sat", reason, evidence, checked), spent)
        missing = [own for own in owns if own not in done]
        if missing and not witnesses:
            raise NotYetError(self._named(begun.number, missing))
        if witnesses or {found["status"] for found in done.values()} & {"exhausted", "memory"}:
            # a witness that is none for the kernel alone, or no more splits: others may do it
            left = max(self._limit - spent, LEAST)
            verdict = search(replace(self._options, timeout=left))
            self._note(verdict, self._limit)
            return _with(verdict, spent)
        draft = draft_of(self._query, given)
        leaves = holes(draft)
        for own in owns:
            with suppress(EvidenceError):  # what is of another proof counts for nothing
                part = read_evidence(folder / f"{own}.farkas")
                if isinstance(part, Proof) and done[own]["of"] == begun.proof:
                    mine = dealt(leaves, begun.count, own)
                    graft(draft, draft_of(self._query, part), mine)
        return self._next(draft, spent, begun)

    def _next(self, draft: Draft, spent: float, before: Round | None = None) -> Verdict:
        """The proof, if it is one; otherwise another round, or an end.

        Raises:
            NotYetError: another round has begun.
        """
        number, margin, rejections = 0, MARGIN, 0
        if before is not None:
            number, margin, rejections = before.number + 1, before.margin, before.rejections
        proof, nodes = written(draft)
        if not holes(draft):
            start = time.monotonic()
            checked = check_proof(self._query, proof, deadline=start + self._limit)
            seconds = time.monotonic() - start
            if checked.valid:
                reason = f"a proof of {checked.leaves} leaves, checked by the kernel"
                stages = (Stage("check", seconds, checked.cpu_seconds, checked.verdict),)
                return _with(Verdict("unsat", reason, proof, checked, None, stages), spent)
            if not checked.rejected or not checked.ended or rejections == REJECTIONS:
                return self._left_open(f"the kernel's verdict: {checked.reason}", spent)
            reopened(draft, nodes, checked)
            proof, _ = written(draft)
            rejections, margin = rejections + 1, WIDER * margin
        left, count = self._limit - spent, len(holes(draft))
        if left < LEAST:
            return self._left_open(f"the time limit; {count} leaves are open", spent)
        most = min(EACH * self._dividing.processes, count // 2, int(left / LEAST))
        begun = Round(
            number,
            "",
            margin,
            max(1, most),
            min(max(LEAST, self._dividing.after * 2 ** (number + 1)), left / max(1, most)),
            self._options.device,
            spent,
            rejections,
        )
        begun = self._begin(begun, proof)
        if before is not None:
            _removed(self._folder / str(before.number))
        raise NotYetError(self._named(number, range(begun.count)))

    def _begin(self, begun: Round, proof: Proof) -> Round:
        """The round, which appears at once; or that which another run has begun meanwhile."""
        folder = self._folder / str(begun.number)
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder.parent) as name:
            made = Path(name, "round")
            made.mkdir()
            file = made / "proof.farkas"
            write_proof(file, proof)
            _write(made / "round.json", asdict(replace(begun, proof=_digest(file))))
            if _round(folder) is None:
                _removed(folder)
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                made.rename(folder)
        return _round(folder) or begun

    def _named(self, number: int, owns: Iterable[int]) -> tuple[str, ...]:
        return tuple(f"{self._prefix}/{number}/{own}" for own in owns)

    def _left_open(self, reason: str, spent: float) -> Verdict:
        verdict = Verdict("timeout", reason)
        self._note(verdict, spent)
        return _with(verdict, spent)

    def _note(self, verdict: Verdict, seconds: float) -> None:
        """Keep what is left open: the task may have to be done again for another question."""
        if verdict.answer in ("sat", "unsat"):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        about = {"answer": verdict.answer, "reason": verdict.reason, "seconds": seconds}
        _write(self._folder / "open.json", about)
        for folder in self._folder.glob("[0-9]*"):
            _removed(folder)


def _with(verdict: Verdict, spent: float) -> Verdict:
    """A verdict with the seconds that went before."""
    return replace(verdict, stages=(Stage(BEFORE, spent, 0.0, ""), *verdict.stages))
