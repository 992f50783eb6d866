"""Files of questions below the evidence folder, each under a name that its content gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

from proofs.format import replacing
from specs.onnx_reader import read_model
from specs.query import ModelFile
from verifier.certify.section import Place


def question_path(place: Place, digest: str, text: str) -> Path:
    """Where a question file lies: below the evidence folder, under the same name in every run.

    Args:
        place: where.
        digest: of the models that it names.
        text: of the file.
    """
    name = hashlib.sha256((digest + text).encode()).hexdigest()[:16]
    return place.evidence / f"{name}.toml"


def write_text(path: Path, text: str) -> None:
    """Write a file; it appears when it is complete."""
    with replacing(path) as stream:
        stream.write(text.encode())


def keep_content(file: Path, content: bytes) -> None:
    """Write a file, unless it holds this already; folders are made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.is_file() or file.read_bytes() != content:
        with replacing(file) as stream:
            stream.write(content)


def property_name(content: bytes) -> str:
    """Where a property file lies below the evidence folder."""
    return f"properties/{hashlib.sha256(content).hexdigest()[:16]}.vnnlib"


def model_file(place: Place, model: ModelFile) -> Path:
    """A copy of the model below the evidence folder; its own path where it has external data."""
    if hashlib.sha256(model.content).hexdigest() != model.digest and model.path is not None:
        return model.path
    name = f"{hashlib.sha256(model.content).hexdigest()[:16]}.onnx"
    file = place.evidence / "models" / name
    keep_content(file, model.content)
    return file


def in_memory(content: bytes, place: Place) -> ModelFile:
    """A model that was made here, as a file below the evidence folder.

    Raises:
        ModelError: it cannot be read.
    """
    made = ModelFile(None, content, hashlib.sha256(content).hexdigest())
    return read_model(model_file(place, made))[1]
