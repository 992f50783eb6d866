"""Which stored bits matter: every single fault at every sample, decided.

A fault is *certified benign* on the samples if it changes none of their predictions, *critical* if
it changes one, *no number* if the word becomes Inf or NaN, and *undecided* otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np

from specs.faults.formats import BoolArray, IndexArray
from specs.faults.sites import Faults as Singles
from verifier.certify.data import Data
from verifier.certify.delivery import BY_EVALUATION
from verifier.certify.faults import common
from verifier.certify.faults.common import Faults, in_words, narrowed, predictions, radius_of
from verifier.certify.faults.regionmap import RegionMaps, mapper
from verifier.certify.section import (
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Task,
    above,
    at_least,
    below,
    digest_of,
)
from verifier.certify.table import Table
from verifier.faults.maps import single_fault_maps

CHUNK = 8
"""Samples of a task."""
WORDS = {
    "certified_benign": "share certified benign at every sample",
    "certified_safe": "share certified benign at every sample, or no number,",
    "certified_benign_mean": "share certified benign at a sample, on average,",
}
"""Thresholds."""
LISTED = 20
"""Critical faults that a report lists."""


@dataclass(frozen=True, eq=False)
class Layer:
    """The single faults of one parameter, over all samples.

    Attributes:
        faults: all of them.
        number: ``(n,)`` the word is a number that the network is defined with.
        critical, undecided: ``(n,)`` at how many samples.
        first: ``(n,)`` place of the first sample at which it is critical; -1: none.
    """

    faults: Singles
    number: BoolArray
    critical: IndexArray
    undecided: IndexArray
    first: IndexArray

    @property
    def benign(self) -> BoolArray:
        """``(n,)`` certified at every sample."""
        return np.asarray(self.number & (self.critical == 0) & (self.undecided == 0))


@dataclass(frozen=True, eq=False)
class Summary:
    """A map over all samples.

    Attributes:
        layers: by parameter.
        samples: how many.
        seconds: that deciding took.
    """

    layers: Mapping[str, Layer]
    samples: int
    seconds: float

    @cached_property
    def totals(self) -> dict[str, int]:
        """How many faults are of each kind."""
        every = self.layers.values()
        return {
            "faults": sum(len(one.faults) for one in every),
            "benign": sum(int(one.benign.sum()) for one in every),
            "critical": sum(int((one.critical > 0).sum()) for one in every),
            "no number": sum(int((~one.number).sum()) for one in every),
            "undecided": sum(
                int((one.number & (one.critical == 0) & (one.undecided > 0)).sum()) for one in every
            ),
        }

    @cached_property
    def cells(self) -> dict[str, int]:
        """How many memory cells are certified: each of a cell's faults is.

        ``"benign"``, and ``"safe"``: benign or no number.
        """
        found = {"benign": 0, "safe": 0}
        for one in self.layers.values():
            cell = one.faults.entry * 32 + one.faults.bit
            for kind, good in (("benign", one.benign), ("safe", one.benign | ~one.number)):
                found[kind] += np.unique(cell).size - np.unique(cell[~good]).size
        return found

    @property
    def mean(self) -> Fraction:
        """The share of faults that are certified benign, averaged over samples."""
        total = self.totals["faults"] - self.totals["no number"]
        return (total - Fraction(self.events, self.samples)) / self.totals["faults"]

    @property
    def possible_mean(self) -> Fraction:
        """What it is if all that is undecided is benign."""
        left = sum(int(one.undecided.sum()) for one in self.layers.values())
        return self.mean + Fraction(left, self.samples * self.totals["faults"])

    @property
    def events(self) -> int:
        """Pairs of a fault and a sample at which it is critical or undecided."""
        every = self.layers.values()
        return sum(int(one.critical.sum() + one.undecided.sum()) for one in every)


@dataclass(frozen=True, eq=False)
class BitMap:
    """The answer ``[faults.map]``, and what others read off the same results.

    Attributes:
        faults: the model.
        data: the samples.
        thresholds: of ``WORDS``, those that are stated.
        device: what evaluates.
    """

    faults: Faults
    data: Data
    thresholds: Mapping[str, Fraction]
    device: str = "numpy"

    def tasks(self) -> Sequence[Task]:
        """One for every few samples."""
        found = []
        for start in range(0, len(self.data.points), CHUNK):
            data = self.data.part(start, start + CHUNK)
            depends = ("faults.map 1", self.faults.single_text, digest_of(data.points))
            name = f"map of samples {data.numbers[0]} to {data.numbers[-1]}"
            found.append(Task(name, depends, partial(self._run, data)))
        return found

    def _run(self, data: Data, place: Place) -> Record:
        cells = self.faults.cells
        predictions(cells.memory, data)  # a message that names the samples

        def tick(name: str, done: int, total: int) -> None:
            place.progress.count(f"map, {name}: samples", int(data.numbers[0]) + done, total)

        maps = single_fault_maps(cells, data.points, tick, self.device)
        arrays = {}
        for number, name in enumerate(cells.exposed):
            each = maps.maps.get(name)
            if each is None:
                continue
            arrays[f"number{number}"] = each.number
            arrays[f"critical{number}"] = each.critical.astype(np.int16)
            arrays[f"undecided{number}"] = each.undecided.astype(np.int16)
            arrays[f"first{number}"] = each.first.astype(np.int16)
        values = {
            "labels": maps.labels.tolist(),
            "seconds": maps.seconds,
            "decided": vars(maps.tally),
        }
        return Record(values, arrays)

    def summary(self, records: Sequence[Record]) -> Summary:
        """The maps of all tasks together."""
        layers = {}
        for number, name in enumerate(self.faults.cells.exposed):
            singles = self.faults.cells.singles(name)
            if singles is None:
                continue
            critical, undecided = (
                np.sum([r.arrays[f"{kind}{number}"].astype(np.int64) for r in records], axis=0)
                for kind in ("critical", "undecided")
            )
            first = np.full(critical.shape, -1, dtype=np.int64)
            for index, record in enumerate(records):
                own = record.arrays[f"first{number}"].astype(np.int64)
                fresh = (first < 0) & (own >= 0)
                first[fresh] = own[fresh] + index * CHUNK
            layers[name] = Layer(
                singles,
                records[0].arrays[f"number{number}"],
                critical,
                undecided,
                first,
            )
        seconds = sum(record.values["seconds"] for record in records)
        return Summary(layers, len(self.data.points), seconds)

    def conclude(self, records: Sequence[Record]) -> Part:
        """Shares, thresholds, tables, the heat map."""
        found = self.summary(records)
        counts = found.totals
        decisions = counts["faults"] * found.samples
        lines = (
            f"fault model: {in_words(self.faults.cells.model)}; the map is of single ones",
            f"{counts['faults']} single faults of {self.faults.cells.count} stored bits, at "
            f"{found.samples} samples",
            *(_part(kind, counts[kind], counts["faults"]) for kind in list(counts)[1:]),
            f"at a sample, benign on average: {below(100 * found.mean)} %",
            f"decided in {found.seconds:.2f} s, {decisions / max(found.seconds, 1e-9):.3g} faults "
            "at a sample in a second",
            "a map rests on exact evaluation; it is no proof that another program could check",
        )
        return Part(
            "Critical bits",
            lines,
            (
                common.REAL_ARITHMETIC,
                common.NOTICED,
                common.SAMPLES,
                "a fault stays for the whole evaluation",
            ),
            tuple(self._judged(found)),
            {
                "model": self.faults.cells.model.text,
                "samples": found.samples,
                **counts,
                "benign_mean": str(found.mean),
                "by_tensor": _by(found),
            },
            (self._by_tensor(found), self._worst(found)),
            (("Certified benign share, by parameter and bit position", partial(_draw, found)),),
            basis=(BY_EVALUATION,),
        )

    def _judged(self, summary: Summary) -> list[Judged]:
        counts = summary.totals
        found = []
        for name, asked in self.thresholds.items():
            sure = counts["benign"] + (counts["no number"] if name == "certified_safe" else 0)
            certain = Fraction(sure, counts["faults"])
            possible = Fraction(sure + counts["undecided"], counts["faults"])
            if name == "certified_benign_mean":
                certain, possible = summary.mean, summary.possible_mean
            words = WORDS[name] + " of single faults"
            found.append(at_least(words, asked, certain, possible))
        return found

    def _by_tensor(self, found: Summary) -> Rows:
        rows = tuple(
            (
                name,
                str(len(one.faults)),
                str(int(one.benign.sum())),
                str(int((one.critical > 0).sum())),
                str(int((~one.number).sum())),
            )
            for name, one in found.layers.items()
        )
        head = ("parameter", "faults", "benign", "critical", "no number")
        return Rows("By parameter", head, rows)

    def _worst(self, found: Summary) -> Rows:
        """The faults that are critical at most samples."""
        listed: list[tuple[int, tuple[str, ...]]] = []
        for name, one in found.layers.items():
            for k in np.argsort(-one.critical, kind="stable")[:LISTED]:
                if one.critical[k] == 0:
                    break
                entry, faults = int(one.faults.entry[k]), one.faults
                row = (
                    f"{name}[{entry}]",
                    str(int(faults.bit[k])),
                    f"{self.faults.memory.values[name][entry]:.6g}",
                    f"{float(faults.value[k]):.6g}",
                    str(int(one.critical[k])),
                    str(int(self.data.numbers[one.first[k]])),
                )
                listed.append((int(one.critical[k]), row))
        listed.sort(key=lambda each: -each[0])
        head = ("word", "bit", "stored", "faulty", "samples changed", "first of them")
        return Rows("Critical faults, worst first", head, tuple(row for _, row in listed[:LISTED]))


def read(faults: Faults, table: Table) -> BitMap | RegionMaps:
    """Keys, beside those of the fault model: ``first``, ``certified_benign``,
    ``certified_benign_mean``, ``certified_safe``, ``device``, ``radius``, ``clip``, ``decided``.
    """
    faults = narrowed(faults, table)
    data = faults.samples(table)
    given = {key: table.share(key) for key in (*WORDS, "decided")}
    stated = {key: share for key, share in given.items() if share is not None}
    device = table.text("device", "numpy", ("numpy", "cpu", "cuda")) or "numpy"
    radius, clip = radius_of(table)
    faults.cells  # noqa: B018  errors of the fault model come before any work
    of_boxes = ("certified_benign_mean", "decided")
    for key in stated:
        if (radius is None and key == "decided") or (radius is not None and key not in of_boxes):
            with_radius = "goes with" if radius is None else "does not go with"
            raise table.error(key, f"'{key}' {with_radius} a radius")
    if radius is None:
        return BitMap(faults, data, stated, device)
    return RegionMaps(faults, data, radius, clip, stated, mapper())


def _part(kind: str, count: int, total: int) -> str:
    rounded = below if kind == "benign" else above
    return f"{kind}: {count} of {total} ({rounded(Fraction(100 * count, max(1, total)), 5)} %)"


def _by(found: Summary) -> dict[str, dict[str, list[int]]]:
    """By parameter and kind, how many faults of each bit position."""
    table = {}
    for name, one in found.layers.items():
        width = int(one.faults.bit.max(initial=0)) + 1
        kinds = {"benign": one.benign, "critical": one.critical > 0, "no number": ~one.number}
        table[name] = {
            kind: np.bincount(one.faults.bit[chosen], minlength=width).tolist()
            for kind, chosen in {"faults": np.ones(len(one.faults), np.bool_), **kinds}.items()
        }
    return table


def _draw(found: Summary, figure: Any) -> None:
    """Rows of parameters, columns of bit positions; the colour is the certified share."""
    table = _by(found)
    width = max(len(kinds["faults"]) for kinds in table.values())
    shares = np.full((len(table), width), np.nan)
    for row, kinds in enumerate(table.values()):
        total = np.array(kinds["faults"], dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares[row, : total.size] = np.where(
                total > 0, np.array(kinds["benign"]) / total, np.nan
            )
    panel = figure.add_subplot()
    image = panel.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    panel.set_yticks(range(len(table)), list(table))
    panel.set_xlabel("bit position; 0 is the least significant")
    figure.colorbar(image, label="certified benign share")
