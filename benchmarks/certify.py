"""How fast ``farkas certify`` answers questions, in which memory, and what a killed worker costs.

    python -m benchmarks.certify [--questions N] [--out DIR] [--only one,two,ray]
    python -m benchmarks.certify --only subtrees [--vnncomp FOLDER] [--net 3_3 --property 2]
                                [--split-after 5]

Robustness questions about the bundled classifier of digits, one for each of scikit-learn's images:
in one process, in two, and on a Ray cluster started here; of the latter two a worker is killed when
a third of the results is there.  Then the run is repeated as it is, and with the evidence
alone.  Memory is sampled while they run: of the largest process, in each quarter of the results.
CPU seconds are those of the command and of the processes that
it waited for.

``subtrees`` is one hard question of the folder of benchmark queries that ``--vnncomp`` or the
variable FARKAS_VNNCOMP names: in one process, in two, in two of which a worker is killed when the
first portions are there, and likewise on Ray.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from proofs.format import read_evidence
from verifier.certify.processes import resident

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "one": [],
    "two": ["--processes", "2"],
    "ray": ["--ray", "local", "--processes", "2"],
}
CONFIG = """[models]
net = "{model}"
[data]
file = "digits.npz"
points = "images"
labels = "labels"
scale = 16
first = {count}
[limits]
timeout = 20
[robustness]
radius = 0.02
clip = [0, 1]
"""
HARD = """[models]
net = "net.onnx"
[limits]
timeout = 300
[vnnlib]
properties = ["property.vnnlib"]
"""
DIVIDED = {
    "one process": ([], False),
    "two processes": (WAYS["two"], False),
    "two processes, a worker killed": (WAYS["two"], True),
    "Ray, two workers, one killed": (WAYS["ray"], True),
}
WORKERS = (b"ray::_do", b"ray::IDLE", b"multiprocessing.spawn")


@dataclass
class Watched:
    """What was seen of a run."""

    seconds: float
    code: int
    killed: int
    cpu: float
    memory: list[tuple[int, int]] = field(default_factory=list)

    def largest(self, low: float, high: float) -> float:
        """Megabytes of the largest process, while the results were between two shares of all."""
        most = max((made for made, _ in self.memory), default=0)
        found = [size for made, size in self.memory if low * most <= made < high * most]
        return max(found, default=0) / 1e6


def descendants(ancestor: int) -> dict[int, bytes]:
    """Command lines below a process, by number."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
                parents[int(entry.name)] = int(stat[1])
            except (OSError, ValueError, IndexError):
                continue
    found = {}
    for number in parents:
        chain = number
        while chain in parents and chain != ancestor:
            chain = parents[chain]
        if chain == ancestor and number in names:
            found[number] = names[number]
    return found


def watch(
    command: list[str], out: Path, total: int, *, kill: bool, counted: Callable[[Path], int]
) -> Watched:
    """Run a command, kill one of its workers in the middle if asked, and sample memory."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    memory, killed = [], 0
    while process.poll() is None:
        below = descendants(process.pid)
        ours = [pid for pid, name in below.items() if pid == process.pid or _works(name)]
        made = counted(out)
        memory.append((made, max(map(resident, ours), default=0)))
        busy = [pid for pid in ours if pid != process.pid]
        if kill and not killed and busy and 3 * made > total:
            os.kill(busy[0], signal.SIGKILL)
            killed = busy[0]
        time.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Watched(time.monotonic() - start, process.returncode, killed, cpu, memory)


def _works(name: bytes) -> bool:
    return any(part in name for part in WORKERS)


def _portions(out: Path) -> int:
    return sum(1 for _ in out.glob("scratch/*/portions/*/*/[0-9]*.json"))


def _results(out: Path) -> int:
    return sum(1 for _ in (out / "results").glob("[0-9a-f]*.json"))


def measured(way: str, folder: Path, total: int) -> list[dict[str, object]]:
    """Rows of one way: the run, with a kill where there are workers, and two repetitions."""
    out = folder / way
    shutil.rmtree(out, ignore_errors=True)
    config = str(folder / "digits.toml")
    command = [sys.executable, "-m", "farkas", "certify", config, "--out", str(out), *WAYS[way]]
    rows = []
    for name in ("first", "repeated", "evidence alone"):
        if name == "evidence alone":
            shutil.rmtree(out / "results")
        kill = name == "first" and way != "one"
        seen = watch(command, out, total, kill=kill, counted=_results)
        tasks = json.loads((out / "results.json").read_text())
        questions = tasks["sections"]["robustness"][0]["facts"]["questions"]
        decided = sum(each["answer"] in ("sat", "unsat") for each in questions)
        rows.append(
            {
                "way": way,
                "run": name,
                "seconds": round(seen.seconds, 2),
                "cpu_seconds": round(seen.cpu, 2),
                "per_second": round(len(questions) / seen.seconds, 2),
                "made": tasks["tasks"]["done"],
                "results": _results(out),
                "questions": len(questions),
                "decided": decided,
                "killed": bool(seen.killed),
                "exit": seen.code,
                "mb_first_quarter": round(seen.largest(0, 0.25)),
                "mb_second_quarter": round(seen.largest(0.25, 0.5)),
                "mb_third_quarter": round(seen.largest(0.5, 0.75)),
                "mb_last_quarter": round(seen.largest(0.75, 1)),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def unpacked(folder: Path, name: str) -> bytes:
    """A file of the benchmark queries, or what is packed there."""
    packed = folder / f"{name}.gz"
    return (
        gzip.decompress(packed.read_bytes()) if packed.is_file() else (folder / name).read_bytes()
    )


def subtrees(
    folder: Path, queries: Path, net: str, number: str, after: str
) -> list[dict[str, object]]:
    """Rows of one hard question of acasxu, divided after so many seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    model = unpacked(queries / "acasxu/onnx", f"ACASXU_run2a_{net}_batch_2000.onnx")
    (folder / "net.onnx").write_bytes(model)
    stated = unpacked(queries / "acasxu/vnnlib", f"prop_{number}.vnnlib")
    (folder / "property.vnnlib").write_bytes(stated)
    (folder / "hard.toml").write_text(HARD)
    rows = []
    for way, (given, kill) in DIVIDED.items():
        if "--ray" in given and importlib.util.find_spec("ray") is None:
            continue
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        farkas = [sys.executable, "-m", "farkas"]
        command = [*farkas, "certify", str(folder / "hard.toml"), "--out", str(out), *given]
        command += ["--split-after", after] if given else []
        load = os.getloadavg()[0]
        seen = watch(command, out, 1, kill=kill, counted=_portions)
        (asked,) = json.loads((out / "results.json").read_text())["sections"]["vnnlib"]
        proofs = [read_evidence(file) for file in (out / "evidence").glob("*.farkas")]
        check = subprocess.run([*farkas, "check", str(out / "evidence")], cwd=ROOT, check=False)
        rows.append(
            {
                "way": way,
                "seconds": round(seen.seconds, 2),
                "cpu_seconds": None if "--ray" in given else round(seen.cpu, 2),
                "proved": asked["facts"]["proved"],
                "refuted": asked["facts"]["refuted"],
                "leaves": sum(proof.leaves for proof in proofs),
                "killed": bool(seen.killed),
                "check": check.returncode,
                "load": [round(load, 1), round(os.getloadavg()[0], 1)],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main(argv: list[str]) -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs/certify"))
    parser.add_argument("--only", default=",".join(WAYS))
    parser.add_argument("--vnncomp", type=Path, default=os.environ.get("FARKAS_VNNCOMP"))
    parser.add_argument("--net", default="3_3")
    parser.add_argument("--property", default="2")
    parser.add_argument("--split-after", default="5")
    args = parser.parse_args(argv)
    if args.only == "subtrees":
        if args.vnncomp is None:
            parser.error("--only subtrees needs --vnncomp or FARKAS_VNNCOMP")
        out = args.out.resolve() / "subtrees"
        rows = subtrees(out, Path(args.vnncomp), args.net, args.property, args.split_after)
        (out / "rows.json").write_text(json.dumps(rows, indent=1))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    images, labels = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    np.savez(args.out / "digits.npz", images=images, labels=labels)
    text = CONFIG.format(model=ROOT / "examples/digits.onnx", count=args.questions)
    (args.out / "digits.toml").write_text(text)
    rows = []
    for way in args.only.split(","):
        if way == "ray" and importlib.util.find_spec("ray") is None:
            print("ray: not installed")
            continue
        rows += measured(way, args.out.resolve(), args.questions)
    (args.out / "rows.json").write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
