"""What a section asks about: one of the models, and the samples that fit it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from specs.enclosure import FloatArray
from specs.network import Network
from specs.onnx_reader import read_model
from specs.query import ModelFile
from verifier.certify.data import Data
from verifier.certify.faults.stand import labels_at
from verifier.certify.section import Setting
from verifier.certify.table import Table

TOGETHER = 64
"""Samples that are evaluated at a time."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model of the configuration.

    Attributes:
        setting: of the configuration.
        name: of the model there.
        path: of the model.
    """

    setting: Setting
    name: str
    path: Path

    @classmethod
    def of(cls, setting: Setting, table: Table, key: str = "net") -> Subject:
        """The model that a table names, the first where it names none.

        Raises:
            QuestionError: there is no such model.
        """
        name = setting.named(table, key)
        return cls(setting, name, setting.models[name])

    @cached_property
    def _read(self) -> tuple[Network, ModelFile]:
        return read_model(self.path)

    @property
    def network(self) -> Network:
        """It, in normal form."""
        return self._read[0]

    @property
    def model(self) -> ModelFile:
        """Its file."""
        return self._read[1]

    def predictions(self, points: FloatArray, index: int) -> int | None:
        """The class of one of many samples, decided; ``None``: no output exceeds every other.

        Samples beside it are evaluated with it, and remembered.
        """
        start = index - index % TOGETHER
        known = self._predicted
        if known.get("points") is not points or known.get("start") != start:
            part = points[start : start + TOGETHER]
            known |= {"points": points, "start": start, "found": labels_at(self.network, part)}
        found: int | None = known["found"][index - start]
        return found

    @cached_property
    def _predicted(self) -> dict[str, Any]:
        return {}

    def samples(self, table: Table, *, predicted: bool = True) -> Data:
        """The samples that a table speaks of: ``first`` of them.

        Args:
            table: of the answer.
            predicted: it speaks of predictions.

        Raises:
            QuestionError: there are none, or they do not fit the model.
        """
        return samples_for(self.setting, table, self.network, predicted=predicted)


def by_prediction(table: Table, data: Data) -> bool:
    """Whether the key ``label`` says that a sample's class is what is predicted there.

    Where it is left out, that is so if there are no true labels.

    Raises:
        QuestionError: it wants true labels, and there are none.
    """
    truth = "true" if data.labels is not None else "predicted"
    label = table.text("label", truth, ("true", "predicted"))
    if label == "true" and data.labels is None:
        raise table.error("label", "label = 'true' needs labels in [data]")
    return label == "predicted"


def samples_for(
    setting: Setting, table: Table, network: Network, *, predicted: bool = True
) -> Data:
    """The first samples of ``[data]``, as many as ``first`` of a table says.

    Raises:
        QuestionError: there are none, or they do not fit the network.
    """
    first = table.integer("first", None, 1)
    data = setting.data
    if data is None:
        raise table.error("", f"[{table.name}] needs samples: [data] is missing")
    if data.points.shape[1] != network.input_size:
        raise setting.document.error(
            "data",
            "points",
            f"samples of {data.points.shape[1]} numbers for {network.input_size} inputs",
        )
    outputs = network.output_size
    if predicted and outputs < 2:
        raise table.error("", f"[{table.name}]: a prediction needs two outputs")
    if predicted and data.labels is not None and int(data.labels.max()) >= outputs:
        raise setting.document.error(
            "data", "labels", f"label {int(data.labels.max())} of a model with {outputs} outputs"
        )
    return data.first(first)
