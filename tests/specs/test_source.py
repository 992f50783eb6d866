"""Files that questions are read from; what is none is refused at once."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from specs.errors import PropertyError
from specs.source import read_bytes, read_source

ROOT = Path(__file__).resolve().parents[2]


def test_files_are_read_gzipped_or_not(tmp_path):
    plain, packed = tmp_path / "a", tmp_path / "b.gz"
    plain.write_bytes(b"text")
    packed.write_bytes(gzip.compress(b"text"))
    assert read_bytes(plain) == (b"text", plain)
    assert read_bytes(tmp_path / "b") == (b"text", packed)
    link = tmp_path / "link"
    link.symlink_to(plain)
    assert read_source(link)[0].text == "text"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder", "not a regular file"),
        ("absent", "no such file"),
        ("loop", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("nul\0", "cannot be read"),
        ("", "not a regular file"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(PropertyError, match=says):
        read_bytes(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("pipe", ["pipe.vnnlib", "pipe.onnx", "pipe.toml", "packed.vnnlib"])
def test_named_pipes_are_not_waited_for(tmp_path, pipe):
    """In a process of its own: a reader that waits is ended, and fails here."""
    os.mkfifo(tmp_path / (f"{pipe}.gz" if pipe.startswith("packed") else pipe))
    given = [pipe] if pipe.endswith(".toml") else ["net.onnx", "property.vnnlib"]
    given = [pipe if Path(pipe).suffix == Path(name).suffix else name for name in given]
    if pipe.endswith(".vnnlib"):
        from tests.proofs.test_folder import model

        (tmp_path / "net.onnx").write_bytes(model())
    found = subprocess.run(
        [sys.executable, "-c", "import sys, farkas; sys.exit(farkas.main())", "show", *given],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 3
    assert "not a regular file" in found.stderr
