"""The certificate says what its page says, and what is true of the file."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import farkas
from proofs.certificate import audit, certificate, operators, rules
from proofs.cli import CODES
from proofs.format import read_evidence, write_proof, write_witness
from proofs.proof import Fact, NodeKind, ProofBuilder, Side, SlopeHint
from proofs.signature import content_hash, with_signature
from proofs.witness import Witness
from tests.networks import serialised
from tests.proofs.helpers import Net, at_least, at_most, box_case, builder, query
from tests.proofs.test_files import rich_proof, stated

PAGE = (Path(__file__).resolve().parents[2] / "docs/certificate.md").read_text()
FREE = ("question.models[].operators", "question.network.functions")
"""Objects whose keys are names of operators and functions."""


def keys(content: object, path: str = "") -> set[str]:
    """Paths to everything that is not an object or a list of objects."""
    if isinstance(content, dict) and path not in FREE:
        below = (keys(value, f"{path}.{name}" if path else name) for name, value in content.items())
        return set().union(*below)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return set().union(*(keys(value, f"{path}[]") for value in content))
    return {path}


def described() -> set[str]:
    return set(re.findall(r"^\| `([\w.\[\]]+)` \|", PAGE, re.MULTILINE))


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, object]:
    question = stated(1)  # reached: the proof is invalid, and says where
    path = tmp_path / "proof.farkas"
    write_proof(path, with_signature(rich_proof(question), "somebody", "none", "value"))
    return path, question


def test_the_page_describes_every_key_and_no_other(signed):
    path, question = signed
    made = certificate(audit(question, path))
    parents = {"evidence.rules", "evidence.signatures"}  # null at times
    assert made["verdict"] == "invalid"
    assert described() - parents == keys(made)
    assert json.loads(json.dumps(made)) == made


def test_a_key_that_is_missing_or_not_described_is_noticed(signed):
    path, question = signed
    made = certificate(audit(question, path))
    made["check"]["colour"] = 1
    del made["versions"]["numpy"]
    assert keys(made) ^ (described() - {"evidence.rules", "evidence.signatures"}) == {
        "check.colour",
        "versions.numpy",
    }


def test_values_are_those_of_the_page_and_of_the_file(signed):
    path, question = signed
    made = certificate(audit(question, path, arithmetic="exact"))
    assert (made["format"], made["version"]) == ("farkas-certificate", 1)
    assert made["check"]["arithmetic"] == "exact"
    assert made["check"]["rejected"][0]["reason"]
    assert made["question"]["digest"] == made["evidence"]["question"] == question.digest
    assert made["evidence"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made["evidence"]["content_sha256"] == content_hash(read_evidence(path))
    carried = made["evidence"]["signatures"]
    assert (carried["verified"], carried["fault"], len(carried["carried"])) == (False, None, 1)
    assert made["versions"]["farkas"] == farkas.__version__
    age = datetime.now(UTC) - datetime.fromisoformat(made["time"])
    assert timedelta(0) <= age < timedelta(minutes=5)
    for verdict in CODES:
        assert f"`{verdict}`" in PAGE


def test_kinds_of_evidence(tmp_path):
    question = stated(1)
    path = tmp_path / "w.json"
    write_witness(path, Witness(question.digest, 0, 0, (Fraction(1),)))
    made = certificate(audit(question, path))
    assert (made["verdict"], made["evidence"]["kind"]) == ("valid sat", "witness")
    assert made["evidence"]["rules"] is None
    write_proof(path, rich_proof(stated(2)))
    made = certificate(audit(question, path))
    assert (made["verdict"], made["evidence"]["kind"]) == ("unreadable", "proof")
    assert made["evidence"]["rules"] is None
    path.write_bytes(b"nonsense")
    made = certificate(audit(question, path))
    assert (made["verdict"], made["evidence"]["kind"]) == ("unreadable", None)
    assert made["evidence"]["sha256"] == hashlib.sha256(b"nonsense").hexdigest()
    for absent in (tmp_path / "absent", tmp_path, Path("/dev/zero")):
        made = certificate(audit(question, absent))
        assert (made["verdict"], made["evidence"]["sha256"]) == ("unreadable", None)


@pytest.mark.parametrize("target", [".", "no/such/folder/c.json"])
def test_a_certificate_that_cannot_be_written_is_no_work_done(target, capsys):
    assert farkas.main(["check", "absent.onnx", "absent.vnnlib", "p", "--json", target]) == 3
    assert "cannot write" in capsys.readouterr().err


def counted() -> tuple[ProofBuilder, object]:
    """One of everything that is counted, two of some."""
    net = Net(2)
    hidden = net.relu(net.dense(0, [[1.0, 0.0], [0.0, 1.0]]))
    net.dense(hidden, [[1.0, 1.0]])
    question = query(net.done(), [box_case([-1, -1], [1, 1], at_least(0, 9), at_most(0, -9))])
    made = ProofBuilder(question)
    facts = [(fact, 0, 1.0) for fact in Fact] + [(Fact.LOWER, 1, 1.0)]
    hints = made.substitution([SlopeHint(2, Side.LOWER, np.zeros(2))], facts)
    step = made.step(1, np.array([0, 1]), (Side.LOWER,))
    made.begin_case(0, [(NodeKind.SWEEP, 1), (NodeKind.SWEEP, 0), (NodeKind.BOUND, step)])
    inside = made.form([(0, 0, 1.0)], 0.25)
    made.begin_tree([(inside, Side.LOWER)])
    made.close()
    made.begin_tree()
    made.split_form(inside)
    made.cite(0)
    made.split_input(1)
    made.split_neuron(1, 0)
    made.hole()
    made.sweep()
    made.close(hints)
    made.split_neuron(1, 1, 0.5)
    made.split_form(made.form([(1, 0, 1.0), (1, 1, 1.0)], 0.0))
    made.close()
    made.split_disjunct(2)
    made.close()
    made.close()
    made.clip()
    made.sweep(intervals_only=True)
    made.bound(step)
    made.close()
    return made, question


def test_rules_are_counted():
    made, question = counted()
    assert rules(made.finish(), question) == {
        "cases_with_trees": 1,
        "trees": 2,
        "lemmas": 1,
        "splits": {"inputs": 2, "neurons": 2, "forms": 1, "disjuncts": 1},
        "sweeps": 2,
        "interval_passes": 2,
        "bound_steps": 2,
        "clips": 1,
        "closes": {"with_hints": 1, "without_hints": 5},
        "citations": 1,
        "holes": 1,
        "multiplied_facts": {"split": 1, "lower": 2, "upper": 1, "region": 1, "unsafe": 1},
        "slopes": 2,
        "squares": 0,
    }
    empty = builder(question)
    empty.begin_tree()
    empty.close()
    found = rules(empty.finish(), question)
    assert found["splits"] == {"inputs": 0, "neurons": 0, "forms": 0, "disjuncts": 0}
    assert not any(found["multiplied_facts"].values())


def test_operators_of_subgraphs_count():
    value = helper.make_tensor_value_info
    y = value("y", TensorProto.FLOAT, [1])
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "b", [], [y])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    ends = [value("c", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, [1])]
    content = serialised(helper.make_graph([node, node], "g", ends, [y]))
    assert operators(content) == {"If": 2, "Relu": 4}
    assert operators(b"") == {}


def test_the_page_s_way_to_sign_works(tmp_path, monkeypatch, examples, capsys):
    """Its own commands, with a key of our own; altered content is noticed."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen")
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "id"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(make, check=True)
    public = key.with_suffix(".pub").read_text()
    Path("allowed_signers").write_text(f"auditor@example.org {public}")
    write_proof("proof.farkas", rich_proof(stated(1)))

    def shell(line: str) -> int:
        line = line.replace("~/.ssh/id_ed25519", str(key))
        if line.startswith("farkas "):
            command, _, target = line.partition(" > ")
            assert farkas.main(command.split()[1:]) == 0
            Path(target).write_text(capsys.readouterr().out)
            return 0
        return subprocess.run(line, shell=True, capture_output=True, check=False).returncode

    ran = 0
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if kind == "python":
            exec(compile("from pathlib import Path\nimport farkas\n" + block, "page", "exec"), {})
        else:
            assert not any(map(shell, block.splitlines()))
        ran += 1
    assert ran == 4
    verify = PAGE.rpartition("```sh\n")[2].splitlines()[1]
    Path("content").write_text("0" * 64 + "\n")
    assert shell(verify) != 0
