"""What ``show`` prints of evidence, whatever is in it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from proofs.cli import main, shown
from proofs.format import write_proof, write_witness
from proofs.witness import Witness
from tests.proofs.test_files import rich_proof, stated


def test_coordinates_beyond_floats_are_shown(tmp_path, capsys):
    write_witness(tmp_path / "w", Witness("0" * 64, 0, 0, (Fraction(10**400), Fraction(1, 3))))
    assert main(["show", str(tmp_path / "w")]) == 0
    out = capsys.readouterr().out
    assert "= beyond the range of floats" in out
    assert "x[1] = 1/3 = 0.3333333333333333" in out


@pytest.mark.parametrize("text", ["\x1b[2J", "\ud800", "a\nb", "\u202e"])
def test_texts_of_strangers_are_safe_for_a_terminal(text, tmp_path, capsys):
    proof = replace(rich_proof(stated(1)), tensors=(text,), manifest={text: text})
    for evidence in (proof, Witness(text, 0, 0, (Fraction(1),))):
        lines = shown(evidence)
        assert lines
        assert all(line.isprintable() for line in lines)
        "\n".join(lines).encode()


def test_what_is_printable_stays_as_it_is(tmp_path, capsys):
    write_proof(tmp_path / "p", replace(rich_proof(stated(1)), manifest={"made by": "Ärger §"}))
    assert main(["show", str(tmp_path / "p")]) == 0
    assert "made by: 'Ärger §'" in capsys.readouterr().out
