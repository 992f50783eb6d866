"""Both sides of each limit that FORMAT.md states."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from proofs import archive, packing
from proofs import format as files
from proofs.check import check_proof, check_witness
from proofs.format import read_evidence, write_proof, write_witness
from proofs.signature import LONGEST, MOST
from proofs.watermarks.evidence import MOST as MOST_MARK
from proofs.witness import DENOMINATOR_LIMIT, Witness
from specs.errors import EvidenceError
from tests.proofs.helpers import with_arrays
from tests.proofs.test_files import members, npy, packed, rich_proof, stated

PAGE = (Path(__file__).resolve().parents[2] / "proofs/FORMAT.md").read_text()
LIMITS = dict(
    re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.partition("## Limits")[2], re.MULTILINE)
)


def content(tmp_path: Path) -> dict[str, bytes]:
    write_proof(tmp_path / "proof", rich_proof(stated(1)))
    return members((tmp_path / "proof").read_bytes())


def refused(path: Path, says: str) -> bool:
    try:
        read_evidence(path)
    except EvidenceError as error:
        return says in str(error) or pytest.fail(f"refused for another reason: {error}")
    return False


def test_the_page_states_the_numbers_of_the_code():
    numbers = {what: [int(n.replace(",", "")) for n in re.findall(r"-?\d[\d,]*", limit)]
               for what, limit in LIMITS.items()}  # fmt: skip
    assert numbers["all members of a proof, unpacked"] == [archive.FLOOR >> 20, archive.RATIO]
    assert numbers["`manifest.json`, and a witness"] == [files.MANIFEST_LIMIT >> 20]
    assert numbers["digits of a whole number in JSON"] == [sys.int_info.default_max_str_digits]
    assert numbers["common denominator of all coordinates"] == [DENOMINATOR_LIMIT]
    assert numbers["signatures"] == [MOST]
    kinds = ("by", "scheme", "value")
    assert numbers["characters of a signature's `by`, `scheme`, `value`"] == [
        LONGEST[kind] for kind in kinds
    ]
    assert numbers["entries of an array in the manifest"] == [packing.LONGEST]
    (words,) = re.findall(r"2\^(\d+)", LIMITS["nodes that words spell"])
    assert 1 << int(words) == packing.NODES
    assert numbers["arrays of evidence about a claim"] == [MOST_MARK]
    assert len(LIMITS) == 15  # the table's head and fourteen limits


@pytest.mark.parametrize("beyond", [0, 1])
def test_nodes_that_words_spell(tmp_path, monkeypatch, beyond):
    monkeypatch.setattr(packing, "NODES", 6)
    made = content(tmp_path)
    for name in ("node_kind", "node_arg"):
        del made[f"{name}.npy"]
    words = {"node_word": [0, 0, 0] + [1] * beyond, "word_count": [2, 1]}
    for name, values in {**words, "word_kind": [3, 0, 0], "word_arg": [0, 0, 0]}.items():
        made[f"{name}.npy"] = npy(np.array(values, dtype=np.uint8))
    (tmp_path / "f").write_bytes(packed(made))
    assert refused(tmp_path / "f", "words spell more than 6 nodes") == bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_members_unpacked(tmp_path, beyond):
    """The limit goes with the size of the file, which a comment makes what was reckoned with."""
    made = content(tmp_path)
    held = sum(map(len, made.values())) - len(made.get("slope.npy", b""))
    path = tmp_path / "f"
    zeros = npy(np.zeros(archive.FLOOR, dtype=np.uint8))
    size = len(packed({**made, "slope.npy": zeros})) + 2000
    room = archive.FLOOR + archive.RATIO * size - held + beyond
    array = npy(np.zeros(room - 128, dtype=np.uint8))
    path.write_bytes(packed({**made, "slope.npy": array}))
    with zipfile.ZipFile(path, "a") as opened:
        opened.comment = b" " * (size - path.stat().st_size)
    assert path.stat().st_size == size
    unpacked = held + len(array)
    assert unpacked - (archive.FLOOR + archive.RATIO * size) == beyond
    assert refused(path, "unpacks to more than") == bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_manifest(tmp_path, beyond):
    made = content(tmp_path)
    text = made["manifest.json"]
    text += b" " * (files.MANIFEST_LIMIT - len(text) + beyond)
    (tmp_path / "f").write_bytes(packed({**made, "manifest.json": text}, zipfile.ZIP_STORED))
    assert refused(tmp_path / "f", "unpacks to more than") == bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_witness_file(tmp_path, beyond):
    path = tmp_path / "w"
    write_witness(path, Witness("q", 0, 0, (Fraction(1),)))
    text = path.read_bytes()
    path.write_bytes(text + b" " * (files.MANIFEST_LIMIT - len(text) + beyond))
    assert refused(path, "exceeds") == bool(beyond)


@pytest.mark.parametrize(("value", "bad"), [("[" * 600 + "]" * 600, False),
                                            ("[" * 5000 + "]" * 5000, True),
                                            ("9" * 4300, False), ("9" * 4301, True)])  # fmt: skip
def test_json(tmp_path, value, bad):
    made = content(tmp_path)
    text = made["manifest.json"].rstrip().removesuffix(b"}") + f', "more": {value}}}'.encode()
    (tmp_path / "f").write_bytes(packed({**made, "manifest.json": text}))
    assert refused(tmp_path / "f", "not JSON") == bad


@pytest.mark.parametrize("beyond", [0, 1])
def test_coordinates(tmp_path, beyond):
    path = tmp_path / "w"
    question = stated(1)
    write_witness(path, Witness(question.digest, 0, 0, (Fraction(1),)))
    data = json.loads(path.read_text())
    data["point"] = ["1" + "0" * (3997 + beyond) + "/1"]
    path.write_text(json.dumps(data))
    assert len(data["point"][0]) == 4000 + beyond
    assert refused(path, "more than 4000 characters") == bool(beyond)


@pytest.mark.parametrize("beyond", [0, 1])
def test_denominators(beyond):
    question = stated(Fraction(1, 4))
    bits = DENOMINATOR_LIMIT - 1 + beyond  # the power of two has one bit more
    point = 1 - Fraction(1, 1 << bits)
    checked = check_witness(question, Witness(question.digest, 0, 0, (point,)))
    assert checked.verdict == ("invalid" if beyond else "valid sat")
    assert ("common denominator" in checked.reason) == bool(beyond)


@pytest.mark.parametrize(("shape", "bad"), [("(2,)", False), ("(1, 2)", True), ("()", True)])
def test_dimensions(tmp_path, shape, bad):
    made = content(tmp_path)
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    (tmp_path / "f").write_bytes(packed({**made, "weight_value.npy": data}))
    assert refused(tmp_path / "f", "one-dimensional") == bad


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([1] * packing.LONGEST, False),
        ([1] * (packing.LONGEST + 1), True),
        ([packing.LARGEST], False),
        ([packing.LARGEST + 1], True),
        ([-packing.LARGEST], False),
        ([-packing.LARGEST - 1], True),
    ],
)
def test_arrays_in_the_manifest(tmp_path, values, bad):
    made = content(tmp_path)
    made.pop("weight_value.npy", None)
    manifest = {**json.loads(made["manifest.json"]), "arrays": {"weight_value": values}}
    (tmp_path / "f").write_bytes(packed({**made, "manifest.json": json.dumps(manifest).encode()}))
    assert refused(tmp_path / "f", "'weight_value'") == bad


@pytest.mark.parametrize(
    ("exponent", "bad"), [(-1023, True), (-1022, False), (511, False), (512, True)]
)
def test_exponents(exponent, bad):
    question = stated(1)
    proof = rich_proof(question, 5)
    assert proof.arrays["block_exponent"].size
    changed = np.full_like(proof.arrays["block_exponent"], exponent)
    checked = check_proof(question, with_arrays(proof, block_exponent=changed))
    assert (checked.verdict == "unreadable") == bad
    assert ("block_exponent" in checked.reason) == bad
