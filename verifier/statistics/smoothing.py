"""Randomized smoothing of a black box: L2 radii within which a *smoothed* classifier is constant.

The smoothed classifier answers ``g(x) =`` the class that ``f(x + e)`` is most often, ``e`` normal
with standard deviation ``sigma`` in every input.  If that class has probability ``p > 1/2`` at
``x``, ``g`` does not change within ``sigma Phi^-1(p)`` of ``x`` in the Euclidean norm (J. Cohen,
E. Rosenfeld, Z. Kolter, ICML 2019, theorem 1, with ``1 - p`` for the runner-up).  ``p`` is bounded
from below by sampling, so a radius holds with a confidence.

The statement is about ``g``, never about ``f``, and about real normal noise.  What is sampled is
``f`` at ``x + e`` as computed: numbers of a generator in float64, a sum that is rounded to float64
and then to the type of the model.  Rounding of the sum may be taken to be a part of ``f``; that the
noise is normal is assumed.  An adversary who knows the generator's numbers can exploit what is
assumed (V. Voracek, M. Hein, ICLR 2023).  All that is computed from counts is rounded down.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from proofs.format import replacing
from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import IndexArray
from verifier.progress import Progress
from verifier.resumed import KeptError
from verifier.statistics.blackbox import BlackBox, Floats, classes
from verifier.statistics.intervals import lower_end
from verifier.statistics.noise import Stream, batched, gaussian
from verifier.statistics.tails import normal_quantile_below, product_below

CHUNK = 1 << 14
"""Samples between two looks at the clock."""
EVERY = 5.0
"""Seconds between two writings of what is resumed from."""


@dataclass(frozen=True)
class Setting:
    """What is smoothed with, and how much is sampled.

    Attributes:
        sigma: standard deviation of the noise in every input.
        selection: samples that choose the class (Cohen's ``n0``).
        samples: samples that bound its probability (``n``), independent of the others.
        alpha: probability with which the statement at one input may fail.
        seed: of the noise.

    Raises:
        InputError: these make no sense.
    """

    sigma: Fraction
    selection: int = 100
    samples: int = 100_000
    alpha: Fraction = Fraction(1, 1000)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sigma <= 0 or self.selection < 1 or self.samples < 1 or self.seed < 0:
            raise InputError(
                f"smoothing with sigma {self.sigma}, {self.selection} and {self.samples} samples, "
                f"seed {self.seed}"
            )
        if not 0 < self.alpha < Fraction(1, 2):
            raise InputError(f"smoothing that may fail with probability {self.alpha}")

    @property
    def text(self) -> str:
        """What counts depend on; ``alpha`` is not among it."""
        return f"sigma {self.sigma}, {self.selection} + {self.samples} samples, seed {self.seed}"

    @property
    def cap(self) -> float:
        """The largest radius that can be certified: where every sample has the class."""
        return radius_of(self.samples, self.samples, self.scale, self.alpha) or 0.0

    @property
    def scale(self) -> float:
        """The standard deviation that is drawn with: ``sigma`` as a float."""
        return float(self.sigma)


@dataclass(frozen=True)
class Smoothed:
    """What was seen at an input.

    Attributes:
        number: its place in the data set.
        chosen: the class that the first samples chose; -1: no score was a number.
        chosen_hits: how many of them had it.
        hits: how many of the other samples had it.
        samples: how many those were.
    """

    number: int
    chosen: int
    chosen_hits: int
    hits: int
    samples: int

    def radius(self, sigma: float, alpha: Fraction) -> float | None:
        """The certified radius, which fails with probability ``alpha``; ``None``: abstain."""
        if self.chosen < 0:
            return None
        return radius_of(self.hits, self.samples, sigma, alpha)


def radius_of(hits: int, samples: int, sigma: float, alpha: Fraction) -> float | None:
    """``sigma Phi^-1(p)`` rounded down, ``p`` the lower bound of Clopper and Pearson.

    >>> radius_of(100_000, 100_000, 1.0, Fraction(1, 1000))
    3.811456563389914

    Returns:
        A positive number, or ``None`` where ``p <= 1/2``: the smoothed classifier abstains.
    """
    share = lower_end(hits, samples, alpha)
    if Fraction(share) <= Fraction(1, 2):
        return None
    radius = product_below(sigma, normal_quantile_below(share))
    return radius if radius > 0 else None


@dataclass(eq=False)
class Smoothing:
    """Certification of inputs.

    Attributes:
        box: the base classifier.
        points: ``(n, size)``.
        numbers: ``(n,)`` their places in the data set; they name the streams of noise.
        setting: what is smoothed with.
        denoiser: a model that is put in front; its first output is the classifier's input.
        file: where counts are kept for resuming; ``None``: nowhere.

    Raises:
        InputError: sizes do not fit.
    """

    box: BlackBox
    points: FloatArray
    numbers: IndexArray
    setting: Setting
    denoiser: BlackBox | None = None
    file: Path | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))

    def __post_init__(self) -> None:
        front = self.box if self.denoiser is None else self.denoiser
        if self.denoiser is not None and self.denoiser.outputs != self.box.size:
            raise InputError(
                f"the denoiser gives {self.denoiser.outputs} numbers, and the model takes "
                f"{self.box.size}"
            )
        if self.points.shape != (len(self.numbers), front.size):
            raise InputError(
                f"samples of shape {self.points.shape} for an input of {front.size} numbers"
            )
        self._saved = time.monotonic()

    def run(self) -> list[Smoothed]:
        """Sample what was not sampled yet.

        Raises:
            InputError: the runtime fails.
            KeptError: the file is damaged or of another run.
        """
        known = self._resumed()
        try:
            for place in range(len(self.points)):
                self.progress.count("inputs smoothed", place, len(self.points))
                self._one(place, known)
        finally:
            self._keep(known)
        return known

    def _one(self, place: int, known: list[Smoothed]) -> None:
        number = int(self.numbers[place])
        if place == len(known):
            counts = np.zeros(self.box.outputs, np.int64)
            for batch in self._drawn(place, "select", 0, self.setting.selection):
                found = self.answers(batch)
                counts += np.bincount(found[found >= 0], minlength=len(counts))
            chosen = int(np.argmax(counts)) if counts.any() else -1
            known.append(Smoothed(number, chosen, int(counts.max()), 0, 0))
        while (done := known[place]).samples < self.setting.samples:
            stop = min(self.setting.samples, done.samples + CHUNK)
            hits = 0
            if done.chosen >= 0:
                for batch in self._drawn(place, "estimate", done.samples, stop):
                    hits += int(np.sum(self.answers(batch) == done.chosen))
            known[place] = Smoothed(number, done.chosen, done.chosen_hits, done.hits + hits, stop)
            if time.monotonic() - self._saved > EVERY:
                self._keep(known)

    def answers(self, batch: Floats) -> IndexArray:
        """The base classifier's classes: the first of the greatest scores, -1 if one is NaN."""
        if self.denoiser is not None:
            batch = self.denoiser.run(batch)
        return classes(self.box.run(batch))

    def _drawn(self, place: int, use: str, start: int, stop: int) -> Iterator[Floats]:
        front = self.box if self.denoiser is None else self.denoiser
        name = f"smoothing {use} {self.numbers[place]} {self.setting.sigma}"
        stream = Stream(self.setting.seed, name, front.size)
        sigma = self.setting.scale
        return batched(gaussian(self.points[place], sigma, stream, start, stop, front.dtype))

    @property
    def digest(self) -> str:
        """Of all that the counts depend on."""
        front = "" if self.denoiser is None else self.denoiser.model.digest
        parts = (self.box.model.digest, front, self.box.device, self.setting.text)
        found = hashlib.sha256("\n".join(parts).encode())
        for array in (self.points, self.numbers):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def _resumed(self) -> list[Smoothed]:
        if self.file is None or not self.file.exists():
            return []
        try:
            kept = json.loads(self.file.read_text())
            digest, known = kept["digest"], [Smoothed(*map(int, row)) for row in kept["inputs"]]
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise KeptError(f"{self.file}: no file of smoothing ({error})") from None
        sane = len(known) <= len(self.points) and all(
            one.number == number and 0 <= one.hits <= one.samples <= self.setting.samples
            for one, number in zip(known, self.numbers.tolist(), strict=False)
        )
        if digest != self.digest or not sane:
            raise KeptError(f"{self.file}: of another run of smoothing; name another file")
        return known

    def _keep(self, known: list[Smoothed]) -> None:
        self._saved = time.monotonic()
        if self.file is None:
            return
        rows = [[o.number, o.chosen, o.chosen_hits, o.hits, o.samples] for o in known]
        with replacing(self.file) as stream:
            stream.write(json.dumps({"digest": self.digest, "inputs": rows}).encode())
