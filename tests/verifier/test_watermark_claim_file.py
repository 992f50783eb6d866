"""Claim files are read as the marks that they were written for; the marked digits are resumed."""

import importlib.util
from fractions import Fraction

import marks
import numpy as np
import pytest

import farkas
from specs.errors import InputError
from specs.watermarks.key import Key
from specs.watermarks.mark import Commitment
from specs.watermarks.question import load_mark_question
from specs.watermarks.schemes import blackmarks, neuralmark, triggers, uchida
from verifier.watermarks.attacks.symmetries import Moving
from verifier.watermarks.claim_file import mark_keys, write_claim

KEY = Key(b"owner, sixteen b")
POINTS = np.random.default_rng(0).uniform(size=(4, 6))


def committed(text):
    return Commitment(KEY.commitment(text))


def every():
    drawn = triggers.drawn(KEY, 5, 6)
    return {
        "uchida": uchida.Uchida(KEY, "w", 8, 1, committed(uchida.text_of("w", 8, 1))),
        "neuralmark": neuralmark.NeuralMark(
            KEY, "w", 4, 3, 1, committed(neuralmark.text_of("w", 4, 3, 1))
        ),
        "drawn-triggers": triggers.Triggers(KEY, drawn, 5, committed(triggers.text_of(drawn, 5))),
        "stored-triggers": triggers.Triggers(
            KEY, POINTS, 5, committed(triggers.text_of(POINTS, 5))
        ),
        "blackmarks": blackmarks.BlackMarks(
            KEY,
            POINTS,
            (0, 1, 1, 0, 0),
            (0, 1, 2, 0),
            7,
            Fraction(1, 500),
            committed(blackmarks.text_of(POINTS, (0, 1, 1, 0, 0))),
        ),
    }


@pytest.mark.parametrize("name", every())
def test_a_mark_is_read_as_it_was_written(tmp_path, name):
    mark = every()[name]
    marks.model(tmp_path / "net.onnx", np.ones((6, 5)))
    np.save(tmp_path / "keys.npy", POINTS)
    stored = "keys.npy" if name in ("stored-triggers", "blackmarks") else None
    keys = mark_keys(mark, stored, "2026-01-02")
    claim = {"kind": "false_claim", "at_least": 1, "level": "2^-1"}
    write_claim(tmp_path / "q.toml", {"net": "net.onnx"}, keys, claim)
    read = load_mark_question(tmp_path / "q.toml")
    assert read.mark.text == mark.text
    assert read.mark.null == mark.null
    assert read.mark.commitment.stated == read.mark.commitment.hash == mark.commitment.hash
    assert read.mark.commitment.time == "2026-01-02"
    assert read.claim.level == Fraction(1, 2)


def test_what_cannot_be_written_is_refused():
    with pytest.raises(InputError, match="blackmarks"):
        mark_keys(every()["blackmarks"])


@pytest.mark.skipif(not importlib.util.find_spec("sklearn"), reason="scikit-learn has the digits")
def test_marked_digits_are_made_once(tmp_path, monkeypatch):
    from benchmarks import watermark_attacks, watermarked
    from verifier.watermarks.blackmarks import Making
    from verifier.watermarks.embed import Embedding
    from verifier.watermarks.training import Training

    quick = Embedding(Training(epochs=2))
    monkeypatch.setattr(watermarked, "UNMARKED", 7)
    monkeypatch.setattr(watermarked, "PLAIN", Training(epochs=1))
    monkeypatch.setattr(watermarked, "LINEAR", quick)
    monkeypatch.setattr(watermarked, "MAKING", Making(count=4, spare=2, embedding=quick))
    monkeypatch.setattr(watermarked, "KINDS", {"dense": watermarked.KINDS["dense"]})
    monkeypatch.setattr(watermarked, "SCHEMES", ("uchida", "blackmarks"))
    found = watermarked.networks(tmp_path)
    assert [net.record["size"] for net in found] == [64, 4]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = watermarked.networks(tmp_path)
    assert [net.mark.text for net in again] == [net.mark.text for net in found]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    assert len(watermarked.rows(again)) == 2
    assert farkas.main(["check", str(tmp_path)]) == 0
    few = [
        watermark_attacks._pruning(Fraction(1, 2), "random"),
        watermark_attacks._quantising("int4"),
        watermark_attacks._symmetry("all", Moving()),
    ]
    monkeypatch.setattr(watermark_attacks, "attacks", lambda: few)
    lines = watermark_attacks.runs(tmp_path)
    assert len(lines) == 2 * (2 + 1 + 2)
    assert all((tmp_path / "attacked" / line["file"]).is_file() for line in lines)
    log = tmp_path / "attacks.jsonl"
    whole = log.read_text()
    log.write_text(whole[:-20])  # the last line was cut off
    assert watermark_attacks.runs(tmp_path) == lines
    assert log.read_text() == whole[:-20] + "\n" + whole.splitlines(keepends=True)[-1]
    assert len(watermark_attacks.rows(lines)) == 2 * 3
    assert len(watermark_attacks.forged(again, (1, 2))) == 2
