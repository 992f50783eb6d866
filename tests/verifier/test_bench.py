"""Runs of lists: reading, resuming, accounting, and a worker that dies."""

from __future__ import annotations

import csv
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import farkas
from specs.errors import InputError
from verifier import bench
from verifier.bench import Settings, read_list, read_results
from verifier.bench_table import Row, table
from verifier.bench_worker import Job, Worker, attempt


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_competition_list_has_no_header(tmp_path: Path) -> None:
    path = write(tmp_path / "acas" / "instances.csv", "onnx/a.onnx,vnnlib/p.vnnlib,116\n\n./b,c\n")
    first, second = read_list(path)
    assert (first.benchmark, first.onnx, first.vnnlib) == ("acas", "onnx/a.onnx", "vnnlib/p.vnnlib")
    assert (first.limit, first.expected, first.folder) == (116.0, "", tmp_path / "acas")
    assert second.limit == 60.0


def test_a_list_with_a_header_names_benchmarks(tmp_path: Path) -> None:
    text = "year,benchmark,onnx,vnnlib,timeout,expected\n2023,safenlp,o/a.onnx,v/p,20,sat\n"
    (only,) = read_list(write(tmp_path / "instances.csv", text))
    assert (only.benchmark, only.expected, only.limit) == ("safenlp", "sat", 20.0)
    assert only.folder == tmp_path / "safenlp"
    assert only.key == "safenlp o/a.onnx v/p"


def test_folders_of_folders_are_lists_too(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "instances.csv", "a.onnx,p.vnnlib,5\n")
    assert [i.benchmark for i in read_list(tmp_path)] == ["one", "two"]
    assert [i.benchmark for i in read_list(tmp_path / "two")] == ["two"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.onnx\n",
        "a.onnx,p.vnnlib,soon\n",
        "a.onnx,p.vnnlib,-1\n",
        "a.onnx,p.vnnlib,nan\n",
        "a.onnx,p.vnnlib,5,6\n",
        "onnx,vnnlib,timeout\na.onnx,p.vnnlib\n",
    ],
)
def test_malformed_lists_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list"):
        read_list(write(tmp_path / "list.csv", text))


def test_a_folder_without_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no instances"):
        read_list(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_list(tmp_path / "absent.csv")


def row(answer: str, expected: str = "", **more: Any) -> Row:
    return Row(more.pop("key", "b a p"), "b", expected, 60.0, answer, **more)


@pytest.mark.parametrize(
    ("answer", "expected", "wrong"),
    [
        ("unsat", "sat", True),
        ("sat", "unsat", True),
        ("sat", "sat", False),
        ("unsat", "conflict", False),
        ("unsat", "", False),
        ("unknown", "sat", False),
    ],
)
def test_wrong_means_contradicting_a_known_answer(answer: str, expected: str, wrong: bool) -> None:
    assert row(answer, expected).wrong is wrong


@pytest.mark.parametrize(
    ("answer", "claim", "demoted"),
    [
        ("unknown", "unsat", True),
        ("unknown", "sat", True),
        ("timeout", "sat", True),
        ("timeout", "unsat", False),
        ("unknown", "", False),
        ("unsat", "", False),
    ],
)
def test_demoted_means_evidence_that_failed(answer: str, claim: str, demoted: bool) -> None:
    assert row(answer, claim=claim).demoted is demoted


def test_the_table_counts_every_kind() -> None:
    rows = [
        row(
            "unsat",
            "unsat",
            searched=True,
            splits="neurons",
            search_cpu=2.0,
            check_cpu=1.0,
            proof_bytes=100,
        ),
        row("unsat", "unsat", search_cpu=4.0, proof_bytes=300),
        row("sat", "unsat", key="the wrong one", inside=False, search_cpu=6.0),
        row("timeout", search_cpu=60.0),
        row("unknown", claim="unsat", key="the demoted one"),
        row("refused", reason="n.onnx: Sin (tensor 'a', node 1): no. Cos (tensor 'b', node 2): no"),
        row("refused", reason="m.onnx: Cos (tensor 'b', node 3): no. Sin (tensor 'a', node 1): no"),
        row("error", reason="ValueError"),
    ]
    text = table(rows)
    cells = [cell.strip() for cell in text.splitlines()[2].strip("|").split("|")]
    assert cells[:9] == ["b", "8", "2", "1", "2", "2", "1", "1", "1"]
    assert cells[9] == "4.00 / 72"
    assert cells[11] == "1.00 / 1"
    assert cells[13] == "200 / 400"
    assert "- splits on neurons: median 0.50, 1 proofs" in text
    assert "- b, 2 times: Cos, Sin" in text
    assert text.count("the wrong one") == 2
    assert text.count("the demoted one") == 1


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [
        row("unsat", wall=1.25, searched=True, leaves=7, reason='a "quoted", reason'),
        row("sat", inside=False),
    ]
    path = tmp_path / "results.csv"
    with path.open("a", newline="") as stream:
        for one in rows:
            bench._append(stream, one)
    assert read_results(path) == rows
    with path.open("a") as stream:
        stream.write("cut,short")
    assert read_results(path) == rows
    path.write_text("other,columns\n1,2\n")
    with pytest.raises(InputError, match="other columns"):
        read_results(path)
    assert read_results(tmp_path / "absent.csv") == []


class FakeWorker:
    """Answers at once; ``KeyboardInterrupt`` on the model named stop."""

    jobs: ClassVar[list[Job]] = []

    def __init__(self, memory: float) -> None:
        assert memory > 0

    def run(self, job: Job) -> dict[str, Any]:
        if job.onnx.endswith("stop"):
            raise KeyboardInterrupt
        FakeWorker.jobs.append(job)
        return {"answer": "unsat", "evidence": job.evidence + ".farkas", "proof_bytes": 10}

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    monkeypatch.setattr(bench, "Worker", FakeWorker)
    FakeWorker.jobs = []
    return FakeWorker.jobs


def test_finished_queries_are_not_run_again(fake: list[Job], tmp_path: Path) -> None:
    path = write(tmp_path / "b" / "instances.csv", "x/a,p,5\ny/a,p,5\n")
    settings = Settings(None, (), tmp_path / "out")
    first = bench.run(path, settings, io.StringIO())
    assert [job.limit for job in fake] == [5.0, 5.0]
    assert len({job.evidence for job in fake}) == 2
    log = io.StringIO()
    assert bench.run(path, settings, log) == first
    assert len(fake) == 2
    assert "2 of 2 have results already" in log.getvalue()
    assert (tmp_path / "out" / "table.md").read_text() == first
    rows = read_results(tmp_path / "out" / "results.csv")
    assert {os.path.dirname(row.evidence) for row in rows} == {os.path.join("evidence", "b")}


def test_an_interrupted_run_keeps_what_it_has_and_goes_on(fake: list[Job], tmp_path: Path) -> None:
    path = write(tmp_path / "b" / "instances.csv", "a,p\nstop,p\nc,p\n")
    settings = Settings(7.0, (), tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        bench.run(path, settings, io.StringIO())
    assert "| b | 1 | 1 |" in (tmp_path / "out" / "table.md").read_text()
    write(path, "a,p\nc,p\n")
    bench.run(path, settings, io.StringIO())
    assert [Path(job.onnx).name for job in fake] == ["a", "c"]
    assert [job.limit for job in fake] == [7.0, 7.0]


def test_evidence_is_listed_with_its_questions(fake: list[Job], tmp_path: Path) -> None:
    """That of earlier runs, too, whatever --only says now."""
    write(tmp_path / "b" / "instances.csv", "net/a,p\nnet/c,p\n")
    out = tmp_path / "out"
    for only in ("net/a", "net/c"):
        bench.run(tmp_path, Settings(None, (only,), out, semantics="float32"), io.StringIO())
    with (out / "evidence.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["onnx"], row["vnnlib"]) for row in rows] == [
        ("b/net/a", "b/p"),
        ("b/net/c", "b/p"),
    ]
    assert {(row["expect"], row["semantics"]) for row in rows} == {("unsat", "float32")}
    assert {row["evidence"] for row in rows} == {
        row.evidence for row in read_results(out / "results.csv")
    }


def test_a_run_can_be_checked_again(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    path = write(
        tmp_path / "list.csv", "digits.onnx,holds.vnnlib,30\ndigits.onnx,violated.vnnlib,30\n"
    )
    for name in ("digits.onnx", "holds.vnnlib", "violated.vnnlib"):
        shutil.copy(examples / name, tmp_path)
    out = tmp_path / "out"
    assert farkas.main(["bench", str(path), "--out", str(out)]) == 0
    capsys.readouterr()
    again = ["check", str(out), "--questions", str(tmp_path), "--processes", "1"]
    assert farkas.main(again) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 checked: 1 valid sat, 1 valid unsat"
    lists = out / "evidence.csv"
    lists.write_text(lists.read_text().replace(",sat,", ",unsat,"))
    assert farkas.main(again) == 1


def test_settings_reach_the_jobs_and_the_table(fake: list[Job], tmp_path: Path) -> None:
    path = write(tmp_path / "b" / "instances.csv", "a,p\n")
    given = {"attack.steps": 3, "policy.attack_share": 0.0}
    text = bench.run(path, Settings(None, (), tmp_path / "out", settings=given), io.StringIO())
    assert [job.settings for job in fake] == [given]
    assert text.splitlines()[-1] == "Settings: attack.steps=3 policy.attack_share=0.0"
    plain = bench.run(path, Settings(None, (), tmp_path / "plain"), io.StringIO())
    assert "Settings:" not in plain


def test_results_of_other_settings_are_not_added_to(fake: list[Job], tmp_path: Path) -> None:
    path = write(tmp_path / "b" / "instances.csv", "a,p\nstop,p\n")

    def again(given: dict[str, Any]) -> None:
        with pytest.raises(KeyboardInterrupt):
            bench.run(path, Settings(None, (), tmp_path / "out", settings=given), io.StringIO())

    again({"attack.steps": 3})
    again({"attack.steps": 3})
    for other in ({}, {"attack.steps": 4}, {"attack.steps": 3, "attack.rows": 1}):
        settings = Settings(None, (), tmp_path / "out", settings=other)
        with pytest.raises(InputError, match=r"made with --set attack.steps=3, not with"):
            bench.run(path, settings, io.StringIO())
    assert [Path(job.onnx).name for job in fake] == ["a"]


def test_results_without_a_note_of_settings_had_none(fake: list[Job], tmp_path: Path) -> None:
    path = write(tmp_path / "b" / "instances.csv", "a,p\n")
    bench.run(path, Settings(None, (), tmp_path / "out"), io.StringIO())
    assert not (tmp_path / "out" / "settings.json").exists()
    settings = Settings(None, (), tmp_path / "out", settings={"attack.steps": 3})
    with pytest.raises(InputError, match="made with no --set, not with --set attack"):
        bench.run(path, settings, io.StringIO())
    (tmp_path / "out" / "results.csv").unlink()  # nothing there to mix with
    bench.run(path, settings, io.StringIO())
    (tmp_path / "out" / "settings.json").write_text("{")
    with pytest.raises(InputError, match="cannot read"):
        bench.run(path, settings, io.StringIO())


def test_only_chooses_benchmarks_or_paths(fake: list[Job], tmp_path: Path) -> None:
    text = "benchmark,onnx,vnnlib\nacas,net1,p\nacas,net2,p\nacas2,net1,p\n"
    path = write(tmp_path / "instances.csv", text)
    for only, count in ((("acas",), 2), (("net1",), 2), (("acas2", "net2"), 2)):
        fake.clear()
        bench.run(path, Settings(None, only, tmp_path / "-".join(only)), io.StringIO())
        assert len(fake) == count, only
    with pytest.raises(InputError, match="no query matches"):
        bench.run(path, Settings(None, ("nonsense",), tmp_path / "out"), io.StringIO())


def test_errors_become_rows(tmp_path: Path) -> None:
    job = Job(str(tmp_path / "absent.onnx"), str(tmp_path / "p"), 5.0, str(tmp_path / "e"), "cpu")
    result = attempt(job)
    assert result["answer"] == "refused"
    assert "absent.onnx" in result["reason"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPU: can't allocate memory")]
)
def test_running_out_of_memory_is_no_error_of_ours(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verifier import bench_worker

    def fail(*_: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(bench_worker, "_answer", fail)
    result = attempt(job())
    assert (result["answer"], result["reason"]) == ("unknown", "ran out of memory")


def job(limit: float = 60.0) -> Job:
    return Job("a", "b", limit, "c", "cpu")


def echo(job: Job) -> dict[str, Any]:
    return {"answer": "unsat", "reason": str(os.getpid())}


def die(job: Job) -> dict[str, Any]:
    os._exit(7)


def hang(job: Job) -> dict[str, Any]:
    time.sleep(600)
    return {}


def swell(job: Job) -> dict[str, Any]:
    kept = bytearray(400_000_000)
    kept[::4096] = b"x" * len(kept[::4096])
    time.sleep(600)
    return {"kept": len(kept)}


@pytest.mark.parametrize(
    ("task", "memory", "answer", "reason"),
    [
        (die, 8.0, "error", "exit status 7"),
        (hang, 8.0, "timeout", "overran"),
        (swell, 0.35, "unknown", "memory"),
    ],
)
def test_a_worker_that_fails_costs_one_query(
    task: Callable[[Job], dict[str, Any]],
    memory: float,
    answer: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from verifier import bench_worker

    monkeypatch.setattr(bench_worker, "_GRACE", 0.5)
    worker = Worker(memory, early=(), task=task)
    try:
        result = worker.run(job(limit=0.5 if task is hang else 30.0))
        assert result["answer"] == answer
        assert reason in result["reason"]
        worker.task = echo
        assert worker.run(job())["answer"] == "unsat"
    finally:
        worker.close()


def test_one_process_serves_many_queries() -> None:
    worker = Worker(8.0, early=(), task=echo)
    try:
        served = {worker.run(job())["reason"] for _ in range(3)}
    finally:
        worker.close()
    assert len(served) == 1
    assert served != {str(os.getpid())}
