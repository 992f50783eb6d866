"""Results on disk, each under the digest of what it depends on."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from proofs.format import replacing
from verifier.certify.divided import FOLDER
from verifier.certify.section import Place, Record, Task
from verifier.progress import Progress

KEPT = "farkas-certify-result"


@dataclass(frozen=True)
class Store:
    """A folder of results.

    Attributes:
        folder: below it lie ``results``, ``evidence``, ``hints`` and ``scratch``.
    """

    folder: Path

    @property
    def evidence(self) -> Path:
        """The folder of questions, proofs and witnesses."""
        return self.folder / "evidence"

    def place(self, task: Task, progress: Progress) -> Place:
        """Where a task works; the folders are made."""
        scratch = self._scratch(task)
        for folder in (self.evidence, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        return Place(self.evidence, scratch, progress, self.folder / "hints")

    def load(self, task: Task) -> Record | None:
        """The result of a task; ``None``: there is none, or it or its evidence is damaged."""
        try:
            kept = json.loads(self._file(task, "json").read_text())
            if kept["kind"] != KEPT or kept["depends"] != list(task.depends):
                return None
            if kept["digest"] != _digest_of(kept["values"]):
                return None
            arrays = self._arrays(task, kept["arrays"]) if kept["arrays"] else {}
            record = Record(kept["values"], arrays)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if kept["evidence"] == self._evidence_of(record) else None

    def save(self, task: Task, record: Record) -> None:
        """Keep a result; the file appears when it is complete."""
        file = self._file(task, "json")
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = None
        if record.arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **dict(record.arrays))  # type: ignore[arg-type]
            content = buffer.getvalue()
            digest = hashlib.sha256(content).hexdigest()
            with replacing(self._file(task, "npz")) as stream:
                stream.write(content)
        kept: dict[str, Any] = {
            "kind": KEPT,
            "task": task.name,
            "depends": list(task.depends),
            "arrays": digest,
            "values": dict(record.values),
            "evidence": self._evidence_of(record),
            "digest": _digest_of(dict(record.values)),
        }
        with replacing(file) as stream:
            stream.write(json.dumps(kept, indent=1).encode())
        shutil.rmtree(self._scratch(task) / FOLDER, ignore_errors=True)

    def tidy(self) -> None:
        """Remove questions whose answer an interruption has prevented."""
        for question in self.evidence.glob(
            f"{'[0-9a-f]' * 16}.toml"
        ):  # as questions.ask names them
            endings = (".farkas", ".json", ".witness.json")
            if not any(question.with_name(question.stem + e).exists() for e in endings):
                question.unlink(missing_ok=True)

    def _evidence_of(self, record: Record) -> dict[str, str | None]:
        """The digests of the files that a result rests on; ``None``: it is not there."""
        return {name: _file_digest(self.evidence / name) for name in record.evidence}

    def _scratch(self, task: Task) -> Path:
        return self.folder / "scratch" / task.digest[:24]

    def _file(self, task: Task, suffix: str) -> Path:
        return self.folder / "results" / f"{task.digest}.{suffix}"

    def _arrays(self, task: Task, digest: str) -> dict[str, Any]:
        content = self._file(task, "npz").read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("the arrays are not those of the result")
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def _digest_of(values: Any) -> str:
    """Of plain data, as a file of JSON gives it back."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str | None:
    try:
        state = path.stat()
        return _content_digest(path, state.st_mtime_ns, state.st_size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _content_digest(path: Path, changed: int, size: int) -> str:
    """Of a file's content; models belong to many results and are read once."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
