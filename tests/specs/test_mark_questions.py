"""Question files about parameters: what they mean, and what is wrong with the others."""

from __future__ import annotations

import hashlib

import marks
import numpy as np
import pytest

from specs.errors import InputError
from specs.question import load_question
from specs.watermarks.question import load_mark_question

CLAIM = 'kind = "extraction"\nat_least = 1'


@pytest.fixture
def folder(tmp_path):
    marks.model(tmp_path / "net.onnx", np.random.default_rng(5).normal(size=(8, 6)))
    return tmp_path


def test_uchida_averages_over_output_channels(folder):
    mark = f'scheme = "uchida"\nseed = "{marks.SEED}"\ntensor = "w"\nbits = 4\naxis = 1'
    claim = marks.question(folder, CLAIM, mark).claim
    matrix = claim.mark.key.gaussian(f"uchida matrix {claim.mark.text}", 4, 8)
    weight = np.random.default_rng(5).normal(size=(8, 6)).astype(np.float32).astype(float)
    form = claim.system.rows @ claim.weights * float(claim.system.scale)
    np.testing.assert_allclose(form, matrix @ weight.mean(axis=1), rtol=1e-9)


def test_neuralmark_filters_and_averages(folder):
    sizes = "bits = 4\nlength = 5\nrounds = 2"
    mark = f'scheme = "neuralmark"\nseed = "{marks.SEED}"\ntensor = "w"\n{sizes}'
    claim = marks.question(folder, CLAIM, mark).claim
    found = claim.mark
    drawn = hashlib.shake_256(found.matrix.astype("<f4").tobytes()).digest(1)
    bits = [(drawn[0] >> (7 - k)) & 1 for k in range(4)]
    assert found.bits.tolist() == bits
    weight = np.random.default_rng(5).normal(size=(8, 6)).astype(np.float32).astype(float)
    kept = weight.reshape(-1)
    for _ in range(2):
        kept = kept[: kept.size // 4 * 4]
        kept = kept[[bits[k % 4] == 1 for k in range(kept.size)]]
    groups = kept[: kept.size // 5 * 5].reshape(-1, 5)
    form = claim.system.rows @ claim.weights * float(claim.system.scale)
    np.testing.assert_allclose(form, groups.mean(axis=0) @ found.matrix, rtol=1e-9)


def test_the_digest_covers_mark_claim_and_model(folder):
    base = marks.question(folder, CLAIM).digest
    other_seed = f'scheme = "uchida"\nseed = "{"ff" * 16}"\ntensor = "w"\nbits = 8'
    assert marks.question(folder, CLAIM, other_seed).digest != base
    assert marks.question(folder, 'kind = "extraction"\nat_least = 2').digest != base
    assert marks.question(folder, CLAIM).digest == base
    marks.model(folder / "net.onnx", np.ones((8, 6)))
    assert marks.question(folder, CLAIM).digest != base


def test_a_commitment_must_be_that_of_the_mark(folder):
    found = marks.question(folder, CLAIM).mark.commitment
    mark = f'scheme = "uchida"\nseed = "{marks.SEED}"\ntensor = "w"\nbits = 8\ntime = "2026-01-02"'
    stated = marks.question(folder, CLAIM, f'{mark}\ncommitment = "{found.hash}"')
    assert "not verified" in " ".join(stated.claim.theorem())
    with pytest.raises(InputError, match=r"question.toml:9:\d+: the seed and this mark have"):
        marks.question(folder, CLAIM, f'{mark}\ncommitment = "{"0" * 64}"')


WRONG = {
    "no scheme": ("seed = 1", CLAIM, "scheme None is none of 'neuralmark'"),
    "scheme": ('scheme = "x"', CLAIM, "scheme 'x' is none of"),
    "kind": ("", 'kind = "y"', "kind 'y' is none of .*'extraction'"),
    "key": ("", CLAIM + "\nhow = 1", "unknown key 'how'"),
    "type": ("", 'kind = "extraction"\nat_least = "1"', "must be an integer"),
    "missing": ("", 'kind = "extraction"', "needs 'at_least'"),
    "too many": ("", 'kind = "extraction"\nat_least = 9', "from 0 to 8"),
    "seed": ('scheme = "uchida"\nseed = "00"\ntensor = "w"\nbits = 8', CLAIM, "a seed of 1 bytes"),
    "digits": ('scheme = "uchida"\nseed = "zz"\ntensor = "w"\nbits = 8', CLAIM, "hexadecimal"),
    "level": ("", 'kind = "false_claim"\nat_least = 1\nlevel = "2^-9999"', "at most 4096"),
    "tensor": (
        f'scheme = "uchida"\nseed = "{marks.SEED}"\ntensor = "v"\nbits = 8',
        CLAIM,
        "no initializer 'v' .but w, one.; exporters that fold",
    ),
    "small": (
        f'scheme = "neuralmark"\nseed = "{marks.SEED}"\ntensor = "w"\nbits = 8',
        CLAIM,
        "less than 'length' = 512",
    ),
    "axis": (
        f'scheme = "uchida"\nseed = "{marks.SEED}"\ntensor = "w"\nbits = 8\naxis = 2',
        CLAIM,
        "has no axis 2",
    ),
}


@pytest.mark.parametrize(("mark", "claim", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_its_line(folder, mark, claim, message):
    with pytest.raises(InputError, match=rf"question.toml:\d+:\d+: .*{message}"):
        marks.question(folder, claim, mark)


def test_a_tensor_that_no_output_depends_on_carries_no_mark(folder):
    marks.model(folder / "net.onnx", np.ones((8, 6)), used=False)
    with pytest.raises(InputError, match="no output of the model depends on 'w'"):
        marks.question(folder, CLAIM)


def test_other_commands_say_who_takes_the_file(folder):
    path = marks.question_file(folder, CLAIM)
    with pytest.raises(InputError, match="farkas check and farkas show take it"):
        load_question(path)
    path.write_text(
        '[models]\nnet = "net.onnx"\n[claim]\nkind = "false_claim"\nlevel = 1\nat_least = 0'
    )
    with pytest.raises(InputError, match="needs a mark"):
        load_mark_question(path)
