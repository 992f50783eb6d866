"""A configuration file: models, data, and sections; ``docs/certify.md`` is its schema.

title       a string                                     optional
[models]    NAME = "FILE.onnx"                           one or more
[data]      see data.py                                  optional
[limits]    timeout = SECONDS, device = "cpu" or "cuda"  of a question that is searched
[SECTION]   see SECTIONS
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs.document import Document, read_document
from verifier.certify.data import read_data
from verifier.certify.section import Answer, Setting
from verifier.certify.table import Table
from verifier.needs import need_device
from verifier.options import DEVICES

SECTIONS = {
    "robustness": "verifier.certify.robustness",
    "semantic": "verifier.certify.semantic",
    "range": "verifier.certify.outputs",
    "monotonicity": "verifier.certify.monotonicity",
    "agreement": "verifier.certify.agreement",
    "vnnlib": "verifier.certify.vnnlib",
    "faults": "verifier.certify.faults.section",
    "watermark": "verifier.certify.watermark.section",
    "probability": "verifier.certify.probability",
    "lipschitz": "verifier.certify.lipschitz",
    "probabilistic": "verifier.certify.probabilistic.section",
    "smoothing": "verifier.certify.smoothing",
}
"""By the name of a table the module whose ``read`` reads it."""

TIMEOUT = 60
"""Seconds for a question, where the file says nothing."""


@dataclass(frozen=True, eq=False)
class Config:
    """What a configuration asks for.

    Attributes:
        title: of it.
        setting: models, data and limits.
        answers: by the name of a section.
    """

    title: str
    setting: Setting
    answers: Mapping[str, Sequence[Answer]]


def load_config(path: Path) -> Config:
    """Read a configuration.

    Raises:
        InputError: it is malformed, or something it names is not there or does not fit.
    """
    document = read_document(path)
    top = Table(document, "", document.tables)
    name = path.name.encode(errors="replace").decode()  # files may have names that are no text
    title = top.text("title", name) or name
    for key in ("models", "data", "limits"):
        top.has(key)
        document.table(key)
    for key in SECTIONS:
        top.has(key)
    _known(document, top)
    limits = Table.of(document, "limits")
    timeout = limits.number("timeout")
    device = limits.text("device", DEVICES[0], DEVICES) or DEVICES[0]
    limits.done()
    if timeout is not None and not 0 < timeout < 10**9:
        raise limits.error("timeout", f"a time limit of {float(timeout):g} seconds")
    setting = Setting(
        document,
        _models(document),
        read_data(Table.of(document, "data")),
        float(TIMEOUT if timeout is None else timeout),
        device,
    )
    asked = [name for name in SECTIONS if name in document.tables]
    if not asked:
        known = ", ".join(f"[{name}]" for name in SECTIONS)
        raise document.error("", "", f"nothing is asked: the file has none of {known}")
    answers = {}
    for name in asked:
        reader: Any = importlib.import_module(SECTIONS[name])
        answers[name] = reader.read(setting)
    return Config(title, setting, answers)


def device_here(config: Config) -> None:
    """The device that searches are to run on is there: asked before any work begins.

    Raises:
        QuestionError: it is not.
    """
    if config.setting.device == DEVICES[0]:
        return
    limits = Table.of(config.setting.document, "limits")
    limits.placed("device", lambda: need_device(config.setting.device, 'device = "cpu"'))


def _known(document: Document, top: Table) -> None:
    for key in document.tables:
        if key not in top.known:
            known = ", ".join(name if name == "title" else f"[{name}]" for name in top.known)
            raise document.error("", key, f"unknown key '{key}'; known here: {known}")


def _models(document: Document) -> dict[str, Path]:
    found = {}
    for name, file in document.table("models").items():
        if not isinstance(file, str):
            raise document.error("models", name, f"'{name}' must be the name of a file")
        found[name] = document.folder / file
        if not found[name].is_file():
            raise document.error("models", name, f"{found[name]}: there is no such file")
    if not found:
        raise document.error("", "models", '[models] must hold a line, NAME = "FILE.onnx"')
    return found
