"""The answers of [watermark] that search: persistence, survival, removal, sanity."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import farkas
from proofs.evaluate import evaluate
from specs.errors import InputError
from specs.onnx_reader import read_model_bytes
from tests.layered_models import chain_of, layered
from tests.verifier.certify_files import part, run
from tests.verifier.test_certify_watermark import HEAD, PAIR, all_valid, folder_with
from verifier.certify.config import load_config
from verifier.certify.watermark import common
from verifier.watermarks.rewriting import parts_of, rewritten

MARK = """[watermark]
scheme = "uchida"
seed = "000102030405060708090a0b0c0d0e0f"
tensor = "two.w"
bits = 4
"""
OTHER = "f" * 32


def marked_in(tmp_path: Path, text: str) -> Path:
    """A model whose four bits match, and a configuration."""
    path = folder_with(tmp_path, MARK + "[watermark.extraction]\n")
    mark = load_config(path).answers["watermark"][0].marked.mark
    chain = chain_of(layered("dense", 1))
    parts = [parts_of(layer) for layer in chain.layers]
    shape = parts[1].weight.shape
    # Gemm with transB stores what the chain holds.
    system = mark.system(shape)
    rows = float(system.scale) * system.rows
    weight = parts[1].weight.reshape(-1)
    wanted = np.where(system.bits, 1.0, -1.0) * (1.0 + np.arange(4) / 4)
    weight = weight + np.linalg.pinv(rows) @ (wanted - rows @ weight)
    parts[1] = replace(parts[1], weight=weight.reshape(shape))
    (tmp_path / "net.onnx").write_bytes(rewritten(chain, parts))
    path.write_text(HEAD + MARK + text)
    return path


def test_budgets_lie_between_proof_and_attack(tmp_path):
    text = '[watermark.persistence]\nat_least = 3\nnorms = ["linf"]\n'
    outcome = run(marked_in(tmp_path, text))
    facts = part(outcome).facts
    low, high = (Fraction(number) for number in facts["linf"])
    assert 0 < low < high
    assert outcome.verdict == "reported"
    assert all_valid(tmp_path) == 2
    assert "nothing is said of other changes" in " ".join(part(outcome).assumptions)


def test_what_is_asked_of_budgets_is_judged(tmp_path):
    text = "[watermark.persistence]\nat_least = 3\nl2 = {}\n"
    path = marked_in(tmp_path, text.format("0.001"))
    assert run(path).verdict == "proved"
    path.write_text(path.read_text().replace("0.001", "1000"))
    assert run(path).verdict == "refuted"


def test_rounding_and_fine_tuning_are_stated(tmp_path):
    text = '[watermark.persistence]\nat_least = 4\nformats = ["float16"]\nsmallest = [1, 24]\n'
    text += "rounding = [0.0001]\nfine_tuning = 0.001\n"
    found = part(run(marked_in(tmp_path, text)))
    assert found.facts["rounding to float16"] == "unsat"
    assert found.facts["the 24 smallest weights set to 0"] == "sat"
    assert found.facts["any rounding to steps of 0.0001"] == "unsat"
    assert found.facts["fine-tuning by 0.001 of the weights' length"] == "unsat"
    assert [each.verdict for each in found.judged].count("refuted") == 1
    assert all_valid(tmp_path) == 5


def test_overwriting_by_a_second_key(tmp_path):
    text = "[watermark.persistence]\nat_least = 3\nl2 = 0\n"
    text += f'second_seed = "{OTHER}"\nsecond_at_least = 4\n'
    path = marked_in(tmp_path, text)
    low = Fraction(part(run(path)).facts["l2"][0])
    path.write_text(path.read_text().replace("second_seed", "#").replace("second_at", "#"))
    assert low >= Fraction(part(run(path)).facts["l2"][0])
    all_valid(tmp_path)


TRIGGERS = """[watermark]
scheme = "triggers"
seed = "000102030405060708090a0b0c0d0e0f"
classes = 3
count = 3
size = 5
"""


def samples_in(tmp_path: Path) -> list[int]:
    """Points with the labels that the model gives them."""
    points = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    network = read_model_bytes(layered("dense", 1), None, "m")
    labels = [
        int(np.argmax([value for value, _ in evaluate(network, [Fraction(float(x)) for x in p])]))
        for p in points
    ]
    np.savez(tmp_path / "s.npz", points=points, labels=np.array(labels))
    return labels


def test_triggers_survive_small_changes(tmp_path):
    samples_in(tmp_path)
    text = '[watermark.survival]\nsamples = "s.npz"\nmodel = "weight_box"\nrelative = 0.00001\n'
    text += "certified = 1\ncurve = true\nseconds = 0.2\n"
    outcome = run(folder_with(tmp_path, "[watermark]\n" + text))
    facts = part(outcome).facts
    assert outcome.verdict == "proved"
    assert facts["proved"] == 3
    assert facts["curve"][0][1] == 3  # at the least size of the curve all are certified
    assert all_valid(tmp_path) == 3


def test_triggers_do_not_survive_large_ones(tmp_path):
    samples_in(tmp_path)
    text = '[watermark.survival]\nsamples = "s.npz"\nmodel = "weight_box"\nrelative = 2\n'
    facts = part(run(folder_with(tmp_path, "[watermark]\n" + text))).facts
    assert facts["proved"] == 0
    assert facts["lost"] == 3
    assert all_valid(tmp_path) == 3


def test_removal_lies_between_proof_and_change(tmp_path):
    samples_in(tmp_path)
    text = '[watermark.removal]\nsamples = "s.npz"\nremoved = [1, 3]\nradius = 0.0001\n'
    outcome = run(folder_with(tmp_path, "[watermark]\n" + text))
    facts = part(outcome).facts
    for count in ("1", "3"):
        low, high = (Fraction(number) for number in facts[count])
        assert 0 < low < high < low * Fraction(101, 100)
    assert Fraction(facts["1"][0]) <= Fraction(facts["3"][0])
    assert outcome.verdict == "proved"
    assert all_valid(tmp_path) == 4


def test_results_are_found_again_where_the_folder_was_moved_to(tmp_path):
    before = tmp_path / "before"
    before.mkdir()
    samples_in(before)
    shutil.copy(before / "s.npz", before / "far.npz")
    text = '[watermark.removal]\nsamples = "s.npz"\nothers = "far.npz"\nremoved = [1]\n'
    text += '[watermark.sanity]\nsamples = "s.npz"\nothers = "far.npz"\n'
    path = folder_with(before, "[watermark]\n" + text + 'reference = "net"\nradius = 0.0001\n')
    assert run(path).done
    after = before.rename(tmp_path / "after")
    assert run(after / path.name).done == 0
    labels = np.array(samples_in(after))
    points = np.load(after / "s.npz")["points"]
    np.savez(after / "s.npz", points=points[:2], labels=labels[:2])
    assert run(after / path.name).done


def test_removal_while_others_keep_their_labels(tmp_path):
    samples_in(tmp_path)
    text = '[watermark.removal]\nsamples = "s.npz"\nremoved = [1]\n'
    path = folder_with(tmp_path, "[watermark]\n" + text)
    alone = Fraction(part(run(path)).facts["1"][0])
    path.write_text(path.read_text() + 'others = "s.npz"\nkeep = 2\n')
    joint = part(run(path))
    assert Fraction(joint.facts["1"][0]) >= alone
    assert "while the other samples keep theirs" in joint.lines[0]
    assert all_valid(tmp_path) >= 3


def test_sanity_of_triggers(tmp_path):
    labels = samples_in(tmp_path)
    np.savez(tmp_path / "far.npz", points=np.full((2, 5), 9.0), labels=np.array([0, 1]))
    text = '[watermark.sanity]\nsamples = "s.npz"\nreference = "net"\nradius = 0.0001\n'
    text += 'others = "far.npz"\ncertified = 1\n'
    outcome = run(folder_with(tmp_path, "[watermark]\n" + text))
    assert outcome.verdict == "proved"
    assert part(outcome).facts["proved"] == len(labels)
    assert "none of the honest samples lies there: proved" in part(outcome).lines
    assert all_valid(tmp_path) == 4


def test_another_process_may_tidy_up_meanwhile(tmp_path, monkeypatch):
    whole = common.write_mark

    def write(*given):
        for other in tmp_path.glob("out/evidence/*.toml"):
            other.unlink()
        whole(*given)

    monkeypatch.setattr(common, "write_mark", write)
    run(folder_with(tmp_path, MARK + "[watermark.extraction]\n"))
    assert all_valid(tmp_path) == 1


def test_a_claim_is_read_where_nobody_else_writes(tmp_path, monkeypatch):
    whole, read = common.load_mark_question, []

    def load(path):
        assert tmp_path / "out/scratch" in path.parents
        assert not list((tmp_path / "out/evidence").glob("*.toml"))
        read.append(path)
        return whole(path)

    monkeypatch.setattr(common, "load_mark_question", load)
    run(folder_with(tmp_path, MARK + "[watermark.extraction]\n"))
    assert read
    assert not any(path.parent.exists() for path in read)
    assert all_valid(tmp_path) == 1


def test_honest_samples_that_changed_are_asked_about_again(tmp_path):
    samples_in(tmp_path)
    np.savez(tmp_path / "far.npz", points=np.full((2, 5), 9.0), labels=np.array([0, 1]))
    text = '[watermark.sanity]\nsamples = "s.npz"\nreference = "net"\nradius = 0.0001\n'
    path = folder_with(tmp_path, "[watermark]\n" + text + 'others = "far.npz"\n')
    assert "none of the honest samples lies there: proved" in part(run(path)).lines
    shutil.copy(tmp_path / "s.npz", tmp_path / "far.npz")
    assert "none of the honest samples lies there: refuted" in part(run(path)).lines


WRONG = {
    "no matches stated": (MARK + "[watermark.persistence]\n", "at_least or level"),
    "more than match": (MARK + '[watermark.persistence]\nlevel = "2^-9"\n', "too few bits"),
    "half a weight": (
        MARK + "[watermark.persistence]\nat_least = 1\nsmallest = [2.7]\n",
        "integers",
    ),
    "half a bit": (
        MARK + "[watermark.persistence]\nat_least = 1\nflips = 1\nbits = [2.7]\n",
        "integers",
    ),
    "half a trigger": (TRIGGERS + "[watermark.removal]\nremoved = [1.5]\n", "integers"),
    "an unknown norm": (MARK + '[watermark.persistence]\nat_least = 1\nnorms = ["l3"]\n', "norms"),
    "bits without flips": (MARK + "[watermark.persistence]\nat_least = 1\nbits = [0]\n", "flips"),
    "half a second key": (
        MARK + "[watermark.persistence]\nat_least = 1\nsecond_at_least = 1\n",
        "go together",
    ),
    "triggers in weights": (TRIGGERS + "[watermark.persistence]\nat_least = 1\n", "read from para"),
    "no triggers": (MARK + '[watermark.survival]\nmodel = "weight_box"\n', "needs triggers"),
    "no fault model": (TRIGGERS + "[watermark.survival]\n", "model"),
    "a curve of nothing": (
        TRIGGERS + '[watermark.survival]\nmodel = "weight_box"\nrelative = 0\ncurve = true\n',
        "positive",
    ),
    "too many triggers": (TRIGGERS + "[watermark.removal]\nremoved = [4]\n", "from 1 to 3"),
    "keep without others": (TRIGGERS + "[watermark.removal]\nkeep = 1\n", "goes with 'others'"),
    "no reference": (TRIGGERS + "[watermark.sanity]\nradius = 1\n", "'reference' must name"),
    "no radius": (TRIGGERS + '[watermark.sanity]\nreference = "net"\n', "'radius' is missing"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_faults_of_the_file_are_said(tmp_path, what):
    text, words = WRONG[what]
    with pytest.raises(InputError, match=words):
        load_config(folder_with(tmp_path, text, head=HEAD if "suspect" not in text else PAIR))


def test_the_bundled_example(tmp_path, capsys):
    examples = Path(__file__).resolve().parents[2] / "examples"
    for name in ("marked.onnx", "digits.onnx", "suspect.onnx", "digits.npz", "triggers.npz"):
        shutil.copy(examples / name, tmp_path)
    text = (examples / "watermark.toml").read_text()
    short = text.replace("removed = [1, 3, 6]", "removed = [1]").replace("first = 5", "first = 1")
    short = short.replace('norms = ["linf", "l2"]\nlinf = 0.01\n', "")
    (tmp_path / "c.toml").write_text(short)
    assert short.count("\n") < text.count("\n")
    out = tmp_path / "out"
    assert farkas.main(["certify", str(tmp_path / "c.toml"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("proved\nA marked classifier of digits\n")
    assert "the suspect is the owner's network with its units moved: proved, exactly" in printed
    assert "after undoing: 48 of 48" in printed
    all_valid(tmp_path)
