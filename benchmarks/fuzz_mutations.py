"""Changes to evidence: to a file's bytes, to the members of its archive, to a proof's arrays."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.packing import LONGEST
from proofs.proof import ARRAYS, NodeKind, Proof
from tests.proofs.helpers import mutated

Array = npt.NDArray[Any]
Rng = np.random.Generator

INTEGERS = (0, 1, -1, 2, 7, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
TEXTS = (
    b"[" * 3000,
    b'{"a":' * 3000,
    b"[" + b"[]," * 20000 + b"[]]",
    b'{"a": ' + b"9" * 5000 + b"}",
    b"\xff\xfe",
    b"",
    b"NaN",
    b"{}",
)
HEADERS = (
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (True,)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '>u4', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '<m8[s]', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '|V2147483647', 'fortran_order': False, 'shape': (0,)}",
    "{'descr': ('|u1', (2,)), 'fortran_order': False, 'shape': (1,)}",
    "{{}: 1}",
    "1" * 5000,
    "(" * 2000,
)
METHODS = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
SHARES = (0.65, 0.15, 0.15, 0.05)


# --------------------------------------------------------------------------------- bytes


def changed_bytes(rng: Rng, data: bytes, other: bytes) -> bytes:
    """A file with some bytes flipped, left out, put in, repeated or taken from another."""
    result = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, length = int(rng.integers(0, len(result) + 1)), int(2.0 ** rng.uniform(0, 9))
        kind = int(rng.integers(0, 6))
        if kind == 0 and at < len(result):
            result[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            result = result[:at]
        elif kind == 2:
            del result[at : at + length]
        elif kind == 3:
            result[at:at] = rng.bytes(length)
        elif kind == 4:
            result[at:at] = result[at : at + length]
        else:
            start = int(rng.integers(0, len(other) + 1))
            result[at : at + length] = other[start : start + length]
    return bytes(result)


def lying_archive(rng: Rng, data: bytes, other: bytes) -> bytes:
    """Sizes, checksums, offsets, methods and flags of a zip's records say something else."""
    result = bytearray(data)
    records = ((b"PK\x01\x02", 46), (b"PK\x03\x04", 30), (b"PK\x05\x06", 22))
    for _ in range(int(rng.integers(1, 4))):
        mark, length = records[int(rng.integers(0, 3))]
        places = [k for k in range(len(data)) if data.startswith(mark, k)]
        if not places:
            continue
        at = int(rng.choice(places)) + int(rng.integers(4, length - 1))
        value = int(rng.choice(INTEGERS)) & 0xFFFFFFFF
        size = int(rng.choice([1, 2, 4]))
        result[at : at + size] = struct.pack("<I", value)[:size]
    return bytes(result[: len(data)])


def changed_members(rng: Rng, data: bytes, other: bytes) -> bytes:
    """An archive packed anew with members changed, lost, added, repeated or exchanged."""
    try:
        content, more = _members(data), _members(other)
    except (zipfile.BadZipFile, OSError):
        return changed_bytes(rng, data, other)
    if "arrays.npy" not in content and rng.random() < 0.5:
        content = _with_lists(content)
    entries = list(content.items())
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(entries)))
        name, body = entries[at]
        kind = int(rng.integers(0, 8))
        if kind == 0:
            entries[at] = name, changed_bytes(rng, body, more.get(name, body))
        elif kind == 1 and len(entries) > 1:
            del entries[at]
        elif kind == 2:
            entries.append((name, body))
        elif kind == 3:
            names = [f"{n}.npy" for n in ("arrays", *ARRAYS)] + ["../x", "/etc/passwd", "x" * 60000]
            entries.append((str(rng.choice(names)), body))
        elif kind == 4:
            entries[at] = name, more.get(name, body)
        elif kind == 5:
            entries[at] = name, _bomb(rng, name)
        elif kind == 6 and not name.endswith(".json"):
            entries[at] = name, _header(str(rng.choice(np.array(HEADERS, dtype=object)))) + body
        else:
            entries = [(n, _json(rng, b) if n.endswith(".json") else b) for n, b in entries]
    drawn = rng.choice(len(METHODS), p=SHARES)
    found = _archive(entries, METHODS[drawn])
    if METHODS[drawn] == zipfile.ZIP_LZMA and rng.random() < 0.5:  # its properties, too
        at = found.find(b"\x04\x05\x00")
        found = found[:at] + changed_bytes(rng, found[at : at + 12], found[:12]) + found[at + 12 :]
    return found


def _with_lists(content: dict[str, bytes]) -> dict[str, bytes]:
    """Members of an archive as earlier versions packed them: in the manifest."""
    manifest, lists = json.loads(content["manifest.json"]), {}
    for name, body in content.items():
        if name.endswith(".npy"):
            array = np.load(io.BytesIO(body))
            if array.size <= LONGEST:
                lists[name.removesuffix(".npy")] = array.tolist()
    rest = {name: body for name, body in content.items() if name[:-4] not in lists}
    return {**rest, "manifest.json": json.dumps({**manifest, "arrays": lists}).encode()}


def changed_witness(rng: Rng, data: bytes, other: bytes) -> bytes:
    """A witness whose values are others, or whose text is damaged."""
    return _json(rng, data) if rng.random() < 0.8 else changed_bytes(rng, data, other)


def _json(rng: Rng, body: bytes) -> bytes:
    """A JSON object with a value or two replaced, or a hostile text in its place."""
    if rng.random() < 0.15:
        return TEXTS[int(rng.integers(0, len(TEXTS)))]
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # changed before
        return body
    if not isinstance(content, dict):
        return body
    lists = content.get("arrays")
    if isinstance(lists, dict) and lists and rng.random() < 0.7:
        name = str(rng.choice([*lists]))
        lists[name] = _list(rng, lists[name])
        return json.dumps(content).encode()
    if "planes" in content and rng.random() < 0.7:
        content["planes"] = _planes(rng, content["planes"])
        return json.dumps(content).encode()
    for _ in range(int(rng.integers(1, 3))):
        keys = [*content, "arrays", "planes", "tensors", "signatures", "stranger", "\x1b[2J"]
        content[str(rng.choice(np.array(keys, dtype=object)))] = _value(rng, content)
    return json.dumps(content).encode()


def _list(rng: Rng, values: Any) -> Any:
    """A short array in the manifest, with an entry changed, lost, added or of another type."""
    whole = (-1, 0, 1, 255, 256, 65536, 1 << 32, 1 << 64, 10**400)
    strange = (None, True, "1", [1], {}, 0.5, 1e308, 1e-320, float("nan"), float("inf"))
    if not isinstance(values, list) or rng.random() < 0.1:
        return (*whole, *strange)[int(rng.integers(0, len(whole) + len(strange)))]
    result, at = list(values), int(rng.integers(0, len(values) + 1))
    choices = (*whole, *strange, *values[:3])
    result[at : at + int(rng.integers(0, 2))] = [choices[int(rng.integers(0, len(choices)))]]
    return result if rng.random() < 0.9 else result[:at]


def _planes(rng: Rng, planes: Any) -> Any:
    """Other types of arrays, other lengths, or what is no list of them."""
    if not isinstance(planes, list) or not planes or not isinstance(planes[0], str):
        return planes
    digits, sizes = planes[0], planes[1:]
    kind = int(rng.integers(0, 4))
    if kind == 0:
        return _list(rng, planes)
    if kind == 1:
        found = _list(rng, sizes)
        return [digits, *found] if isinstance(found, list) else found
    if kind == 2 and len(sizes) > 1:  # what one array loses, another one gains
        one, other = rng.integers(0, len(sizes), 2)
        moved = int(rng.integers(0, 5))
        if type(sizes[one]) is type(sizes[other]) is int:
            sizes[one], sizes[other] = sizes[one] - moved, sizes[other] + moved
        return [digits, *sizes]
    at = int(rng.integers(0, len(digits) + 1))
    put = str(rng.choice(np.array(["", "0", "1", "2", "3", "7", "9", "-", "x", "0" * 60])))
    return [digits[:at] + put + digits[at + 1 :], *sizes]


def _value(rng: Rng, content: dict[str, Any]) -> Any:
    deep: Any = 1
    for _ in range(int(rng.choice([2, 90, 900]))):
        deep = [deep]
    point = content.get("point")
    choices: list[Any] = [
        *(None, True, -1, 0, 1, 10**30, 0.5, float("nan"), "", "0" * 64, "\ud800", "\x1b[31m"),
        *({}, [], [1], ["x"] * 1000, ["x0", "x0"], [None], {"by": "x"}, deep, "9" * 4001),
    ]
    if isinstance(point, list) and point and rng.random() < 0.7:
        changed = list(point)
        at = int(rng.integers(0, len(changed)))
        numbers = ("0", "1", "-1", "1/3", "1/0", "9" * 3999, "1/" + "7" * 3998, "1e9", "-", "٣", "")
        changed[at] = str(rng.choice(np.array([*numbers, str(changed[0])], dtype=object)))
        return changed
    return choices[int(rng.integers(0, len(choices)))]


def _bomb(rng: Rng, name: str) -> bytes:
    """Much that packs into little; within the reader's allowance, or far beyond it."""
    size = int(rng.choice([1 << 16, 1 << 20, 1 << 21, 1 << 23]))
    if name.endswith(".json"):
        return TEXTS[2] * (size // len(TEXTS[2]) + 1)
    dtype = ARRAYS.get(name[:-4], ("uint8",))[0]
    buffer = io.BytesIO()
    item = np.dtype(dtype).itemsize
    np.save(buffer, np.full(size // item, int(rng.integers(0, 3)), dtype=dtype))
    return buffer.getvalue()


def _header(text: str) -> bytes:
    padded = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(entries: Sequence[tuple[str, bytes]], method: int) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # names are repeated on purpose
        for name, body in entries:
            archive.writestr(name, body)
    return buffer.getvalue()


OF_PROOFS = (changed_bytes, lying_archive, changed_members, changed_members)
"""Changes to the bytes of a proof file; the second file is one to take parts from."""


# -------------------------------------------------------------------------------- arrays


def changed_arrays(rng: Rng, proof: Proof, other: Proof) -> Proof:
    """A proof with some arrays changed; most results pass the reader's checks of form."""
    for _ in range(int(rng.integers(1, 4))):
        change = _ARRAY_CHANGES[int(rng.integers(0, len(_ARRAY_CHANGES)))]
        proof = change(rng, proof, other)
        if any(array.dtype.kind not in "iuf" for array in proof.arrays.values()):
            break  # such arrays are not to be calculated with
    return proof


def _filled(rng: Rng, proof: Proof) -> str:
    return str(rng.choice([name for name, array in proof.arrays.items() if array.size]))


def _with(proof: Proof, **arrays: Array) -> Proof:
    return replace(proof, arrays={**proof.arrays, **arrays})


def _numbers(rng: Rng, proof: Proof, other: Proof) -> Proof:
    return mutated(rng, proof)


def _extreme(rng: Rng, proof: Proof, other: Proof) -> Proof:
    name = _filled(rng, proof)
    array = proof.arrays[name].copy()
    at = int(rng.integers(0, array.size))
    if array.dtype.kind == "f":
        info = np.finfo(array.dtype)
        ends = [info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, np.nan, np.inf]
        with np.errstate(all="ignore"):
            array[at] = rng.choice(np.array([*ends, -array[at], array[at] * 2.0]))
    elif array.dtype.kind in "iu":
        bounds = np.iinfo(array.dtype)
        array[at] = int(rng.choice(np.array([bounds.max, bounds.min, bounds.max - 1], object)))
    return _with(proof, **{name: array})


def _order(rng: Rng, proof: Proof, other: Proof) -> Proof:
    name = _filled(rng, proof)
    array = proof.arrays[name]
    orders = (array[::-1], np.roll(array, 1), np.sort(array), rng.permutation(array))
    return _with(proof, **{name: orders[int(rng.integers(0, 4))].copy()})


def _length(rng: Rng, proof: Proof, other: Proof) -> Proof:
    name = _filled(rng, proof)
    array = proof.arrays[name]
    kept = array[: int(rng.integers(0, array.size + 1))]
    longer = np.concatenate([array, array[: int(rng.integers(0, array.size + 1))]])
    return _with(proof, **{name: kept if rng.random() < 0.5 else longer})


def _type(rng: Rng, proof: Proof, other: Proof) -> Proof:
    name = _filled(rng, proof)
    kinds = [*ARRAYS[name], "int64", "float16", "bool", "complex64", "U3", ">u4"]
    chosen = str(rng.choice(kinds[: int(rng.choice([len(ARRAYS[name]), len(kinds)]))]))
    with np.errstate(all="ignore"):
        try:
            return _with(proof, **{name: proof.arrays[name].astype(chosen)})
        except (ValueError, TypeError, OverflowError):
            return proof


def _pointer(rng: Rng, proof: Proof, other: Proof) -> Proof:
    """A pointer array that is still ascending from 0 to the end, with other spans."""
    names = [n for n, array in proof.arrays.items() if n.endswith("_ptr") and array.size > 2]
    if not names:
        return proof
    name = str(rng.choice(names))
    array = proof.arrays[name].copy()
    if array.dtype.kind in "iu" and int(array[-1]) >= 0:
        array[1:-1] = np.sort(rng.integers(0, int(array[-1]) + 1, array.size - 2))
    return _with(proof, **{name: array})


def _borrowed(rng: Rng, proof: Proof, other: Proof) -> Proof:
    """Arrays of one group from another proof: its trees, its hints, its steps."""
    prefixes = ("node", "tree", "block", "sub", "multiplier", "step", "set", "form", "case")
    prefix = str(rng.choice(prefixes))
    return _with(proof, **{n: a for n, a in other.arrays.items() if n.startswith(prefix)})


ARITY = {
    **dict.fromkeys((NodeKind.CLOSE, NodeKind.HOLE, NodeKind.CITE), 0),
    **dict.fromkeys((NodeKind.SWEEP, NodeKind.BOUND, NodeKind.CLIP), 1),
    **dict.fromkeys((NodeKind.SPLIT_INPUT, NodeKind.SPLIT_NEURON, NodeKind.SPLIT_AT), 2),
}


def _kind(rng: Rng, proof: Proof, other: Proof) -> Proof:
    """A node becomes another with as many children."""
    kinds, args = proof.arrays["node_kind"].copy(), proof.arrays["node_arg"].copy()
    if not kinds.size or kinds.size != args.size:
        return proof
    at = int(rng.integers(0, kinds.size))
    if kinds.dtype.kind not in "iu" or args.dtype.kind not in "iu":
        return proof
    arity = ARITY.get(int(kinds[at]))  # type: ignore[call-overload]
    alike = [int(k) for k, n in ARITY.items() if n == arity]
    if alike:
        kinds[at] = int(rng.choice(alike))
        args[at] = int(rng.integers(0, 4))
    return _with(proof, node_kind=kinds, node_arg=args)


def _subtree(rng: Rng, proof: Proof, other: Proof) -> Proof:
    """A subtree is replaced by a leaf, or by another subtree of the proof."""
    kinds, args, ptr = (proof.arrays[n] for n in ("node_kind", "node_arg", "tree_ptr"))
    whole = all(array.dtype.kind in "iu" for array in (kinds, args, ptr))
    if not kinds.size or kinds.size != args.size or not whole:
        return proof
    start, source = (int(rng.integers(0, kinds.size)) for _ in range(2))
    end, stop = _end(kinds, args, start), _end(kinds, args, source)
    new, given = kinds[source:stop], args[source:stop]
    if rng.random() < 0.5:
        new = np.array([rng.choice([0, 0, 2])], dtype=kinds.dtype)
        given = np.array([rng.integers(0, 2)]).astype(args.dtype)
    moved = ptr.astype(np.int64)
    moved[moved >= end] += len(new) - (end - start)
    return _with(
        proof,
        node_kind=np.concatenate([kinds[:start], new, kinds[end:]]),
        node_arg=np.concatenate([args[:start], given, args[end:]]),
        tree_ptr=np.maximum(moved, 0).astype(ptr.dtype),
    )


def _end(kinds: Array, args: Array, node: int) -> int:
    """One past the last node of a subtree; the array's end where it never ends."""
    waiting = 1
    while waiting > 0 and node < kinds.size:
        kind = int(kinds[node])
        arity = ARITY.get(kind, int(args[node]) if kind == NodeKind.SPLIT_DISJUNCT else 0)  # type: ignore[call-overload]
        waiting += arity - 1
        node += 1
    return node


_ARRAY_CHANGES: tuple[Callable[[Rng, Proof, Proof], Proof], ...] = (
    *(_numbers, _numbers, _extreme, _order, _length, _type, _pointer, _borrowed),
    *(_kind, _kind, _subtree, _subtree),
)
