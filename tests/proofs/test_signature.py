"""The hash of what a proof says, and the signatures that it carries."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest

from proofs.cli import shown
from proofs.format import read_evidence, write_proof
from proofs.proof import ARRAYS, Proof
from proofs.signature import KEY, LONGEST, MOST, Signature, content_hash, signatures, with_signature
from proofs.witness import Witness
from specs.errors import EvidenceError
from tests.proofs.helpers import with_arrays
from tests.proofs.test_files import members, packed, rich_proof, stated

PARTS = {"by": "a", "scheme": "ssh-ed25519", "value": "line\nline", "over": "0" * 64}


def proof() -> Proof:
    return rich_proof(stated(1))


def test_packing_makes_no_difference(tmp_path):
    made = proof()
    wanted = content_hash(made)
    write_proof(tmp_path / "a", made)
    assert content_hash(read_evidence(tmp_path / "a")) == wanted
    write_proof(tmp_path / "b", made, pack=True)
    assert (tmp_path / "b").read_bytes() != (tmp_path / "a").read_bytes()
    assert content_hash(read_evidence(tmp_path / "b")) == wanted
    content = members((tmp_path / "a").read_bytes())
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        (tmp_path / "b").write_bytes(packed(dict(reversed(content.items())), method))
        assert content_hash(read_evidence(tmp_path / "b")) == wanted
    for name, dtypes in ARRAYS.items():  # every type that holds the values
        for dtype in dtypes:
            cast = made.arrays[name].astype(dtype)
            if np.array_equal(cast, made.arrays[name]):
                assert content_hash(with_arrays(made, **{name: cast})) == wanted
    assert content_hash(replace(made, manifest={"made by": "somebody"})) == wanted


def test_every_number_and_name_makes_a_difference():
    made = proof()
    hashes = {content_hash(made)}
    for name, array in made.arrays.items():
        if not array.size or (name.endswith("_ptr") and array.size == 1):
            continue
        changed = array.copy()
        changed[-1] = changed[-1] + 1
        hashes.add(content_hash(with_arrays(made, **{name: changed})))
        hashes.add(content_hash(with_arrays(made, **{name: np.append(array, array[:1])})))
    expected = 1 + 2 * sum(
        bool(a.size) and not (n.endswith("_ptr") and a.size == 1) for n, a in made.arrays.items()
    )
    assert len(hashes) == expected
    assert content_hash(replace(made, question="x")) not in hashes
    assert content_hash(replace(made, tensors=("a", "b"))) != content_hash(
        replace(made, tensors=("a,b",))
    )


def test_witnesses_have_a_hash_too():
    made = Witness("q", 0, 1, (Fraction(1, 3), Fraction(2)))
    others = [
        replace(made, question="p"),
        replace(made, case=1),
        replace(made, disjunct=0),
        replace(made, point=(Fraction(1, 3),)),
        replace(made, point=(Fraction(1, 3), Fraction(-2))),
    ]
    assert len({content_hash(w) for w in (made, *others)}) == 6
    assert content_hash(replace(made, point=(Fraction(2, 6), Fraction(4, 2)))) == content_hash(made)


def test_the_hash_is_the_one_that_the_format_specifies():
    """By hand, for a proof of one leaf and for a witness: hashes live long."""
    import hashlib

    arrays = {name: np.zeros(0, dtype=dtypes[0]) for name, dtypes in ARRAYS.items()}
    arrays |= {"node_kind": np.array([1], np.uint8), "form_point": np.array([0.5])}
    text = b'["farkas-content-1","proof","q"]\n[["\\u00e4"]]\n["form_point","<f8",1]\n'
    text += bytes.fromhex("000000000000e03f") + b'["node_kind","<i8",1]\n' + b"\1" + bytes(7)
    assert content_hash(Proof("q", ("ä",), arrays)) == hashlib.sha256(text).hexdigest()
    text = b'["farkas-content-1","witness","q"]\n[0,1,["1/3","2"]]\n'
    made = Witness("q", 0, 1, (Fraction(1, 3), Fraction(2)))
    assert content_hash(made) == hashlib.sha256(text).hexdigest()


def test_arrays_that_are_no_lists_of_numbers_have_none():
    for array in (np.zeros((1, 1), np.uint8), np.array(["x"]), np.array([1j])):
        with pytest.raises(EvidenceError, match="no content hash"):
            content_hash(with_arrays(proof(), node_kind=array))


def test_signatures_survive_and_are_shown_as_carried(tmp_path):
    made = proof()
    signed = with_signature(made, "Auditor Ä", "ssh-ed25519", "-----BEGIN\nvalue\n-----END")
    signed = with_signature(signed, "another", "gpg", "value")
    assert content_hash(signed) == content_hash(made)
    write_proof(tmp_path / "p", signed)
    again = read_evidence(tmp_path / "p")
    assert signatures(again) == signatures(signed)
    assert [s.by for s in signatures(again)] == ["Auditor Ä", "another"]
    assert {s.over for s in signatures(again)} == {content_hash(made)}
    lines = [line for line in shown(again) if "signature" in line]
    assert len(lines) == 2
    assert all("not verified" in line and "over this content" in line for line in lines)
    changed = with_arrays(again, node_arg=again.arrays["node_arg"][::-1].copy())
    assert sum("ANOTHER content" in line for line in shown(changed)) == 2


def test_limits_of_signatures():
    for name, limit in LONGEST.items():
        if name != "over":
            assert Signature(**{**PARTS, name: "x" * limit})
        for bad in ("", "x" * (limit + 1), None, 5, ["x"], "\x1b[2J" + "0" * 60):
            with pytest.raises(EvidenceError, match=name):
                Signature(**{**PARTS, name: bad})
    with pytest.raises(EvidenceError, match="hexadecimal"):
        Signature(**{**PARTS, "over": "G" * 64})
    made = proof()
    for number in range(MOST):
        made = with_signature(made, f"signer {number}", "s", "v")
    with pytest.raises(EvidenceError, match=f"at most {MOST}"):
        with_signature(made, "one more", "s", "v")


@pytest.mark.parametrize(
    "listed",
    [
        None,
        "text",
        {},
        [PARTS] * (MOST + 1),
        [[]],
        [{}],
        [{**PARTS, "more": ""}],
        [{k: v for k, v in PARTS.items() if k != "by"}],
        [{**PARTS, "by": 3}],
        [{**PARTS, "value": "x" * 20_001}],
    ],
)
def test_malformed_signatures_are_a_fault_and_change_no_verdict(listed, tmp_path):
    made = replace(proof(), manifest={KEY: listed})
    write_proof(tmp_path / "p", made)
    again = read_evidence(tmp_path / "p")
    with pytest.raises(EvidenceError, match="signature"):
        signatures(again)
    assert any(line.startswith("signatures: ") for line in shown(again))
    assert asdict(Signature(**PARTS)) == PARTS


def test_the_same_file_twice_gives_the_same_bytes(tmp_path):
    signed = with_signature(proof(), "a", "s", "v")
    write_proof(tmp_path / "a", signed)
    write_proof(tmp_path / "b", read_evidence(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(io.BytesIO((tmp_path / "a").read_bytes())) as archive:
        assert b"signatures" in archive.read("manifest.json")
