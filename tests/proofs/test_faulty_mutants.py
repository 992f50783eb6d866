"""Rules for faults with something left out are noticed by faults that they do not cover."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from proofs import bounds as rules
from proofs import faulty
from specs.faults import struck
from specs.faults.budget import totals
from specs.faults.memory import Quantised
from specs.faults.models import BitFlips, Pruning, WeightBox, Where
from specs.network import Struck
from tests.proofs.faulty import (
    bounds,
    boxed_networks,
    every_fault,
    faults_in,
    holds,
    one_word,
    taps,
    tiny_dense,
    two_words,
)
from tests.proofs.helpers import BOTH

ONE, TWO = BitFlips(1, Quantised(4)), BitFlips(2, Quantised(3))
TAPS = BitFlips(1, Quantised(4), Where(("k",)))
SIGNS = BitFlips(2, Quantised(3), Where(bits=(2,)))
BOX = WeightBox(Fraction(1, 4))
PRUNED = Pruning(2)


def escapes(make, model, arithmetic, seeds=range(4)) -> int:
    """How many faulty networks leave what the kernel encloses, at one point each."""
    count = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        faults = faults_in(make(seed), model)
        x = rng.integers(1, 4, faults.network.input_size) / 2.0
        found = bounds(arithmetic, faults.network, x, x)
        if isinstance(model, WeightBox):
            networks = list(boxed_networks(faults, rng, 40))
        else:
            strikes = list(every_fault(faults))
            chosen = rng.permutation(len(strikes))[:400]
            networks = [strikes[place].network for place in chosen]
        point = tuple(map(Fraction, x))
        count += sum(not holds(found, network, point) for network in networks)
    return count


def one_fault_less(patch):
    def fewer(gains, add, limit=0):
        found = totals(gains, add, limit)
        return np.concatenate([found[:1], found[:-1]])

    patch.setattr(faulty, "totals", fewer)


def the_last_use_forgotten(patch):
    whole = struck._uses

    def fewer(before, place, entries):
        entry, target, source, factor = whole(before, place, entries)
        if source is None:
            return entry, target, source, factor
        kept = np.arange(max(0, len(target) - 1))
        return entry[kept], target[kept], source[kept], struck._picked(factor, kept)

    patch.setattr(struck, "_uses", fewer)


def offsets_forgotten(patch):
    whole = struck._uses

    def fewer(before, place, entries):
        entry, target, source, factor = whole(before, place, entries)
        kept = slice(0, 0) if source is None else slice(None)
        part = np.arange(len(target))[kept]
        return entry[part], target[part], source, struck._picked(factor, part)

    patch.setattr(struck, "_uses", fewer)


def the_largest_use_alone(patch):
    def largest(arithmetic, error, rows, sources):
        low, high = faulty._multipliers(arithmetic, error, sources)
        own = rows[:, error.target]
        least = np.where(own > 0, own * low, own * high)
        most = np.where(own > 0, own * high, own * low)
        if least.dtype == object:
            least, most = least >> 128, most >> 128
        shape = (len(least), error.words.size)
        found = np.zeros(shape, least.dtype), np.zeros(shape, least.dtype)
        for q, p in enumerate(error.word):
            found[0][:, p] = np.minimum(found[0][:, p], least[:, q])
            found[1][:, p] = np.maximum(found[1][:, p], most[:, q])
        return found

    patch.setattr(faulty, "slopes", largest)


def single_flips_for_all(patch):
    whole = struck._hull
    patch.setattr(struck, "_hull", lambda cells, place, name, count: whole(cells, place, name, 1))


def downward_steps_only(patch):
    whole = struck._image_steps

    def half(place, values, lower, upper):
        low, high = whole(place, values, lower, upper)
        return low, np.zeros_like(high)

    patch.setattr(struck, "_image_steps", half)


def uses_in_other_nodes_not_noticed(patch):
    whole = Struck.__post_init__

    def unshared(self):
        whole(self)
        object.__setattr__(self, "shared", False)

    patch.setattr(Struck, "__post_init__", unshared)


def intervals_not_widened(patch):
    whole = rules.spread

    def none(arithmetic, *others):
        return tuple(end * 0 for end in whole(arithmetic, *others))

    patch.setattr(rules, "spread", none)


def rows_that_pay_nothing(patch):
    patch.setattr(faulty.Bill, "total", lambda self: self._sum * 0)


def only_the_worst_weight_of_a_box(patch):
    whole = Struck.__post_init__

    def counted(self):
        whole(self)
        object.__setattr__(self, "counted", True)

    patch.setattr(Struck, "__post_init__", counted)


def layers_that_do_not_add_up(patch):
    patch.setattr(faulty, "together", lambda first, second, add: np.maximum(first, second))


def half_of_what_is_pruned(patch):
    whole = struck.weight_intervals

    def half(placed, model):
        found = whole(placed, model)
        return {
            name: tuple((end + placed.parameters[name].values) / 2 for end in ends)
            for name, ends in found.items()
        }

    patch.setattr(struck, "weight_intervals", half)


def one_parameter_pruned(patch):
    def only(gains, add, limit=0):
        found = totals(gains, add, limit)
        return np.concatenate([found[:1], np.repeat(found[1:2], len(found) - 1, axis=0)])

    patch.setattr(faulty, "totals", only)


MUTANTS = {
    half_of_what_is_pruned: (tiny_dense, PRUNED),
    one_parameter_pruned: (tiny_dense, PRUNED),
    layers_that_do_not_add_up: (two_words, SIGNS),
    one_fault_less: (tiny_dense, TWO),
    the_last_use_forgotten: (taps, TAPS),
    offsets_forgotten: (tiny_dense, ONE),
    the_largest_use_alone: (taps, TAPS),
    single_flips_for_all: (one_word, TWO),
    downward_steps_only: (tiny_dense, ONE),
    uses_in_other_nodes_not_noticed: (one_word, ONE),
    intervals_not_widened: (tiny_dense, ONE),
    rows_that_pay_nothing: (tiny_dense, ONE),
    only_the_worst_weight_of_a_box: (tiny_dense, BOX),
}


CASES = list(dict.fromkeys(MUTANTS.values()))
"""What the mutants are tried on."""


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_noticed(mutant, arithmetic, monkeypatch):
    make, model = MUTANTS[mutant]
    mutant(monkeypatch)
    assert escapes(make, model, arithmetic)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_rules_themselves_let_nothing_escape(case, arithmetic):
    make, model = CASES[case]
    assert not escapes(make, model, arithmetic)
