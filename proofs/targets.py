"""Files that are to be written, looked at before the work that fills them."""

from __future__ import annotations

from pathlib import Path

from specs.errors import InputError


def check_targets(*paths: Path | None) -> None:
    """Refuse what :func:`proofs.format.replacing` could not replace, and one file for two things.

    Args:
        paths: ``None``: nothing is to be written there.

    Raises:
        InputError: there is no such folder, the path is a folder or a device, or named twice.
    """
    written = [path for path in paths if path is not None]
    for path in written:
        try:
            if not path.absolute().parent.is_dir():
                raise InputError(f"cannot write {path}: there is no folder {path.parent}")
            if path.exists() and not path.is_file():
                raise InputError(f"cannot write {path}: it is a folder, or no regular file")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        if written.count(path) > 1:
            raise InputError(f"{path} is to be two things: say another name for one of them")
