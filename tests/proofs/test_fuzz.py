"""The fuzzer finds nothing in a fixed number of inputs, and finds what is broken on purpose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import fuzz
from benchmarks.fuzz import Fuzzer, main, refusals
from benchmarks.fuzz_questions import KINDS, known
from proofs import format as files
from proofs.check import check_proof, check_witness

PER_QUESTION = 40


def tried(count: int, seed: int = 11, **options) -> Fuzzer:
    fuzzer = Fuzzer(seed, each=PER_QUESTION, **options)
    fuzzer.run(iter(range(count)))
    return fuzzer


def test_nothing_breaks_and_much_is_tried():
    fuzzer = tried(3 * PER_QUESTION * len(KINDS))
    assert not fuzzer.findings, fuzzer.findings[0].what
    words = " ".join(fuzzer.outcomes)
    for outcome in ("unreadable", "invalid", "refused on reading", "valid sat"):
        assert outcome in words
    assert fuzzer.outcomes["the same, of a neighbour that holds: valid unsat"] > 3
    seen, _ = fuzzer.reached()
    assert len(seen) > 0.5 * len(refusals())


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_the_answers_are_known(number):
    """Every kind has a neighbour that is proved, and a point that violates or nearly does."""
    stated = known(number, 3)
    assert stated.kind == list(KINDS)[number]
    for proof in stated.proofs[: stated.valid]:
        meant = replace(proof, question=stated.holding.digest)
        assert check_proof(stated.holding, meant, processes=1).valid
        assert not check_proof(stated.violated, proof, processes=1).valid
    assert stated.valid
    if stated.kind != "float32":  # one evaluation violates, but not each that is allowed
        assert check_witness(stated.violated, stated.witness).verdict == "valid sat"


def accepts(query, evidence, **options):
    return replace(check_proof(query, None, processes=1), verdict="valid unsat")


def confirms(query, evidence):
    return replace(check_proof(query, None, processes=1), verdict="valid sat")


def hangs(path):
    while True:
        pass


def grows(path, held=[]):  # noqa: B006
    held.append(b"x" * (64 << 20))
    return read(path)


read = files.read_evidence
answers = iter(range(10**6))


@pytest.mark.parametrize(
    ("owner", "name", "broken", "rule"),
    [
        (fuzz, "check_proof", accepts, "soundness"),
        (fuzz, "check_witness", confirms, "soundness"),
        (files, "read_evidence", lambda path: {}["key"], "crash"),
        (files, "read_evidence", hangs, "time"),
        (files, "read_evidence", grows, "memory"),
        (files, "read_evidence", lambda path: replace(read(path), question=str(next(answers))),
         "reading"),
        (fuzz, "shown", lambda evidence: ["\x1b[2J"], "show"),
    ],
)  # fmt: skip
def test_what_is_broken_is_found(monkeypatch, tmp_path, owner, name, broken, rule):
    monkeypatch.setattr(fuzz, "SECONDS", 0.4 if rule == "time" else 20.0)
    monkeypatch.setattr(fuzz, "GROWTH", 32 << 20)
    fuzzer = Fuzzer(11, each=PER_QUESTION, keep=tmp_path)
    fuzzer.attempt(0)
    monkeypatch.setattr(owner, name, broken)
    for number in range(1, PER_QUESTION):
        fuzzer.attempt(number)
        if any(finding.rule == rule for finding in fuzzer.findings):
            break
    assert rule in {finding.rule for finding in fuzzer.findings}
    assert list(tmp_path.glob(f"11-*-{rule}.txt"))


def test_inputs_are_the_same_in_every_run(capsys):
    assert main(["--seconds", "1", "--seed", "4", "--replay", "7"]) == 0
    first = capsys.readouterr().out.splitlines()[1:]
    assert main(["--seconds", "1", "--seed", "4", "--replay", "7"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == first
    assert first
