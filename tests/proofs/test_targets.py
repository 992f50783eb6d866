"""What cannot be written, or should not be replaced, is known before the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proofs.format import replacing
from proofs.targets import check_targets
from specs.errors import InputError


def test_new_files_and_old_ones_are_written(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_bytes(b"before")
    check_targets(None, new, old, None)
    for path in (new, old):
        with replacing(path) as stream:
            stream.write(b"after")
        assert path.read_bytes() == b"after"
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old"}


@pytest.mark.parametrize("name", ["folder", "pipe", "no/such", "x" * 300])
def test_nothing_else_is_replaced(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="cannot write"):
        check_targets(tmp_path / name)
    with pytest.raises(OSError, match=r"[Ff]ile"), replacing(tmp_path / name):
        pytest.fail("something is written")
    assert sorted(tmp_path.iterdir()) == before
    assert not (tmp_path / "pipe").is_file()


def test_devices_are_no_files():
    with pytest.raises(InputError, match="cannot write"):
        check_targets(Path("/dev/null"))


def test_one_file_is_not_two_things(tmp_path):
    with pytest.raises(InputError, match="two things"):
        check_targets(tmp_path / "a", None, tmp_path / "a")
