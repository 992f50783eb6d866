"""Certified bounds: never passed, proved by the kernel, and not where they are too tight."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import farkas
from specs.errors import InputError
from specs.faults.placed import place_model
from tests.faulty_models import conv_model, dense_model, floats, graph_bytes, model_file, node
from tests.networks import evaluate
from verifier.harden.agreement import NONE, classes, on_samples, untouched
from verifier.harden.certified import bounded, outward, rounded
from verifier.harden.config import read_config
from verifier.harden.data import Samples
from verifier.harden.files import check_hardened, named
from verifier.harden.harden import harden
from verifier.harden.schemes import from_ends, subject
from verifier.harden.surgery import Restriction, behind, restricted, restrictions_of
from verifier.harden.theorem import Answer, Theorem, answer, beyond, probe, proved, query_of, stated

pytest.importorskip("torch")
CONFIG = """[domain]
lower = -1
upper = 1
[restrict]
bounds = "certified"
"""


def box(size: int, low: int = -1, high: int = 1):
    from specs.builders import box as made

    return made(size, low, high)


@pytest.mark.parametrize("make", [dense_model, conv_model], ids=["dense", "conv"])
@pytest.mark.parametrize("per", ["layer", "neuron"])
def test_samples_and_corners_pass_no_bound(make, per):
    content = make()
    read = probe(content, behind(content, ["Relu"]))
    domain = box(read.network.input_size)
    found = from_ends(subject(content, read), bounded(read, domain), per=per, action="clip")
    rng = np.random.default_rng(0)
    corners = rng.choice([-1.0, 1.0], size=(200, read.network.input_size))
    x = np.concatenate([corners, rng.uniform(-1, 1, size=corners.shape)])
    assert untouched(read, found, x).all()
    values = evaluate(read.network, x)
    upper = np.concatenate(
        [np.broadcast_to(e.upper, s).reshape(-1) for e, s in zip(found, read.shapes, strict=True)]
    )
    assert (values <= upper).all()
    assert values.max() > 0.3 * upper.max()
    plain = from_ends(
        subject(content, read), bounded(read, domain, steps=0), per=per, action="clip"
    )
    theorem = proved(read, beyond(read, plain), [domain], ["remark"], 0.0)
    assert isinstance(theorem, Theorem)
    assert len(theorem.parts) == 1


def test_a_bound_that_is_too_tight_has_no_proof_but_a_witness():
    content = dense_model()
    read = probe(content, behind(content, ["Relu"]))
    domain = box(6)
    found = from_ends(subject(content, read), bounded(read, domain), per="neuron", action="clip")
    reached = float(found[0].upper.max())
    for share, expected in ((1.0, "unsat"), (0.99, "sat")):
        upper = found[0].upper * share
        tight = [replace(found[0], upper=upper.astype(np.float32).astype(float)), found[1]]
        query = query_of(read, stated(read, beyond(read, tight), [domain]))
        assert answer(query, 20.0).answer == expected
    assert reached > 0


def test_the_kernel_refuses_a_proof_for_tighter_bounds(tmp_path):
    """Proof and question are swapped for those of bounds that do not hold."""
    net, config, out = (tmp_path / name for name in ("n.onnx", "c.toml", "h.onnx"))
    net.write_bytes(dense_model())
    config.write_text(CONFIG)
    assert farkas.main(["harden", str(net), str(config), "-o", str(out)]) == 0
    assert check_hardened(net, out).verdict == "valid unsat"
    (each, *others) = restrictions_of(out.read_bytes())
    text = named(out, ".bounds.1.vnnlib")
    kept = out.read_bytes(), text.read_text()
    smaller = replace(each, upper=np.array(float(np.float32(each.upper / 2))))
    out.write_bytes(restricted(net.read_bytes(), [smaller, *others]))
    with pytest.raises(InputError, match="no question beside it speaks of"):
        check_hardened(net, out)
    read = probe(net.read_bytes(), [each.tensor, *(e.tensor for e in others)])
    from specs.vnnlib_writer import vnnlib

    lie = stated(read, beyond(read, [smaller, *others]), [box(6)])
    text.write_text(vnnlib(lie))
    assert check_hardened(net, out).verdict == "unreadable"  # for another question
    out.write_bytes(kept[0])
    text.write_text(kept[1].replace("(>= X_0 -1)", "(>= X_0 -0.5)"))
    assert check_hardened(net, out).verdict == "unreadable"
    other = tmp_path / "other.onnx"
    other.write_bytes(dense_model(seed=1))
    with pytest.raises(InputError, match="without its restrictions"):
        check_hardened(other, out)


def test_the_command_writes_model_questions_proofs_and_report(tmp_path, capsys):
    net, config, out = (tmp_path / name for name in ("n.onnx", "c.toml", "h.onnx"))
    report = tmp_path / "r.json"
    net.write_bytes(conv_model())
    inputs = np.random.default_rng(0).uniform(-1, 1, size=(6, 2, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "t.npz", inputs=inputs, labels=np.arange(6) % 3)
    config.write_text(
        CONFIG + 'per = "neuron"\naction = "zero"\n[agreement]\nfile = "t.npz"\n'
        "boxes = 2\nradius = 0.01\n"
    )
    argv = ["harden", str(net), str(config), "-o", str(out), "--json", str(report)]
    assert farkas.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "certified"
    data = json.loads(report.read_text())
    assert data["agreement"]["real"]["untouched"] == 6
    assert data["agreement"]["real"]["changed"] == 0
    assert data["agreement"]["onnxruntime"]["identical"] == 6
    assert data["agreement"]["boxes"]["proved"] == [0, 1]
    written = {path.name for path in tmp_path.iterdir()} - {"n.onnx", "c.toml", "t.npz", "r.json"}
    assert {name for name in data["files"]} == {str(tmp_path / name) for name in written}
    for proof in sorted(tmp_path.glob("*.farkas")):
        question = [proof.with_name("h." + proof.name.split(".")[1] + ".onnx")]
        question.append(proof.with_suffix(".vnnlib"))
        assert farkas.main(["check", *map(str, question), str(proof)]) == 0
    capsys.readouterr()
    assert farkas.main(["harden", str(net), str(out), "--check"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "valid unsat"
    stale = named(out, ".bounds.9.vnnlib")
    parts = sorted(tmp_path.glob("h.bounds.*.vnnlib"))
    for number in range(len(parts) + 1, 10):
        named(out, f".bounds.{number}.vnnlib").write_text("of an earlier run")
    assert farkas.main(argv) == 0
    assert not stale.exists()
    assert sorted(tmp_path.glob("h.bounds.*.vnnlib")) == parts


def test_more_time_tightens_bounds_that_still_hold(tmp_path):
    net, config = tmp_path / "n.onnx", tmp_path / "c.toml"
    net.write_bytes(dense_model((4, 12, 10, 3), seed=3))
    found = []
    for seconds in (0, 4):
        config.write_text(CONFIG + f"seconds = {seconds}\n")
        found.append(harden(model_file(net.read_bytes()), read_config(config)))
        assert found[-1].theorem is not None
    first, second = ([float(e.upper) for e in each.restrictions] for each in found)
    assert all(b <= a for a, b in zip(first, second, strict=True))
    assert second[1] < 0.99 * first[1]
    read = probe(net.read_bytes(), ["h0", "h1"])
    x = np.random.default_rng(0).uniform(-1, 1, size=(500, 4))
    assert untouched(read, found[1].restrictions, x).all()


def test_float32_semantics(tmp_path):
    net, config, out = (tmp_path / name for name in ("n.onnx", "c.toml", "h.onnx"))
    net.write_bytes(dense_model())
    config.write_text(CONFIG + 'semantics = "float32"\n')
    assert farkas.main(["harden", str(net), str(config), "-o", str(out)]) == 0
    assert check_hardened(net, out, "float32").verdict == "valid unsat"
    assert check_hardened(net, out).verdict == "unreadable"


def test_what_may_be_negative_has_both_bounds(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(CONFIG + 'tensors = ["z0"]\nper = "neuron"\n')
    made = harden(model_file(dense_model()), read_config(config))
    (each,) = made.restrictions
    assert each.lower is not None
    assert (each.lower < 0).any()
    assert made.theorem is not None


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5),
    st.sampled_from([1.0, -1.0]),
    st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_rounding_is_away_from_what_is_bounded(values, sign, dtype):
    given_ = np.array(values)
    try:
        found, wide = rounded(given_, sign, dtype), outward(given_, sign, 0.01, dtype)
    except InputError:
        assert dtype is np.float16
        return
    assert (sign * found >= sign * given_).all()
    assert (sign * wide >= sign * found).all()
    assert (found.astype(dtype).astype(float) == found).all()


def test_a_tie_is_no_class_and_labels_are_counted():
    stored = {"w": np.float32([[1.0, 0.0], [0.0, 1.0]])}
    content = graph_bytes([node("Relu", "x", "r"), node("MatMul", "r w", "y")], (1, 2), stored)
    read = probe(content, ["r"])
    original = place_model(model_file(content)).network
    clip = [Restriction("r", np.array(0.5))]
    hardened = place_model(model_file(restricted(content, clip)), ()).network
    x = np.array([[0.25, 0.125], [1.0, 0.75], [2.0, 0.25], [0.5, 0.5]])
    assert classes(original, x).tolist() == [0, 0, 0, NONE]
    counts = on_samples(original, hardened, read, clip, Samples(x, np.zeros(4, dtype=np.int64)))
    assert (counts.untouched, counts.changed, counts.unsure) == (2, 0, 2)
    assert (counts.right_before, counts.right) == (3, 2)


def test_bounds_that_are_lost_are_an_error():
    weight = {"w": floats(np.random.default_rng(0), 2, 2)}
    content = graph_bytes([node("Relu", "x", "r"), node("MatMul", "r w", "y")], (1, 2), weight)
    with pytest.raises(InputError, match="no operator computes"):
        probe(content, ["w"])


@pytest.mark.parametrize(("refused", "code"), [(1, 0), (2, 2)])
def test_bounds_that_are_not_proved(refused, code, tmp_path, monkeypatch, capsys):
    """The first bounds take the place of smaller ones; without a proof nothing is written."""
    from verifier.harden import harden as module

    net, config, out = (tmp_path / name for name in ("n.onnx", "c.toml", "h.onnx"))
    net.write_bytes(dense_model((4, 6, 5, 3), seed=3))
    config.write_text(CONFIG + "seconds = 1\n")
    real, asked = module.proved, []

    def failing(*given):
        asked.append(given)
        return Answer("unknown", None, "too hard") if len(asked) <= refused else real(*given)

    monkeypatch.setattr(module, "proved", failing)
    assert farkas.main(["harden", str(net), str(config), "-o", str(out)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(asked) == 2
    if code:
        assert lines[0] == "unknown"
        assert "too hard" in lines[1]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["c.toml", "n.onnx"]
        return
    assert lines[0] == "certified"
    assert f"note: {module.NOT_AGAIN}" in lines
    assert check_hardened(net, out).verdict == "valid unsat"
