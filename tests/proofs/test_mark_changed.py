"""Questions about changed weights: how they are read, decided, refused and shown."""

from __future__ import annotations

from fractions import Fraction

import marks
import numpy as np
import pytest

import farkas
from proofs.format import write_mark
from proofs.watermarks.check import check_mark
from specs.errors import InputError
from specs.watermarks.changes import Ball, Flips, Pruned

OTHER = "ff" * 16


@pytest.fixture
def folder(tmp_path):
    weight = np.random.default_rng(3).normal(size=(6, 5))
    marks.model(tmp_path / "net.onnx", np.round(weight * 64) / 64)
    return tmp_path


def verdict(asked, claims="unsat", **arrays):
    return check_mark(asked, marks.evidence(asked, claims, **arrays))[0].verdict


def matches(folder) -> int:
    """Bits that match before any change."""
    for count in range(8, 0, -1):
        asked = marks.question(folder, f'kind = "persistence"\nat_least = {count}')
        if verdict(asked) == "valid unsat":
            return count
    raise AssertionError("no bit matches")


def test_weights_that_do_not_change_are_read_as_they_stand(folder):
    count = matches(folder)
    extraction = marks.question(folder, f'kind = "extraction"\nat_least = {count}')
    assert verdict(extraction) == "valid unsat"
    more = marks.question(folder, f'kind = "persistence"\nat_least = {count + 1}')
    assert verdict(more) == "invalid"
    assert verdict(more, "sat") == "valid sat"
    still = marks.question(folder, f'kind = "persistence"\nat_least = {count}')
    assert verdict(still, "sat") == "invalid"
    assert verdict(still, "sat", change=np.ones(30)) == "invalid"
    assert verdict(still, prices=np.ones(8)) == "invalid"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_small_balls_are_proved_and_large_ones_refuted(folder, norm):
    count = matches(folder)
    claim = f'kind = "persistence"\nat_least = {count}\n{norm} = {{}}'
    small, large = (marks.question(folder, claim.format(r)) for r in ("0.0001", "100"))
    assert verdict(small) == "valid unsat"
    assert verdict(large) == "invalid"
    away = -small.claim.weights  # 0 matches the zeros of the key only
    assert verdict(large, "sat", change=away) == "valid sat"
    assert verdict(small, "sat", change=away) == "invalid"
    assert verdict(large, "sat", change=away[:-1]) == "invalid"
    assert verdict(large, "sat", change=np.full(30, np.nan)) == "invalid"
    assert verdict(large, "sat") == "invalid"


def test_several_keys_all_bind(folder):
    claim = 'kind = "persistence"\nat_least = {}\npruned = 30\nlinf = {}\nl2 = 50'
    asked = marks.question(folder, claim.format(matches(folder), "0.001"))
    assert [type(each) for each in asked.claim.sets] == [Ball, Ball, Pruned]
    assert verdict(asked) == "valid unsat"
    away = -asked.claim.weights
    assert verdict(asked, "sat", change=away) == "invalid"
    wide = marks.question(folder, claim.format(matches(folder), "100"))
    assert verdict(wide, "sat", change=away) == "valid sat"


def test_what_is_done_once_is_replayed(folder):
    asked = marks.question(folder, 'kind = "persistence"\nat_least = 1\nsmallest = 30')
    assert not asked.claim.weights.any()
    zeros = int(np.count_nonzero(~asked.mark.bits))
    for count in range(1, 9):
        asked = marks.question(folder, f'kind = "persistence"\nat_least = {count}\nsmallest = 30')
        assert verdict(asked) == ("valid unsat" if count <= zeros else "invalid")
        assert verdict(asked, "sat") == ("invalid" if count <= zeros else "valid sat")
    coarse = marks.question(folder, 'kind = "persistence"\nat_least = 1\nformat = "int3"')
    assert len(set(coarse.claim.weights.tolist())) <= 8
    few = marks.question(folder, 'kind = "persistence"\nat_least = 1\nsmallest = 10')
    assert np.count_nonzero(few.claim.weights == 0.0) == 10
    assert few.digest != coarse.digest


def test_flips_are_of_the_format(folder):
    claim = f'kind = "persistence"\nat_least = {matches(folder)}\nflips = 1\n'
    asked = marks.question(folder, claim + 'format = "float16"\nbits = [0, 1]')
    (flips,) = asked.claim.sets
    assert isinstance(flips, Flips)
    assert flips.bits == (0, 1)
    assert verdict(asked) == "valid unsat"
    assert "Inf or NaN" in " ".join(asked.claim.assumed())
    stored = marks.question(folder, claim + "bits = [0]")
    assert stored.claim.sets[0].format.name == "float32"
    assert verdict(stored) == "valid unsat"


def test_a_second_key_and_its_cost(folder):
    claim = f'kind = "persistence"\nat_least = {matches(folder)}\nl2 = 100\n'
    plain = marks.question(folder, claim)
    away = -plain.claim.weights
    assert verdict(plain, "sat", change=away) == "valid sat"
    both = marks.question(folder, claim + f'second_seed = "{OTHER}"\nsecond_at_least = 8')
    assert len(both.claim.demands) == 2
    assert both.digest != plain.digest
    assert verdict(both, "sat", change=away) == "invalid"  # the second key reads zeros, too
    other = f'scheme = "uchida"\nseed = "{OTHER}"\ntensor = "w"\nbits = 8'
    near = 'kind = "overwriting"\nat_least = 8\nlinf = {}'
    assert verdict(marks.question(folder, near.format("0.0001"), other)) == "valid unsat"
    far = marks.question(folder, near.format("100"), other)
    assert verdict(far) == "invalid"
    columns = far.claim.demands[0].rows.columns * far.claim.demands[0].signs[:, None]
    (write, *_) = np.linalg.lstsq(columns, np.full(8, 2.0**22), rcond=None)
    change = write[far.claim.demands[0].rows.column_of] - far.claim.weights
    assert verdict(far, "sat", change=change) == "valid sat"
    exact = marks.question(folder, near.format("0.0001"), other)
    assert verdict(exact, "sat", change=change) == "invalid"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("at_least = 9", "from 1 to 8"),
        ("at_least = 1\nlinf = -1", "negative"),
        ("at_least = 1\nl3 = 1", "unknown key"),
        ("at_least = 1\npruned = 31", "from 0 to 30"),
        ("at_least = 1\nflips = 0", "from 1 to"),
        ("at_least = 1\nflips = 1\nbits = [32]", "bits 0 to 31"),
        ("at_least = 1\nbits = [1]", "goes with"),
        ('at_least = 1\nformat = "int99"', "bits"),
        ('at_least = 1\nformat = "float7"', "use stored"),
        ("at_least = 1\nscale = 0.5", "go with an integer"),
        ("at_least = 1\nsecond_at_least = 3", "needs 'second_seed'"),
        ('at_least = 1\nsecond_at_least = 3\nsecond_seed = "12"', "second key"),
        ("linf = 1", "needs 'at_least'"),
    ],
    ids=lambda text: text.replace("\n", " ").replace(" ", ""),
)
def test_claims_that_make_no_sense_are_refused(folder, claim, message):
    with pytest.raises(InputError, match=message):
        marks.question(folder, f'kind = "persistence"\n{claim}')


def test_the_command_line_decides_and_explains(folder, capsys):
    asked = marks.question(folder, 'kind = "persistence"\nat_least = 1\nrounding = 0.001')
    assert asked.claim.sets == (Ball("linf", Fraction(1, 2000)),)
    write_mark(folder / "e.farkas", marks.evidence(asked))
    files = [str(folder / "question.toml"), str(folder / "e.farkas")]
    assert farkas.main(["check", *files]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("valid unsat\n")
    assert "linf norm is at most 1/2000" in printed
    assert "permuting" in printed
    assert farkas.main(["show", files[0]]) == 0
    assert "Every allowed change leaves at least 1 of the 8 bits" in capsys.readouterr().out
