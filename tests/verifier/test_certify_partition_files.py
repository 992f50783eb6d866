"""Questions of ``[probability]`` and ``[lipschitz]`` as files: their regions, names and keys."""

from __future__ import annotations

import hashlib
import os
import re
from fractions import Fraction

import numpy as np
import pytest

import farkas
from proofs.partitions.evidence import PartitionEvidence
from specs.errors import QuestionError
from specs.lipschitz import load_lipschitz_question
from specs.onnx_reader import read_model
from specs.probability import load_probability_question
from tests.verifier.certify_files import folder_with, run, write_property
from verifier.certify.config import load_config
from verifier.certify.section import Place
from verifier.probability import files
from verifier.probability.files import Asked, ask, keep
from verifier.progress import Progress

SECTIONS = {"probability": "width = 1\n", "lipschitz": "leaves = 1\n"}
FUNCTION = {"probability": "", "lipschitz": "output = 0\n"}


def section(name: str, question: str) -> str:
    """A section with one question."""
    head = f"[limits]\ntimeout = 9\n[{name}]\n{SECTIONS[name]}"
    return f"{head}[[{name}.question]]\n{question}{FUNCTION[name]}"


KEYS = {
    "probability": (
        "probability-2",
        '[models]\nnet = "net"\n[region]\nfile = "p.vnnlib"\n'
        '[probability]\ndistribution = "uniform"\n',
    ),
    "lipschitz": (
        "lipschitz-2",
        '[models]\nnet = "net"\n[region]\nfile = "{beside}.vnnlib"\n'
        '[lipschitz]\nnorm = "linf"\noutput = 0\nat_most = 0\n',
    ),
}
CLAIMS = {
    "probability": '[probability]\ndistribution = "uniform"\nat_least = 0\nat_most = 0\n',
    "lipschitz": '[lipschitz]\nnorm = "linf"\noutput = 0\nat_most = {constant}\n',
}


@pytest.mark.parametrize("name", SECTIONS)
def test_folders_of_before_are_found_again(tmp_path, name):
    content = write_property(tmp_path, "100")
    path = folder_with(tmp_path, section(name, 'property = "p.vnnlib"\n'))
    beside = hashlib.sha256(content.encode()).hexdigest()[:16]
    (answer,) = load_config(path).answers[name]
    (task,) = answer.tasks()
    first, text = KEYS[name]
    digest = read_model(tmp_path / "net.onnx")[1].digest
    assert task.depends[:4] == (
        first,
        digest,
        text.format(beside=beside),
        content.encode().hex(),
    )
    ((part,),) = run(path).parts.values()
    (facts,) = part.facts["questions"]
    constant = Fraction(facts.get("constant", 0))
    model = hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()[:16]
    stated = f'[models]\nnet = "models/{model}.onnx"\n[region]\nfile = "{beside}.vnnlib"\n'
    stated += CLAIMS[name].format(constant=f"{float(constant):.15g}")
    question = hashlib.sha256((digest + stated).encode()).hexdigest()[:16]
    assert facts["evidence"] == [
        f"{question}.toml",
        f"{question}.farkas",
        f"models/{model}.onnx",
        f"{beside}.vnnlib",
    ]
    evidence = tmp_path / "out/evidence"
    assert (evidence / f"{question}.toml").read_text() == stated
    assert (evidence / f"{beside}.vnnlib").read_text() == content
    found = {str(file.relative_to(evidence)) for file in evidence.rglob("*") if file.is_file()}
    assert found == set(facts["evidence"])


@pytest.mark.parametrize("name", SECTIONS)
def test_another_process_may_tidy_up_meanwhile(tmp_path, monkeypatch, name):
    whole = files.write_arrays

    def write(*given):
        for other in tmp_path.glob("out/evidence/*.toml"):
            other.unlink()
        whole(*given)

    monkeypatch.setattr(files, "write_arrays", write)
    run(folder_with(tmp_path, section(name, "radius = 0.01\nfirst = 1\n")))
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def asked_of(name: str) -> Asked:
    tables = {"region": {"lower": -1, "upper": 1}}
    if name == "probability":
        tables["statement"] = {"kind": "robust", "label": 0}
    tables[name] = {} if name == "probability" else {"output": 0}
    return Asked("a title", tables, name)


LOAD = {"probability": load_probability_question, "lipschitz": load_lipschitz_question}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_question_is_read_where_nobody_else_writes(tmp_path, name):
    folder_with(tmp_path, "")
    model = read_model(tmp_path / "net.onnx")[1]
    for folder in ("evidence", "scratch"):
        (tmp_path / folder).mkdir()
    place = Place(tmp_path / "evidence", tmp_path / "scratch", Progress(enabled=False))

    def load(path):
        assert place.evidence not in path.parents
        assert os.listdir(place.evidence) == ["models"]
        first = LOAD[name](path)
        again = ask(place, model, asked_of(name), LOAD[name])  # as another process would
        assert again.digest == first.digest
        return LOAD[name](path)

    assert ask(place, model, asked_of(name), load).at_most == 1
    assert os.listdir(place.scratch) == []


@pytest.mark.parametrize("name", SECTIONS)
def test_of_a_claim_that_is_not_shown_nothing_is_kept(tmp_path, name):
    folder_with(tmp_path, "")
    model = read_model(tmp_path / "net.onnx")[1]
    place = Place(tmp_path, tmp_path, Progress(enabled=False))
    before = sorted(os.listdir(tmp_path))
    nothing = PartitionEvidence("", "unsat", {"kind": np.array([3], dtype=np.uint8)})
    kept = keep(place, model, asked_of(name), {"at_most": 0}, nothing)
    assert (kept.files, kept.replayed.checked.verdict) == ((), "invalid")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "models"])


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("", "say one of 'property', 'lower' and 'upper', or 'radius'"),
        ('radius = 1\nproperty = "p.vnnlib"\n', "say one of"),
        ('lower = 0\nproperty = "p.vnnlib"\n', "say one of"),
        ('property = "p.vnnlib"\nclip = [0, 1]\n', "goes with 'radius' only"),
        ("lower = 0\nupper = 1\nfirst = 1\n", "goes with 'radius' only"),
        ("radius = -1\n", "'radius' must be at least 0"),
        ("radius = 0.1\nclip = [100, 101]\n", "the lower bound"),
        ("radius = 0.1\nclip = [1, 0]\n", "must be [LOW, HIGH]"),
        ('lower = "0"\nupper = 1\n', "'lower' must be a number"),
        ('lower = ["0"]\nupper = 1\n', "'lower' must be a list of numbers"),
        ('property = "none.vnnlib"\n', "none.vnnlib"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[:30],
)
def test_regions_that_make_no_sense(tmp_path, name, question, says):
    write_property(tmp_path, "100")
    with pytest.raises(QuestionError, match=re.escape(says)):
        load_config(folder_with(tmp_path, section(name, question)))


@pytest.mark.parametrize("name", SECTIONS)
def test_boxes_around_samples_need_samples(tmp_path, name):
    text = '[models]\nnet = "net.onnx"\n' + section(name, "radius = 0.1\n")
    with pytest.raises(QuestionError, match=r"'radius' needs \[data\]"):
        load_config(folder_with(tmp_path, text))


def test_labels_are_needed_where_the_class_is_the_question(tmp_path):
    for name, question in (("probability", ""), ("lipschitz", "target = 1\n")):
        text = section(name, f"radius = 0.1\n{question}").replace("output = 0\n", "")
        path = folder_with(tmp_path, text)
        path.write_text(path.read_text().replace('labels = "y"\n', ""))
        with pytest.raises(QuestionError, match=r"needs \[data\] with labels"):
            load_config(path)
