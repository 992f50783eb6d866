"""Reads ONNX model files into networks in normal form.

A model file becomes a :class:`specs.network.Network`: a graph of linear, univariate
and product nodes, every constant exact or enclosed.  The rules of the operators stand in
``specs.reader.operators``.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from specs.errors import ModelError
from specs.network import Network
from specs.perturbation import Rounding
from specs.query import ModelFile
from specs.reader.graph import build_network
from specs.reader.parameters import Tracker
from specs.reader.tensors import ExternalData
from specs.reader.walk import FAULTS

LARGEST_FILE = 2**31 - 1
"""Most bytes of a model, decompressed; protocol buffers end there too."""

_CHUNK = 2**22
_LFS = b"version https://git-lfs"
_GZIP = b"\x1f\x8b"


def read_model(path: Path | str, format: Rounding | None = None) -> tuple[Network, ModelFile]:
    """The network in an ``.onnx`` or ``.onnx.gz`` file, and the file as evidence names it.

    ``PATH.gz`` is read where there is no ``PATH``.  With a ``format``, the network is the
    stored graph as evaluated in it, every operator's error a node of its own.

    Raises:
        ModelError: the file cannot be read, or breaks a rule of its format.
        UnsupportedOperatorError: operators without a rule; the message names all of them.
    """
    given = Path(path)
    found, content = model_content(given)
    external = ExternalData(found.parent)
    network = _network(content, external, str(given), format)
    digest = hashlib.sha256(content)
    for part in external.hashes:
        digest.update(part)
    return network, ModelFile(found, content, digest.hexdigest())


def read_model_bytes(
    content: bytes, folder: Path | None, name: str, format: Rounding | None = None
) -> Network:
    """The network in the decompressed bytes of a model file.

    Args:
        content: the ONNX file's bytes.
        folder: where its external data lie; without one, a model that has some is refused.
        name: how to call the model in messages.
        format: as for ``read_model``.

    Raises:
        ModelError: as for ``read_model``.
    """
    return _network(content, ExternalData(folder), name, format)


def read_tracked(
    content: bytes,
    folder: Path | None,
    name: str,
    tensors: Sequence[str] | None = None,
    activations: Sequence[str] | None = (),
) -> tuple[Network, Tracker]:
    """The network of a model file, and where its stored parameters stand in it.

    Args:
        content, folder, name: as for ``read_model_bytes``.
        tensors: the initialisers to follow; ``None``: all that hold real numbers, or the
            integers that such numbers are quantised to.
        activations: the tensors that become nodes of their own, so that what a fault does to
            one of them, it does to nothing else; ``None``: all that operators with functions
            or products compute.

    Raises:
        ModelError: as for ``read_model``, or there is no such initialiser.
        UnsupportedOperatorError: an operator has no rule for a parameter that it reads.
    """
    wanted = None if tensors is None else frozenset(tensors)
    tracker = Tracker(wanted, None if activations is None else frozenset(activations))
    return _network(content, ExternalData(folder), name, None, tracker), tracker


def _network(
    content: bytes,
    external: ExternalData,
    name: str,
    format: Rounding | None,
    tracker: Tracker | None = None,
) -> Network:
    if content.startswith(_LFS):
        raise ModelError(f"{name}: a Git LFS pointer, not a model; fetch it with 'git lfs pull'")
    if not content:
        raise ModelError(f"{name}: the file is empty")
    try:
        model = ModelProto.FromString(content)
    except (DecodeError, RuntimeError, *FAULTS) as error:
        raise ModelError(f"{name}: not an ONNX model, or a damaged one") from error
    try:
        return build_network(model, len(content), external, format, tracker)
    except ModelError as error:
        raise type(error)(f"{name}: {error}") from error
    except FAULTS as error:
        raise ModelError(f"{name}: a damaged model ({error})") from error


def model_content(path: Path) -> tuple[Path, bytes]:
    """The file that is read, and its decompressed bytes; a ``ModelError`` if it cannot be."""
    try:
        packed = path.parent / (path.name + ".gz")
        found = packed if not path.exists() and packed.exists() else path
        if not found.exists():
            raise ModelError(f"{path}: no such file")
        if not found.is_file():
            raise ModelError(f"{path}: not a regular file")
        if found.stat().st_size > LARGEST_FILE:
            raise ModelError(f"{path}: larger than the 2 GiB that an ONNX file may have")
        with found.open("rb") as file:
            content = file.read()
        return found, _unpacked(found) if content.startswith(_GZIP) else content
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from error


def _unpacked(path: Path) -> bytes:
    chunks, size = [], 0
    with gzip.open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST_FILE:
                raise ModelError(f"{path}: decompresses to more than 2 GiB")
    return b"".join(chunks)
