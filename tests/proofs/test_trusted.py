"""The trusted base is what its page says it is, and nothing heavier is loaded by a check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("specs", "proofs", "verifier", "farkas")


def module_file(name: str) -> Path | None:
    path = ROOT / Path(*name.split("."))
    for found in (path.with_suffix(".py"), path / "__init__.py"):
        if found.is_file():
            return found
    return None


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module or ""}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in OURS}


def trusted() -> dict[str, int]:
    """Files reachable by imports from the kernel and the readers, with their line counts."""
    waiting = ["proofs.check", "specs.question"]
    waiting += ["proofs.watermarks.check", "specs.watermarks.question"]
    waiting += ["proofs.partitions.check"]
    seen: set[str] = set()
    files: dict[str, int] = {}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = module_file(name)
        if path is None:
            continue
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        files[str(path.relative_to(ROOT))] = len(path.read_text().splitlines())
        waiting += imported(path)
        if "import_module(" in path.read_text():  # by name: any module of the package
            waiting += [f"{name}.{p.stem}" for p in path.parent.glob("*.py")]
    return {name: lines for name, lines in sorted(files.items()) if lines > 1}


def table() -> str:
    return "\n".join(f"| `{name}` | {lines} |" for name, lines in trusted().items())


def test_the_page_lists_the_trusted_files():
    page = (ROOT / "proofs/TRUSTED.md").read_text()
    listed = dict(re.findall(r"^\| `?([\w/]+\.py)`? \| ([\d,]+) \|$", page, re.MULTILINE))
    listed = {name: int(lines.replace(",", "")) for name, lines in listed.items()}
    files = trusted()
    total = sum(files.values())
    assert listed == files, f"the table of proofs/TRUSTED.md should be ({total} lines):\n{table()}"
    assert not [name for name in files if name.startswith("verifier")]


LIGHT = """
import sys
from pathlib import Path
from proofs.check import check_file, check_proof
from specs.question import load_question
question = load_question("examples/digits.onnx", "examples/holds.vnnlib")
check_proof(question, None)
heavy = {"torch", "scipy", "onnxruntime", "verifier", "highspy", "z3", "sklearn"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""


def test_a_check_loads_neither_the_search_nor_a_solver():
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
