"""The module that people import, and the entry point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import farkas
from specs.errors import FarkasError, InputError

ROOT = Path(__file__).resolve().parent.parent


def test_every_public_name_is_there() -> None:
    for name in farkas.__all__:
        assert getattr(farkas, name) is not None
    assert farkas.FarkasError is FarkasError
    assert set(farkas.__all__) == set(dir(farkas))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        farkas.nonsense  # noqa: B018


def test_importing_loads_nothing_heavy() -> None:
    program = (
        "import sys, farkas; "
        "print(sorted({'numpy', 'onnx', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert farkas.main(["--help"]) == 0
    usage = capsys.readouterr().out
    for command in ("verify", "check", "show", "bench"):
        assert f"farkas {command}" in usage
    assert farkas.main(["--version"]) == 0
    assert capsys.readouterr().out == f"farkas {farkas.__version__}\n"


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["--nonsense"], ["verify"], ["verify", "--x"]])
def test_wrong_usage_is_exit_code_3(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert farkas.main(argv) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("yours"), 3),
        (FarkasError("ours"), 4),
        (ZeroDivisionError("ours"), 4),
        (MemoryError(), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import verifier.cli

    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(verifier.cli, "main", fail)
    assert farkas.main(["verify", "a", "b"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "farkas: " in captured.err


def test_version_is_the_distribution_s() -> None:
    import tomllib

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert stated == farkas.__version__


def test_verify_and_check_take_a_query_or_files(examples: Path, tmp_path: Path) -> None:
    files = [examples / "digits.onnx", examples / "holds.vnnlib"]
    query = farkas.load_question(*files)
    for question in (query, files):
        verdict = farkas.verify(question, timeout=60)
        assert verdict.answer == "unsat"
    assert isinstance(verdict.evidence, farkas.Proof)
    path = tmp_path / "proof.farkas"
    farkas.write_proof(path, verdict.evidence)
    assert farkas.check(files, path).verdict == "valid unsat"
    assert farkas.check(query, path, arithmetic="exact", timeout=60).verdict == "valid unsat"
    other = [examples / "digits.onnx", examples / "violated.vnnlib"]
    assert farkas.check(other, path).verdict == "unreadable"


def test_verify_refuses_unknown_options(examples: Path) -> None:
    with pytest.raises(TypeError):
        farkas.verify([examples / "digits.onnx", examples / "holds.vnnlib"], nonsense=1)
    with pytest.raises(InputError):
        farkas.verify([examples / "digits.onnx"])
