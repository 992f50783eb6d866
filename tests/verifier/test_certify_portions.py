"""Hard questions are divided among processes, and nothing of them is lost or done twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

pytest.importorskip("torch")

import farkas
from proofs.format import write_proof
from proofs.proof import NodeKind
from specs.question import load_question
from tests.verifier.small import random_mlp
from tests.verifier.test_certify_workers import heeding, ray, settled, workers_of
from tests.verifier.test_portions import halves
from verifier.certify import divided, questions
from verifier.certify.config import load_config
from verifier.certify.divided import Dividing
from verifier.certify.processes import Processes
from verifier.certify.run import certify
from verifier.certify.store import Store
from verifier.certify.workbench import Agenda, Workbench
from verifier.portions import Searched
from verifier.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]
SOON = 0.01
"""Seconds after which questions are divided here."""


def hard(tmp_path: Path, limit: str = "1.952", timeout: float = 3000) -> Path:
    """One question that takes some hundred leaves; below 1.8 or so it is violated."""
    _, model = random_mlp((5, 24, 24, 1), 2)
    onnx.save(onnx.load_from_string(model.content), tmp_path / "net.onnx")
    lines = [f"(declare-const X_{k} Real)\n" for k in range(5)] + ["(declare-const Y_0 Real)\n"]
    lines += [f"(assert (>= X_{k} -2))\n(assert (<= X_{k} 2))\n" for k in range(5)]
    (tmp_path / "p.vnnlib").write_text("".join(lines) + f"(assert (>= Y_0 {limit}))\n")
    path = tmp_path / "c.toml"
    path.write_text(
        f'[models]\nnet = "net.onnx"\n[limits]\ntimeout = {timeout}\n'
        '[vnnlib]\nproperties = ["p.vnnlib"]\n'
    )
    return path


def digests(path: Path) -> list[str]:
    return [task.digest for each in load_config(path).answers["vnnlib"] for task in each.tasks()]


class Bench:
    """A workbench that divides, and what it did."""

    def __init__(self, path: Path, processes: int = 2) -> None:
        self.out = path.parent / "out"
        self.path, self.task = path, digests(path)[0]
        self._bench = Workbench(path, self.out, Dividing(SOON, processes))
        self.portions: list[str] = []

    def begin(self) -> tuple[str, ...]:
        """The portions that the task waits for."""
        return self._bench.do(self.task)

    def do(self, portion: str) -> None:
        self.portions.append(portion)
        assert self._bench.do(portion) == ()

    def finish(self) -> dict:
        """All that is left; the task's result."""
        agenda = Agenda([self.task])
        while (job := agenda.take()) is not None:
            if job == self.task:
                agenda.ended(job, self.begin())
            else:
                self.do(job)
                agenda.ended(job, ())
        return json.loads((self.out / f"results/{self.task}.json").read_text())["values"]

    def folder(self, portion: str) -> Path:
        task, name, number, _ = portion.split("/")
        return self.out / "scratch" / task / "portions" / name / number

    @property
    def stamps(self) -> dict[str, int]:
        """When each portion was done."""
        files = self.out.glob("scratch/*/portions/*/*/[0-9]*.json")
        return {str(f): f.stat().st_mtime_ns for f in files}


def checked(out: Path) -> int:
    return farkas.main(["check", str(out / "evidence")])


def test_a_hard_question_is_divided_and_its_proof_is_as_any(tmp_path):
    bench = Bench(hard(tmp_path))
    values = bench.finish()
    assert values["answer"] == "unsat"
    assert len(bench.portions) >= 4
    assert values["seconds"] > 0
    assert checked(bench.out) == 0
    assert not list(bench.out.glob("scratch/*/portions"))
    again = certify(load_config(bench.path), Store(bench.out))
    assert (again.done, again.found) == (0, 1)


def test_a_violation_in_one_portion_ends_the_others(tmp_path, monkeypatch):
    """The first search is stopped before it begins, so that a portion has to find it."""
    bench = Bench(hard(tmp_path, "1.5"))

    def nothing(query, options):
        return Verdict("timeout", "", unfinished=halves(query))

    monkeypatch.setattr(questions, "verify", nothing)
    values = bench.finish()
    assert values["answer"] == "sat"
    assert "witness" in values
    assert checked(bench.out) == 0
    assert not list(bench.out.glob("scratch/*/portions"))


def test_a_portion_of_a_question_that_is_answered_is_not_searched(tmp_path, monkeypatch):
    bench = Bench(hard(tmp_path))
    first, *_ = bench.begin()
    (bench.folder(first) / "9.witness.json").write_text("{}")
    monkeypatch.setattr(divided, "search_portion", None)
    bench.do(first)
    shutil.rmtree(bench.folder(first))
    bench.do(first)
    assert not bench.stamps


def test_an_interrupted_question_goes_on_with_the_portions_that_are_there(tmp_path, monkeypatch):
    path = hard(tmp_path)
    before = Bench(path)
    portions = before.begin()
    for portion in portions[:2]:
        before.do(portion)
    stamps = before.stamps
    assert len(stamps) == 2
    after = Bench(path)
    assert after.begin() == portions[2:]
    after.do(portions[0])
    assert after.stamps == stamps
    assert after.finish()["answer"] == "unsat"
    assert not set(portions[:2]) & set(after.portions[1:])


def test_a_portion_that_times_out_leaves_the_question_open(tmp_path):
    bench = Bench(hard(tmp_path, timeout=1.5), processes=1)
    portions = bench.begin()
    for own in range(len(portions)):  # each came too late
        about = {"status": "timeout", "seconds": 1.0, "of": "?"}
        (bench.folder(portions[0]) / f"{own}.json").write_text(json.dumps(about))
    values = bench.finish()
    assert (values["answer"], values["evidence"]) == ("timeout", [])
    assert "leaves are open" in values["reason"]
    assert values["seconds"] > 1.5
    assert [f.name for f in (bench.out / "evidence").glob("*.*")] == []
    assert not list(bench.out.glob("scratch/*/portions"))


def test_a_question_that_was_left_open_is_not_asked_again(tmp_path, monkeypatch):
    """As where a task has to be done again for the portions of its next question."""
    bench = Bench(hard(tmp_path))
    portions = bench.begin()
    monkeypatch.setattr(divided, "LEAST", 1e9)
    for portion in portions:
        (bench.folder(portion) / f"{portion[-1]}.json").write_text(
            json.dumps({"status": "timeout", "seconds": 1.0, "of": "?"})
        )
    monkeypatch.setattr(Store, "save", lambda *_: None)
    assert bench.begin() == ()
    (noted,) = bench.out.glob("scratch/*/portions/*/open.json")
    assert json.loads(noted.read_text())["answer"] == "timeout"
    monkeypatch.setattr(questions, "verify", None)
    assert bench.begin() == ()


def test_what_is_of_another_proof_counts_for_nothing(tmp_path):
    bench = Bench(hard(tmp_path))
    portions = bench.begin()
    for portion in portions:
        bench.do(portion)
    folder = bench.folder(portions[0])
    about = json.loads((folder / "0.json").read_text())
    (folder / "0.json").write_text(json.dumps(about | {"of": "0" * 64}))
    query = load_question(next((bench.out / "evidence").glob("*.toml")))
    write_proof(folder / "1.farkas", halves(query, 3))
    (folder / "2.farkas").write_bytes(b"no proof")
    more = bench.begin()
    assert more
    assert not folder.is_dir()
    assert bench.finish()["answer"] == "unsat"
    assert checked(bench.out) == 0


@pytest.mark.parametrize("damage", ["bytes", "another proof"])
def test_a_damaged_round_begins_anew(tmp_path, damage):
    bench = Bench(hard(tmp_path))
    portions = bench.begin()
    file = bench.folder(portions[0]) / "proof.farkas"
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        query = load_question(next((bench.out / "evidence").glob("*.toml")))
        write_proof(file, halves(query, 3))
    assert bench.begin()
    begun = json.loads((file.parent / "round.json").read_text())
    assert begun["proof"] == hashlib.sha256(file.read_bytes()).hexdigest()
    if damage == "bytes":
        assert bench.finish()["answer"] == "unsat"


def test_what_portions_cannot_do_a_search_goes_on_with(tmp_path):
    bench = Bench(hard(tmp_path))
    for portion in bench.begin():
        about = {"status": "exhausted", "seconds": 0.1, "of": "?"}
        (bench.folder(portion) / f"{portion.rpartition('/')[2]}.json").write_text(json.dumps(about))
    assert bench.begin() == ()
    assert bench.finish()["answer"] == "unsat"


def test_a_witness_that_is_none_does_not_end_the_question_for_good(tmp_path):
    bench = Bench(hard(tmp_path))
    first, *_ = bench.begin()
    (bench.folder(first) / "0.witness.json").write_text("{}")
    assert bench.finish()["answer"] == "unsat"
    assert checked(bench.out) == 0


def test_what_is_damaged_of_a_portion_is_done_again(tmp_path):
    bench = Bench(hard(tmp_path))
    first, second, *_ = portions = bench.begin()
    for own, text in enumerate(("{", '{"status": "closed"}')):
        (bench.folder(first) / f"{own}.json").write_text(text)
    for portion in portions[2:]:
        bench.do(portion)
    assert bench.begin() == (first, second)
    assert bench.finish()["answer"] == "unsat"


def test_of_two_rounds_the_later_one_counts(tmp_path):
    """As after an interruption between them."""
    bench = Bench(hard(tmp_path))
    first, *_ = portions = bench.begin()
    folder = bench.folder(first)
    shutil.copytree(folder, folder.with_name("10"))
    found = json.loads((folder / "round.json").read_text()) | {"number": 10}
    (folder.with_name("10") / "round.json").write_text(json.dumps(found))
    assert bench.begin() == tuple(p.replace("/0/", "/10/") for p in portions)


def test_leaves_that_the_kernel_rejects_are_searched_again(tmp_path, monkeypatch):
    bench = Bench(hard(tmp_path))
    plain, seen = divided.check_proof, []

    def once(query, proof, **how):
        seen.append(proof)
        return plain(query, None) if len(seen) == 1 else plain(query, proof, **how)

    monkeypatch.setattr(divided, "check_proof", once)
    monkeypatch.setattr(divided, "reopened", lambda draft, nodes, checked: widen(draft))
    assert bench.finish()["answer"] == "unsat"
    assert len(seen) == 2


def widen(draft):
    """Opens the first leaf."""
    case = draft.cases[0]
    leaf = next(node for node in case.refutation().root if node.leaf)
    leaf.kind, leaf.arg = NodeKind.HOLE, 0


# --------------------------------------------------------------------------------- processes


def test_an_agenda_has_portions_done_before_tasks():
    agenda = Agenda(["a", "b"])
    assert agenda.take() == "a"
    assert not agenda.ended("a", ("a/0", "a/1"))
    assert [agenda.take(), agenda.take()] == ["a/0", "a/1"]
    agenda.again("a/1")
    assert not agenda.ended("a/0", ())
    assert agenda.take() == "a/1"
    assert not agenda.ended("a/1", ())
    assert agenda.take() == "a"
    assert agenda.ended("a", ())
    assert agenda.take() == "b"
    assert agenda.take() is None
    assert agenda.ended("b", ())


def done(out: Path) -> int:
    """Portions so far."""
    return sum(1 for _ in out.glob("scratch/*/portions/*/*/[0-9]*.json"))


class Killing:
    """Kills workers as soon as a portion is done."""

    def __init__(self, out: Path, pids) -> None:
        import threading

        self._out, self._pids, self.killed = out, pids, 0
        self._thread = threading.Thread(target=self._run)
        self._over = threading.Event()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _run(self):
        while not self._over.wait(0.005):
            if done(self._out):
                for pid in self._pids()[:1]:
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1
                return


def test_portions_of_a_killed_worker_are_done_again(tmp_path):
    path, out = hard(tmp_path), tmp_path / "out"
    crew = Processes(path, out, 2, SOON)
    with Killing(out, lambda: crew.pids) as killing:
        outcome = certify(load_config(path), Store(out), None, crew)
    assert killing.killed == 1
    assert outcome.parts["vnnlib"][0].facts["proved"] == 1
    assert checked(out) == 0


@ray
def test_ray_does_portions_of_a_killed_worker_again(tmp_path):
    from verifier.certify.cluster import Cluster

    path, out = hard(tmp_path), tmp_path / "out"
    crew = Cluster(path, out, "local", 2, after=SOON)
    with Killing(out, lambda: workers_of(os.getpid())) as killing:
        outcome = certify(load_config(path), Store(out), None, crew)
    assert killing.killed == 1
    assert outcome.parts["vnnlib"][0].facts["proved"] == 1
    assert checked(out) == 0


def test_a_killed_command_is_resumed_with_its_portions(tmp_path):
    path, out = hard(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "farkas", "certify", str(path), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--processes", "2", "--split-after", str(SOON)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=heeding,
    )
    while not done(out):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    settled(tmp_path)
    before = Bench(path)
    stamps = before.stamps
    assert stamps
    assert before.finish()["answer"] == "unsat"
    kept = {tuple(Path(name).parts[-2:]) for name in stamps}
    assert not kept & {(p.split("/")[2], p.split("/")[3] + ".json") for p in before.portions}
    assert checked(out) == 0


WRONG = {
    "not positive": (["--processes", "2", "--split-after", "0"], "must be positive"),
    "nan": (["--processes", "2", "--split-after", "nan"], "must be positive"),
    "alone": (["--split-after", "5"], "goes with --processes"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_usage_of_split_after(name, tmp_path, capsys):
    given, words = WRONG[name]
    path = hard(tmp_path)
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "o"), *given]) == 3
    assert words in capsys.readouterr().err


def test_a_round_that_another_run_has_ended_stops_no_portion(tmp_path, monkeypatch):
    bench = Bench(hard(tmp_path))
    portion = bench.begin()[0]
    search = divided.search_portion

    def slow(*given, **named):
        found = search(*given, **named)
        shutil.rmtree(bench.folder(portion))
        return found

    monkeypatch.setattr(divided, "search_portion", slow)
    bench.do(portion)
    assert not bench.folder(portion).exists()


def test_a_question_that_another_run_has_tidied_up_is_written_again(tmp_path):
    bench = Bench(hard(tmp_path))
    first = bench.begin()
    Store(bench.out).tidy()
    bench.do(first[0])
    assert not bench.stamps
    assert bench.begin() == first
    assert bench.finish()["answer"] == "unsat"
    assert checked(bench.out) == 0


def test_a_portion_that_cannot_write_says_so(tmp_path, monkeypatch):
    bench = Bench(hard(tmp_path))
    portion = bench.begin()[0]

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(divided, "write_proof", full)
    with pytest.raises(OSError, match="no space"):
        bench.do(portion)


def test_a_round_that_another_run_has_begun_meanwhile_is_kept(tmp_path, monkeypatch):
    path = hard(tmp_path)
    one, other = Bench(path), Bench(path)
    write, meanwhile = divided.write_proof, []

    def slow(file, proof):
        if not meanwhile:
            meanwhile.append(())
            meanwhile[0] = other.begin()
            meanwhile.append(begun().stat().st_mtime_ns)
        write(file, proof)

    def begun():
        return one.folder(meanwhile[0][0]) / "round.json"

    monkeypatch.setattr(divided, "write_proof", slow)
    assert one.begin() == meanwhile[0]
    assert begun().stat().st_mtime_ns == meanwhile[1]
    assert [each.name for each in begun().parents[1].iterdir()] == ["0"]


def test_a_round_that_another_run_has_removed_meanwhile_is_not_missed(tmp_path, monkeypatch):
    bench = Bench(hard(tmp_path))
    first = bench.begin()
    monkeypatch.setattr(divided, "search_portion", lambda *_, **__: Searched("timeout"))
    for portion in first:
        bench.do(portion)
    begin = divided.Divided._begin

    def slow(*given):
        found = begin(*given)
        shutil.rmtree(bench.folder(first[0]))
        return found

    monkeypatch.setattr(divided.Divided, "_begin", slow)
    (number,) = {portion.split("/")[2] for portion in bench.begin()}
    assert number == "1"
