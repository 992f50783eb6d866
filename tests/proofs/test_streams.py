"""The short form of proof files: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import format as files
from proofs.format import file_content, read_evidence
from proofs.packing import TYPES
from proofs.proof import Proof
from proofs.signature import content_hash
from proofs.stream import DTYPES, MAGIC, NUMBERED, opened, sealed, streamed, unpacked_stream
from specs.errors import EvidenceError
from tests.proofs.helpers import with_arrays
from tests.proofs.test_files import measured, members, rich_proof, stated

PAGE = (Path(__file__).resolve().parents[2] / "proofs/FORMAT.md").read_text()
DIGEST = "5f" * 32
MOST = 1 << 22
HEAD = 41


def content(manifest: bytes, *arrays: tuple[int, int, bytes], count: int | None = None) -> bytes:
    """What is compressed, written by hand from the page; arrays of single bytes."""
    number = len(arrays) if count is None else count
    sizes = np.array([len(body) for _, _, body in arrays], dtype="<u4").view(np.uint8)
    planes = sizes.reshape(-1, 4).T.tobytes()
    columns = bytes(a[0] for a in arrays) + bytes(a[1] for a in arrays) + planes
    parts = struct.pack("<IB", len(manifest), number), manifest, columns
    return b"".join((*parts, *(body for _, _, body in arrays)))


def read(data: bytes) -> tuple[dict, dict]:
    return unpacked_stream(data, MOST, MOST)[1:]


def test_the_page_numbers_the_arrays():
    """A number stands in files and never changes; new names go to the end."""
    listed = PAGE.partition("Arrays are numbered from 0:")[2].partition(".\n")[0]
    assert tuple(re.findall(r"`(\w+)`", listed)) == NUMBERED
    assert set(NUMBERED) == set(TYPES)
    types = re.search(r"their types: (.*) \|", PAGE)
    assert types is not None
    assert re.findall(r"(\d) (\w+)", types[1]) == [(str(k), n) for k, n in enumerate(DTYPES)]


def test_a_file_by_hand():
    made = sealed(DIGEST, content(b'{"a":1}', (2, 0, b"\x03"), (46, 0, b"\x01\x02")))
    assert made[:4] == MAGIC == b"FRK\x02"
    manifest, arrays = read(made)
    assert manifest == {"a": 1}
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "prelude_kind": [3],
        "case_prelude_count": [1, 2],
    }
    assert unpacked_stream(made, MOST, MOST)[0] == DIGEST


@given(st.lists(st.integers(-(2**31), 2**32 - 1), min_size=1), st.lists(st.floats(width=32)))
@settings(max_examples=50)
def test_numbers_of_all_widths(whole, real):
    kind = "uint32" if min(whole) >= 0 else "int32"
    numbers = np.array([x % 2**31 if kind == "int32" else x for x in whole]).astype(kind)
    given_ = {"tree_disjunct": numbers.astype(np.int32), "step_target": numbers.astype(np.uint32)}
    given_ |= {"weight_value": np.array(real, dtype=np.float32)}
    given_ |= {"form_point": np.array(real, dtype=np.float64)}
    _, arrays = read(streamed(DIGEST, {}, given_)[0])
    for name, array in given_.items():
        assert np.array_equal(arrays.get(name, array[:0]), array, equal_nan=True)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_equal_proofs_give_equal_bytes(tmp_path_factory, seed):
    proof = rich_proof(stated(1), seed)
    data = file_content(proof, pack=True)
    assert data.startswith(MAGIC)
    path = tmp_path_factory.mktemp("streams") / "proof"
    path.write_bytes(data)
    again = read_evidence(path)
    assert isinstance(again, Proof)
    assert content_hash(again) == content_hash(proof)
    assert file_content(again, pack=True) == data


def test_what_shrinks_too_much_is_an_archive(tmp_path):
    zeros = np.zeros(files.FLOOR + 64 * 20_000, dtype=np.uint8)
    proof = with_arrays(rich_proof(stated(1)), slope=zeros)
    data = file_content(proof, pack=True)
    (tmp_path / "proof").write_bytes(data)
    assert "manifest.json" in members(data)
    again = read_evidence(tmp_path / "proof")
    assert isinstance(again, Proof)
    assert np.array_equal(again.arrays["slope"], zeros)


def test_a_question_that_is_no_digest_is_written_all_the_same(tmp_path):
    proof = rich_proof(stated(1))
    odd = Proof("another", proof.tensors, proof.arrays)
    (tmp_path / "proof").write_bytes(file_content(odd, pack=True))
    again = read_evidence(tmp_path / "proof")
    assert isinstance(again, Proof)
    assert again.question == "another"


GOOD = ((0, 0, b"\x00"), (2, 0, b"\x03"))
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (content(b"{}", *GOOD[::-1]), "not in ascending order"),
        (content(b"{}", GOOD[0], GOOD[0]), "not in ascending order"),
        (content(b"{}", (len(NUMBERED), 0, b"")), "number 60' is unknown"),
        (content(b"{}", (0, len(DTYPES), b"")), "case_number' is unknown"),
        (content(b"{}", (0, 6, b"")), "type that it does not have"),
        (content(b"{}", (33, 1, b"\x01")), "type that it does not have"),
        (content(b"{}", (0, 1, b"\xff")), "types do not hold"),
        (content(b"{}", *GOOD) + b"!", "more follows"),
        (content(b"{}", *GOOD)[:-1], "longer than what it holds"),
        (content(b"{}", *GOOD, count=255), "longer than what it holds"),
        (struct.pack("<IB", 1 << 20, 0) + b"{}", "longer than what it holds"),
        (struct.pack("<IB", MOST + 1, 0) + b"{}", "manifest has more than"),
        (content(b"[]"), "no object"),
        (content(DEEP), "not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contents_that_are_refused(made, why):
    with pytest.raises(EvidenceError, match=why):
        read(sealed(DIGEST, made))


def test_a_list_of_no_names_is_refused(tmp_path):
    path = tmp_path / "proof"
    for manifest in (b"{}", b'{"tensors": 1}', b'{"tensors": [1]}'):
        path.write_bytes(sealed(DIGEST, content(manifest)))
        with pytest.raises(EvidenceError, match="not a list of names"):
            read_evidence(path)
    path.write_bytes(sealed(DIGEST, content(b'{"tensors": []}')))
    assert isinstance(read_evidence(path), Proof)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[:4] + b"\x19" + data[5:], "dictionary of 2\\^25"),
        (lambda data: data[:4] + b"\x0b" + data[5:], "dictionary of 2\\^11"),
        (lambda data: data[:5] + b"none" + data[9:], "its sum is another one"),
        (lambda data: data[:-1], "ends too early"),
        (lambda data: data + b"!", "or more follows"),
        (lambda data: data[:HEAD], "ends too early"),
        (lambda data: data[:20], "the file is damaged"),
        (lambda data: data[:HEAD] + b"\xff" + data[HEAD + 1 :], "the file is damaged"),
    ],
    ids=[f"damage {k}" for k in range(8)],
)
def test_damaged_files_are_refused(tmp_path, change, why):
    path = tmp_path / "proof"
    path.write_bytes(change(file_content(rich_proof(stated(1)), pack=True)))
    with pytest.raises(EvidenceError, match=why):
        read_evidence(path)


def test_every_changed_byte_is_noticed(tmp_path):
    """But for the digest's, which the checker compares, and the size of a dictionary."""
    data = file_content(rich_proof(stated(1)), pack=True)
    for place in [*range(4), *range(5, 9), *range(HEAD, len(data))]:
        made = bytearray(data)
        made[place] ^= 0x11
        (tmp_path / "proof").write_bytes(made)
        with pytest.raises(EvidenceError):
            read_evidence(tmp_path / "proof")


@pytest.mark.parametrize("beyond", [0, 1])
def test_what_it_may_unpack_to(beyond):
    made = sealed(DIGEST, content(b"{}", (25, 0, bytes(1000))))
    size = len(opened(made, MOST)[1])
    if beyond:
        with pytest.raises(EvidenceError, match=f"unpacks to more than {size - 1} bytes"):
            opened(made, size - 1)
    else:
        assert len(opened(made, size)[1]) == size


def test_bombs_are_cut_off(tmp_path):
    bombs = {
        "slopes": content(b"{}", (25, 0, bytes(1 << 25))),
        "brackets": content(b"[" + b"[]," * 1_000_000 + b"[]]"),
        "names": content(json.dumps({"tensors": ["x0"] * 400_000}).encode()),
    }
    for name, made in bombs.items():
        (tmp_path / name).write_bytes(sealed(DIGEST, made))
        found, growth, seconds = measured(tmp_path / name)
        assert found == "unreadable", name
        assert growth < 600, f"{name}: {growth} MiB"
        assert seconds < 30


def test_streams_are_shorter_than_archives():
    proof = rich_proof(stated(1))
    assert len(file_content(proof, pack=True)) < 0.4 * len(file_content(proof))
