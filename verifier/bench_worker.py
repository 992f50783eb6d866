"""The process that verifies a list's questions one by one, and the one that watches it.

One process is reused, so that importing torch is paid once.  It is killed when it
overruns its limit or its memory, and replaced; a crash costs one query.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from verifier import threads

_GRACE = 10.0
_POLL = 0.05
_START = 120.0
_EARLY = ("torch", "onnxruntime", "specs.question", "verifier.verify", "verifier.bab")
_RETIRE = 0.25
"""A worker that holds more than this share of the memory limit afterwards is replaced."""


@dataclass(frozen=True)
class Job:
    """One question: files, seconds, where evidence goes (without ending), device, settings.

    ``semantics``: see ``specs.perturbation``.
    """

    onnx: str
    vnnlib: str
    limit: float
    evidence: str
    device: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    semantics: str = "real"
    proof_effort: str = "default"
    method: str = "auto"


class Worker:
    """Runs jobs in a process of its own.

    Args:
        memory: gigabytes that the process may hold.
        early: modules that the process imports before its first job.
        task: what the process does with a job; importable by name.
    """

    def __init__(
        self,
        memory: float,
        early: Sequence[str] = _EARLY,
        task: Callable[[Job], dict[str, Any]] | None = None,
    ) -> None:
        self._memory = memory * 1e9
        self._early = tuple(early)
        self.task = attempt if task is None else task
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._pipe: Any = None

    def run(self, job: Job) -> dict[str, Any]:
        """The fields of a row; a job that has to be killed has ``timeout`` or ``error``."""
        if self._process is None:
            self._start()
        began = time.monotonic()
        try:
            self._pipe.send(job)
            while not self._pipe.poll(_POLL):
                waited = time.monotonic() - began
                if waited > job.limit + _GRACE:
                    return self._killed("timeout", "overran its time limit", began)
                if _resident(self._process.pid) > self._memory:
                    return self._killed("unknown", "ran out of memory", began)
            result: dict[str, Any] = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            return self._killed("error", f"the process died (exit status {code})", began)
        if _resident(self._process.pid) > _RETIRE * self._memory:
            self.close()
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self._early, self.task)
        self._process = self._context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        if not ours.poll(_START):
            self.close()
            raise RuntimeError("the worker process does not start")
        ours.recv()

    def _killed(self, answer: str, reason: str, began: float) -> dict[str, Any]:
        self.close()
        return {"answer": answer, "reason": reason, "wall": time.monotonic() - began}


def _resident(pid: int) -> float:
    """Bytes of memory that a process holds; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0.0
    return int(fields[1]) * float(os.sysconf("SC_PAGE_SIZE"))


def _serve(pipe: Connection, early: Sequence[str], task: Callable[[Job], dict[str, Any]]) -> None:
    """The worker's main loop: jobs in, rows out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threads.settle()
    for name in early:
        with suppress(ImportError):
            importlib.import_module(name)
    pipe.send("ready")
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(task(job))


def attempt(job: Job) -> dict[str, Any]:
    """Answer one question; errors become rows."""
    from proofs.workers import cpu_seconds
    from specs.errors import FarkasError, InputError
    from verifier.memory import ran_out
    from verifier.verify import OUT_OF_MEMORY

    wall, cpu = time.monotonic(), cpu_seconds()
    try:
        row = _answer(job, wall)
    except InputError as error:
        row = {"answer": "refused", "reason": _short(error)}
    except FarkasError as error:
        row = {"answer": "error", "reason": _short(error)}
    except Exception as error:
        row = {"answer": "error", "reason": f"{type(error).__name__}: {_short(error)}"}
        if ran_out(error):
            row = {"answer": "unknown", "reason": OUT_OF_MEMORY}
    return row | {"wall": time.monotonic() - wall, "cpu": cpu_seconds() - cpu}


def _answer(job: Job, start: float) -> dict[str, Any]:
    from proofs.format import write_proof, write_witness
    from proofs.proof import Proof
    from proofs.witness import Witness
    from specs.question import load_question
    from verifier.options import Options
    from verifier.verify import verify

    query = load_question(job.onnx, job.vnnlib, semantics=job.semantics)
    options = Options(
        timeout=job.limit,
        device=job.device,
        method=job.method,
        proof_effort=job.proof_effort,
        settings=job.settings,
    )
    verdict = verify(query, options, start=start)
    searching = verdict.seconds("kernel", "attack", "search", "smt")
    minimising, checking = verdict.seconds("minimise"), verdict.seconds("check")
    row: dict[str, Any] = {
        "answer": verdict.answer,
        "reason": verdict.reason,
        "claim": verdict.uncertified_claim or "",
        "search_wall": searching[0],
        "search_cpu": searching[1],
        "minimise_wall": minimising[0],
        "minimise_cpu": minimising[1],
        "check_wall": checking[0],
        "check_cpu": checking[1],
        "searched": any(stage.name == "search" for stage in verdict.stages),
        "torch": any(s.name == "search" or "torch" in s.result for s in verdict.stages),
        "leaves": verdict.leaves,
    }
    if isinstance(verdict.evidence, Proof):
        file = f"{job.evidence}.farkas"
        size = write_proof(file, verdict.evidence, pack=job.proof_effort != "none")
        row |= {"evidence": file, "proof_bytes": size, "splits": verdict.evidence.splits}
    elif isinstance(verdict.evidence, Witness):
        file = f"{job.evidence}.witness.json"
        write_witness(file, verdict.evidence)
        row |= {"evidence": file}
    if verdict.replay is not None:
        row["inside"] = verdict.replay.inside
    return row


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:2000]
