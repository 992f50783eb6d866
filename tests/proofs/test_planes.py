"""Packed proof files: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import archive
from proofs.archive import short_archive
from proofs.format import file_content, read_evidence
from proofs.packing import TYPES, fitted, unpacked
from proofs.planes import DTYPES, NUMBERED, from_planes, in_planes
from proofs.proof import Proof
from proofs.signature import content_hash
from specs.errors import EvidenceError
from tests.proofs.helpers import with_arrays
from tests.proofs.test_files import measured, members, npy, rich_proof, stated

PAGE = (Path(__file__).resolve().parents[2] / "proofs/FORMAT.md").read_text()
PLANES = PAGE.partition("### Planes")[2].partition("###")[0]


def entries(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.uint8)


def file(planes: object, content: np.ndarray | None, **more: object) -> bytes:
    """A packed file, with a manifest and a member of which anything may be said."""
    stated_ = {"format": "farkas-proof", "version": 1, "question": "", "tensors": [], **more}
    if planes is not None:
        stated_["planes"] = planes
    made = {"manifest.json": json.dumps(stated_).encode()}
    if content is not None:
        made["arrays.npy"] = npy(content)
    data = short_archive(made)
    assert data is not None
    return data


def test_the_page_numbers_the_arrays():
    """A place stands in files and never changes; new names go to the end."""
    listed = re.search(r"^(`\w+`[^.]*)\.$", PLANES, re.MULTILINE)
    assert listed is not None
    assert tuple(re.findall(r"`(\w+)`", listed[1])) == NUMBERED
    assert set(NUMBERED) == set(TYPES)
    digits = re.findall(r"(\d) (u?int\d+|float\d+)", PLANES)
    assert digits == [(str(k), name) for k, name in enumerate(DTYPES, 1)]


def test_the_page_s_instance():
    found = re.search(r'`"planes": (\[.*?\])` and a member with the entries ([\d, ]+) say', PLANES)
    assert found is not None
    arrays = from_planes(json.loads(found[1]), entries(*map(int, found[2].split(","))))
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "case_number": [1, 258],
        "prelude_arg": [7, 8, 9],
    }
    assert in_planes({"prelude_arg": entries(7, 8, 9)})[0] == ["0001", 3]


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_a_zip_reader_and_numpy_are_enough(tmp_path_factory, seed):
    """As the page shows it; it needs nothing of ours."""
    code = re.search(r"^```python\n(.*?)^```$", PLANES, re.MULTILINE | re.DOTALL)
    assert code is not None
    reader: dict = {}
    exec(compile(code[1], "FORMAT.md", "exec"), reader)
    proof = rich_proof(stated(1), seed)
    path = tmp_path_factory.mktemp("planes") / "proof"
    path.write_bytes(file_content(proof, pack=True))
    found = reader["arrays_of"](path, NUMBERED)
    again = unpacked({name: fitted(name, array) for name, array in found.items()})
    for name, array in proof.arrays.items():
        assert np.array_equal(again[name], array), name
    with zipfile.ZipFile(path) as opened:
        assert opened.namelist() == ["manifest.json", "arrays.npy"]
        assert opened.testzip() is None
        assert not any(info.extra or info.comment for info in opened.infolist())


@given(st.lists(st.integers(-(2**31), 2**32 - 1), min_size=1), st.lists(st.floats(width=32)))
@settings(max_examples=50)
def test_numbers_of_all_widths(whole, real):
    kind = "uint32" if min(whole) >= 0 else "int32"
    numbers = np.array([x % 2**31 if kind == "int32" else x for x in whole]).astype(kind)
    given_ = {"tree_disjunct": numbers.astype(np.int32), "step_target": numbers.astype(np.uint32)}
    given_ |= {"weight_value": np.array(real, dtype=np.float32)}
    given_ |= {"form_point": np.array(real, dtype=np.float64)}
    arrays = from_planes(*in_planes(given_))
    for name, array in given_.items():
        assert np.array_equal(arrays.get(name, array[:0]), array, equal_nan=True)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_equal_proofs_give_equal_bytes(tmp_path_factory, seed):
    proof = rich_proof(stated(1), seed)
    data = file_content(proof, pack=True)
    path = tmp_path_factory.mktemp("planes") / "proof"
    path.write_bytes(data)
    again = read_evidence(path)
    assert isinstance(again, Proof)
    assert content_hash(again) == content_hash(proof)
    assert file_content(again, pack=True) == data


def test_what_shrinks_too_much_has_a_member_for_each_array(tmp_path):
    zeros = np.zeros(archive.FLOOR + 64 * 20_000, dtype=np.uint8)
    proof = with_arrays(rich_proof(stated(1)), slope=zeros)
    data = file_content(proof, pack=True)
    (tmp_path / "proof").write_bytes(data)
    assert "slope.npy" in zipfile.ZipFile(io.BytesIO(data)).namelist()
    again = read_evidence(tmp_path / "proof")
    assert isinstance(again, Proof)
    assert np.array_equal(again.arrays["slope"], zeros)


DIGITS = "1" + "0" * (len(NUMBERED) - 1)


@pytest.mark.parametrize(
    ("planes", "content", "why"),
    [
        ({"case_number": [0]}, [0], "not a text of digits and numbers"),
        ("1", [0], "not a text of digits and numbers"),
        (1, [0], "not a text of digits and numbers"),
        ([], [0], "not a text of digits and numbers"),
        ([1, 1], [0], "not a text of digits and numbers"),
        (["9", 1], [0], "types '9', which do not exist"),
        (["-1", 1], [0], "types '-1', which do not exist"),
        (["٣", 1], [0], "which do not exist"),
        (["uint8", 1], [0], "which do not exist"),
        ([DIGITS + "1", 1, 1], [0, 0], "which do not exist"),
        ([DIGITS + "0", 1], [0], "which do not exist"),
        (["1"], [0], "of 1 arrays do not have as many sizes"),
        (["1", 1, 1], [0, 0], "of 1 arrays do not have as many sizes"),
        (["0", 1], [0], "of 0 arrays do not have as many sizes"),
        (["1", -1], [], "do not have as many sizes"),
        (["11", 2, -1], [0], "do not have as many sizes"),
        (["1", True], [0], "do not have as many sizes"),
        (["1", 1.0], [0], "do not have as many sizes"),
        (["1", "1"], [0], "do not have as many sizes"),
        (["1", 2], [0], "hold 1 bytes"),
        (["1", 1], [0, 0], "hold 2 bytes"),
        (["3", 1], [0], "hold 1 bytes"),
        (["1", 10**30], [0], "hold 1 bytes"),
        (["7", 1], [0, 0, 0, 0], "'case_number' is of type float32"),
        (["0" * 33 + "2", 1], [1], "'weight_value' is of type int8"),
        (["2", 1], [255], "types do not hold"),
    ],
    ids=str,
)
def test_planes_that_are_refused(tmp_path, planes, content, why):
    (tmp_path / "proof").write_bytes(file(planes, entries(*content)))
    with pytest.raises(EvidenceError, match=why):
        read_evidence(tmp_path / "proof")


@pytest.mark.parametrize("planes", [["1", 1], [DIGITS, 1], ["", *[]], ["1", 0]], ids=str)
def test_planes_that_are_read(tmp_path, planes):
    held = sum(planes[1:])
    (tmp_path / "proof").write_bytes(file(planes, np.zeros(held, dtype=np.uint8)))
    proof = read_evidence(tmp_path / "proof")
    assert isinstance(proof, Proof)
    assert proof.arrays["case_number"].size == held
    assert "planes" not in proof.manifest


def test_other_members_are_refused(tmp_path):
    """Of another type or shape, without their list or it without them, or what is held twice."""
    one = entries(0)
    made = {
        "of type '<u2'": file(["1", 1], one.astype(np.uint16)),
        "of type '|i1'": file(["1", 1], one.astype(np.int8)),
        "not one-dimensional": file(["1", 1], one.reshape(1, 1)),
        "need each other": file(["1", 1], None),
        "and 'planes'": file(None, one),
        "is both a member": file(["1", 1], one, arrays={"case_number": [0]}),
        "'case_number' is both": with_member(file(["1", 1], one), "case_number.npy", npy(one)),
        "members are unknown": with_member(file(["1", 1], one), "evil.npy", npy(one)),
        "members are repeated": with_member(file(["1", 1], one), "arrays.npy", npy(one)),
    }
    for why, data in made.items():
        (tmp_path / "proof").write_bytes(data)
        with pytest.raises(EvidenceError, match=why):
            read_evidence(tmp_path / "proof")


def with_member(data: bytes, name: str, body: bytes) -> bytes:
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as opened:
        if name in opened.namelist():
            with pytest.warns(UserWarning, match="Duplicate"):
                opened.writestr(name, body)
        else:
            opened.writestr(name, body)
    return buffer.getvalue()


def test_arrays_may_be_members_beside_planes(tmp_path):
    both = with_member(file(["1", 1], entries(4)), "tree_case.npy", npy(entries(5)))
    (tmp_path / "proof").write_bytes(both)
    proof = read_evidence(tmp_path / "proof")
    assert isinstance(proof, Proof)
    assert (proof.arrays["case_number"], proof.arrays["tree_case"]) == ([4], [5])


def test_every_changed_byte_changes_nothing_or_is_noticed(tmp_path):
    """Dates, versions and the like say nothing; what is said is what was said, or refused."""
    proof = rich_proof(stated(1))
    data, refused = file_content(proof, pack=True), 0
    for place in range(len(data)):
        made = bytearray(data)
        made[place] ^= 0x11
        (tmp_path / "proof").write_bytes(made)
        try:
            again = read_evidence(tmp_path / "proof")
        except EvidenceError:
            refused += 1
        else:
            assert isinstance(again, Proof)
            assert content_hash(again) == content_hash(proof), place
    assert refused > 0.8 * len(data)


@pytest.mark.parametrize(
    "cut", [lambda d: d[:-1], lambda d: d[: len(d) // 2], lambda d: d[:20], lambda d: b"!" + d],
    ids=["an end", "a half", "most", "a beginning"],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path, cut):
    (tmp_path / "proof").write_bytes(cut(file_content(rich_proof(stated(1)), pack=True)))
    with pytest.raises(EvidenceError):
        read_evidence(tmp_path / "proof")


@pytest.mark.parametrize("beyond", [0, 1])
def test_short_archives_are_within_the_limit(monkeypatch, beyond):
    """What a reader would refuse is not made."""
    monkeypatch.setattr(archive, "FLOOR", 1000)
    monkeypatch.setattr(archive, "RATIO", 0)
    made = short_archive({"manifest.json": bytes(10), "arrays.npy": bytes(990 + beyond)})
    assert (made is None) == bool(beyond)


def test_bombs_are_cut_off(tmp_path):
    said = {"format": "farkas-proof", "version": 1, "question": "", "tensors": []}
    manifest = json.dumps({**said, "planes": ["0" * 25 + "1", 1 << 25]}).encode()
    zeros = npy(np.zeros(1 << 25, dtype=np.uint8))
    bombs = {
        "slopes": {"manifest.json": manifest, "arrays.npy": zeros},
        "brackets": {"manifest.json": b"[" + b"[]," * 1_000_000 + b"[]]"},
        "sizes": {
            "manifest.json": json.dumps({**said, "planes": ["1", *[1] * 1_000_000]}).encode()
        },
    }
    for name, made in bombs.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as opened:
            for member, body in made.items():
                opened.writestr(member, body)
        (tmp_path / name).write_bytes(buffer.getvalue())
        found, growth, seconds = measured(tmp_path / name)
        assert found == "unreadable", name
        assert growth < 600, f"{name}: {growth} MiB"
        assert seconds < 30


def test_packed_files_are_much_shorter():
    proof = rich_proof(stated(1))
    assert len(file_content(proof, pack=True)) < 0.5 * len(file_content(proof))
    assert set(members(file_content(proof, pack=True))) == {"manifest.json", "arrays.npy"}
