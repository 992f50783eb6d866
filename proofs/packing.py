"""The packed form of a proof's arrays: words for nodes, counts for pointers, narrow types.

``FORMAT.md`` specifies it.  What is unpacked is what was packed; nothing else changes.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.proof import ARRAYS, NodeKind
from specs.errors import EvidenceError

Array = npt.NDArray[Any]

LONGEST = 4096
"""Entries of an array in the manifest, where archives may have short ones."""

NODES = 1 << 22
"""Nodes that words spell; each takes some 40 bytes while they are spelled out."""

LARGEST = 1 << 53
"""Absolute value of a whole number there; they count as floats, too."""

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


def count_name(pointer: str) -> str:
    """The name under which a pointer array is stored as counts."""
    return pointer.removesuffix("_ptr") + "_count"


POINTERS = {count_name(name): name for name in ARRAYS if name.endswith("_ptr")}
"""Pointer arrays by the names of their counts."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "node_word": ("uint32",),
    "word_count": ("uint32",),
    "word_kind": ("uint8",),
    "word_arg": ("uint32",),
}
"""Arrays that stand for ``node_kind`` and ``node_arg``."""

TYPES: Mapping[str, tuple[str, ...]] = {
    **ARRAYS,
    **{name: ARRAYS[pointer] for name, pointer in POINTERS.items()},
    **WORDS,
}
"""Types in which the arrays of a file are read, the first one that holds them."""

GOING_ON = frozenset((NodeKind.SWEEP, NodeKind.BOUND, NodeKind.CLIP))
HINTED = frozenset((NodeKind.CLOSE, NodeKind.CLIP))

FRESH, SHIFT = 1, 2
"""In ``word_arg`` of CLOSE, CLIP and BOUND: one more than any before; and above that, numbers."""


def types_of(name: str) -> tuple[str, ...]:
    """In which types an array, or counts, may be stored, the type that it is read as first."""
    canonical = TYPES[name]
    return (*canonical, *(other for other in INTEGERS if _whole(name) and other not in canonical))


def packed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays as they are stored to be short; :func:`unpacked` is the inverse."""
    stored = dict(arrays)
    for name, pointer in POINTERS.items():
        counts = np.diff(arrays[pointer].astype(np.int64), prepend=0)
        if counts.size and counts[0] == 0 and counts.min() >= 0:
            stored[name] = counts[1:].astype(arrays[pointer].dtype)
            del stored[pointer]
    plain = sum(_length(arrays[name]) for name in ("node_kind", "node_arg"))
    words = in_words(arrays) if _can_be_spelled(arrays) else None
    if words is not None and sum(map(_length, words.values())) < plain:
        stored = {**stored, **words}
        stored.pop("node_kind")
        stored.pop("node_arg")
    return {name: _narrowed(array) for name, array in stored.items() if array.size}


def _length(array: Array) -> int:
    return len(zlib.compress(_narrowed(array).tobytes(), 9)) if array.size else 0


def _can_be_spelled(arrays: Mapping[str, Array]) -> bool:
    """Whether words say all of the nodes; not so of many, nor of those of some unreadable proof."""
    kinds, args = arrays["node_kind"], arrays["node_arg"]
    ended = not kinds.size or kinds[-1] not in GOING_ON
    small = int(args.max(initial=0)) < (1 << 32) - SHIFT
    return ended and small and kinds.size == args.size <= NODES


def in_words(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Nodes as words: the operations up to a leaf or a split, each different word once.

    Words are numbered by how often they occur.
    """
    kinds = arrays["node_kind"].tolist()
    codes = _Numbering(arrays).coded(kinds, arrays["node_arg"].tolist())
    start, spelled = 0, []
    for end, kind in enumerate(kinds, 1):
        if kind not in GOING_ON:
            spelled.append((tuple(kinds[start:end]), tuple(codes[start:end])))
            start = end
    order = [word for word, _ in Counter(spelled).most_common()]
    number = {word: k for k, word in enumerate(order)}
    return {
        "node_word": np.array([number[word] for word in spelled], dtype=np.uint32),
        "word_count": np.array([len(word[0]) for word in order], dtype=np.uint32),
        "word_kind": np.array([k for word in order for k in word[0]], dtype=np.uint8),
        "word_arg": np.array([c for word in order for c in word[1]], dtype=np.uint32),
    }


def _spelled_out(stored: Mapping[str, Array], arrays: dict[str, Array]) -> None:
    """Put nodes in place of words."""
    if "node_kind" in stored or "node_arg" in stored:
        raise EvidenceError("nodes are stored as words as well")
    words, counts, kinds, codes = (
        stored.get(name, np.zeros(0, dtype=np.uint32)).astype(np.int64) for name in WORDS
    )
    ends = np.concatenate([[0], np.cumsum(counts)])
    if ends[-1] != kinds.size or kinds.size != codes.size or np.any(words >= counts.size):
        raise EvidenceError("words do not fit together")
    if float(counts.astype(np.float64)[words].sum()) > NODES:
        raise EvidenceError(f"words spell more than {NODES} nodes")
    used = counts[words]
    inside = np.arange(int(used.sum())) - np.repeat(np.cumsum(used) - used, used)
    place = np.repeat(ends[words], used) + inside
    arrays["node_kind"] = kinds[place].astype(np.uint8)
    listed = _Numbering(arrays).decoded(kinds[place].tolist(), codes[place].tolist())
    if listed and max(listed) >= 1 << 32:
        raise EvidenceError("a node's argument is too large")
    arrays["node_arg"] = np.array(listed, dtype=np.uint32)


class _Numbering:
    """Arguments of nodes that take hints, relative to the hints that came before them."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._subs = arrays["step_sub"].tolist()
        self._sub = self._step = 0  # how many are known
        bounds = arrays["prelude_kind"] == NodeKind.BOUND
        for step in arrays["prelude_arg"][: bounds.size][bounds[: arrays["prelude_arg"].size]]:
            self._know_step(int(step))

    def coded(self, kinds: Sequence[int], args: Sequence[int]) -> list[int]:
        """Arguments as they stand in words."""
        found = []
        for kind, arg in zip(kinds, args, strict=True):
            code = arg
            if kind == NodeKind.BOUND:
                code = FRESH if arg == self._step else arg + SHIFT
                self._know_step(arg)
            elif kind in HINTED and arg:
                code = FRESH if arg - 1 == self._sub else arg - 1 + SHIFT
                self._sub = max(self._sub, arg)
            found.append(code)
        return found

    def decoded(self, kinds: Sequence[int], codes: Sequence[int]) -> list[int]:
        """Arguments as they stand in the array."""
        found = []
        for kind, code in zip(kinds, codes, strict=True):
            arg = code
            if kind == NodeKind.BOUND:
                arg = self._step if code == FRESH else max(0, code - SHIFT)
                self._know_step(arg)
            elif kind in HINTED and code:
                arg = 1 + (self._sub if code == FRESH else code - SHIFT)
                self._sub = max(self._sub, arg)
            found.append(arg)
        return found

    def _know_step(self, step: int) -> None:
        self._step = max(self._step, step + 1)
        if step < len(self._subs):
            self._sub = max(self._sub, self._subs[step] + 1)


def listed(name: str, values: object) -> Array:
    """An array that the manifest lists.

    Raises:
        EvidenceError: it is none, or holds something else than numbers of its type.
    """
    if name not in TYPES:
        raise EvidenceError(f"the manifest lists an unknown array {name!r:.60}")
    if not isinstance(values, list) or len(values) > LONGEST:
        raise EvidenceError(f"'{name}' in the manifest is not a list of at most {LONGEST} numbers")
    whole = [type(x) is int and abs(x) <= LARGEST for x in values]
    if all(whole):
        return fitted(name, np.array(values, dtype=np.int64))
    if _whole(name) or not all(w or type(x) is float for w, x in zip(whole, values, strict=True)):
        raise EvidenceError(f"'{name}' in the manifest holds something else than its numbers")
    return fitted(name, np.array(values, dtype=np.float64))


def fitted(name: str, stored: Array) -> Array:
    """A stored array in the first of its own types that holds all its numbers exactly.

    Raises:
        EvidenceError: there is none.
    """
    allowed = TYPES[name]
    if stored.dtype.name in allowed:
        return stored
    for kind in map(np.dtype, allowed):
        with np.errstate(all="ignore"):
            if kind.kind == "f":
                found = stored.astype(kind)
                if np.array_equal(found.astype(np.float64), stored, equal_nan=True):
                    return found
            elif stored.dtype.kind in "iu" and _within(stored, kind):
                return stored.astype(kind)
    raise EvidenceError(f"array '{name}' has an entry that its types do not hold")


def _within(values: Array, kind: np.dtype[Any]) -> bool:
    info = np.iinfo(kind)
    return not values.size or bool(values.min() >= info.min and values.max() <= info.max)


def unpacked(stored: Mapping[str, Array]) -> dict[str, Array]:
    """All arrays, with pointers in place of counts; one that is stored empty is not stored.

    Raises:
        EvidenceError: an array is there twice, counts are too large, or words do not fit.
    """
    arrays = {name: np.zeros(0, dtype=dtypes[0]) for name, dtypes in ARRAYS.items()}
    for name in POINTERS.values():
        arrays[name] = np.zeros(1, dtype=arrays[name].dtype)
    for name, array in stored.items():
        pointer = POINTERS.get(name)
        if name in ARRAYS and array.size:
            arrays[name] = array
        if pointer is None:
            continue
        if pointer in stored:
            raise EvidenceError(f"'{pointer}' is stored as counts as well")
        ends = np.cumsum(array.astype(np.int64))
        if ends.size and (ends[-1] >= 1 << 32 or array.min() < 0):
            raise EvidenceError(f"the counts '{name}' are too large or negative")
        arrays[pointer] = np.concatenate([[0], ends]).astype(arrays[pointer].dtype)
    if not stored.keys().isdisjoint(WORDS):
        _spelled_out(stored, arrays)
    return arrays


def _whole(name: str) -> bool:
    return all(np.dtype(kind).kind in "iu" for kind in TYPES[name])


def _narrowed(array: Array) -> Array:
    """In the shortest type that holds it."""
    if array.dtype.kind not in "iu":
        return array
    return next((array.astype(k) for k in map(np.dtype, INTEGERS) if _within(array, k)), array)
