"""Reading and writing evidence; ``FORMAT.md`` is the specification.

A reader survives any file: it allocates no more than a fixed multiple of the file's size,
unpickles nothing, follows no path, and says what is wrong.
"""

from __future__ import annotations

import ast
import errno
import io
import json
import lzma
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from proofs.archive import allowance, archived, member, short_archive
from proofs.arrays import MOST, ArrayEvidence
from proofs.arrays import TYPES as ARRAY_TYPES
from proofs.packing import TYPES, fitted, listed, packed, types_of, unpacked
from proofs.partitions.evidence import PartitionEvidence
from proofs.planes import from_planes, in_planes
from proofs.proof import Proof
from proofs.watermarks.evidence import MarkEvidence
from proofs.witness import Witness
from specs.errors import EvidenceError
from specs.faults.exact import WordFault

VERSION = 1
PROOF, WITNESS = "farkas-proof", "farkas-witness"
MANIFEST_LIMIT = 1 << 24
MANIFEST, PLANES = "manifest.json", "arrays.npy"
"""Members of archives: a packed proof has these two alone."""

Array = npt.NDArray[Any]
Evidence = Proof | Witness | ArrayEvidence

KINDS: dict[str, type[ArrayEvidence]] = {
    kind.format: kind for kind in (MarkEvidence, PartitionEvidence)
}
"""Evidence that is arrays by name, by the format that its manifest states."""


def write_proof(path: str | Path, proof: Proof, *, pack: bool = False) -> int:
    """Write a proof beside its target and rename it; returns its size in bytes.

    The file depends on the proof alone: equal proofs give equal bytes.  With ``pack`` all
    arrays are one member of the archive, in as few bits as hold them.
    """
    data = file_content(proof, pack=pack)
    with replacing(path) as stream:
        stream.write(data)
    return len(data)


def file_content(proof: Proof, *, pack: bool = False) -> bytes:
    """What :func:`write_proof` writes."""
    stated = {"format": PROOF, "version": VERSION, "question": proof.question}
    manifest = {**proof.manifest, **stated, "tensors": list(proof.tensors)}
    for key in ("arrays", "planes"):
        manifest.pop(key, None)
    members = {name: array for name, array in proof.arrays.items() if array.size}
    if pack:
        members = packed(proof.arrays)
        table, content = in_planes(members)
        text = _json({**manifest, "planes": table}, short=True)
        data = short_archive({MANIFEST: text, PLANES: _npy(content)})
        if data is not None:
            return data
    return _archived(manifest, members)


def _archived(manifest: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
    content = {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    return archived({**content, MANIFEST: _json(manifest)})


def _json(manifest: dict[str, Any], *, short: bool = False) -> bytes:
    layout: dict[str, Any] = {"separators": (",", ":")} if short else {"indent": 1}
    return json.dumps(manifest, sort_keys=True, **layout).encode()


def write_witness(path: str | Path, witness: Witness) -> int:
    """Write a witness beside its target and rename it; returns its size in bytes."""
    content = {
        "format": WITNESS,
        "version": VERSION,
        "question": witness.question,
        "case": witness.case,
        "disjunct": witness.disjunct,
        "point": [str(x) for x in witness.point],
    }
    if witness.faults:
        content["faults"] = [_fault_object(fault) for fault in witness.faults]
    text = (json.dumps(content, indent=1) + "\n").encode()
    with replacing(path) as stream:
        stream.write(text)
    return len(text)


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` once it is complete.

    Raises:
        OSError: it cannot be written, or would take the place of a device or a pipe.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is a folder, or no regular file", str(target))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def write_arrays(path: str | Path, evidence: ArrayEvidence) -> int:
    """Write evidence about a claim, as :func:`write_proof` does."""
    manifest = {
        **evidence.manifest,
        "format": evidence.format,
        "version": VERSION,
        "question": evidence.question,
        "claims": evidence.claims,
    }
    data = _archived(manifest, {n: a for n, a in evidence.arrays.items() if a.size})
    with replacing(path) as stream:
        stream.write(data)
    return len(data)


write_mark = write_arrays


def read_evidence(path: str | Path) -> Evidence:
    """Read a proof, a witness, or evidence about a claim.

    Raises:
        EvidenceError: the file is missing, damaged, too large unpacked or not evidence.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
            raise EvidenceError("it is not a regular file")
        with open(path, "rb") as stream:
            head = stream.read(2)
            stream.seek(0)
            size = os.fstat(stream.fileno()).st_size
            if head == b"PK":
                return _read_archive(stream, size)
            if head[:1] != b"{":
                raise EvidenceError("it is neither a proof nor a witness")
            if size > MANIFEST_LIMIT:
                raise EvidenceError(f"a witness of {size} bytes exceeds {MANIFEST_LIMIT}")
            return _read_witness(stream.read(MANIFEST_LIMIT))
    except EvidenceError as error:
        raise EvidenceError(f"{path}: {error}") from error
    except OSError as error:
        raise EvidenceError(f"{path}: {error.strerror or error}") from error
    except (
        ValueError,
        KeyError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        OverflowError,
        struct.error,
        lzma.LZMAError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise EvidenceError(f"{path}: the file is damaged ({error})") from error


def _read_archive(stream: BinaryIO, size: int) -> Proof | ArrayEvidence:
    with zipfile.ZipFile(stream) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        if len(infos) != len(archive.infolist()):
            raise EvidenceError("members are repeated")
        if MANIFEST not in infos:
            raise EvidenceError("it has no manifest.json")
        left = allowance(size)
        data = member(archive, infos.pop(MANIFEST), min(left, MANIFEST_LIMIT))
        left -= len(data)
        manifest = _object(data, PROOF, *KINDS)
        proof = manifest["format"] == PROOF
        known = {PLANES, *(f"{name}.npy" for name in TYPES)}
        strange = [name for name in infos if not (name in known if proof else _plain(name))]
        if strange or (not proof and len(infos) > MOST):
            raise EvidenceError(f"members are unknown, or too many: {strange!r:.200}")
        content = {}
        for name, info in infos.items():
            content[name] = member(archive, info, left)
            left -= len(content[name])
    return _proof(manifest, content) if proof else _arrays(manifest, content)


def _plain(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9_]{0,59}\.npy", name) is not None


def _arrays(manifest: dict[str, Any], content: dict[str, bytes]) -> ArrayEvidence:
    claims = manifest.get("claims")
    if not isinstance(claims, str):
        raise EvidenceError("the manifest does not say what it claims")
    arrays = {
        name.removesuffix(".npy"): _unpacked(name, data, ARRAY_TYPES)
        for name, data in content.items()
    }
    return KINDS[manifest["format"]](_digest(manifest), claims, arrays, manifest)


def _proof(manifest: dict[str, Any], content: dict[str, bytes]) -> Proof:
    lists = manifest.pop("arrays", {})
    if not isinstance(lists, dict):
        raise EvidenceError("the manifest's arrays are not lists by name")
    stored = {name: listed(name, values) for name, values in lists.items()}
    if (PLANES in content) != ("planes" in manifest):
        raise EvidenceError(f"'{PLANES}' and 'planes' in the manifest need each other")
    if PLANES in content:
        planes = _unpacked(PLANES, content.pop(PLANES), ("uint8",))
        _join(stored, from_planes(manifest.pop("planes"), planes))
    members = {file.removesuffix(".npy"): data for file, data in content.items()}
    _join(
        stored,
        {
            name: fitted(name, _unpacked(f"{name}.npy", data, types_of(name)))
            for name, data in members.items()
        },
    )
    return Proof(_digest(manifest), _tensors(manifest), unpacked(stored), manifest)


def _join(stored: dict[str, Array], more: Mapping[str, Array]) -> None:
    twice = sorted(stored.keys() & more.keys())
    if twice:
        raise EvidenceError(f"'{twice[0]}' is both a member and in the manifest, or in planes")
    stored.update(more)


def _tensors(manifest: dict[str, Any]) -> tuple[str, ...]:
    tensors = manifest.get("tensors")
    if not isinstance(tensors, list) or not all(isinstance(name, str) for name in tensors):
        raise EvidenceError("the manifest's tensors are not a list of names")
    return tuple(tensors)


def _read_witness(data: bytes) -> Witness:
    content = _object(data, WITNESS)
    case, disjunct, point = (content.get(key) for key in ("case", "disjunct", "point"))
    numbers = type(case) is int and type(disjunct) is int  # bool is another kind of int
    if not numbers or not isinstance(point, list) or not all(isinstance(x, str) for x in point):
        raise EvidenceError("a witness needs whole numbers 'case', 'disjunct' and texts 'point'")
    exact = tuple(_rational(x) for x in point)
    listed = content.get("faults", [])
    if not isinstance(listed, list):
        raise EvidenceError("'faults' is no list")
    faults = tuple(map(_fault, listed))
    return Witness(_digest(content), int(case), int(disjunct), exact, faults)  # type: ignore[arg-type]


def _fault_object(fault: WordFault) -> dict[str, Any]:
    place: dict[str, Any] = {"tensor": fault.tensor, "entry": fault.entry}
    if fault.value is not None:
        return {**place, "value": str(fault.value)}
    return {**place, "bits": list(fault.bits)}


def _fault(given: Any) -> WordFault:
    if not isinstance(given, dict) or set(given) not in ({*_PLACE, "bits"}, {*_PLACE, "value"}):
        raise EvidenceError("a fault needs 'tensor', 'entry', and 'bits' or 'value'")
    tensor, entry = given["tensor"], given["entry"]
    bits, value = given.get("bits", []), given.get("value")
    whole = type(entry) is int and isinstance(bits, list) and all(type(b) is int for b in bits)
    text = isinstance(value, str) if "value" in given else True
    if not (isinstance(tensor, str) and whole and text):
        raise EvidenceError("a fault's parts are of the wrong type")
    exact = None if value is None else _rational(value)
    return WordFault(tensor, entry, tuple(bits), exact)


def _rational(text: str) -> Fraction:
    """``p`` or ``p/q``; no exponents, whose expansion could be huge."""
    if len(text) > 4000 or not text.isascii():
        raise EvidenceError("a coordinate has more than 4000 characters, or strange ones")
    top, slash, bottom = text.partition("/")
    if not top.removeprefix("-").isdecimal() or (slash and not bottom.isdecimal()):
        raise EvidenceError(f"'{text[:40]}' is not an integer or a quotient of integers")
    if slash and int(bottom) == 0:
        raise EvidenceError("a coordinate has denominator 0")
    return Fraction(int(top), int(bottom) if slash else 1)


_PLACE = frozenset({"tensor", "entry"})


def _object(data: bytes, *kinds: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"it is not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") not in kinds:
        raise EvidenceError(f"it does not say that its format is {' or '.join(kinds)}")
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise EvidenceError(f"its version is {content.get('version')!r:.40}, not {VERSION}")
    return content


def _digest(content: dict[str, Any]) -> str:
    digest = content.get("question")
    if not isinstance(digest, str):
        raise EvidenceError("it does not name the question it was made for")
    return digest


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _unpacked(file: str, data: bytes, types: Sequence[str]) -> Array:
    """A one-dimensional ``.npy`` array; the shape must agree with the bytes present."""
    if data[:8] != b"\x93NUMPY\x01\x00" or len(data) < 10:
        raise EvidenceError(f"'{file}' is not a version 1 .npy array")
    length = struct.unpack("<H", data[8:10])[0]
    body = data[10 + length :]
    try:
        header = ast.literal_eval(data[10 : 10 + length].decode("ascii").strip())
        kind, order, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise EvidenceError(f"'{file}' has a damaged header") from error
    allowed = {np.dtype(name).newbyteorder("<").str: name for name in types}
    if not isinstance(kind, str) or kind not in allowed or order is not False:
        raise EvidenceError(f"'{file}' is of type {kind!r:.40}, not {' or '.join(allowed)}")
    dtype = np.dtype(kind)
    if not isinstance(shape, tuple) or len(shape) != 1 or not isinstance(shape[0], int):
        raise EvidenceError(f"'{file}' is not one-dimensional")
    if shape[0] * dtype.itemsize != len(body):
        raise EvidenceError(f"'{file}' declares {shape[0]} entries, not what it holds")
    return np.frombuffer(body, dtype=dtype).astype(allowed[kind])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
