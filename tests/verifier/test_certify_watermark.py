"""The answers of [watermark] on small networks, each with evidence that checks again."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import farkas
from proofs.check import check_file
from proofs.claims import report_of
from proofs.watermarks.check import check_mark
from proofs.watermarks.evidence import MarkEvidence
from proofs.watermarks.tails import binomial_tail
from specs.errors import InputError
from specs.onnx_reader import read_model_bytes
from specs.question import load_question
from specs.watermarks.question import load_mark_question
from tests.layered_models import chain_of, drawn, folded, layered, moved
from tests.verifier.certify_files import keys_of, part, run
from verifier.attack_forward import NumpyEvaluator
from verifier.certify.config import load_config
from verifier.certify.faults.common import FAULT_KEYS
from verifier.certify.watermark.extraction import read_bits
from verifier.certify.watermark.section import ANSWERS
from verifier.certify.watermark.symmetry import rounded_up

MARK = """[watermark]
net = "net"
scheme = "uchida"
seed = "000102030405060708090a0b0c0d0e0f"
tensor = "two.w"
bits = 8
"""
HEAD = '[models]\nnet = "net.onnx"\n'
PAIR = HEAD + 'suspect = "suspect.onnx"\n'


def folder_with(tmp_path: Path, text: str, *, kind: str = "dense", head: str = HEAD) -> Path:
    (tmp_path / "net.onnx").write_bytes(layered(kind, 1))
    path = tmp_path / "c.toml"
    path.write_text(head + text)
    return path


def suspect_in(tmp_path: Path, *, kind: str = "dense", exact: bool = True, fold: bool = False):
    """A moved copy of the model of ``folder_with``."""
    chain = chain_of(layered(kind, 1))
    content = moved(chain, *drawn(chain, 3, exact=exact))
    (tmp_path / "suspect.onnx").write_bytes(folded(chain_of(content)) if fold else content)


def all_valid(tmp_path: Path) -> int:
    """How many pieces of evidence there are; all of them check again."""
    questions = sorted((tmp_path / "out/evidence").glob("*.toml"))
    for path in questions:
        report = report_of([path])
        if report is not None:
            checked = report.audit_claim(path, path.with_suffix(".farkas")).checked
        else:
            found = [path.with_suffix(end) for end in (".farkas", ".witness.json")]
            (evidence,) = (file for file in found if file.exists())
            checked = check_file(load_question(path), evidence)
        assert checked.verdict.startswith("valid ")
    return len(questions)


def matches(tmp_path: Path) -> int:
    """Of the mark in the model, by the kernel."""
    path = tmp_path / "q.toml"
    mark = MARK.replace('net = "net"\n', "")
    for count in range(8, -1, -1):
        path.write_text(HEAD + mark + f'[claim]\nkind = "extraction"\nat_least = {count}\n')
        question = load_mark_question(path)
        if check_mark(question, MarkEvidence(question.digest, "unsat"))[0].verdict == "valid unsat":
            return count
    raise AssertionError


def test_extraction_is_that_of_the_kernel(tmp_path):
    path = folder_with(tmp_path, MARK + "[watermark.extraction]\nat_least = 3\n")
    outcome = run(path)
    count = matches(tmp_path)
    assert part(outcome).facts["matches"] == count
    assert outcome.verdict == ("proved" if count >= 3 else "refuted")
    assert all_valid(tmp_path) == 2
    assert "no published commitment is stated" in " ".join(part(outcome).lines)


def test_more_bits_than_match_are_refuted(tmp_path, capsys):
    path = folder_with(tmp_path, MARK + "[watermark.extraction]\nat_least = 8\n")
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().out.startswith("refuted\n")
    assert farkas.main(["check", str(tmp_path / "out/evidence"), "--processes", "1"]) == 0
    assert capsys.readouterr().out.endswith("2 checked: 1 valid sat, 1 valid unsat\n")


@pytest.mark.parametrize(
    ("keys", "level", "verdict"),
    [
        (1, '"2^-3"', "proved"),
        (1, "0.03", "refuted"),
        (10, '"2^-3"', "refuted"),
    ],
    ids=["enough", "too fine", "many keys"],
)
def test_false_claims(tmp_path, keys, level, verdict):
    text = f"[watermark.false_claim]\nat_least = 7\nkeys = {keys}\nlevel = {level}\n"
    outcome = run(folder_with(tmp_path, MARK + text))
    assert outcome.verdict == verdict
    tail = min(Fraction(1), keys * binomial_tail(8, Fraction(1, 2), 7))
    assert Fraction(part(outcome).facts["probability"]) == tail
    assert all_valid(tmp_path) == 1


def test_false_claims_take_the_matches_of_the_model(tmp_path):
    outcome = run(folder_with(tmp_path, MARK + "[watermark.false_claim]\n"))
    assert outcome.verdict == "reported"
    assert part(outcome).facts["matches"] == matches(tmp_path)
    assert all_valid(tmp_path) == 1


def test_utility_is_an_agreement(tmp_path):
    text = '[watermark.utility]\nother = "suspect"\nat_most = 10\ndomain = [0, 0.125]\nagreed = 1\n'
    path = folder_with(tmp_path, MARK + text, head=PAIR)
    suspect_in(tmp_path)
    outcome = run(path)
    assert outcome.verdict == "proved"
    assert part(outcome).title.startswith("Utility")
    assert all_valid(tmp_path) == 1


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_an_exact_symmetry_is_proved_and_undone(tmp_path, kind):
    text = f"[watermark.symmetry]\nsuspect = 'suspect'\nrelative = 0\nat_least = {0}\n"
    path = folder_with(tmp_path, MARK + text, kind=kind, head=PAIR)
    suspect_in(tmp_path, kind=kind)
    outcome = run(path)
    found = part(outcome)
    assert outcome.verdict == "proved"
    assert found.facts["same function"]
    assert found.facts["after"] == matches(tmp_path)
    assert "the undone model is the suspect's function: proved, exactly" in found.lines
    assert all_valid(tmp_path) == 2  # the symmetry; the mark, for undone it is the owner's model


def test_a_folded_suspect_is_unfolded(tmp_path):
    text = "[watermark.symmetry]\nsuspect = 'suspect'\nrelative = 1e-5\n"
    path = folder_with(tmp_path, MARK + text, kind="conv", head=PAIR)
    suspect_in(tmp_path, kind="conv", fold=True)
    outcome = run(path)
    assert outcome.verdict == "proved"
    assert part(outcome).facts["after"] == matches(tmp_path)
    assert not part(outcome).facts["same function"]
    assert all_valid(tmp_path) == 3


def test_rounded_factors_leave_a_question_about_a_region(tmp_path):
    text = "[watermark.symmetry]\nsuspect = 'suspect'\ninputs = [0, 1]\nwithin = 0.001\n"
    text += "at_most = 10\ndomain = [0, 0.125]\nagreed = 1\n"
    path = folder_with(tmp_path, MARK + text, head=PAIR)
    suspect_in(tmp_path, exact=False)
    outcome = run(path)
    assert outcome.verdict == "proved"
    assert not part(outcome).facts["same function"]
    assert all_valid(tmp_path) == 5


def test_another_network_is_no_symmetry(tmp_path):
    text = "[watermark.symmetry]\nsuspect = 'suspect'\nrelative = 0.1\n"
    path = folder_with(tmp_path, MARK + text, head=PAIR)
    (tmp_path / "suspect.onnx").write_bytes(layered("dense", 2))
    outcome = run(path)
    assert outcome.verdict == "undecided"
    assert any(
        line.startswith("no permutation and factors were found") for line in part(outcome).lines
    )


def test_a_second_run_computes_nothing(tmp_path):
    path = folder_with(tmp_path, MARK + "[watermark.extraction]\n[watermark.false_claim]\n")
    first, second = run(path), run(path)
    assert (first.done, second.done, second.found) == (2, 0, 2)
    assert [p.lines for p in first.parts["watermark"]] == [
        p.lines for p in second.parts["watermark"]
    ]


WRONG = {
    "an unknown scheme": (MARK.replace("uchida", "adi2") + "[watermark.extraction]\n", "none of"),
    "an unknown key": (MARK + "foo = 1\n[watermark.extraction]\n", "unknown key 'foo'"),
    "an unknown key below": (MARK + "[watermark.extraction]\nfoo = 1\n", "unknown key 'foo'"),
    "nothing asked": (MARK, "asks nothing"),
    "no mark": ("[watermark]\n[watermark.extraction]\n", "needs a mark"),
    "no such tensor": (MARK.replace("two.w", "q") + "[watermark.extraction]\n", "'q'"),
    "more bits than there are": (MARK + "[watermark.extraction]\nat_least = 9\n", "at most 8"),
    "a level that is none": (MARK + "[watermark.false_claim]\nlevel = 2\n", "no probability"),
    "a suspect that is not there": (
        MARK + "[watermark.symmetry]\nsuspect = 'x'\n",
        "further model",
    ),
    "a net that is not there": (
        MARK.replace('"net"', '"x"') + "[watermark.extraction]\n",
        "no 'x'",
    ),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_faults_of_the_file_are_said(tmp_path, what):
    text, words = WRONG[what]
    with pytest.raises(InputError, match=words):
        load_config(folder_with(tmp_path, text))


def test_a_suspect_of_another_structure_is_an_error(tmp_path):
    path = folder_with(tmp_path, MARK + "[watermark.symmetry]\nsuspect = 'suspect'\n", head=PAIR)
    (tmp_path / "suspect.onnx").write_bytes(layered("bare"))
    with pytest.raises(InputError, match="no symmetry can make the models one"):
        load_config(path)


FULL = """[watermark.extraction]
[watermark.false_claim]
[watermark.persistence]
at_least = 1
[watermark.survival]
samples = "s.npz"
model = "weight_box"
relative = 1
curve = true
[watermark.removal]
samples = "s.npz"
others = "s.npz"
[watermark.sanity]
samples = "s.npz"
reference = "net"
radius = 1
[watermark.utility]
other = "suspect"
at_most = 1
domain = [0, 1]
[watermark.symmetry]
suspect = "suspect"
at_most = 1
domain = [0, 1]
"""


def test_the_tables_of_keys_are_the_schema(tmp_path, monkeypatch):
    path = folder_with(tmp_path, MARK + FULL, head=PAIR)
    suspect_in(tmp_path)
    np.savez(tmp_path / "s.npz", points=np.ones((2, 5)), labels=np.array([0, 1]))
    known = keys_of(path, monkeypatch)
    page = (Path(__file__).resolve().parents[2] / "docs/certify.md").read_text()
    for name in ANSWERS:
        text = page.partition(f"### `[watermark.{name}]`\n")[2].partition("\n##")[0]
        rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        listed = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
        own = known[f"watermark.{name}"]
        assert listed == (own - set(FAULT_KEYS) if name == "survival" else own)


def test_deviations_are_rounded_up():
    for number in (Fraction(1, 3), Fraction(1, 10**9), Fraction(12345, 10**9), Fraction(0)):
        found = rounded_up(number)
        assert number <= found <= number * Fraction(102, 100)


def test_margins_are_those_of_exact_forms(tmp_path):
    path = folder_with(tmp_path, MARK + "[watermark.extraction]\n")
    answer = load_config(path).answers["watermark"][0]
    found = read_bits(answer.marked.model, answer.marked.mark)
    parameter = next(
        layer for layer in chain_of(layered("dense", 1)).layers if layer.weight_name == "two.w"
    )
    system = answer.marked.mark.system(parameter.weight.shape)
    forms = float(system.scale) * (system.rows @ parameter.weight.reshape(-1)[system.positions])
    assert np.abs(forms) == pytest.approx(np.abs(found["margins"]))


TRIGGERS = """[watermark]
scheme = "triggers"
seed = "000102030405060708090a0b0c0d0e0f"
classes = 3
"""


@pytest.mark.parametrize("stored", [False, True], ids=["drawn", "stored"])
def test_answers_to_triggers_are_counted_exactly(tmp_path, stored):
    where = 'points = "secret.npy"\n' if stored else "count = 6\nsize = 5\n"
    text = TRIGGERS + where + "[watermark.extraction]\nat_least = 1\n[watermark.false_claim]\n"
    points = np.random.default_rng(2).normal(size=(6, 5)).astype(np.float32)
    np.save(tmp_path / "secret.npy", points)
    path = folder_with(tmp_path, text)
    outcome = run(path)
    found, tail = part(outcome, 0).facts, part(outcome, 1).facts
    mark = load_config(path).answers["watermark"][0].marked.mark
    network = read_model_bytes(layered("dense", 1), None, "m")
    given = np.argmax(NumpyEvaluator(network).evaluate(mark.points)[0], axis=1)
    assert found["same"] == (given == mark.labels).tolist()
    assert tail["matches"] == found["matches"]
    wanted = binomial_tail(6, Fraction(1, 3), found["matches"])
    assert Fraction(tail["probability"]) == wanted
    assert all_valid(tmp_path) == 2


def test_triggers_that_do_not_fit_are_an_error(tmp_path):
    text = TRIGGERS + "count = 6\nsize = 4\n[watermark.extraction]\n"
    with pytest.raises(InputError, match="the mark is of 4 inputs"):
        load_config(folder_with(tmp_path, text))
