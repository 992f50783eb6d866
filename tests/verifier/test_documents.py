"""The pages say what happens: the tutorial's commands run, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import farkas
from verifier.certify.command import _parser
from verifier.certify.config import SECTIONS, load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "vnncomp/README.md"])
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()


def steps(page: str) -> list[tuple[str, list[str]]]:
    """Commands, and the lines that are to be printed."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def printed(lines: list[str], said: str) -> bool:
    """Whether a text is what the lines show; ``...`` stands for anything."""
    parts = ("\n".join(lines) + "\n").split("...")
    pattern = ".*".join(map(re.escape, parts))
    return re.fullmatch(pattern.rstrip("\\\n") + r"\s*", said, re.DOTALL) is not None


def test_what_counts_as_printed():
    assert printed(["a", "..."], "a\nb\nc\n")
    assert printed(["a ... c"], "a b c\n")
    assert printed(["...", "c"], "a\nb\nc\n")
    assert not printed(["a"], "a\nb\n")
    assert not printed(["b", "..."], "a\nb\n")
    assert not printed(["a", "..."], "")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with the examples, and an environment in which ``farkas`` is a command."""
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(ROOT / "examples", folder / "examples")
    programs = tmp_path_factory.mktemp("bin")
    for name, arguments in (("farkas", [str(ROOT / "farkas.py")]), ("python", [])):
        script = programs / name
        command = shlex.join([sys.executable, *arguments])
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    if not any(found.name == "farkas" for found in entry_points(group="pytest11")):
        environment["PYTEST_PLUGINS"] = "verifier.pytest_plugin"
    return folder, environment


PLAIN = re.compile(r'farkas ([^;|<>$]*)(; echo "exit code \$\?")?')


def done(command: str, place: tuple[Path, dict[str, str]], capsys) -> str:
    """What a command prints; Farkas alone runs in this process, everything else in a shell."""
    folder, environment = place
    plain = PLAIN.fullmatch(command)
    if plain is None:
        return subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
        ).stdout
    code = farkas.main(shlex.split(plain[1]))
    return capsys.readouterr().out + (f"exit code {code}\n" if plain[2] else "")


def test_the_commands_of_the_tutorial_run(place, capsys, monkeypatch):
    monkeypatch.chdir(place[0])
    listed = steps(TUTORIAL)
    assert len(listed) >= 12
    for command, lines in listed:
        said = done(command, place, capsys)
        assert printed(lines, said), f"{command}\n{said}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_reached_from_the_first():
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        text = page.read_text()
        named = re.findall(r"\]\(([^)#\s]+\.md)\)", text)
        ahead += [(page.parent / name).resolve() for name in named]
        ahead += [ROOT / name for name in re.findall(r"`(docs/\w+\.md)`", text)]
    assert set((ROOT / "docs").glob("*.md")) <= seen


FILES = re.compile(r"`((?:specs|proofs|verifier|tests|benchmarks|examples|docs)/[\w/.*]+)`")


@pytest.mark.parametrize("name", ["extending", "ci", "reading", "tutorial"])
def test_files_that_are_named_are_there(name):
    text = (ROOT / f"docs/{name}.md").read_text()
    for path in FILES.findall(text):
        if "NAME" not in path and not path.startswith("docs/api"):
            assert list(ROOT.glob(path)), path


@pytest.mark.parametrize("page", ["docs/ci.md", "examples/workflow.yml", "docs/tutorial.md"])
def test_options_of_certify_are_known(page):
    text = (ROOT / page).read_text()
    commands = re.findall(r"farkas certify (\S+\.toml[^\n;>]*)", text)
    assert commands
    for arguments in commands:
        _parser().parse_args(shlex.split(arguments))


def test_the_workflow_installs_what_is_checked_out():
    text = (ROOT / "examples/workflow.yml").read_text()
    (path,) = re.findall(r"path: (farkas\S*)", text)
    ((source, extras),) = re.findall(r'pip install [^\n]*"\./([\w-]+)\[(.*?)\]"', text)
    assert source == path
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= set(known["optional-dependencies"])
    assert "torch==" in (ROOT / "constraints.txt").read_text()


def test_the_workflow_checks_evidence_where_there_is_any(tmp_path):
    """A run that only samples leaves certificates that are no evidence."""
    text = (ROOT / "examples/workflow.yml").read_text()
    (line,) = re.findall(r"run: (if .*farkas check .*)", text)
    evidence = tmp_path / "runs/certify/evidence"

    def code() -> int:
        stub = f'farkas() {{ {shlex.quote(sys.executable)} -m farkas "$@"; }}'
        command = ["bash", "-e", "-c", f"{stub}\n{line}"]
        return subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=False).returncode

    assert code() == 0  # nothing was written, as of a faulty configuration
    evidence.mkdir(parents=True)
    (evidence / "smoothing-0.json").write_text("{}")
    assert code() == 0
    farkas.assert_holds(
        ROOT / "examples/digits.onnx", ROOT / "examples/holds.vnnlib", evidence=evidence
    )
    assert code() == 0
    (damaged,) = evidence.glob("*.farkas")
    damaged.write_bytes(b"PK")
    assert code() == 3


def test_the_gate_of_the_page_is_read(tmp_path):
    (gate,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), re.DOTALL)
    for name in ("digits.onnx", "digits.npz"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    (tmp_path / "farkas.toml").write_text(gate)
    assert list(load_config(tmp_path / "farkas.toml").answers) == ["robustness"]


def test_the_page_on_extending_names_where_sections_are_listed():
    text = (ROOT / "docs/extending.md").read_text()
    assert "`SECTIONS` (`verifier/certify/config.py`)" in text
    assert SECTIONS


def test_the_reference_is_made(tmp_path):
    pytest.importorskip("pdoc")
    command = "import sys; sys.path.insert(0, 'docs'); import make_api, pathlib; " + (
        f"make_api.write(pathlib.Path({str(tmp_path)!r}), ['specs.property', 'farkas'])"
    )
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)
    page = (tmp_path / "specs/property.html").read_text()
    assert "An input region and the unsafe outputs over it." in page
    assert 'id="assert_robust"' in (tmp_path / "farkas.html").read_text()
