"""Probabilistic robustness of a black box, measured: the measures of PRBench, with intervals.

For a correctly classified input ``x`` and a distribution of inputs ``x'`` around it,
``PR(x) = P[the class of x' is the true one]``; ties and scores that are no numbers are failures.
Over a data set: the mean of PR, and ``ProbAcc(rho)``, the share of inputs with ``PR > 1 - rho``.

Nothing here is proved.  Counts are binomial as far as the generator's numbers are independent and
distributed as stated; what follows from counts is exact, and rounded to the safe side.
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
import numpy.typing as npt

from proofs.format import replacing
from specs.decimals import round_down, round_up
from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import IndexArray
from verifier.progress import Progress
from verifier.resumed import KeptError
from verifier.statistics.betting import mean_of_population
from verifier.statistics.blackbox import BlackBox, Floats, prefers
from verifier.statistics.intervals import (
    holm,
    lower_end,
    mean_interval,
    population_share,
    upper_end,
)
from verifier.statistics.noise import BATCH, NUMBERS, Around, Stream, batched
from verifier.statistics.sequential import confidence_sequence, near, p_value
from verifier.statistics.tails import tail_above

LOOK = 128
"""Samples between two looks of sequential sampling."""
CHUNK = 4096
"""Samples between two looks at the clock."""
EVERY = 5.0
"""Seconds between two writings of what is resumed from."""

Pair = tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """How much is sampled.

    Attributes:
        samples: for each input; where sampling is sequential, at most.
        shares: of which it is asked whether PR exceeds them: ``1 - rho``.
        stop: sequential sampling stops at an input when each of these questions is decided at this
            level; ``None``: it does not stop early.
        seed: of the noise.
    """

    samples: int
    shares: tuple[Fraction, ...]
    stop: Fraction | None = None
    seed: int = 0

    @property
    def text(self) -> str:
        """What counts depend on."""
        stop = "" if self.stop is None else f", until {self.stop} for {self.shares}"
        return f"{self.samples} samples, seed {self.seed}{stop}"


@dataclass(frozen=True, eq=False)
class Counts:
    """What was seen at correctly classified inputs.

    Attributes:
        numbers: ``(m,)`` the inputs' places in the data set.
        hits: ``(m,)`` samples that were classified correctly.
        trials: ``(m,)`` samples.
        inputs: of the data set, correctly classified or not.
        sequential: whether ``trials`` were chosen while sampling.
    """

    numbers: IndexArray
    hits: IndexArray
    trials: IndexArray
    inputs: int
    sequential: bool

    def p_values(self, share: Fraction, *, above: bool) -> list[float]:
        """Of the hypotheses that PR is at most ``share``, or with ``above=False`` more."""
        return [self._p(int(k), int(n), share, above) for k, n in self._pairs]

    def _p(self, hits: int, trials: int, share: Fraction, above: bool) -> float:
        if not 0 < share < 1:
            return 1.0
        if self.sequential:
            return p_value(hits, trials, share, above=above, prior=near(share))
        if above:
            return tail_above(trials, hits, share)
        return tail_above(trials, trials - hits, 1 - share)

    def mean(self, level: Fraction) -> Pair:
        """Bounds of the mean of PR over these inputs; one fails with probability ``2 level``."""
        if not len(self.hits):
            return 0.0, 1.0
        if not self.sequential:
            return mean_interval(int(self.hits.sum()), int(self.trials.sum()), level)
        ends = self.each(level)
        lower = sum((Fraction(low) for low, _ in ends), Fraction(0)) / len(ends)
        upper = sum((Fraction(high) for _, high in ends), Fraction(0)) / len(ends)
        return round_down(lower), round_up(upper)

    def each(self, level: Fraction) -> list[Pair]:
        """An interval for every input's PR; some end fails with probability ``2 level``."""
        own = level / max(1, len(self.hits))
        if self.sequential:
            return [confidence_sequence(int(k), int(n), 2 * own) for k, n in self._pairs]
        return [
            (lower_end(int(k), int(n), own), upper_end(int(k), int(n), own)) for k, n in self._pairs
        ]

    def prob_acc(self, share: Fraction, level: Fraction) -> tuple[int, int]:
        """How many of these inputs have a PR above ``share``: at least, and at most.

        By Holm's procedure in both directions; each bound fails with probability ``level``.
        """
        shown = sum(holm(self.p_values(share, above=True), level))
        refuted = sum(holm(self.p_values(share, above=False), level))
        return shown, len(self.hits) - refuted

    def population_mean(self, level: Fraction) -> Pair:
        """Bounds of the mean of PR in the population; each fails with probability ``level``.

        Of correctly classified inputs, if those of the data set are drawn independently from it.
        The share of hits at an input has the mean PR where trials were decided upon beforehand;
        otherwise ends of intervals take its place, which are wrong with probability ``level``.
        """
        if not self.sequential:
            return mean_of_population([Fraction(k, n) for k, n in self._pairs], level)
        ends = [confidence_sequence(int(k), int(n), 2 * level) for k, n in self._pairs]
        lower = Fraction(mean_of_population([Fraction(low) for low, _ in ends], level)[0]) - level
        upper = Fraction(mean_of_population([Fraction(high) for _, high in ends], level)[1]) + level
        return round_down(max(Fraction(0), lower)), round_up(min(Fraction(1), upper))

    def population(self, share: Fraction, level: Fraction) -> Pair:
        """Bounds of the share of inputs with PR above ``share`` in the population.

        Of correctly classified inputs, if those of the data set are drawn independently from it
        (``population_share``); each bound fails with probability ``level``.
        """
        shown, refuted = (
            sum(Fraction(p) <= level for p in self.p_values(share, above=above))
            for above in (True, False)
        )
        return population_share(shown, refuted, len(self.hits), level, level)

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.hits.tolist(), self.trials.tolist(), strict=True))


@dataclass(eq=False)
class Measurement:
    """Samples around inputs, counted.

    Attributes:
        box: the network.
        points: ``(n, size)``.
        labels: ``(n,)`` the true labels.
        numbers: ``(n,)`` their places in the data set; they name the streams of noise.
        around: the distribution.
        plan: how much is sampled.
        file: where counts are kept for resuming; ``None``: nowhere.
    """

    box: BlackBox
    points: FloatArray
    labels: IndexArray
    numbers: IndexArray
    around: Around
    plan: Plan
    file: Path | None = None
    progress: Progress = field(default_factory=lambda: Progress(enabled=False))

    def __post_init__(self) -> None:
        if self.points.shape != (len(self.labels), self.box.size):
            raise InputError(
                f"{len(self.labels)} labels for samples of shape {self.points.shape}; the model "
                f"has an input of {self.box.size} numbers"
            )
        self._saved = time.monotonic()

    def run(self) -> Counts:
        """Sample what was not sampled yet.

        Raises:
            InputError: the runtime fails, or the box around an input holds no number of the
                model's type.
            KeptError: the file is damaged or of another measurement.
        """
        correct = np.flatnonzero(correctly(self.box, self.points, self.labels))
        seen = np.stack(self._resumed(len(correct)))
        try:
            for place, number in enumerate(correct):
                self.progress.count("inputs sampled", place, len(correct))
                self._sample(int(number), place, seen)
        finally:
            self._keep(*seen)
        return Counts(self.numbers[correct], *seen, len(self.points), self.plan.stop is not None)

    def _sample(self, number: int, place: int, seen: IndexArray) -> None:
        """All samples around one input, as they are wanted.

        Args:
            seen: ``(2, m)`` hits and trials so far, changed in one step: an interruption comes
                before or after.
        """
        label = int(self.labels[number])
        while (start := int(seen[1, place])) < self.plan.samples:
            hits = int(seen[0, place])
            if start and self._decided(hits, start):
                return
            step = CHUNK if self.plan.stop is None else LOOK - start % LOOK
            stop = min(self.plan.samples, start + step)
            for batch in batched(self._drawn(number, start, stop)):
                hits += int(prefers(self.box.run(batch), label).sum())
            seen[:, place] = hits, stop
            if time.monotonic() - self._saved > EVERY:
                self._keep(*seen)

    def _drawn(self, number: int, start: int, stop: int) -> Iterator[Floats]:
        name = f"robustness {self.numbers[number]} {self.around.text}"
        stream = Stream(self.plan.seed, name, self.box.size)
        return self.around.samples(self.points[number], stream, start, stop, self.box.dtype)

    def _decided(self, hits: int, trials: int) -> bool:
        level = self.plan.stop
        if level is None or trials % LOOK:
            return False
        return all(
            min(
                p_value(hits, trials, share, above=above, prior=near(share))
                for above in (True, False)
            )
            <= level
            for share in self.plan.shares
        )

    @property
    def digest(self) -> str:
        """Of all that the counts depend on."""
        parts = (self.box.model.digest, self.box.device, self.around.text, self.plan.text)
        found = hashlib.sha256("\n".join(parts).encode())
        for array in (self.points, self.labels, self.numbers):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def _resumed(self, count: int) -> tuple[IndexArray, IndexArray]:
        empty = np.zeros(count, np.int64), np.zeros(count, np.int64)
        if self.file is None or not self.file.exists():
            return empty
        try:
            kept = json.loads(self.file.read_text())
            digest = kept["digest"]
            hits, trials = (np.array(kept[key], dtype=np.int64) for key in ("hits", "trials"))
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise KeptError(f"{self.file}: no file of a measurement ({error})") from None
        sane = hits.shape == trials.shape == (count,) and np.all((hits >= 0) & (hits <= trials))
        if digest != self.digest or not sane or np.any(trials > self.plan.samples):
            raise KeptError(f"{self.file}: of another measurement; name another file")
        return hits, trials

    def _keep(self, hits: IndexArray, trials: IndexArray) -> None:
        self._saved = time.monotonic()
        if self.file is None:
            return
        kept = {"digest": self.digest, "hits": hits.tolist(), "trials": trials.tolist()}
        with replacing(self.file) as stream:
            stream.write(json.dumps(kept).encode())


def correctly(box: BlackBox, points: FloatArray, labels: IndexArray) -> npt.NDArray[np.bool_]:
    """Whether each input is classified correctly: its label exceeds every other score.

    Raises:
        InputError: the model has one output, or no output for a label.
    """
    if box.outputs < 2 or (len(labels) and not 0 <= labels.min() <= labels.max() < box.outputs):
        raise InputError(
            f"labels up to {int(labels.max(initial=0))} for a model with {box.outputs} outputs"
        )
    rows = max(1, min(BATCH, NUMBERS // box.size))
    found = np.zeros(len(points), np.bool_)
    for start in range(0, len(points), rows):
        scores = box.run(points[start : start + rows].astype(box.dtype))
        for place, label in enumerate(labels[start : start + rows]):
            found[start + place] = prefers(scores[place : place + 1], int(label))[0]
    return found


def side_level(confidence: Fraction, statements: int) -> Fraction:
    """The level of each of the two ends of each of several intervals that hold together."""
    return (1 - confidence) / (2 * statements)
