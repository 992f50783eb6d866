"""Damaged and hostile evidence files: a clear refusal, never a crash, a hang or a lie."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_file, check_proof
from proofs.format import file_content, read_evidence, write_proof, write_witness
from proofs.proof import Fact, NodeKind, Proof, ProofBuilder, Side, SlopeHint
from proofs.witness import Witness
from specs.errors import EvidenceError
from specs.query import Query
from tests.proofs.helpers import (
    Net,
    RandomProof,
    at_least,
    box_case,
    builder,
    query,
    random_network,
    with_arrays,
)

VERDICTS = {"invalid", "incomplete", "unreadable"}
ROOT = Path(__file__).resolve().parents[2]


def stated(threshold: object, cases: int = 1) -> Query:
    """max of relu(x) - relu(-x) / 2 over [-1, 1] is 1."""
    net = Net(1)
    hidden = net.relu(net.dense(0, [[1.0], [-1.0]]))
    net.dense(hidden, [[1.0, -0.5]])
    return query(net.done(), [box_case([-1], [1], at_least(0, threshold))] * cases)


def rich_proof(question: Query, seed: int = 3) -> Proof:
    return RandomProof(np.random.default_rng(seed), question).proof(depth=5)


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Query, bytes]:
    question = stated(1)  # reached, so that nothing may be accepted
    path = tmp_path_factory.mktemp("files") / "proof"
    write_proof(path, rich_proof(question))
    return question, path.read_bytes()


def verdict(question: Query, path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return check_file(question, path).verdict


def test_files_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    for seed in range(5):
        network = random_network(rng, 1)
        question = query(network, [box_case([-1], [1], at_least(0, 9))])
        proof = rich_proof(question, seed)
        write_proof(tmp_path / "a", proof)
        again = read_evidence(tmp_path / "a")
        assert isinstance(again, Proof)
        assert again.question == proof.question
        assert again.tensors == proof.tensors
        for name, array in proof.arrays.items():
            assert np.array_equal(array, again.arrays[name])
            assert array.dtype == again.arrays[name].dtype or not array.size
        write_proof(tmp_path / "b", again)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_byte_changed(good, tmp_path):
    question, data = good
    rng = np.random.default_rng(1)
    places = rng.permutation(len(data))[:600]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        assert verdict(question, tmp_path / "f", bytes(damaged)) in VERDICTS


def test_every_member_changed(good, tmp_path):
    """Past the zip's checksums: the arrays' own bytes are changed."""
    question, data = good
    content = members(data)
    rng = np.random.default_rng(2)
    for name in content:
        for _ in range(10):
            damaged = bytearray(content[name])
            for _ in range(int(rng.integers(1, 3))):
                damaged[int(rng.integers(0, len(damaged)))] = int(rng.integers(0, 256))
            changed = packed({**content, name: bytes(damaged)})
            assert verdict(question, tmp_path / "f", changed) in VERDICTS


def test_truncated_and_extended(good, tmp_path):
    question, data = good
    for length in range(0, len(data), max(1, len(data) // 80)):
        assert verdict(question, tmp_path / "f", data[:length]) in VERDICTS
    assert verdict(question, tmp_path / "f", data + b"x" * 100) in VERDICTS
    assert verdict(question, tmp_path / "f", b"x" * 100 + data) in VERDICTS


def test_arrays_swapped_truncated_repeated(good):
    question, _ = good
    proof = rich_proof(question)
    names = list(proof.arrays)
    rng = np.random.default_rng(4)
    for name in names:
        array = proof.arrays[name]
        other = proof.arrays[str(rng.choice(names))]
        for changed in (
            other,
            array[:-1],
            array[::-1],
            np.concatenate([array, array]),
            array.astype(np.int64),
            array.astype(object),
            array.astype("U4"),
            array.astype(bool),
            array.astype(np.complex128),
            array[:, None],
            np.zeros((0, 3)),
            array.astype(array.dtype.newbyteorder(">")),
        ):
            assert check_proof(question, with_arrays(proof, **{name: changed})).verdict in VERDICTS
        missing = {k: v for k, v in proof.arrays.items() if k != name}
        assert check_proof(question, replace(proof, arrays=missing)).verdict == "unreadable"
        if array.dtype.kind == "f" and array.size:
            for bad in (np.nan, np.inf, -np.inf):
                values = array.copy()
                values[0] = bad
                checked = check_proof(question, with_arrays(proof, **{name: values}))
                assert checked.verdict == "unreadable"
                assert "not finite" in checked.reason


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b'{"format": "farkas-proof"}',
        b'{"format": "farkas-proof", "version": 1, "question": 5, "tensors": []}',
        b'{"format": "farkas-proof", "version": 1, "question": "x", "tensors": {}}',
        b'{"format": "farkas-proof", "version": 1, "question": "x", "tensors": [1]}',
        b'{"format": "farkas-proof", "version": 2, "question": "x", "tensors": []}',
        b'{"format": "farkas-proof", "version": NaN, "question": "x", "tensors": []}',
        b'{"format": "farkas-proof", "version": true, "question": "x", "tensors": []}',
        b'{"format": "farkas-proof", "version": 1.0, "question": "x", "tensors": []}',
        b'{"format": "farkas-witness", "version": 1, "question": "x", "tensors": []}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"version": ' + b"9" * 1_000_000 + b"}",
    ],
)
def test_manifests(good, tmp_path, manifest):
    question, data = good
    content = {**members(data), "manifest.json": manifest}
    assert verdict(question, tmp_path / "f", packed(content)) == "unreadable"
    if manifest[:1] == b"{":
        assert verdict(question, tmp_path / "f", manifest) == "unreadable"


def test_names_of_tensors_are_shown_safely(good):
    question, _ = good
    for name in ("\ud800", "\x1b[2J", "a" * 10**6, "nothing"):
        proof = replace(rich_proof(question), tensors=(name,))
        checked = check_proof(question, proof)
        assert checked.verdict == "unreadable"
        assert checked.reason.isprintable()
        assert len(checked.reason) < 300
        checked.reason.encode()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_are_unknown_repeated_or_strangely_packed(good, tmp_path):
    question, data = good
    content = members(data)
    for name in ("../evil", "/etc/passwd", "evil.npy", "NODE_KIND.npy", "x" * 60000):
        changed = packed({**content, name: b"1"})
        assert verdict(question, tmp_path / "f", changed) == "unreadable"
    assert sorted(os.listdir(tmp_path)) == ["f"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for _ in range(2):
            for name, body in content.items():
                archive.writestr(name, body)
    assert verdict(question, tmp_path / "f", buffer.getvalue()) == "unreadable"
    changed = packed(content, zipfile.ZIP_BZIP2)
    assert verdict(question, tmp_path / "f", changed) == "unreadable"
    without = {k: v for k, v in content.items() if k != "manifest.json"}
    assert verdict(question, tmp_path / "f", packed(without)) == "unreadable"
    encrypted = bytearray(packed(content))
    for at in range(len(encrypted) - 4):
        if encrypted[at : at + 4] in (b"PK\x03\x04", b"PK\x01\x02"):
            encrypted[at + (6 if encrypted[at + 2] == 3 else 8)] |= 1
    assert verdict(question, tmp_path / "f", bytes(encrypted)) == "unreadable"


def header(text: str) -> bytes:
    padded = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x02\x00\x10\x00\x00\x00",
        b"\x93NUMPY\x01\x00\xff\xff{",
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}") + b"1",
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1)}") + b"1",
        header("{'descr': '|u1', 'fortran_order': False, 'shape': 1}") + b"1",
        header("{'descr': '|u1', 'fortran_order': True, 'shape': (1,)}") + b"1",
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + b"12345678",
        header("{'descr': '>u4', 'fortran_order': False, 'shape': (1,)}") + b"1234",
        header("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1,)}") + b"1",
        header("{'descr': '|u1', 'fortran_order': False}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1.0,)}") + b"1",
        header("__import__('os').system('true')"),
        header("(" * 3000),
        header("-" * 60000 + "1"),
        header("[" * 60 + "]" * 60),
        header("1" * 60000),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}"),
        npy(np.array([{"a": 1}], dtype=object)),
    ],
)
def test_headers_of_arrays(good, tmp_path, body):
    question, data = good
    content = {**members(data), "node_kind.npy": body}
    assert verdict(question, tmp_path / "f", packed(content)) == "unreadable"


def test_paths_that_are_no_files(good, tmp_path):
    question, data = good
    for path in (tmp_path, tmp_path / "absent", Path("/dev/zero"), Path("/dev/null")):
        assert check_file(question, path).verdict == "unreadable"
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for somebody to write
    assert check_file(question, tmp_path / "pipe").verdict == "unreadable"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert check_file(question, tmp_path / "loop").verdict == "unreadable"
    (tmp_path / "real").write_bytes(data)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert check_file(question, tmp_path / "link").verdict == "invalid"


LIMITED = """
import resource, sys
sys.path.insert(0, {root!r})
from tests.proofs.test_files import stated
from proofs.check import check_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checked = check_file(stated(1), {path!r})
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(checked.verdict, (after - before) // 1024)
"""


def measured(path: Path) -> tuple[str, int, float]:
    """Verdict, growth in MiB and seconds of a check in a process of its own."""
    code = textwrap.dedent(LIMITED.format(root=str(ROOT), path=str(path)))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32)),
    )
    words = done.stdout.rsplit(maxsplit=1)
    return words[0], int(words[1]), time.monotonic() - started


def test_bombs_take_little_memory_and_time(good, tmp_path):
    _, data = good
    content = members(data)
    zeros = np.zeros(1 << 27, dtype=np.uint8)
    manifest = json.loads(content["manifest.json"])
    bombs = {
        "nodes": {**content, "node_kind.npy": npy(zeros)},
        "slopes": {**content, "slope.npy": npy(zeros)},
        "small": {**content, "node_kind.npy": npy(zeros[: 1 << 21])},
        "brackets": {"manifest.json": b"[" + b"[]," * 4_000_000 + b"[]]"},
        "names": {
            **content,
            "manifest.json": json.dumps({**manifest, "tensors": ["x0"] * 400_000}).encode(),
        },
    }
    for name, bomb in bombs.items():
        path = tmp_path / name
        path.write_bytes(packed(bomb))
        found, growth, seconds = measured(path)
        assert found in VERDICTS
        assert growth < 600, f"{name}: {growth} MiB"
        assert seconds < 30, f"{name}: {seconds} s"


def test_lzma_bombs_are_cut_off(good, tmp_path):
    _, data = good
    content = members(data)
    bomb = {**content, "node_kind.npy": npy(np.zeros(1 << 27, dtype=np.uint8))}
    (tmp_path / "bomb").write_bytes(packed(bomb, zipfile.ZIP_LZMA))
    with pytest.raises(EvidenceError, match="unpacks to more than"):
        read_evidence(tmp_path / "bomb")
    _, growth, _ = measured(tmp_path / "bomb")
    assert growth < 600


def test_lzma_is_read_and_its_damage_noticed(good, tmp_path):
    _, data = good
    small = packed(members(data), zipfile.ZIP_LZMA)
    path = tmp_path / "proof"
    path.write_bytes(small)
    assert file_content(read_evidence(path)) == data
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        places = [info.header_offset + 30 + len(info.filename) for info in archive.infolist()]
    for place in places:
        for step, value in (
            (4, 224),
            (4, 225),
            (8, 255),
            (5, 255),
            (2, 6),
            (12, small[place + 12] ^ 1),
        ):
            changed = bytearray(small)
            changed[place + step] = value
            path.write_bytes(changed)
            try:
                found = read_evidence(path)
            except EvidenceError:
                continue
            assert file_content(found) == data, (place, step)


def test_blocks_listed_a_million_times_are_stored_once(good, tmp_path):
    """One block of many slopes, in a substitution that lists it over and over."""
    question, _ = good
    made = builder(question)
    hints = made.substitution([SlopeHint(2, Side.LOWER, np.zeros((4000, 2)))])
    made.begin_tree()
    made.close(hints)
    proof = made.finish()
    proof = with_arrays(
        proof,
        sub_block=np.zeros(500_000, dtype=np.uint32),
        sub_block_ptr=np.array([0, 500_000], dtype=np.uint32),
    )
    write_proof(tmp_path / "f", proof)
    found, growth, seconds = measured(tmp_path / "f")
    assert found == "invalid"
    assert growth < 300
    assert seconds < 30


def test_facts_listed_over_and_over_are_added_up_as_they_are_read(good, tmp_path):
    question, _ = good
    made = builder(question)
    wide = made.form([(3, 0, 1.0)] * 2000, 5.0)
    hints = made.substitution((), [(Fact.SPLIT, 0, 1e-9)] * 2000)
    step = made.step(1, np.array([0, 1]), tuple(Side), hints)
    made.begin_tree()
    made.split_form(wide)
    made.close(hints)
    made.bound(step)
    made.close(hints)
    write_proof(tmp_path / "f", made.finish())
    found, growth, seconds = measured(tmp_path / "f")
    assert found == "invalid"
    assert growth < 200
    assert seconds < 60


def test_time_is_linear_where_much_is_listed():
    """Many cases with trees, many steps that share many hints: seconds, not minutes."""
    question = stated(2, cases=2000)
    made = ProofBuilder(question)
    for case in range(0, 2000, 2):
        made.begin_case(case, ())
        made.begin_tree()
        made.hole()
    started = time.process_time()
    assert check_proof(question, made.finish()).verdict == "incomplete"
    question = stated(1)
    made = builder(question)
    shared = made.substitution([SlopeHint(2, Side.LOWER, np.zeros(2))])
    for _ in range(20_000):
        made.step(1, None, (Side.LOWER,), shared)
    made.begin_tree()
    made.close()
    proof = with_arrays(
        made.finish(),
        sub_block=np.zeros(20_000, dtype=np.uint32),
        sub_block_ptr=np.array([0, 20_000], dtype=np.uint32),
    )
    assert check_proof(question, proof).verdict == "invalid"
    assert time.process_time() - started < 20


@pytest.mark.parametrize("nodes", [100_000])
def test_deep_trees(nodes):
    question = stated(1)
    made = builder(question)
    made.begin_tree()
    for k in range(nodes // 2):
        made.split_input(0, 2.0 + k)  # the upper side is empty
    for _ in range(nodes // 2 + 1):
        made.close()
    checked = check_proof(question, made.finish())
    assert checked.verdict == "invalid"
    assert len(checked.rejected) == 1
    nested = with_arrays(
        made.finish(),
        node_kind=np.full(nodes, NodeKind.SWEEP, dtype=np.uint8),
        node_arg=np.ones(nodes, dtype=np.uint32),
        tree_ptr=np.array([0, nodes], dtype=np.uint32),
    )
    assert check_proof(question, nested).verdict == "unreadable"  # never ends in a leaf


def test_cites_never_run_in_circles():
    question = stated(1)
    made = builder(question)
    form = made.form([(0, 0, 1.0)], 0.0)
    for cited in (0, 1, 2):  # itself, a later one, the main tree
        made = builder(question)
        form = made.form([(0, 0, 1.0)], 0.0)
        made.begin_tree([(form, Side.LOWER)])
        made.cite(cited)
        made.begin_tree([(form, Side.UPPER)])
        made.cite(0)
        made.begin_tree()
        made.split_form(form)
        made.cite(0)
        made.cite(1)
        checked = check_proof(question, made.finish())
        assert checked.verdict == "invalid"
        assert any("earlier" in r.reason for r in checked.rejected)


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_bytes(data):
    import tempfile

    with tempfile.NamedTemporaryFile() as stream:
        stream.write(data)
        stream.flush()
        with pytest.raises(EvidenceError):
            read_evidence(stream.name)


@pytest.mark.parametrize(
    "change",
    [
        {"point": ["1" * 1_000_000]},
        {"point": ["1/" + "9" * 3999]},
        {"point": ["1" + "0" * 3000]},
        {"point": ["1/0"]},
        {"point": ["1e5"]},
        {"point": ["0.5"]},
        {"point": ["٣"]},
        {"point": ["nan"]},
        {"point": [""]},
        {"point": ["-"]},
        {"point": [1]},
        {"point": "1"},
        {"point": None},
        {"point": []},
        {"point": ["1", "1"]},
        {"case": -1},
        {"case": 1},
        {"case": 10**4000},
        {"case": "0"},
        {"case": 0.0},
        {"case": False},
        {"case": None},
        {"disjunct": -1},
        {"disjunct": 1},
        {"disjunct": False},
        {"question": "0" * 64},
        {"question": None},
        {"version": 2},
        {"version": True},
        {"format": "farkas-proof"},
    ],
)
def test_witness_files(tmp_path, change):
    question = stated(1)
    path = tmp_path / "w"
    write_witness(path, Witness(question.digest, 0, 0, (Fraction(1),)))
    assert check_file(question, path).verdict == "valid sat"
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps(content))
    checked = check_file(question, path)
    assert checked.verdict in ("invalid", "unreadable")
    assert len(checked.reason) < 5000
