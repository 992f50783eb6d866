"""Nothing is lost and nothing is done twice, whoever is interrupted or killed."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

import farkas
from specs.errors import FarkasError, InputError
from tests.verifier.certify_files import folder_with, part, run
from verifier.certify.cluster import SETTINGS, Cluster, join
from verifier.certify.config import load_config
from verifier.certify.processes import Processes
from verifier.certify.run import certify
from verifier.certify.store import Store
from verifier.certify.workbench import Workbench

ROOT = Path(__file__).resolve().parents[2]
TEXT = '[robustness]\nradius = 0.001\nlabel = "predicted"\n'


def several(tmp_path, count=60):
    """A configuration of easy questions, which need no torch."""
    return folder_with(tmp_path, TEXT, count=count)


def digests(path):
    return [
        task.digest for each in load_config(path).answers["robustness"] for task in each.tasks()
    ]


def stamps(tmp_path):
    """When each result was written."""
    folder = tmp_path / "out/results"
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("[0-9a-f]*.json")}


def test_processes_say_what_one_does(tmp_path):
    path = several(tmp_path, 6)
    store = Store(tmp_path / "out")
    made = certify(load_config(path), store, None, Processes(path, store.folder, 2))
    assert (made.done, made.found) == (6, 0)
    (tmp_path / "b").mkdir()
    alone = run(several(tmp_path / "b", 6))
    assert part(made).facts["curve"] == part(alone).facts["curve"]
    again = certify(load_config(path), store, None, Processes(path, store.folder, 2))
    assert (again.done, again.found) == (0, 6)
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_a_killed_worker_costs_nothing(tmp_path):
    path = several(tmp_path, 16)
    crew = Processes(path, tmp_path / "out", 2)
    found = []
    try:
        for digest in crew.run(digests(path)):
            found.append(digest)
            if len(found) in (2, 9):
                os.kill(crew.pids[0], signal.SIGKILL)
    finally:
        crew.close()
    assert sorted(found) == sorted(digests(path))
    assert len(stamps(tmp_path)) == 16
    assert run(path).done == 0


def test_a_task_that_ends_every_worker_is_an_error(tmp_path):
    path = several(tmp_path, 2)
    crew = Processes(path, tmp_path / "out", 1)
    over = threading.Event()

    def kill():
        while not over.wait(0.02):
            for pid in crew.pids:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(FarkasError, match="ended 3 times"):
            list(crew.run(digests(path)))
    finally:
        over.set()
        killer.join()
        crew.close()


def test_a_fault_of_a_task_is_said(tmp_path):
    path = several(tmp_path, 2)
    known = digests(path)
    path.write_text(path.read_text().replace("0.001", "0.002"))
    crew = Processes(path, tmp_path / "out", 1)
    try:
        with pytest.raises(InputError, match="changed while tasks were done"):
            list(crew.run(known))
    finally:
        crew.close()


def test_a_result_that_is_there_is_not_made_again(tmp_path):
    path = several(tmp_path, 2)
    bench = Workbench(path, tmp_path / "out")
    first = digests(path)[0]
    bench.do(first)
    before = stamps(tmp_path)
    bench.do(first)
    assert stamps(tmp_path) == before
    assert len(before) == 1


@pytest.mark.parametrize(
    ("kind", "processes"), [("SIGINT", 1), ("SIGKILL", 1), ("SIGINT", 2), ("SIGKILL", 2)]
)
def test_an_interrupted_command_is_resumed(kind, processes, tmp_path):
    path = several(tmp_path, 60)
    command = [sys.executable, "-m", "farkas", "certify", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--processes", str(processes)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        preexec_fn=heeding,
    )
    while len(stamps(tmp_path)) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, kind))
    code = process.wait()
    assert code == (130 if kind == "SIGINT" else -9)
    before = settled(tmp_path)
    assert 3 <= len(before) < 60
    again = run(path)
    assert (again.done, again.found) == (60 - len(before), len(before))
    after = stamps(tmp_path)
    assert {name: after[name] for name in before} == before
    if kind == "SIGKILL" and processes == 1:
        assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def heeding() -> None:
    """SIGINT counts, though whoever started the tests in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def settled(tmp_path):
    """The results, once processes without a parent have ended."""
    before, after = None, stamps(tmp_path)
    while before != after:
        time.sleep(0.5)
        before, after = after, stamps(tmp_path)
    return after


WRONG = {
    "none": (["--processes", "0"], "at least 1"),
    "gpus": (["--gpus", "1"], "goes with --ray"),
    "no gpus": (["--gpus", "0"], "must be positive"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_usage(name, tmp_path, capsys):
    given, words = WRONG[name]
    path = several(tmp_path, 1)
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "o"), *given]) == 3
    assert words in capsys.readouterr().err


# -------------------------------------------------------------------------------------- Ray

ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(scope="module")
def cluster():
    """A cluster that the tests share; its words at its start."""
    words = io.StringIO()
    with redirect_stderr(words), redirect_stdout(words):
        assert join("local", 2)
    import ray as joined

    yield words.getvalue()
    joined.shutdown()


@ray
def test_ray_does_the_tasks_of_a_killed_worker_again(tmp_path, cluster):
    assert cluster == ""
    path = several(tmp_path, 30)
    crew = Cluster(path, tmp_path / "out", "local", 2)
    found = []
    killed = 0
    try:
        for digest in crew.run(digests(path)):
            found.append(digest)
            if len(found) == 3:
                for pid in workers_of(os.getpid()):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
    finally:
        crew.close()
    assert killed
    assert sorted(found) == sorted(digests(path))
    assert run(path).done == 0


@ray
def test_ray_lacks_the_gpus(tmp_path, cluster):
    path = several(tmp_path, 2)
    with pytest.raises(InputError, match="--gpus 64"):
        list(Cluster(path, tmp_path / "out", "local", 1, 64).run(digests(path)))


@ray
def test_a_fault_of_a_ray_task_is_said(tmp_path, cluster):
    path = several(tmp_path, 2)
    known = digests(path)
    path.write_text(path.read_text().replace("0.001", "0.002"))
    with pytest.raises(InputError, match="changed while tasks were done"):
        list(Cluster(path, tmp_path / "out", "local", 1).run(known))


@ray
def test_the_command_joins_a_cluster_and_says_nothing_of_it(tmp_path, cluster):
    import ray as joined

    address = joined.get_runtime_context().gcs_address
    path = several(tmp_path, 4)
    out = ["--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "farkas", "certify", str(path), *out, "--ray", address]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0
    assert not re.search("INFO|WARNING", told.stderr)
    assert len(stamps(tmp_path)) == 4
    assert joined.is_initialized()


@ray
def test_a_count_of_processors_is_for_a_cluster_that_is_started(tmp_path):
    with pytest.raises(InputError, match="goes with --ray local"):
        Cluster(several(tmp_path, 1), tmp_path / "out", "127.0.0.1:1", 1)


@dataclass
class NoRay(ModuleType):
    """A Ray whose first starts fail.

    Attributes:
        bad: how many do.
        told: the arguments of each.
    """

    bad: int
    told: list = field(default_factory=list)

    def is_initialized(self):
        return False

    def shutdown(self):
        pass

    def init(self, **given):
        self.told.append(given)
        if len(self.told) <= self.bad:
            raise Exception("The current node timed out during startup.")


STARTED = {
    "local, at last": ("local", 2, 3),
    "local": ("local", 3, 0),
    "other": ("10.0.0.1:1", 1, 0),
}


@pytest.mark.parametrize("name", list(STARTED))
def test_a_slow_start_is_tried_again(name, monkeypatch):
    address, bad, tries = STARTED[name]
    for key in SETTINGS:
        monkeypatch.setenv(key, "")  # what is set below goes again
        monkeypatch.delenv(key)
    fake = NoRay(bad)
    monkeypatch.setitem(sys.modules, "ray", fake)
    if tries:
        assert join(address)
        assert len(fake.told) == tries
    else:
        with pytest.raises(InputError, match=f"--ray {address}: The current node timed out"):
            join(address)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_without_ray_it_is_said_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = several(tmp_path, 1)
    command = ["certify", str(path), "--out", str(tmp_path / "o"), "--ray", "local"]
    assert farkas.main(command) == 3
    assert '".[ray]"' in capsys.readouterr().err


def workers_of(ancestor):
    """Ray's worker processes below a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "cmdline").read_bytes()
            chain = int(entry.name)
            while chain not in (0, 1, ancestor):
                chain = int(Path(f"/proc/{chain}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if name.startswith((b"ray::_do", b"ray::IDLE")) and chain == ancestor:
            found.append(int(entry.name))
    return found
