"""What the sections that sample share: black boxes, samples, and what their numbers rest on."""

from __future__ import annotations

import importlib.metadata
from fractions import Fraction

from verifier.certify.data import Data
from verifier.certify.section import Setting
from verifier.certify.table import Table
from verifier.needs import need
from verifier.statistics.blackbox import DEVICES, BlackBox, device_of, read_black_box

SAMPLED = (
    "numbers that are called sampled are measured, not proved: they hold with the stated "
    "confidence, that is for all but that share of seeds, and no network was looked into"
)
GENERATOR = (
    "the numbers of the pseudo-random generator (Philox, numpy) behave as independent numbers of "
    "the stated distribution; noise is made in float64, added, and rounded to the type of the "
    "model's input"
)
RUNTIME = (
    "of a black box, classes are those that onnxruntime computes in floats, with the rounding of "
    "this machine; they may depend on the device and the version, and on the size of batches"
)


def black_box(setting: Setting, table: Table, key: str, name: str, device: str) -> BlackBox:
    """A model of ``[models]`` as a black box.

    Raises:
        QuestionError: there is none of that name, or it is no black box of one input.
    """
    path = setting.models[setting.known(table, key, name)]
    found: BlackBox = table.placed(key, lambda: read_black_box(path, device))
    return found


def device(table: Table) -> str:
    """The key ``device``.

    Raises:
        QuestionError: onnxruntime does not have it here, or what counts are judged with is not
            installed.
    """
    table.placed("", lambda: need(("onnxruntime", "scipy"), f"[{table.name}]"))
    wanted = table.text("device", "auto", DEVICES) or "auto"
    found: str = table.placed("device", lambda: device_of(wanted))
    return found


def samples(setting: Setting, table: Table, box: BlackBox, front: BlackBox | None = None) -> Data:
    """The samples that are spoken of, ``first`` of them, which must have labels.

    Args:
        setting: of the configuration.
        table: of the section.
        box: gives scores for the labels.
        front: takes the samples, where it is another model.

    Raises:
        QuestionError: there are none, or they do not fit the model.
    """
    first = table.integer("first", None, 1)
    data, document = setting.data, setting.document
    if data is None:
        raise table.error("", f"[{table.name}] needs samples: [data] is missing")
    if data.labels is None:
        raise document.error("data", "", f"[{table.name}] needs labels: [data] names none")
    labels, data = data.labels[:first], data.first(first)
    size = (front or box).size
    if data.points.shape[1] != size:
        raise document.error(
            "data", "points", f"samples of {data.points.shape[1]} numbers for {size} inputs"
        )
    if box.outputs < 2:
        raise table.error("", f"[{table.name}]: a class needs two outputs, the model has one")
    if int(labels.max()) >= box.outputs:
        raise document.error(
            "data", "labels", f"label {int(labels.max())} of {box.outputs} outputs"
        )
    return data


def confidence(table: Table, default: Fraction) -> Fraction:
    """The key ``confidence``.

    Raises:
        QuestionError: it does not lie between 1/2 and 1.
    """
    found = table.number("confidence", default)
    if found is None or not Fraction(1, 2) <= found < 1:
        raise table.error("confidence", "'confidence' must be at least 0.5 and less than 1")
    return found


def versions() -> dict[str, str]:
    """Of what draws and runs: other versions may give other samples."""
    found = {}
    for name in ("numpy", "onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
