"""Configurations: what is read, and errors that say where."""

from __future__ import annotations

import re

import numpy as np
import pytest

import farkas
from specs.errors import InputError
from specs.faults.memory import Quantised
from specs.faults.models import ActivationFaults, BitFlips
from tests.faulty_models import dense_model, graph_bytes, node
from tests.verifier.certify_files import HEAD, folder_with, run
from verifier.certify.config import device_here, load_config
from verifier.certify.report import as_html

MAP = '[faults]\nmodel = "bit_flips"\nformat = "int8"\n[faults.map]\n'

WRONG = {
    "not TOML": (HEAD + "a = = 1\n", "c.toml:7:"),
    "an unknown table": (HEAD + "[fault]\n", r"c.toml:7:1: unknown key 'fault'; known here: .*"),
    "nothing asked": (HEAD, "nothing is asked: the file has none of"),
    "no models": ('[faults]\nmodel = "bit_flips"\n[faults.map]\n', r"\[models\] must hold a line"),
    "a missing model": (
        '[models]\nnet = "absent.onnx"\n' + MAP,
        "c.toml:2:1: .*absent.onnx: there is no such file",
    ),
    "a model's name of another type": ("[models]\nnet = 3\n" + MAP, "c.toml:2:1: 'net' must be"),
    "an unknown key of data": (HEAD + "foo = 1\n" + MAP, "c.toml:7:1: unknown key 'foo'"),
    "an array that is not there": (
        HEAD.replace('"x"', '"z"') + MAP,
        "c.toml:5:1: .*no array 'z'; it has x, y",
    ),
    "labels that are none": (
        HEAD.replace('"y"', '"x"') + MAP,
        "c.toml:6:1: 'x' is float32 of shape .*; wanted: 3 integers",
    ),
    "a missing file of data": (HEAD.replace("data.npz", "d.npz") + MAP, "c.toml:4:1: .*d.npz"),
    "no sample left": (HEAD + "start = 9\n" + MAP, "no sample is left of 3"),
    "a scale of 0": (HEAD + "scale = 0\n" + MAP, "c.toml:7:1: 'scale' must be positive"),
    "a number for a string": (HEAD.replace('"x"', "4") + MAP, "c.toml:5:1: 'points' must be a str"),
    "a negative time limit": (HEAD + "[limits]\ntimeout = -1\n" + MAP, "c.toml:8:1: a time limit"),
    "an unknown limit": (HEAD + "[limits]\nhours = 1\n" + MAP, "c.toml:8:1: unknown key 'hours'"),
    "an unknown key of faults": (
        HEAD + '[faults]\nmodel = "bit_flips"\nfoo = 1\n[faults.map]\n',
        "c.toml:9:1: unknown key 'foo'",
    ),
    "faults that ask nothing": (HEAD + '[faults]\nmodel = "bit_flips"\n', "asks nothing: add one"),
    "a map without a fault model": (HEAD + "[faults]\n[faults.map]\n", "'bit_flips' or 'stuck_at'"),
    "a net that is not there": (
        HEAD + '[faults]\nnet = "other"\nmodel = "bit_flips"\n[faults.map]\n',
        "c.toml:8:1: .*has no 'other'; it has net",
    ),
    "an unknown key of a map": (HEAD + MAP + "foo = 1\n", r"c.toml:11:1: unknown key 'foo' in"),
    "a share above 1": (HEAD + MAP + "certified_benign = 1.5\n", "c.toml:11:1: .*at most 1, not"),
    "a share that is text": (HEAD + MAP + 'certified_benign = "1"\n', "c.toml:11:1: .*a number"),
    "a share that is no number": (HEAD + MAP + "certified_benign = nan\n", "c.toml:11:1: "),
    "a bit that is not there": (HEAD + MAP + "bits = [77]\n", "bit"),
    "a tensor that is not there": (HEAD + MAP + 'tensors = ["q"]\n', "'q'"),
    "an answer's model of another type": (HEAD + MAP + "k = 0\n", "c.toml:11:1: k = 0: at least"),
    "a certificate without a fault model": (
        HEAD + "[faults]\n[faults.certificate]\n",
        "needs a fault model",
    ),
    "a clip without a radius": (
        HEAD + MAP.replace("map", "certificate") + "clip = [0, 1]\n",
        "c.toml:11:1: 'clip' goes with a radius",
    ),
    "an interval the wrong way round": (
        HEAD + MAP.replace("map", "certificate") + "radius = 1\nclip = [1, 0]\n",
        r"c.toml:12:1: 'clip' must be \[LOW, HIGH\]",
    ),
    "a probability of nothing": (HEAD + MAP.replace("map", "probability"), "needs rates, sdc_at"),
    "a rate above 1": (
        HEAD + MAP.replace("map", "probability") + "rates = [2]\n",
        "c.toml:11:1: 'rates' must hold numbers between",
    ),
    "half a threshold": (
        HEAD + MAP.replace("map", "probability") + "sdc_at = { rate = 1e-9 }\n",
        "c.toml:11:1: 'sdc_at' must be",
    ),
    "a residual rate of nothing": (
        HEAD + MAP.replace("map", "probability") + "residual_fit = 1\n",
        "c.toml:11:1: 'residual_fit' needs raw_fit",
    ),
    "sets of more bits than there are": (
        HEAD + MAP.replace("map", "several") + "k = 900\n",
        "c.toml:11:1: k = 900: there are 216 cells",
    ),
    "proofs about one": (
        HEAD + MAP.replace("map", "probability") + "rates = [0.1]\nproved = { k = 1 }\n",
        "k = 2 or more",
    ),
    "proofs about other words": (
        HEAD
        + MAP.replace("map", "probability")
        + 'rates = [0.1]\nproved = { k = 2, format = "int4" }\n',
        "the same stored words",
    ),
    "ranges of nothing": (HEAD + "[faults]\n[faults.ranges]\n", "needs tensor and within"),
    "ranges of no tensor": (
        HEAD + '[faults]\n[faults.ranges]\ntensor = "q"\nwithin = [0, 1]\n',
        "c.toml:9:1: there is no activation 'q'; known: 'h0'",
    ),
    "ranges of an input": (
        HEAD + '[faults]\n[faults.ranges]\ntensor = "x"\nwithin = [0, 1]\n',
        "c.toml:9:1: there is no activation 'x'",
    ),
    "half a threshold of ranges": (
        HEAD + '[faults]\n[faults.ranges]\ntensor = "h0"\nwithin = [0, 1]\ncovers = [0, 1]\n',
        "c.toml:11:1: .*go together",
    ),
    "a precision of nothing": (HEAD + "[faults]\n[faults.precision]\n", "needs formats or sem"),
    "an unknown format": (
        HEAD + '[faults]\n[faults.precision]\nformats = ["int99"]\n',
        "c.toml:9:1: ",
    ),
    "formats that are no list": (
        HEAD + '[faults]\n[faults.precision]\nformats = "int8"\n',
        "c.toml:9:1: 'formats' must be a list of strings",
    ),
    "formats that are numbers": (
        HEAD + "[faults]\n[faults.precision]\nformats = [8]\n",
        "c.toml:9:1: 'formats' must be a list of strings; it holds 8",
    ),
    "an unknown semantics": (
        HEAD + '[faults]\n[faults.precision]\nsemantics = ["float8"]\n',
        "c.toml:9:1: semantics 'float8': use float32",
    ),
    "a semantics without a rule": (
        HEAD.replace("net.onnx", "normal.onnx")
        + '[faults]\n[faults.precision]\nsemantics = ["float16"]\n',
        "c.toml:9:1: .*without a rule under float16",
    ),
    "an agreement with nobody": (HEAD + "[faults]\n[faults.agreement]\nat_most = 1\n", "'other'"),
    "a campaign of neither": (
        HEAD + MAP.replace("map", "campaign") + "trials = 10\n",
        "needs trials, and either rate or k",
    ),
    "more faults than cells": (
        HEAD + MAP.replace("map", "campaign") + "trials = 10\nk = 100000\n",
        "c.toml:12:1: 100000 faults in",
    ),
    "the second of two tables": (
        HEAD + MAP.replace("[faults.map]", "[[faults.map]]\nk = 1\n[[faults.map]]") + "k = 0\n",
        "c.toml:13:1: k = 0: at least",
    ),
    "a single output": (
        HEAD.replace("net.onnx", "one.onnx") + MAP,
        "a prediction needs two outputs",
    ),
    "a number that is no integer": (HEAD + "first = 1.5\n" + MAP, "c.toml:7:1: .*, not 1.5$"),
    "a list of other things": (
        HEAD + "[robustness]\nradii = [0.1, true]\n",
        "c.toml:8:1: 'radii' must be a list of numbers; it holds true$",
    ),
    "a number for a list": (
        HEAD + "[robustness]\nradii = 0.1\n",
        "c.toml:8:1: 'radii' must be a list of numbers, not 0.1$",
    ),
    "an infinite radius": (
        HEAD + "[robustness]\nradius = inf\n",
        "c.toml:8:1: 'radius' must be a number, not inf$",
    ),
    "a number that no float holds": (
        HEAD + "[robustness]\nradius = 1e400\n",
        "c.toml:8:1: 'radius' holds a number above 1.79769e",
    ),
    "a list with such a number": (
        HEAD + "[robustness]\nradius = 1\nclip = [0, 1e309]\n",
        "c.toml:9:1: 'clip' holds a number above",
    ),
    "a mark without a seed": (
        HEAD + '[watermark]\nscheme = "uchida"\n[watermark.extraction]\n',
        r"^[^:]*c.toml:7:1: \[watermark\] needs 'seed'",
    ),
    "an unknown key in braces": (
        HEAD + "[robustness]\nradius = 1\ncertified_accuracy = { radius = 1, at_last = 0 }\n",
        r"c.toml:9:1: unknown key 'at_last' in 'certified_accuracy' of \[robustness\]",
    ),
    "a wrong value in braces of a second table": (
        HEAD
        + "[[robustness]]\nradius = 1\n[[robustness]]\nradius = 1\n"
        + "certified_accuracy = [\n  { radius = 1, at_least = 2 },\n]\n",
        "c.toml:11:1: 'at_least' must be at most 1, not 2",
    ),
    "a fault model of another type": (
        HEAD + '[faults]\nmodel = "bit_flips"\nk = 0.5\n[faults.map]\n',
        "c.toml:9:1: 'k' must be an integer, not 0.5$",
    ),
    "an unknown table of faults": (
        HEAD + MAP + "[faults.mop]\n",
        "c.toml:11:1: unknown key 'mop'",
    ),
    "a table that is none": (HEAD + "[faults]\nmap = 3\n", "c.toml:8:1: 'map' must be a table"),
}


def normalised():
    """A batch normalisation whose epsilon float16 does not hold."""
    stored = {name: np.ones(4, np.float32) for name in ("g", "b", "m", "v")}
    normal = node("BatchNormalization", "x g b m v", "y", epsilon=1e-5)
    return graph_bytes([normal], (1, 4), stored)


@pytest.mark.parametrize("name", list(WRONG))
def test_errors_say_where(name, tmp_path):
    text, message = WRONG[name]
    path = folder_with(tmp_path, text)
    (tmp_path / "one.onnx").write_bytes(dense_model((4, 1)))
    (tmp_path / "normal.onnx").write_bytes(normalised())
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(path)


def test_nothing_is_written_for_a_faulty_configuration(tmp_path, capsys):
    path = folder_with(tmp_path, MAP + "foo = 1\n")
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 3
    assert "c.toml:11:1: unknown key 'foo'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there_is_said_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    path = folder_with(tmp_path, '[limits]\ndevice = "cuda"\n[robustness]\nradius = 0.001\n')
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 3
    assert re.search(r"c.toml:8:1: .*no CUDA device", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    device_here(load_config(path))


@pytest.mark.parametrize("argument", ["absent.toml", "."])
def test_a_missing_configuration_is_the_input_s_fault(argument, tmp_path, capsys):
    assert farkas.main(["certify", str(tmp_path / argument)]) == 3
    assert capsys.readouterr().err


def test_samples_and_labels(tmp_path):
    data = load_config(folder_with(tmp_path, MAP)).setting.data
    kept = np.load(tmp_path / "data.npz")
    assert np.array_equal(data.points, kept["x"].astype(np.float64))
    assert np.array_equal(data.labels, kept["y"])
    assert data.numbers.tolist() == [0, 1, 2]


def test_a_part_of_the_samples_scaled(tmp_path):
    text = HEAD + "start = 1\nfirst = 1\nscale = 4\n" + MAP
    data = load_config(folder_with(tmp_path, text)).setting.data
    assert np.array_equal(data.points * 4, np.load(tmp_path / "data.npz")["x"][1:2])
    assert data.numbers.tolist() == [1]


def test_arrays_in_files_of_their_own(tmp_path):
    text = re.sub("file = .*\n", "", HEAD).replace('"x"', '"x.npy"').replace('"y"', '"y.npy"')
    path = folder_with(tmp_path, text + MAP)
    np.save(tmp_path / "x.npy", np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
    np.save(tmp_path / "y.npy", np.array([0, 2]))
    data = load_config(path).setting.data
    assert data.points.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert data.labels.tolist() == [0, 2]


def test_pickled_arrays_are_refused(tmp_path):
    path = folder_with(tmp_path, MAP)
    np.savez(tmp_path / "data.npz", x=np.array([{}], dtype=object), y=np.zeros(1, np.int64))
    with pytest.raises(InputError, match=r"c.toml:5:1|c.toml:4:1"):
        load_config(path)


def test_labels_beyond_the_outputs_are_refused(tmp_path):
    path = folder_with(tmp_path, MAP)
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 4)), y=np.array([0, 3]))
    with pytest.raises(InputError, match=r"c.toml:6:1: label 3 of a model with 3 outputs"):
        load_config(path)


def test_samples_of_another_size_are_refused(tmp_path):
    path = folder_with(tmp_path, MAP)
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 5)), y=np.array([0, 1]))
    with pytest.raises(InputError, match=r"c.toml:5:1: samples of 5 numbers for 4 inputs"):
        load_config(path)


def test_an_answer_narrows_the_fault_model(tmp_path):
    text = MAP + 'bits = [1]\ntensors = ["w0"]\n[faults.certificate]\nk = 2\n'
    one, two = load_config(folder_with(tmp_path, text)).answers["faults"]
    assert one.faults.fault.where.bits == (1,)
    assert one.faults.fault.where.tensors == ("w0",)
    assert two.faults.fault == BitFlips(2, Quantised(8))


def test_an_answer_states_another_fault_model(tmp_path):
    text = MAP + '[faults.certificate]\nmodel = "activation_faults"\nrange = [0, 0.5]\n'
    _, answer = load_config(folder_with(tmp_path, text)).answers["faults"]
    assert isinstance(answer.faults.fault, ActivationFaults)


def test_a_file_whose_name_is_no_text(tmp_path):
    path = folder_with(tmp_path, "[range]\noutput = 0\ndomain = [0, 1]\nmaximum = 1000\n")
    strange = path.rename(tmp_path / "c\udcff.toml")
    assert as_html(run(strange)).encode()
