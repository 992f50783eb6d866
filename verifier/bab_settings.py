"""Settings of a search, and the points it offers as violations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from verifier.bounds import TorchNetwork, evaluate
from verifier.bounds_spec import Table, whole_goal
from verifier.overrides import Count

Method = Literal["auto", "inputs", "neurons"]
Stars = Literal["auto", "always", "never"]
OnCandidate = Callable[[npt.NDArray[np.float64]], bool]


@dataclass(frozen=True)
class Settings:
    """Settings of branch and bound.

    Attributes:
        method: what to split; ``auto`` chooses by the query.
        split: whether to split at all; otherwise the roots' bounds decide.
        margin: a bound counts as positive only above this.
        batch: most domains evaluated at once.
        round_seconds: how long a round should take.
        pool_bytes: memory for open domains before the search goes deep instead of wide.
        device_bytes: memory for open domains on a device; more are kept on the host.
        work_bytes: memory of one batch.
        few_inputs: most inputs that vary for ``auto`` to split inputs.
        leaf_steps: gradient steps for a box that default slopes leave open; 0: none.
        lookahead: inputs whose two halves are tried before one is split, where no disjunct is
            a conjunction (measured: 2 beats 1 and 5 there, 1 beats both elsewhere).
        neuron_batch, neuron_limit: first and largest number of domains split at once.
        neuron_seconds: how long such a round should take.
        neuron_lookahead: neurons whose two sides are tried before one is split.
        neuron_fill: domains of a round up to which several neurons are split at once.
        clips, clip_steps: how often an open leaf's region is clipped, and gradient steps
            after each time; ``clip_neurons``: most neurons of a network for that.
        feeds: how often an open leaf's row is fed back into the bounds of late neurons, at
            most; ``feed_neurons``: how many of them; ``feed_steps``: gradient steps after.
        root_feeds: how often before the first split; ``root_feed_neurons``: of how many
            neurons there.
        steps, root_steps, refine_steps: gradient steps for a domain, for a root's
            disjuncts, and for each neuron bounded at the root.
        last_steps: gradient steps for a domain with nothing left to split.
        stars: whether boxes are closed with stars where inputs are split; ``auto``: as long as
            that pays.
        star_neurons: unstable neurons of a box up to which that is tried.
        star_programs: linear programs for a disjunct of a box, twice as many in its halves
            where that was in vain.
        root_share: part of the time left that a root's neurons may take.
        fast_margin: bound at which the searching precision stops optimising.
    """

    method: Method = "auto"
    split: bool = True
    margin: float = 1e-7
    batch: Count = 2048
    round_seconds: float = 0.5
    pool_bytes: float = 1e9
    device_bytes: float = 1e9
    work_bytes: float = 1e9
    lookahead: Count = 2
    few_inputs: int = 20
    leaf_steps: int = 12
    neuron_batch: Count = 16
    neuron_limit: Count = 512
    neuron_seconds: float = 1.0
    neuron_lookahead: Count = 10
    neuron_fill: Count = 1
    clips: int = 2
    clip_steps: int = 8
    clip_neurons: int = 8192
    steps: int = 20
    feeds: int = 3
    feed_neurons: Count = 16
    root_feeds: int = 6
    root_feed_neurons: Count = 128
    feed_steps: int = 8
    root_steps: int = 100
    refine_steps: int = 15
    last_steps: int = 500
    stars: Stars = "auto"
    star_neurons: int = 100
    star_programs: Count = 32
    root_share: float = 0.3
    fast_margin: float = 1e-4


FILL = 0.4
"""Part of a device's free memory for a batch, and for open domains."""


def fitted(settings: Settings, device: str) -> Settings:
    """Settings that fill a device: batches as large as its free memory allows.

    What a user has set away from the default stays.
    """
    if not device.startswith("cuda"):
        return settings
    free, _ = torch.cuda.mem_get_info(device)
    plain, room = Settings(), FILL * free
    larger = Settings(
        work_bytes=room,
        device_bytes=room,
        neuron_batch=64,
        neuron_limit=1 << 14,
        neuron_fill=256,
        batch=1 << 17,
    )
    unset = [f.name for f in fields(plain) if getattr(settings, f.name) == getattr(plain, f.name)]
    return replace(settings, **{name: getattr(larger, name) for name in unset})


class Candidates:
    """Evaluates points and offers those that violate to whoever confirms them."""

    def __init__(
        self, net: TorchNetwork, table: Table, confirm: OnCandidate | None, slack: float = 1e-6
    ) -> None:
        self._net, self._table, self._confirm, self._slack = net, table, confirm, slack
        self.found = False

    def offer(self, points: Tensor, case: Tensor) -> bool:
        """Whether one of ``points (k, I)`` of cases ``case (k,)`` is a confirmed violation."""
        if self._confirm is None or not len(points):
            return False
        goal = whole_goal(self._table, case)
        outputs = evaluate(self._net, points)
        left = self._table.values(points[goal.owner], outputs[goal.owner], goal.number)
        value = goal.by_domain(goal.by_slot(left))
        order = value.argsort()[:16]
        order = order[value[order] <= self._slack]
        if len(order):
            chosen = points[order].to("cpu", torch.float64).numpy()
            self.found = self.found or bool(self._confirm(chosen))
        return self.found
