"""Packed proofs say the same as plain ones, and a hostile manifest lists nothing harmful."""

from __future__ import annotations

import io
import json
import zipfile
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs import packing
from proofs.check import check_file
from proofs.format import file_content, read_evidence, write_proof
from proofs.packing import FRESH, LONGEST, SHIFT, in_words, packed, unpacked
from proofs.proof import ARRAYS, NodeKind, Proof
from proofs.signature import content_hash
from specs.errors import EvidenceError
from tests.proofs.helpers import RandomProof, at_least, box_case, query, random_network


def example(seed: int) -> tuple[object, Proof]:
    rng = np.random.default_rng(seed)
    question = query(random_network(rng, 2), [box_case([-1, -1], [1, 1], at_least(0, 90))] * 2)
    return question, RandomProof(rng, question).proof(depth=4)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_what_is_read_is_what_was_packed(tmp_path_factory, seed):
    question, proof = example(seed)
    folder = tmp_path_factory.mktemp("packed")
    plain = write_proof(folder / "plain", proof)
    short = write_proof(folder / "short", proof, pack=True)
    assert short < plain
    again = read_evidence(folder / "short")
    assert isinstance(again, Proof)
    assert (again.question, again.tensors) == (proof.question, proof.tensors)
    assert again.arrays.keys() == proof.arrays.keys() == ARRAYS.keys()
    for name, array in proof.arrays.items():
        assert np.array_equal(array, again.arrays[name]), name
        assert again.arrays[name].dtype.name in ARRAYS[name]
    assert file_content(again, pack=True) == (folder / "short").read_bytes()
    whole, short_ = (check_file(question, folder / name) for name in ("plain", "short"))
    assert (whole.verdict, whole.reason) == (short_.verdict, short_.reason)


def short_archive(proof: Proof, **arrays: object) -> bytes:
    """A proof as earlier versions packed it: short arrays are lists in the manifest."""
    stored = packed(proof.arrays)
    with zipfile.ZipFile(io.BytesIO(file_content(proof))) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["arrays"] = {name: array.tolist() for name, array in stored.items()} | arrays
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(5))
def test_short_archives_are_read(tmp_path, seed):
    _, proof = example(seed)
    (tmp_path / "proof").write_bytes(short_archive(proof))
    again = read_evidence(tmp_path / "proof")
    assert isinstance(again, Proof)
    assert content_hash(again) == content_hash(proof)


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("evil", [1], "unknown array"),
        ("node_kind", {"0": 1}, "not a list"),
        ("node_kind", None, "not a list"),
        ("node_kind", "123", "not a list"),
        ("node_kind", [0] * (LONGEST + 1), "not a list"),
        ("node_kind", [0.0], "something else than its numbers"),
        ("node_kind", [True], "something else than its numbers"),
        ("node_kind", ["0"], "something else than its numbers"),
        ("node_kind", [[0]], "something else than its numbers"),
        ("node_kind", [10**30], "something else than its numbers"),
        ("node_kind", [256], "do not hold"),
        ("node_kind", [-1], "do not hold"),
        ("tree_disjunct", [1 << 31], "do not hold"),
        ("form_point", [True], "something else than its numbers"),
        ("slope", [10**400], "something else"),
        ("slope", [2**53 + 1], "something else"),
        ("tree_count", [-1], "do not hold"),
        ("tree_count", [(1 << 32) - 1, 1], "too large or negative"),
        ("tree_ptr", [0, 1], "stored as counts as well"),
    ],
)
def test_manifests_that_list_something_else(tmp_path, name, values, why):
    question, proof = example(3)
    path = tmp_path / "proof"
    path.write_bytes(short_archive(proof, **{name: values}))
    checked = check_file(question, path)
    assert checked.verdict == "unreadable"
    assert why in checked.reason


def test_an_array_in_two_places_is_refused(tmp_path):
    question, proof = example(3)
    buffer = io.BytesIO(short_archive(proof))
    with zipfile.ZipFile(buffer, "a") as archive:
        body = io.BytesIO()
        np.save(body, proof.arrays["node_kind"])
        archive.writestr("node_kind.npy", body.getvalue())
    (tmp_path / "proof").write_bytes(buffer.getvalue())
    checked = check_file(question, tmp_path / "proof")
    assert checked.verdict == "unreadable"
    assert "both a member and in the manifest" in checked.reason


def test_counts_may_be_members(tmp_path):
    _, proof = example(3)
    content = {}
    with zipfile.ZipFile(io.BytesIO(file_content(proof))) as archive:
        for name in archive.namelist():
            content[name] = archive.read(name)
    body = io.BytesIO()
    np.save(body, np.diff(proof.arrays["tree_ptr"]).astype(np.uint16))
    content.pop("tree_ptr.npy")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {**content, "tree_count.npy": body.getvalue()}.items():
            archive.writestr(name, data)
    (tmp_path / "proof").write_bytes(buffer.getvalue())
    again = read_evidence(tmp_path / "proof")
    assert isinstance(again, Proof)
    assert np.array_equal(again.arrays["tree_ptr"], proof.arrays["tree_ptr"])


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite(tmp_path, bad):
    question, proof = example(3)
    data = short_archive(proof, weight_value="@")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    count = proof.arrays["weight_value"].size
    numbers = "[" + ",".join([bad] * count) + "]"
    text = content["manifest.json"].decode().replace('"@"', numbers)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in {**content, "manifest.json": text.encode()}.items():
            archive.writestr(name, body)
    (tmp_path / "proof").write_bytes(buffer.getvalue())
    checked = check_file(question, tmp_path / "proof")
    assert checked.verdict == "unreadable"
    assert "not finite" in checked.reason


def test_long_trees_are_stored_as_words():
    leaf = np.random.default_rng(0).integers(0, 2, 400)
    kinds = np.concatenate([[[3, 5], [3, 0]][each] for each in leaf]).astype(np.uint8)
    args = np.where(kinds == NodeKind.SPLIT_INPUT, 3, 0)
    arrays = unpacked({"node_kind": kinds, "node_arg": args})
    stored = packed(arrays)
    assert sorted(stored["word_kind"]) == [
        NodeKind.CLOSE,
        *[NodeKind.SWEEP] * 2,
        NodeKind.SPLIT_INPUT,
    ]
    assert stored["word_count"].tolist() == [2, 2]
    assert len(stored["node_word"]) == 400
    again = unpacked(stored)
    assert np.array_equal(again["node_kind"], kinds)
    assert np.array_equal(again["node_arg"], arrays["node_arg"])


def test_what_words_do_not_say_is_packed_without_them():
    """An array that no reader of proofs accepts, or a very long one, comes back as it was."""
    leaf = np.random.default_rng(0).integers(0, 2, 400)
    many = np.concatenate([[[3, 5], [3, 0]][each] for each in leaf]).astype(np.uint8)
    none = np.where(many == NodeKind.SPLIT_INPUT, 3, 0)
    for most, kinds, args in (
        (800, many, none),
        (799, many, none),
        (900, np.append(many, np.uint8(3)), np.append(none, 0)),  # no leaf ends it
        (900, many, none[1:]),
        (900, many, np.where(none == 3, (1 << 32) - 1, 0)),
    ):
        arrays = unpacked({"node_kind": kinds, "node_arg": args.astype(np.uint32)})
        with patch.object(packing, "NODES", most):
            stored = packed(arrays)
            again = unpacked(stored)
        assert ("node_word" in stored) == (most == 800)
        assert again["node_kind"].tolist() == kinds.tolist()
        assert again["node_arg"].tolist() == args.tolist()


@pytest.mark.parametrize("pointer", [[0, 2, 2], [1, 2], [0, 3, 2], [5], [0, (1 << 32) - 1]])
def test_pointers_come_back_as_they_were(pointer):
    arrays = unpacked({"tree_ptr": np.array(pointer, dtype=np.uint32)})
    assert unpacked(packed(arrays))["tree_ptr"].tolist() == pointer


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_arrays_without_entries_are_as_if_they_were_not_there(name):
    absent = unpacked({})
    for dtype in ARRAYS[name]:
        for key, array in unpacked({name: np.zeros(0, dtype=dtype)}).items():
            assert array.dtype == absent[key].dtype
            assert array.tolist() == absent[key].tolist()


def test_a_pointer_without_entries_is_written_and_read_again_as_the_same(tmp_path):
    manifest = {"format": "farkas-proof", "version": 1, "question": "0" * 64, "tensors": []}
    with zipfile.ZipFile(tmp_path / "odd", "w") as archive:
        archive.writestr("manifest.json", json.dumps({**manifest, "arrays": {"tree_ptr": []}}))
    odd = read_evidence(tmp_path / "odd")
    write_proof(tmp_path / "again", odd)
    again = read_evidence(tmp_path / "again")
    assert {k: v.tolist() for k, v in odd.arrays.items()} == {
        k: v.tolist() for k, v in again.arrays.items()
    }


def test_numbers_of_hints_are_relative():
    """Fresh ones are one more than any before, those of steps included."""
    steps = {"step_target": [0, 0], "step_set": [-1, -1], "step_sides": [3, 3], "step_sub": [0, 2]}
    nodes = [
        (NodeKind.BOUND, 1),
        (NodeKind.CLIP, 2),
        (NodeKind.SPLIT_INPUT, 7),
        (NodeKind.CLOSE, 0),
        (NodeKind.CLOSE, 4),
    ]
    prelude = {"prelude_kind": [NodeKind.BOUND], "prelude_arg": [0]}
    stored = {name: np.array(values) for name, values in {**steps, **prelude}.items()}
    kinds, args = zip(*nodes, strict=True)
    arrays = unpacked({**stored, "node_kind": np.array(kinds), "node_arg": np.array(args)})
    words = in_words(arrays)
    codes = words["word_arg"].tolist()
    assert codes == [FRESH, 1 + SHIFT, 7, 0, FRESH]
    again = unpacked({**stored, **words})
    assert again["node_arg"].tolist() == list(args)
    assert again["node_kind"].tolist() == list(kinds)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"node_word": [0, 9]}, "do not fit together"),
        ({"word_count": [1]}, "do not fit together"),
        ({"word_kind": [0, 0, 0]}, "do not fit together"),
        ({"word_arg": []}, "do not fit together"),
        ({"word_count": []}, "do not fit together"),
        ({"node_kind": [0]}, "as words as well"),
        ({"node_arg": [0]}, "as words as well"),
        ({"word_arg": [(1 << 32) - 1, 1], "word_kind": [0, 0]}, "too large"),
    ],
)
def test_words_that_do_not_fit(change, why):
    words = {"node_word": [0, 0], "word_count": [2], "word_kind": [3, 0], "word_arg": [0, 0]}
    good = {name: np.array(values) for name, values in words.items()}
    assert unpacked(good)["node_kind"].tolist() == [3, 0, 3, 0]
    with pytest.raises(EvidenceError, match=why):
        unpacked({**good, **{name: np.array(v, dtype=np.int64) for name, v in change.items()}})


def test_words_that_spell_too_much_are_refused_before_they_are_spelled(tmp_path):
    question, proof = example(3)
    many = {"node_word": [0] * LONGEST, "word_count": [LONGEST]}
    long = {"word_kind": [3] * LONGEST, "word_arg": [0] * LONGEST}
    with zipfile.ZipFile(io.BytesIO(short_archive(proof))) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    for name in ("node_kind", "node_arg"):
        manifest["arrays"].pop(name, None)
    manifest["arrays"].update({**many, **long})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
    (tmp_path / "proof").write_bytes(buffer.getvalue())
    checked = check_file(question, tmp_path / "proof")
    assert checked.verdict == "unreadable"
    assert "nodes" in checked.reason
