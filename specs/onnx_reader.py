"""Reading ONNX models.

A model file becomes a :class:`specs.network.Network`: a graph of linear and univariate
nodes, every constant exact or enclosed.  The rules of the operators stand in
``specs.reader.operators``.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from specs.errors import ModelError
from specs.network import Network
from specs.query import ModelFile
from specs.reader.graph import build_network
from specs.reader.tensors import ExternalData

MAX_BYTES = 1 << 31
"""Largest model file that is read, after decompression; protocol buffers end there too."""

_GZIP = b"\x1f\x8b"
_LFS = b"version https://git-lfs"


def read_model(path: Path | str) -> tuple[Network, ModelFile]:
    """The network in a ``.onnx`` or ``.onnx.gz`` file, and the file as evidence names it.

    ``PATH.gz`` is read where there is no ``PATH``.

    Raises:
        ModelError: no such file, damaged, too large, or it breaks a rule of its format.
        UnsupportedOperatorError: operators without a rule; all of them are named.
    """
    path = Path(path)
    content = _content(path)
    if content.startswith(_LFS):
        raise ModelError(
            f"{path}: a Git-LFS pointer, not the model itself; fetch it with 'git lfs pull'"
        )
    external = ExternalData(path.parent)
    network = _network(content, external, str(path))
    digest = hashlib.sha256(content)
    for part in external.hashes:
        digest.update(part)
    return network, ModelFile(path, content, digest.hexdigest())


def read_model_bytes(content: bytes, folder: Path | None, name: str) -> Network:
    """The network in the decompressed bytes of a model file.

    Args:
        content: the bytes.
        folder: where external data may be read from; ``None``: nowhere.
        name: what to call the model in messages.

    Raises:
        ModelError, UnsupportedOperatorError: as :func:`read_model`.
    """
    return _network(content, ExternalData(folder), name)


def _network(content: bytes, external: ExternalData, name: str) -> Network:
    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{name}: not an ONNX model ({error})") from None
    try:
        return build_network(model, len(content), external)
    except ModelError as error:
        raise type(error)(f"{name}: {error}") from error


def _content(path: Path) -> bytes:
    packed = path.with_name(path.name + ".gz")
    found = packed if not path.exists() and packed.exists() else path
    try:
        with found.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if content.startswith(_GZIP):
            with gzip.open(found) as unpacked:
                content = unpacked.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ModelError(f"{found}: damaged gzip file ({error})") from None
    except OSError as error:
        raise ModelError(f"{found}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_BYTES:
        raise ModelError(f"{found}: larger than {MAX_BYTES} bytes, decompressed")
    return content
