"""Reading text files, and naming places in them."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from specs.errors import PropertyError

MAX_BYTES = 1 << 29
"""Largest file that is read, after decompression."""

_GZIP = b"\x1f\x8b"
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Source:
    """A text and what to call it in messages."""

    name: str
    text: str

    def error(self, offset: int, message: str) -> PropertyError:
        """An error at a character of the text, as ``NAME:LINE:COLUMN: message``."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        return PropertyError(f"{self.name}:{line}:{column}: {message}")


def read_bytes(path: str | Path) -> tuple[bytes, Path]:
    """The decompressed bytes of a file that may be gzipped, and the path they came from.

    ``PATH.gz`` is read where there is no ``PATH``.

    Raises:
        PropertyError: no such file, not a regular one, larger than ``MAX_BYTES``, damaged, or
            a Git-LFS pointer in its place.
    """
    path = Path(path)
    try:
        packed = path.with_name(path.name + ".gz")
        if not path.exists() and packed.exists():
            path = packed
        if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
            raise PropertyError(f"{path}: cannot be read (not a regular file)")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if content.startswith(_GZIP):
            with gzip.open(path) as unpacked:
                content = unpacked.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise PropertyError(f"{path}: there is no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PropertyError(f"{path}: damaged gzip file ({error})") from None
    except (OSError, ValueError) as error:  # a name may hold a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise PropertyError(f"{path}: cannot be read ({reason})") from None
    if len(content) > MAX_BYTES:
        raise PropertyError(f"{path}: larger than {MAX_BYTES} bytes, decompressed; split it")
    if content.startswith(_LFS):
        raise PropertyError(
            f"{path}:1:1: a Git-LFS pointer, not the file itself; fetch it with 'git lfs pull'"
        )
    return content, path


def read_source(path: str | Path) -> tuple[Source, str]:
    """The text of a file that may be gzipped, and the SHA-256 of its decompressed bytes.

    Raises:
        PropertyError: as :func:`read_bytes`, or the file is not UTF-8 text.
    """
    content, found = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    try:
        return Source(str(found), content.decode()), digest
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        message = f"byte 0x{content[error.start]:02x} is not UTF-8 text"
        raise PropertyError(f"{found}:{line}:{column}: {message}") from None
