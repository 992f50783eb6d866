"""The section ``[smoothing]``: radii of smoothed classifiers (``statistics.smoothing``), sampled.

Every answer comes with a certificate below the evidence folder, a JSON file that says what was
sampled and what follows; it is no evidence that the kernel could check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from proofs.format import replacing
from specs.version import VERSION
from verifier.certify.data import Data
from verifier.certify.sampled import (
    GENERATOR,
    RUNTIME,
    SAMPLED,
    black_box,
    device,
    samples,
    versions,
)
from verifier.certify.section import (
    Answer,
    Judged,
    Part,
    Place,
    Record,
    Rows,
    Task,
    below,
    measured_at_least,
    shown,
)
from verifier.certify.section import Setting as Configured
from verifier.certify.table import Table
from verifier.resumed import or_anew
from verifier.statistics.blackbox import BlackBox
from verifier.statistics.smoothing import Setting, Smoothed, Smoothing

KIND = "farkas-smoothing-certificate"
STATEMENT = (
    "the class that the model gives most often at x + e, e normal with standard deviation sigma in "
    "every input, is the stated one at every x at a Euclidean distance from the input of less than "
    "the stated radius"
)
SMOOTHED = (
    "radii speak of the smoothed classifier, never of the model itself, and of inputs that may lie "
    "outside the valid range"
)
REAL_NOISE = (
    "the noise is normal: that numbers of float64 stand for it is assumed, not proved, and who "
    "knows the generator could build a model that exploits it; the sum of input and noise is "
    "rounded to float64, then to the model's type, which is taken to be a part of the model"
)
POINTS = 200
"""Radii of a curve that is drawn."""


@dataclass(frozen=True)
class Wanted:
    """A threshold: so large a share is certified at a radius."""

    radius: Fraction
    at_least: Fraction
    sigma: Fraction | None


@dataclass(frozen=True, eq=False)
class Smooth:
    """The answer.

    Attributes:
        net: name of the model.
        box: the base classifier.
        denoiser: in front of it.
        data: the samples.
        settings: one for each ``sigma``.
        radii: at which certified accuracy is reported.
        wanted: thresholds.
    """

    net: str
    box: BlackBox
    denoiser: BlackBox | None
    data: Data
    settings: tuple[Setting, ...]
    radii: tuple[Fraction, ...]
    wanted: tuple[Wanted, ...] = ()

    @property
    def alpha(self) -> Fraction:
        """What one radius, or all of them together, may fail with."""
        return self.settings[0].alpha

    @property
    def share(self) -> Fraction:
        """What each radius may fail with where all hold together."""
        return self.alpha / (len(self.data.points) * len(self.settings))

    def tasks(self) -> Sequence[Task]:
        """One for every ``sigma``, each of which resumes within itself."""
        return [self._task(setting) for setting in self.settings]

    def _task(self, setting: Setting) -> Task:
        depends = (
            "smoothing 1",
            self.box.model.digest,
            self.box.device,
            "" if self.denoiser is None else self.denoiser.model.digest,
            setting.text,
            f"alpha {setting.alpha}",
            self.data.digest,
            repr(self.data.numbers.tolist()),
        )
        return Task(f"smoothing with {shown(setting.sigma)}", depends, partial(self._run, setting))

    def _run(self, setting: Setting, place: Place) -> Record:
        file = place.scratch / "counts.json"
        smoothing = Smoothing(
            self.box,
            self.data.points,
            self.data.numbers,
            setting,
            self.denoiser,
            file,
            place.progress,
        )
        seen = or_anew(smoothing.run, file, place.progress)
        name = f"smoothing-{self._task(setting).digest[:16]}.json"
        with replacing(place.evidence / name) as stream:
            stream.write(json.dumps(self._certificate(setting, seen), indent=1).encode())
        return Record({"inputs": [asdict(one) for one in seen], "evidence": [name]})

    def _certificate(self, setting: Setting, seen: Sequence[Smoothed]) -> dict[str, Any]:
        labels = np.zeros(0) if self.data.labels is None else self.data.labels
        return {
            "kind": KIND,
            "version": 1,
            "farkas": VERSION,
            "proved": False,
            "statement": STATEMENT,
            "confidence": f"each radius alone holds with confidence {shown(1 - setting.alpha)}",
            "assumed": [SAMPLED, SMOOTHED, REAL_NOISE, GENERATOR, RUNTIME],
            "model": self.box.model.digest,
            "denoiser": None if self.denoiser is None else self.denoiser.model.digest,
            "samples_of": self.data.digest,
            "device": self.box.device,
            "with": versions(),
            "sigma": str(setting.sigma),
            "selection": setting.selection,
            "samples": setting.samples,
            "alpha": str(setting.alpha),
            "seed": setting.seed,
            "largest_radius": setting.cap,
            "inputs": [
                {
                    "number": one.number,
                    "label": int(label),
                    "class": one.chosen,
                    "hits": one.hits,
                    "abstained": radius is None,
                    "radius": radius,
                }
                for one, label in zip(seen, labels, strict=True)
                for radius in [one.radius(setting.scale, setting.alpha)]
            ],
        }

    def conclude(self, records: Sequence[Record]) -> Part:
        """Certified accuracy at radii, a curve, thresholds."""
        facts = [
            self._facts(setting, [Smoothed(**one) for one in record.values["inputs"]], record)
            for setting, record in zip(self.settings, records, strict=True)
        ]
        together = f"confidence {shown(1 - self.alpha)} for all radii together"
        head = ("sigma", "abstained", *(f"radius > {shown(radius)}" for radius in self.radii))
        rows = [
            (
                shown(setting.sigma),
                str(fact["abstained_together"]),
                *(f"{each['together']} of {fact['inputs']}" for each in fact["certified"]),
            )
            for setting, fact in zip(self.settings, facts, strict=True)
        ]
        title = f"Right and constant within a radius: sampled, {together}"
        drawings = ((f"Certified accuracy, sampled; {together}", partial(_draw, facts)),)
        return Part(
            f"Randomized smoothing of {self.net}",
            tuple(self._lines(facts)),
            (SAMPLED, SMOOTHED, REAL_NOISE, GENERATOR, RUNTIME),
            tuple(self._judged(facts)),
            {"measured": True, "alpha": float(self.alpha), "sigmas": facts},
            (Rows(title, head, tuple(rows)),),
            drawings,
        )

    def _facts(self, setting: Setting, seen: Sequence[Smoothed], record: Record) -> dict[str, Any]:
        labels = [] if self.data.labels is None else self.data.labels.tolist()
        alone = [one.radius(setting.scale, setting.alpha) for one in seen]
        joint = [one.radius(setting.scale, self.share) for one in seen]
        right = [one.chosen == label for one, label in zip(seen, labels, strict=True)]

        def certified(radii: Sequence[float | None], least: Fraction) -> int:
            pairs = zip(radii, right, strict=True)
            return sum(r is not None and ok and Fraction(r) > least for r, ok in pairs)

        return {
            "sigma": float(setting.sigma),
            "samples": setting.samples,
            "selection": setting.selection,
            "seed": setting.seed,
            "inputs": len(seen),
            "abstained": sum(r is None for r in alone),
            "abstained_together": sum(r is None for r in joint),
            "wrong": sum(r is not None and not ok for r, ok in zip(joint, right, strict=True)),
            "largest_radius": setting.cap,
            "certificate": record.evidence[0],
            "certified": [
                {
                    "radius": float(least),
                    "alone": certified(alone, least),
                    "together": certified(joint, least),
                }
                for least in self.radii
            ],
            "thresholds": [certified(joint, wanted.radius) for wanted in self.wanted],
            "radii": [r if ok else None for r, ok in zip(joint, right, strict=True)],
            "radii_alone": [r if ok else None for r, ok in zip(alone, right, strict=True)],
        }

    def _lines(self, facts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        one = self.settings[0]
        front = "" if self.denoiser is None else ", behind a denoiser"
        yield (
            f"sampled, not proved: {one.selection} samples choose a class and {one.samples} others "
            f"bound its probability, at {len(self.data.points)} inputs{front}; seed {one.seed}"
        )
        yield (
            f"a radius alone holds with confidence {shown(1 - self.alpha)}; where it says "
            f"together, all do, each with {below(1 - self.share, 8)}"
        )
        for fact in facts:
            radii = [r for r in fact["radii"] if r is not None]
            median = f"; median {below(float(np.median(radii)), 4)}" if radii else ""
            yield (
                f"sigma {shown(fact['sigma'])}: {len(radii)} of {fact['inputs']} right with a "
                f"radius{median}, {fact['wrong']} wrong, {fact['abstained_together']} abstained, "
                f"together; no radius alone can exceed {below(fact['largest_radius'], 4)} with so "
                f"many samples; {fact['certificate']}"
            )

    def _judged(self, facts: Sequence[Mapping[str, Any]]) -> Iterator[Judged]:
        for place, wanted in enumerate(self.wanted):
            for setting, fact in zip(self.settings, facts, strict=True):
                if wanted.sigma not in (None, setting.sigma):
                    continue
                share = Fraction(fact["thresholds"][place], fact["inputs"])
                yield measured_at_least(
                    f"smoothed with {shown(setting.sigma)}: right and constant within "
                    f"{shown(wanted.radius)}",
                    wanted.at_least,
                    (share, Fraction(1)),
                    1 - self.alpha,
                )


def _draw(facts: Sequence[Mapping[str, Any]], figure: Any) -> None:
    axes = figure.subplots()
    for fact in facts:
        radii = np.array([-1.0 if r is None else r for r in fact["radii"]])
        grid = np.linspace(0.0, fact["largest_radius"], POINTS)
        shares = [float(np.mean(radii > r)) for r in grid]
        axes.step(grid, shares, where="post", label=f"sigma {fact['sigma']:g}")
    axes.set(xlabel="Euclidean radius", ylabel="certified accuracy", ylim=(0, 1.02))
    axes.legend()


def read(setting: Configured) -> Sequence[Answer]:
    """The answer that ``[smoothing]`` asks for; ``docs/certify.md`` lists its keys.

    Raises:
        InputError: it is malformed; the message says where.
    """
    table = Table.of(setting.document, "smoothing")
    place = device(table)
    net = table.text("net") or next(iter(setting.models))
    box = black_box(setting, table, "net", net, place)
    name = table.text("denoiser")
    denoiser = None if name is None else black_box(setting, table, "denoiser", name, place)
    if denoiser is not None and denoiser.outputs != box.size:
        raise table.error(
            "denoiser",
            f"'{name}' gives {denoiser.outputs} numbers, and '{net}' takes {box.size}",
        )
    data = samples(setting, table, box, denoiser)
    settings = tuple(_settings(table))
    radii = table.numbers("radii") or tuple(Fraction(k, 4) * settings[0].sigma for k in range(9))
    if min(radii) < 0:
        raise table.error("radii", "'radii' must hold numbers of at least 0")
    wanted = tuple(_wanted(table, settings))
    table.done()
    return (Smooth(net, box, denoiser, data, settings, radii, wanted),)


def _settings(table: Table) -> Iterator[Setting]:
    sigmas = table.numbers("sigma")
    selection, count = table.integer("selection", 100, 1), table.integer("samples", 100_000, 1)
    alpha, seed = table.number("alpha", Fraction(1, 1000)), table.integer("seed", 0)
    if not sigmas:
        raise table.error("", f"[{table.name}] needs sigma, such as sigma = [0.25]")
    if alpha is None or not 0 < alpha < Fraction(1, 2):
        raise table.error("alpha", "'alpha' must lie between 0 and 0.5")
    if len(set(sigmas)) != len(sigmas):
        raise table.error("sigma", "'sigma' names something twice")
    for sigma in sigmas:
        yield table.placed(
            "sigma", partial(Setting, sigma, selection or 100, count or 1, alpha, seed or 0)
        )


def _wanted(table: Table, settings: Sequence[Setting]) -> Iterator[Wanted]:
    for each in table.tables("certified_at"):
        radius, share = each.number("radius", None, 0), each.share("at_least")
        sigma = each.number("sigma")
        each.done()
        if radius is None or share is None:
            raise each.error("certified_at", "'certified_at' needs radius and at_least")
        if sigma is not None and sigma not in [setting.sigma for setting in settings]:
            raise each.error("certified_at", f"'certified_at': sigma {shown(sigma)} is not sampled")
        yield Wanted(radius, share, sigma)
