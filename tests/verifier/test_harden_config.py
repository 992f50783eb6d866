"""The configuration of hardening: what is read, and what is refused and where."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import farkas
from specs.errors import InputError, QuestionError
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, StuckAt
from tests.faulty_models import dense_model
from verifier.harden.config import KEYS, read_config

PAGE = (Path(__file__).resolve().parents[2] / "docs/harden.md").read_text()
DOMAIN = "[domain]\nlower = 0\nupper = 1\n"
DATA = '[data]\nfile = "d.npz"\n'


def read(tmp_path: Path, text: str):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return read_config(path)


def test_defaults(tmp_path):
    config = read(tmp_path, DOMAIN)
    assert config.certified
    assert (config.bounds, config.action, config.per) == ("certified", "clip", "layer")
    assert config.faults == BitFlips()
    assert config.domain(2) == ((0, 0), (1, 1))


def test_what_is_said_is_taken(tmp_path):
    text = DATA + (
        '[restrict]\nscheme = "ft-clipact"\nafter = ["Relu", "Add"]\nstored = true\n'
        "[search]\nrates = [1e-4, 0.01]\ntrials = 2\n[training]\nrate = 0.5\n"
        '[faults]\nmodel = "stuck_at"\nformat = "int8"\n'
        '[agreement]\nfile = "t.npz"\nboxes = 3\nradius = 0.1\n'
    )
    config = read(tmp_path, text)
    assert not config.certified
    assert config.after == ("Relu", "Add")
    assert config.search.rates == (1e-4, 0.01)
    assert config.training.rate == 0.5
    assert config.faults == StuckAt(format=Quantised(8))
    assert config.agreement is not None
    assert config.agreement.file == tmp_path / "t.npz"
    assert config.stored


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "certified bounds need"),
        ("[domain]\nlower = 0\n", "lower and upper"),
        ("[region]\nlower = 0\n", "unknown 'region'"),
        (DOMAIN + '[restrict]\nlayers = ["a"]\n', "c.toml:5:1: unknown key 'layers'"),
        (DOMAIN + '[restrict]\nbounds = "guessed"\n', "'certified', 'profiled', 'learnt'"),
        (DOMAIN + '[restrict]\naction = "wrap"\n', "'clip', 'zero'"),
        (DOMAIN + '[restrict]\nper = "channel"\n', "'layer', 'neuron'"),
        (DOMAIN + '[restrict]\nscheme = "magic"\n', "'ranger'"),
        (DOMAIN + "[restrict]\nmargin = -1\n", "between 0 and"),
        (DOMAIN + "[restrict]\nafter = []\n", "list of names"),
        (DOMAIN + "[restrict]\nafter = [1]\n", "list of names"),
        (DOMAIN + '[restrict]\nafter = ["Relu"]\ntensors = ["r"]\n', "leave one out"),
        (DOMAIN + '[restrict]\nsemantics = "float8"\n', "float8"),
        (DOMAIN + "[restrict]\npercentile = 99\n", "goes with profiled"),
        ('[restrict]\nscheme = "ranger"\n', "needs \\[data\\]"),
        ('[restrict]\nbounds = "profiled"\n', "needs \\[data\\]"),
        (DATA + '[restrict]\nscheme = "ranger"\nper = "layer"\n', "the scheme's own"),
        (DATA + '[restrict]\nbounds = "profiled"\nseconds = 3\n', "goes with certified"),
        (DATA + '[restrict]\nbounds = "learnt"\naction = "zero"\n', "no gradient"),
        (DATA + '[restrict]\nbounds = "learnt"\n[training]\nepochs = 0\n', "at least 1"),
        (DATA + '[restrict]\nscheme = "ft-clipact"\n[search]\nrates = [2]\n', "between 0 and 1"),
        (DOMAIN + '[faults]\nmodel = "weight_box"\nabsolute = 1\n', "stored bits"),
        (DOMAIN + '[agreement]\nfile = "t.npz"\nboxes = 2\n', "go together"),
        (DOMAIN + "[agreement]\nboxes = 2\n", "needs file"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[-40:],
)
def test_what_makes_no_sense_is_refused(text, says, tmp_path):
    with pytest.raises(QuestionError, match=says):
        read(tmp_path, text)


def test_a_domain_of_another_size(tmp_path):
    config = read(tmp_path, "[domain]\nlower = [0, 0]\nupper = 1\n")
    with pytest.raises(InputError, match=r"c\.toml:1"):
        config.domain(3)


def test_the_page_lists_the_keys_and_its_examples_are_read(tmp_path):
    section = PAGE.partition("## The configuration")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `\[(\w+)\]` \| (`.*?) \|", section, re.MULTILINE)
    listed = {table: set(re.findall(r"`(\w+)`", keys)) for table, keys in rows}
    merged: dict[str, set[str]] = {}
    for table, keys in re.findall(r"^\| `\[(\w+)\]` \| (`.*?) \|", section, re.MULTILINE):
        merged.setdefault(table, set()).update(re.findall(r"`(\w+)`", keys))
    assert merged == {table: set(keys) for table, keys in KEYS.items()}
    assert listed
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) >= 2
    for example in examples:
        read(tmp_path, example)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["n.onnx", "c.toml"], "-o HARDENED.onnx"),
        (["n.onnx", "c.toml", "-o", "h.txt"], "written as .onnx"),
        (["n.onnx", "c.toml", "-o", "n.onnx"], "the model itself"),
        (["n.onnx", "c.toml", "-o", "no/h.onnx"], "there is no folder"),
        (["n.onnx", "c.toml", "-o", "h.onnx", "--semantics", "real"], "goes with --check"),
        (["absent.onnx", "c.toml", "-o", "h.onnx"], "no such file"),
        (["n.onnx", "absent.toml", "-o", "h.onnx"], "there is no such file"),
        (["n.onnx", "bad.toml", "-o", "h.onnx"], "no operator computes a tensor 'absent'"),
        (["n.onnx", "none.toml", "-o", "h.onnx"], "there is no Tanh"),
        (["n.onnx", "data.toml", "-o", "h.onnx"], "d.npz"),
        (["n.onnx", "h.onnx", "--check"], "no such file"),
        (["n.onnx", "n.onnx", "--check"], "no restrictions"),
        (["n.onnx", "h.onnx", "--check", "-o", "x.onnx"], "writes nothing"),
    ],
    ids=lambda value: "-".join(value)[-30:] if isinstance(value, list) else "",
)
def test_errors_of_the_command_leave_nothing_behind(argv, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("n.onnx").write_bytes(dense_model())
    Path("c.toml").write_text(DOMAIN)
    Path("bad.toml").write_text(DOMAIN + '[restrict]\ntensors = ["absent"]\n')
    Path("none.toml").write_text(DOMAIN + '[restrict]\nafter = ["Tanh"]\n')
    Path("data.toml").write_text(DATA + '[restrict]\nscheme = "ranger"\n')
    before = sorted(tmp_path.iterdir())
    assert farkas.main(["harden", *argv]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert sorted(tmp_path.iterdir()) == before
    assert np.all([path.stat().st_size for path in before])
