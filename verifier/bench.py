"""Running a list of questions in a worker process, resumably."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from proofs.folder import LIST
from proofs.format import replacing
from specs.errors import InputError
from specs.perturbation import REAL
from verifier.bench_table import Row, table
from verifier.bench_worker import Job, Worker
from verifier.overrides import Value, in_words

_DEFAULT_LIMIT = 60.0
_FIELDS = tuple(Row.__dataclass_fields__)


@dataclass(frozen=True)
class Instance:
    """One line of a list.

    Attributes:
        benchmark: the folder's or the column's name.
        onnx, vnnlib: as the list names them; with ``benchmark`` they make the key.
        folder: that these paths start from.
        limit: seconds.
        expected: ``unsat``, ``sat``, or anything else where nobody knows.
    """

    benchmark: str
    onnx: str
    vnnlib: str
    folder: Path
    limit: float
    expected: str = ""

    @property
    def key(self) -> str:
        """The query's name; base names alone occur twice in some benchmarks."""
        return f"{self.benchmark} {self.onnx} {self.vnnlib}"


@dataclass(frozen=True)
class Settings:
    """How to run a list.

    Attributes:
        timeout: seconds that replace the listed limits.
        only: names of benchmarks or parts of file names; none: all.
        out: folder of results, evidence and table.
        memory: gigabytes that one query may take; 0: three quarters of the machine's.
        device: ``"cpu"`` or ``"cuda"``.
        settings: that replace the verifier's own, see :class:`verifier.verify.Options`.
        semantics: of every question.
        proof_effort: how small proofs are made.
        method: see :class:`verifier.options.Options`.
    """

    timeout: float | None
    only: tuple[str, ...]
    out: Path
    memory: float = 0.0
    device: str = "cpu"
    settings: Mapping[str, Value] = field(default_factory=dict)
    semantics: str = REAL
    proof_effort: str = "default"
    method: str = "auto"

    @property
    def kept(self) -> dict[str, Value]:
        """What results depend on, beside the questions."""
        named: dict[str, Value] = {} if self.semantics == REAL else {"semantics": self.semantics}
        if self.proof_effort != "default":
            named["proof_effort"] = self.proof_effort
        if self.method != "auto":
            named["method"] = self.method
        return {**self.settings, **named}


def read_list(path: Path) -> list[Instance]:
    """The questions of a list, of a folder with ``instances.csv``, or of such folders.

    A list without a header has the columns onnx, vnnlib, timeout; one with a header names
    ``onnx`` and ``vnnlib`` and may name ``benchmark``, ``timeout`` and ``expected``.

    Raises:
        InputError: no list there, or a malformed line.
    """
    if path.is_dir():
        lists = [path / "instances.csv"]
        if not lists[0].is_file():
            lists = sorted(path.glob("*/instances.csv"))
        if not lists:
            raise InputError(f"{path}: no instances.csv in the folder or one level below")
        return [instance for found in lists for instance in read_list(found)]
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the list {path}: {error}") from error
    if not rows:
        raise InputError(f"{path}: an empty list")
    header = [cell.strip() for cell in rows[0]]
    if {"onnx", "vnnlib"} <= set(header):
        return [_named(path, header, row, n) for n, row in enumerate(rows[1:], start=2)]
    return [_positional(path, row, n) for n, row in enumerate(rows, start=1)]


def _named(path: Path, header: Sequence[str], row: Sequence[str], number: int) -> Instance:
    if len(row) != len(header):
        raise InputError(f"{path}:{number}: {len(row)} columns, the header has {len(header)}")
    cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
    benchmark = cells.get("benchmark", "")
    folder = path.parent / benchmark
    return Instance(
        benchmark or path.absolute().parent.name,
        cells["onnx"],
        cells["vnnlib"],
        folder,
        _limit(path, number, cells.get("timeout", "")),
        cells.get("expected", ""),
    )


def _positional(path: Path, row: Sequence[str], number: int) -> Instance:
    if len(row) not in (2, 3):
        raise InputError(f"{path}:{number}: {len(row)} columns, not onnx,vnnlib,timeout")
    cells = [cell.strip() for cell in row]
    limit = _limit(path, number, cells[2] if len(cells) == 3 else "")
    return Instance(path.absolute().parent.name, cells[0], cells[1], path.parent, limit)


def _limit(path: Path, number: int, text: str) -> float:
    if not text:
        return _DEFAULT_LIMIT
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise InputError(f"{path}:{number}: a time limit of '{text}' seconds")
    return limit


def run(path: Path, settings: Settings, log: TextIO) -> str:
    """Run the questions of a list that have no result yet; returns the table.

    Results are appended to ``results.csv`` as they come, so that an interrupted run goes
    on where it stopped.  Interrupting writes the table of what is there, then raises.
    The settings that replace the verifier's own are kept in ``settings.json``.

    Raises:
        InputError: the list or the results of an earlier run cannot be read, or that run
            had other settings.
    """
    listed = read_list(path)
    chosen = [i for i in listed if _wanted(i, settings.only)]
    if not chosen:
        raise InputError(f"{path}: no query matches --only {','.join(settings.only)}")
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {settings.out}: {error.strerror}") from error
    results = settings.out / "results.csv"
    rows = {row.key: row for row in read_results(results)}
    _keep_settings(settings, resumed=bool(rows))
    todo = [i for i in chosen if i.key not in rows]
    if len(todo) < len(chosen):
        print(f"{len(chosen) - len(todo)} of {len(chosen)} have results already", file=log)
    worker = Worker(settings.memory or _three_quarters())
    try:
        with results.open("a", newline="", encoding="utf-8") as stream:
            for number, instance in enumerate(todo, start=1):
                row = _one(worker, instance, settings)
                _append(stream, row)
                rows[row.key] = row
                print(f"[{number}/{len(todo)}] {row.line()}", file=log, flush=True)
    finally:
        worker.close()
        text = table([rows[i.key] for i in chosen if i.key in rows])
        if settings.kept:
            text += f"\nSettings: {in_words(settings.kept)}\n"
        (settings.out / "table.md").write_text(text, encoding="utf-8")
        _list_evidence(path, [(i, rows[i.key]) for i in listed if i.key in rows], settings)
    return text


def _list_evidence(path: Path, done: Iterable[tuple[Instance, Row]], settings: Settings) -> None:
    """Write down which question each file of evidence belongs to, for ``farkas check FOLDER``."""
    start = path if path.is_dir() else path.parent
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["onnx", "vnnlib", "evidence", "expect", "semantics"])
    for instance, row in done:
        if row.evidence:
            files = (instance.folder / name for name in (instance.onnx, instance.vnnlib))
            asked = [os.path.relpath(file, start) for file in files]
            writer.writerow([*asked, row.evidence, row.answer, settings.semantics])
    with replacing(settings.out / LIST) as stream:
        stream.write(text.getvalue().encode())


def _keep_settings(settings: Settings, *, resumed: bool) -> None:
    """Write down the settings, or refuse to add to results that others led to."""
    file = settings.out / "settings.json"
    now = settings.kept
    if resumed:
        try:
            before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {file}: {error}") from error
        if before != now:
            raise InputError(
                f"the results in {settings.out} were made with {_described(before)}, not with "
                f"{_described(now)}; use another --out, or the same settings"
            )
    elif now or file.is_file():
        with replacing(file) as stream:
            stream.write((json.dumps(now, indent=2) + "\n").encode())


def _described(settings: Mapping[str, Value]) -> str:
    return f"--set {in_words(settings)}" if settings else "no --set"


def _one(worker: Worker, instance: Instance, settings: Settings) -> Row:
    limit = settings.timeout or instance.limit
    stem = f"{Path(instance.onnx).stem}--{Path(instance.vnnlib).stem}"
    tag = hashlib.sha256(instance.key.encode()).hexdigest()[:8]
    evidence = settings.out / "evidence" / instance.benchmark / f"{stem[:100]}-{tag}"
    evidence.parent.mkdir(parents=True, exist_ok=True)
    job = Job(
        str(instance.folder / instance.onnx),
        str(instance.folder / instance.vnnlib),
        limit,
        str(evidence),
        settings.device,
        dict(settings.settings),
        settings.semantics,
        settings.proof_effort,
        settings.method,
    )
    data = worker.run(job)
    file = data.get("evidence", "")
    if file:
        data["evidence"] = os.path.relpath(str(file), settings.out)
    return Row(
        key=instance.key,
        benchmark=instance.benchmark,
        expected=instance.expected,
        limit=limit,
        **data,
    )


def _wanted(instance: Instance, only: Iterable[str]) -> bool:
    names = list(only)
    files = f"{instance.onnx} {instance.vnnlib}"
    return not names or any(n == instance.benchmark or n in files for n in names)


def _append(stream: TextIO, row: Row) -> None:
    writer = csv.DictWriter(stream, _FIELDS)
    if stream.tell() == 0:
        writer.writeheader()
    writer.writerow(row.cells())
    stream.flush()
    os.fsync(stream.fileno())


def read_results(path: Path) -> list[Row]:
    """The rows of a ``results.csv``; none where there is no such file.

    A last line that an interruption cut short is left out.

    Raises:
        InputError: it was written by another version.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != _FIELDS:
            raise InputError(f"{path} has other columns than this version's; use another --out")
        return [Row.parse(cells) for cells in reader if None not in cells.values()]


def _three_quarters() -> float:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0.75 * total / 1e9
