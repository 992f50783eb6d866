"""Checking a folder of questions and evidence, piece by piece, as an auditor would.

Which question a file is evidence for is said by ``evidence.csv``, with the columns ``question``
and ``evidence`` or ``onnx``, ``vnnlib`` and ``evidence``, and if wanted ``expect`` and
``semantics``; or by names: ``X.farkas``, ``X.json`` and ``X.witness.json`` belong to ``X.toml``
beside them.  Nothing is left out silently: evidence without a question, a question without
evidence and names that lead out of the folder are pieces, too, that do not hold.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from proofs.certificate import audit, certificate
from proofs.check import Checked
from proofs.claims import report_of
from proofs.format import MANIFEST_LIMIT, WITNESS
from specs.errors import EvidenceError, InputError, PropertyError
from specs.question import load_question
from specs.source import read_source

LIST = "evidence.csv"
LIST_LIMIT = 1 << 26
"""Bytes of a list, and of a question file in the folder."""
CODES = {"valid unsat": 0, "valid sat": 0, "invalid": 2, "incomplete": 2, "unreadable": 3}
"""Exit codes by verdict; any other verdict is an error of ours."""

_COLUMNS = ({"question", "evidence"}, {"onnx", "vnnlib", "evidence"})
_NAMING: dict[str, tuple[str, ...] | None] = {
    "models": None,
    "region": ("file",),
    "watermark": ("file", "points", "triggers"),
    "claim": ("file", "samples", "others"),
}
"""By table of a question file the keys that name files; ``None``: all."""
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from proofs.folder import serve; serve()"
)


@dataclass(frozen=True)
class Piece:
    """One thing to check.

    Attributes:
        name: of the evidence, in the folder; of the question where there is no evidence.
        question: its files.
        asked: how they are named, relative to their folder.
        evidence: the file.
        expect: ``unsat``, ``sat``, or nothing.
        semantics: of the question; nothing: what it says itself.
        fault: the verdict and the reason of a piece that cannot be checked at all.
    """

    name: str
    question: tuple[str, ...] = ()
    asked: str = ""
    evidence: str = ""
    expect: str = ""
    semantics: str = ""
    fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class Report:
    """What came of a piece.

    Attributes:
        piece, question: names.
        certificate: see ``docs/certificate.md``; ``None`` where there was nothing to check.
    """

    piece: str
    question: str
    expect: str
    verdict: str
    reason: str
    certificate: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def code(self) -> int:
        """0 valid and as expected, 1 valid and not as expected, else as a single check's."""
        valid = self.verdict.startswith("valid ")
        if valid and self.expect and self.verdict != f"valid {self.expect}":
            return 1
        return CODES.get(self.verdict, 4)

    @property
    def statistical(self) -> bool:
        """Whether it holds with a confidence, resting on samples, and is not proved."""
        measured = (self.certificate or {}).get("nature") == "measured"
        return measured and self.verdict.startswith("valid ")

    def line(self) -> str:
        """The report for a log."""
        mark = f" (expected {self.expect})" if self.code == 1 else ""
        mark += " (statistical)" if self.statistical else ""
        asked = f" for {self.question}" if self.question else ""
        return f"{self.verdict}{mark}: {self.piece}{asked}: {self.reason}"

    def cells(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self) | {"as_expected": self.code == 0}


# --------------------------------------------------------------------- what is in a folder


def pieces(folder: Path, questions: Path | None = None) -> list[Piece]:
    """What there is to check in a folder, by name.

    Args:
        folder: nothing that it names is looked for outside of it.
        questions: where the files of ``onnx``, ``vnnlib`` and ``question`` lie; ``None``: in
            the folder.

    Raises:
        InputError: ``evidence.csv`` is malformed, or there is no evidence at all; or there is
            no list or no folder for ``questions`` to be of use.
    """
    if questions is not None and not ((folder / LIST).exists() and questions.is_dir()):
        raise InputError(
            f"--questions {questions}: a folder, for the names that stand in {folder / LIST}; "
            "one of the two is not there"
        )
    found = _listed(folder, questions) if (folder / LIST).exists() else []
    used = {piece.evidence for piece in found} | {q for piece in found for q in piece.question}
    loose = _loose(folder, used)
    if not found and not loose:
        raise InputError(f"{folder}: no evidence in it, and no {LIST}")
    return sorted([*found, *loose], key=lambda piece: (piece.name, piece.question))


def _listed(folder: Path, questions: Path | None) -> list[Piece]:
    path = folder / LIST
    try:
        _not_too_long(path, _inside(folder, LIST).stat().st_size)
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    extra = set(header) - {"expect", "semantics"}
    if extra not in _COLUMNS or len(set(header)) != len(header):
        raise InputError(
            f"{path}:1: the columns are question,evidence or onnx,vnnlib,evidence, and if "
            f"wanted expect and semantics; not {','.join(header)}"
        )
    return [
        _row(folder, questions, number, header, row)
        for number, row in enumerate(rows[1:], start=2)
        if row
    ]


def _row(
    folder: Path, questions: Path | None, number: int, header: Sequence[str], row: Sequence[str]
) -> Piece:
    place = f"{LIST}:{number}"
    if len(row) != len(header):
        reason = f"{len(row)} columns, the header has {len(header)}"
        return Piece(place, fault=("unreadable", reason))
    cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
    names = [cells[key] for key in ("question", "onnx", "vnnlib") if key in cells]
    expect, semantics = cells.get("expect", ""), cells.get("semantics", "")
    try:
        if expect not in ("", "sat", "unsat"):
            raise InputError(f"expect is '{expect}', not sat or unsat")
        if questions is None:
            asked = tuple(str(_question(folder, name)) for name in names)
        else:
            asked = tuple(str(_below(questions, name)) for name in names)
        evidence = _inside(folder, cells["evidence"])
    except InputError as error:
        return Piece(f"{place} {cells['evidence']}", fault=("unreadable", str(error)))
    return Piece(cells["evidence"], asked, " ".join(names), str(evidence), expect, semantics)


def _loose(folder: Path, used: set[str]) -> list[Piece]:
    """What the list does not name."""
    found = []
    for root, folders, files in os.walk(folder, onerror=_refuse):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in (*links, *files):
            path = Path(root) / name
            shown = str(path.relative_to(folder))
            try:
                if name in links:
                    raise InputError("a link to a folder, which is not followed")
                if os.path.realpath(path) in used:
                    continue
                if _is_evidence(folder, path):
                    found.append(_beside(folder, path, shown))
                elif path.suffix == ".toml" and not _has_evidence(path):
                    reason = "no evidence lies beside this question"
                    found.append(Piece(shown, fault=("incomplete", reason)))
            except InputError as error:
                found.append(Piece(shown, fault=("unreadable", str(error))))
    return found


def _refuse(error: OSError) -> None:
    raise InputError(f"cannot read the folder {error.filename}: {error.strerror}")


def _stem(path: Path) -> str:
    return path.name.removesuffix(".farkas").removesuffix(".json").removesuffix(".witness")


def _beside(folder: Path, path: Path, shown: str) -> Piece:
    evidence = _inside(folder, shown)
    question = path.with_name(f"{_stem(path)}.toml")
    if not question.exists():
        raise InputError(f"it belongs to no question: no {question.name} beside it, not in {LIST}")
    name = str(question.relative_to(folder))
    return Piece(shown, (str(_question(folder, name)),), name, str(evidence))


def _is_evidence(folder: Path, path: Path) -> bool:
    if path.suffix == ".farkas":
        return True
    if path.suffix != ".json":
        return False
    if path.with_name(f"{_stem(path)}.toml").exists():
        return True
    target = _inside(folder, path.relative_to(folder))
    if not target.exists() or target.stat().st_size > MANIFEST_LIMIT:
        return False
    return f'"{WITNESS}"'.encode() in target.read_bytes()


def _has_evidence(question: Path) -> bool:
    """Whether there is evidence whose name says that it belongs to a question file."""
    endings = (".farkas", ".json", ".witness.json")
    return any(question.with_name(question.stem + ending).exists() for ending in endings)


def _question(folder: Path, name: str | Path) -> Path:
    """A question in the folder, whose own files lie in the folder as well."""
    path = _packed_or_not(folder, name)
    if path.suffix != ".toml":
        return path
    try:  # as it will be read: gzipped, perhaps
        text = read_source(path)[0].text
        _not_too_long(path, len(text))
        tables = tomllib.loads(text)
    except (PropertyError, ValueError, RecursionError):
        return path  # whoever loads the question says what is wrong
    named: list[Any] = []
    for table, keys in _NAMING.items():
        content = tables.get(table)
        if isinstance(content, dict):
            named += [value for key, value in content.items() if keys is None or key in keys]
    for value in named:
        if isinstance(value, str):
            _packed_or_not(folder, path.parent / value)
    return path


def _packed_or_not(folder: Path, name: str | Path) -> Path:
    """A file of the folder; where it is absent, its gzipped form is read."""
    _inside(folder, f"{name}.gz")
    return _inside(folder, name)


def _inside(folder: Path, name: str | Path) -> Path:
    """A file of the folder, links followed.

    Raises:
        InputError: it lies outside, or is no regular file.
    """
    try:
        path = Path(os.path.realpath(folder / name))
        strange = path.exists() and not path.is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(name)!r:.200} cannot be looked for ({error})") from error
    if not path.is_relative_to(os.path.realpath(folder)):
        raise InputError(f"{str(name)!r:.200} leads out of the folder")
    if strange:  # opening a pipe would wait for a writer
        raise InputError(f"{str(name)!r:.200} is no regular file")
    return path


def _not_too_long(path: Path, size: int) -> None:
    if size > LIST_LIMIT:
        raise InputError(f"{path}: longer than {LIST_LIMIT} bytes")


def _below(folder: Path, name: str) -> Path:
    """A file below a folder of the auditor's own, whose links are as they should be.

    Raises:
        InputError: the name leads out of it.
    """
    if "\0" in name or os.path.isabs(name) or os.path.normpath(name).startswith(".."):
        raise InputError(f"{name!r:.200} leads out of the folder of questions")
    return folder / name


# ------------------------------------------------------------------------------- checking


def check_pieces(
    listed: Sequence[Piece],
    processes: int,
    *,
    arithmetic: str = "outward",
    expect: str | None = None,
    semantics: str | None = None,
    timeout: float | None = None,
    done: Callable[[Report], None] = lambda _: None,
) -> list[Report]:
    """Check pieces, each in a process that checks one after the other.

    Args:
        expect, semantics: of every piece, whatever the list says.
        timeout: of each piece, in seconds.
        done: called with each report as it comes.

    Returns:
        The reports in the order of the pieces.  A process that ends early costs one piece.
    """
    idle: SimpleQueue[_Helper] = SimpleQueue()
    helpers = [_Helper() for _ in range(max(1, min(processes, len(listed))))]
    for helper in helpers:
        idle.put(helper)

    def check(piece: Piece) -> Report:
        wanted = piece.expect if expect is None else expect
        if piece.fault is not None:
            return Report(piece.name, piece.asked, wanted, *piece.fault)
        task = asdict(piece) | {"arithmetic": arithmetic, "timeout": timeout}
        if semantics is not None:
            task["semantics"] = semantics
        helper = idle.get()
        try:
            answer = helper.ask(task)
        finally:
            idle.put(helper)
        return Report(piece.name, piece.asked, wanted, **answer)

    reports: list[Report | None] = [None] * len(listed)
    with ThreadPoolExecutor(len(helpers)) as pool:
        waiting = {pool.submit(check, piece): place for place, piece in enumerate(listed)}
        try:
            for future in as_completed(waiting):
                report = reports[waiting[future]] = future.result()
                done(report)
        finally:  # after an interruption: those that wait for an answer get none
            pool.shutdown(wait=False, cancel_futures=True)
            for helper in helpers:
                helper.stop()
    return [report for report in reports if report is not None]


class _Helper:
    """A process that checks pieces; started when first asked, and again where it ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(self, task: dict[str, Any]) -> dict[str, Any]:
        """The fields of a report."""
        if self._stopped:
            return {"verdict": "error", "reason": "interrupted"}
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-c", _START, json.dumps(sys.path)]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
            if self._stopped:  # meanwhile: who stops has not seen this process, perhaps
                self._process.kill()
        process = self._process
        try:
            if process.stdin is None or process.stdout is None:
                raise OSError("no pipes")
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            process.kill()
            code = process.wait()
            return {"verdict": "error", "reason": f"its process ended early (exit status {code})"}
        return answer

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def serve() -> None:
    """Answer tasks from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks ends this one
    sink = sys.stdout
    sys.stdout = sys.stderr
    tasks: SimpleQueue[str] = SimpleQueue()
    Thread(target=_receive, args=(tasks,), daemon=True).start()
    while True:
        sink.write(json.dumps(_answer(json.loads(tasks.get()))) + "\n")
        sink.flush()


def _receive(tasks: SimpleQueue[str]) -> None:
    while line := sys.stdin.readline():
        tasks.put(line)
    os._exit(0)  # who asks has ended, however that came: no answer is waited for


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    try:
        checked, made = _checked(task)
    except EvidenceError as error:
        return {"verdict": "unreadable", "reason": str(error)}
    except InputError as error:
        return {"verdict": "unreadable", "reason": f"the question: {error}"}
    except MemoryError:
        return {"verdict": "error", "reason": "out of memory"}
    except Exception as error:
        return {"verdict": "error", "reason": f"internal error ({type(error).__name__}: {error})"}
    return {"verdict": checked.verdict, "reason": checked.reason, "certificate": made}


def _checked(task: dict[str, Any]) -> tuple[Checked, dict[str, Any]]:
    report = report_of(task["question"])
    if report is not None:
        claimed = report.audit_claim(
            task["question"][0], task["evidence"], task["timeout"], task["arithmetic"]
        )
        return claimed.checked, report.claim_certificate(claimed)
    query = load_question(*task["question"], semantics=task["semantics"] or None)
    found = audit(
        query,
        task["evidence"],
        arithmetic=task["arithmetic"],
        timeout=task["timeout"],
        processes=1,
    )
    return found.checked, certificate(found)
