"""FT-ClipAct's thresholds: the largest area under accuracy against fault rate.

Hoang, Hanif and Shafique, *FT-ClipAct: Resilience Analysis of Deep Neural Networks and Improving
their Fault Tolerance Using Clipped Activation*, DATE 2020.  Layer by layer, the interval from 0
to the profiled maximum is cut into parts, the best of its cuts is found, and the search goes on
between that cut's neighbours.  The same faults are injected for all thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from specs.errors import InputError
from specs.faults.memory import store
from specs.faults.models import BitFaults
from specs.faults.placed import Placed, image, place_model, with_nodes
from specs.faults.sites import cells
from specs.linear import IndexArray
from specs.network import Network
from specs.query import ModelFile
from verifier.faults.campaign import Campaign, Plan
from verifier.harden.data import Samples, labels_of
from verifier.harden.surgery import PREFIX, FloatArray, Restriction, restricted
from verifier.harden.tuned import accuracy, with_values
from verifier.progress import Progress

Changed = dict[str, tuple[IndexArray, FloatArray]]


@dataclass(frozen=True)
class Thresholds:
    """How thresholds are searched for.

    Attributes:
        rates: bit error rates; the area is the mean of the accuracies at these.
        trials: patterns of faults at each rate.
        samples: on which accuracies are measured.
        rounds: of the interval search.
        parts: that an interval is cut into.
        seed: of faults and samples.
    """

    rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    trials: int = 8
    samples: int = 256
    rounds: int = 3
    parts: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rates or not all(0.0 < rate <= 1.0 for rate in self.rates):
            raise InputError("rates are between 0 and 1, and there is at least one")
        if min(self.trials, self.samples, self.rounds) < 1 or self.parts < 2 or self.seed < 0:
            raise InputError("trials, samples and rounds are at least 1, parts at least 2")


def searched(
    content: bytes,
    start: Sequence[Restriction],
    samples: Samples,
    faults: BitFaults,
    search: Thresholds,
    progress: Progress,
) -> list[Restriction]:
    """Restrictions with the thresholds found.

    Args:
        content: the model.
        start: one upper bound a layer, the largest that is considered.
        samples: with labels.
        faults: the format of the words, and which of them are struck; ``k`` does not count.
        search: how.
        progress: where to report.

    Raises:
        InputError: labels are missing, or a parameter's faults have no rule.
    """
    stored = [replace(each, stored=True) for each in start]
    made = restricted(content, stored)
    placed = place_model(ModelFile(None, made, "0" * 64))
    area = _Area(placed, samples, faults, search)
    found = {f"{PREFIX}{each.tensor}/upper": each.upper.reshape(-1) for each in start}
    for number, name in enumerate(found):
        progress.count("thresholds of layers", number, len(found))
        low, high, best = 0.0, float(found[name][0]), (-1.0, 0.0)
        for _ in range(search.rounds):
            step = (high - low) / search.parts
            for cut in range(1, search.parts + 1):
                value = low + cut * step
                score = area.at({**found, name: np.array([value])})
                best = max(best, (score, value))  # of equal areas the larger threshold
            low, high = max(0.0, best[1] - step), min(high, best[1] + step)
        found[name] = np.array([best[1]])
    progress.clear()
    return with_values(start, found)


class _Area:
    """The mean accuracy over rates and patterns of faults, by thresholds."""

    def __init__(
        self, placed: Placed, samples: Samples, faults: BitFaults, search: Thresholds
    ) -> None:
        labels = labels_of(samples, placed.network.output_size)
        rng = np.random.default_rng(search.seed)
        chosen = rng.permutation(len(samples))[: search.samples]
        self.placed = placed
        self.inputs, self.labels = samples.inputs[chosen], labels[chosen]
        weights = tuple(name for name in placed.parameters if not name.startswith(PREFIX))
        tensors = weights if faults.where.tensors is None else faults.where.tensors
        memory = store(placed, dict.fromkeys(weights, faults.format))
        self.network: Network = memory.network
        model = replace(faults, where=replace(faults.where, tensors=tensors))
        found = cells(memory, model)
        self.patterns: list[Changed | None] = []
        for rate in search.rates:
            plan = Plan(search.trials, rate=rate, seed=search.seed)
            campaign = Campaign(found, plan, self.inputs)
            for index in range(search.trials):
                self.patterns.append(_changed(campaign, index))

    def at(self, bounds: dict[str, FloatArray]) -> float:
        """The area for thresholds; a pattern that leaves no numbers counts as 0."""
        total, clean = 0.0, None
        own = {name: (np.arange(part.size), part) for name, part in bounds.items()}
        for pattern in self.patterns:
            if pattern is None:
                continue
            if not pattern and clean is not None:
                total += clean
                continue
            nodes = self.placed.struck(self.network, {**pattern, **own})
            network = with_nodes(self.network, nodes)
            right = accuracy(network, self.inputs, self.labels)
            clean = right if not pattern else clean
            total += right
        return total / len(self.patterns)


def _changed(campaign: Campaign, index: int) -> Changed | None:
    """The values that a pattern of faults leaves; ``None``: one is no number."""
    pattern = campaign.pattern(index)
    found: Changed = {}
    for name, entry in pattern.entries.items():
        value, number = campaign.memory.stored[name].decode(entry, pattern.words[name])
        places = campaign.memory.placed.of[name]
        if not np.all(number) or not all(np.all(image(p, value)[1]) for p in places):
            return None
        found[name] = (entry, value)
    return found
