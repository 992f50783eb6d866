"""What faulty words cost: how far a struck node moves, and what a row pays for it.

``specs.network.Struck`` says what moves: entry ``t`` by the sum of ``d[word[q]] * z[q]`` over
its pairs, ``d`` the steps of the words, ``z`` linear in what the node reads.  For a row with
coefficients ``a``, word ``p`` is worth at least ``-c(p, j)`` when ``j`` of its cells fail:
the least of ``d * g``, where ``g`` is the sum of ``a[target[q]] * z[q]`` over *all* pairs of
``p``, added up before an end of anything is taken.  A budget is the largest sum of these over
all ways to spread the faults.  Activations that faults replace (``specs.network.Replaced``)
count as words, too.  Everything is rounded up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Interval, Numbers, bounded
from specs.enclosure import Enclosure, FloatArray
from specs.errors import EvidenceError
from specs.faults.budget import together, totals
from specs.linear import IndexArray, Sparse
from specs.network import Faulty, Linear, Network, Perturbed, Replaced, Struck

Shares = tuple[tuple[int, int], ...]
"""How many faults strike where: first words of ranges that follow each other, ascending from
0, and how many faults at most strike the words of each range."""


def whole_budget(network: Network) -> Shares:
    """All faults anywhere; of a network without a budget, nothing."""
    errors: list[Faulty] = [network.nodes[t].error for t in network.struck]  # type: ignore
    counts = {error.most for error in errors if isinstance(error, Replaced) or error.counted}
    return ((0, max(counts)),) if counts else ()


def reads(network: Network, tensor: int) -> tuple[int, ...]:
    """The tensors on whose bounds the error of a struck node depends."""
    node = network.nodes[tensor]
    if isinstance(node, Perturbed) and isinstance(node.error, Replaced):
        return (node.source,)
    return network.nodes[node.sources[0]].sources


def parted(shares: Shares, word: int) -> tuple[Shares, ...]:
    """Shares of which one is split before a word: ``0, 1, ...`` faults before, the rest after.

    At most ``j`` faults in a range are, for some ``i``, at most ``i`` in its first part and at
    most ``j - i`` in its second.

    Raises:
        EvidenceError: no range has words on both sides.
    """
    place = max((k for k, (first, _) in enumerate(shares) if first <= word), default=-1)
    if place < 0 or shares[place][0] == word:
        raise EvidenceError("a split of faults that leaves nothing on one side")
    first, most = shares[place]
    rest = shares[:place], shares[place + 1 :]
    return tuple(
        (*rest[0], (first, before), (word, most - before), *rest[1]) for before in range(most + 1)
    )


class Bill:
    """What the faults of all struck nodes that rows pass may cost, together.

    The lines that rows pass on their way hold for every fault; so what the words of
    different nodes are worth is added up for the same fault, and one budget pays for all.
    Words that stand in several nodes pay in each of them on its own.

    Args:
        arithmetic: of the rows.
        shares: of the domains; ``owner``: ``(R,)`` the domain of each row.
    """

    def __init__(self, arithmetic: Arithmetic, shares: Sequence[Shares], owner: IndexArray) -> None:
        self._arithmetic = arithmetic
        self._kinds = list(_alike([shares[k] for k in owner.tolist()]))
        self._held: dict[int, list[Numbers]] = {}
        self._sum = arithmetic.zeros((owner.size,))

    def add(self, struck: Faulty, rows: Numbers, sources: Sequence[Interval]) -> None:
        """Rows ``(R, n)`` pass a struck node; ``sources`` bounds its ``reads``, ``(1 or R, m)``."""
        if isinstance(struck, Replaced):
            found = replacements(self._arithmetic, struck, rows, sources[0])
            words = np.arange(struck.words.size)[None]
            for number, (_, places) in enumerate(self._kinds):
                self._note(number, struck, found[:, places], words)
            return
        if not struck.counted:
            found, _ = self._worth(struck, rows, sources)
            ones = self._arithmetic.lift_up(np.ones(found.shape[2]))
            self._sum = self._arithmetic.add_up(self._sum, self._arithmetic.cost(found[0], ones))
            return
        for number, (shares, places) in enumerate(self._kinds):
            exposed = _exposed(struck, shares)
            if exposed is None:
                continue
            own = [(_rows(a, places), _rows(b, places)) for a, b in sources]
            self._note(number, exposed, *self._worth(exposed, rows[places], own))

    def concerns(self, struck: Faulty) -> bool:
        """Whether some row has anything to pay to a node."""
        if isinstance(struck, Replaced):
            return True
        return any(_exposed(struck, shares) is not None for shares, _ in self._kinds)

    def _worth(
        self, struck: Struck, rows: Numbers, sources: Sequence[Interval]
    ) -> tuple[Numbers, IndexArray]:
        """What words are worth to rows, ``(k, R, n)``, and which they are, ``(1 or R, n)``."""
        arithmetic, entries = self._arithmetic, _single(rows)
        if entries is None:
            words = np.arange(struck.words.size)[None]
            steep = slopes(arithmetic, struck, rows, sources)
        else:
            words, steep = slopes_of_entries(arithmetic, struck, rows, entries, sources)
        lower, upper = (
            np.where(words < 0, 0.0, end[:, words]) for end in (struck.lower, struck.upper)
        )
        return gains(arithmetic, lower, upper, steep), words

    def _note(self, number: int, struck: Faulty, found: Numbers, words: IndexArray) -> None:
        """What words, ``(1 or R, n)``, are worth to the rows of one kind, ``(k, R, n)``."""
        arithmetic, (shares, places) = self._arithmetic, self._kinds[number]
        parts = (_within(words, part) for part in _ranges(struck, shares))
        limit = struck.limit if isinstance(struck, Struck) else 0
        tables = [totals(np.where(part, found, 0), arithmetic.add_up, limit) for part in parts]
        if isinstance(struck, Struck) and struck.shared:
            for table, (_, most) in zip(tables, shares, strict=True):
                self._sum[places] = arithmetic.add_up(self._sum[places], table[most])
        elif number not in self._held:
            self._held[number] = tables
        else:
            both = zip(self._held[number], tables, strict=True)
            self._held[number] = [together(a, b, arithmetic.add_up) for a, b in both]

    def total(self) -> Numbers:
        """At least what all faults allowed may take from each row, ``(R,)``."""
        total = self._sum
        for number, tables in self._held.items():
            shares, places = self._kinds[number]
            for table, (_, most) in zip(tables, shares, strict=True):
                total[places] = self._arithmetic.add_up(total[places], table[most])
        return total


def slopes(
    arithmetic: Arithmetic, struck: Struck, rows: Numbers, sources: Sequence[Interval]
) -> Interval:
    """Bounds of what a unit step of each word adds to rows, ``(R, P)``."""
    found = arithmetic.zeros((2, len(rows), struck.words.size))
    each = max(1, arithmetic.entry_budget // max(1, struck.target.size))
    for start in range(0, len(rows), each):
        some = slice(start, start + each)
        read = [(a if len(a) == 1 else a[some], b if len(b) == 1 else b[some]) for a, b in sources]
        low, high = _multipliers(arithmetic, struck, read)
        own = rows[some, struck.target]
        positive = np.asarray(own > 0, dtype=bool)
        least = arithmetic.multiply_down(own, np.where(positive, low, high))
        most = arithmetic.multiply_up(own, np.where(positive, high, low))
        found[:, some] = arithmetic.linear_interval(struck.sums, [(least, most)])
    return found[0], found[1]


def replacements(
    arithmetic: Arithmetic, error: Replaced, rows: Numbers, before: Interval
) -> Numbers:
    """At least what ``1, 2, ..., k`` faults of each word may take from rows, ``(k, R, P)``.

    An entry that is replaced moves from somewhere in ``before``, ``(1 or R, n)``, to
    somewhere in the range; all entries of a word do so at once.
    """
    least, most = _moves(arithmetic, error, before)
    own = rows[:, error.target]
    worth = np.maximum(arithmetic.multiply_up(-own, least), arithmetic.multiply_up(-own, most))
    total = np.maximum(arithmetic.linear_interval(error.sums, [(worth, worth)])[1], 0)
    total = np.where(total == total, total, np.inf)
    return np.broadcast_to(total, (error.most, *total.shape))


def slopes_of_entries(
    arithmetic: Arithmetic,
    struck: Struck,
    rows: Numbers,
    entries: IndexArray,
    sources: Sequence[Interval],
) -> tuple[IndexArray, Interval]:
    """As :func:`slopes`, of rows with one coefficient, for the words of its entry only.

    Returns:
        ``(R, m)`` the words, -1 where there are no more, and their bounds.
    """
    count = len(rows)
    pairs = np.full((count, struck.pairs_of.shape[1]), -1)
    known = entries < len(struck.pairs_of)
    pairs[known] = struck.pairs_of[entries[known]]
    low, high = (
        np.take_along_axis(np.broadcast_to(end, (count, struck.word.size)), pairs, axis=1)
        if pairs.size
        else arithmetic.zeros(pairs.shape)
        for end in _multipliers(arithmetic, struck, sources)
    )
    own = np.take_along_axis(rows, entries[:, None], axis=1)
    positive = np.asarray(own > 0, dtype=bool)
    least = arithmetic.multiply_down(own, np.where(positive, low, high))
    most = arithmetic.multiply_up(own, np.where(positive, high, low))
    return np.where(pairs >= 0, struck.word[pairs], -1), (least, most)


def gains(arithmetic: Arithmetic, lower: FloatArray, upper: FloatArray, steep: Interval) -> Numbers:
    """At least what ``1, 2, ..., k`` faults may take, ``(k, R, n)``.

    Args:
        arithmetic: of the slopes.
        lower, upper: ``(k, 1 or R, n)`` the ends of steps; 0 lies between them.
        steep: ``(R, n)`` bounds of what a unit step adds.
    """
    low, high = steep
    down, up = arithmetic.lift_up(-lower), arithmetic.lift_up(upper)
    falls = arithmetic.multiply_up(down, np.maximum(high, 0)[None])
    rises = arithmetic.multiply_up(up, np.maximum(-low, 0)[None])
    found = np.maximum(falls, rises)
    return np.where(found == found, found, np.inf)  # no number: too large for one


def spread(
    arithmetic: Arithmetic,
    struck: Faulty,
    size: int,
    shares: Sequence[Shares],
    sources: Sequence[Interval],
) -> Interval:
    """How far entries may move down and up, ``(B, size)`` each, neither negative.

    Args:
        arithmetic: of the bounds.
        struck: the node's words.
        size: entries of the node.
        shares: of the domains.
        sources: bounds of its ``reads``, ``(B, m)``.

    Returns:
        Infinite for domains in which something that the node reads is unbounded.
    """
    if isinstance(struck, Replaced):
        return _replaced(arithmetic, struck, size, shares, sources[0])
    domains = len(shares)
    finite = np.ones(domains, dtype=bool)
    for ends in sources:
        finite &= bounded(ends).all(axis=1)
    kept = [(np.where(finite[:, None], a, 0), np.where(finite[:, None], b, 0)) for a, b in sources]
    found = arithmetic.zeros((2, domains, size))
    for own, places in _alike(shares):
        exposed = _exposed(struck, own)
        if exposed is None:
            continue
        pairs = exposed.pairs_of
        lower, upper = (end[:, None, exposed.word] for end in (exposed.lower, exposed.upper))
        each = max(1, arithmetic.entry_budget // max(1, len(exposed.lower) * pairs.size))
        for start in range(0, places.size, each):
            some = places[start : start + each]
            read = [(a[some], b[some]) for a, b in kept]
            low, high = _multipliers(arithmetic, exposed, read)
            for side, ends in enumerate(((low, high), (-high, -low))):
                worth = gains(arithmetic, lower, upper, ends)
                added = _most(arithmetic, exposed, worth, own, some.size)
                found[side, some, : len(pairs)] = added
    unbounded = ~finite[None, :, None]
    below, above = np.where(unbounded, np.inf, found) if unbounded.any() else found
    return below, above


def _replaced(
    arithmetic: Arithmetic, error: Replaced, size: int, shares: Sequence[Shares], before: Interval
) -> Interval:
    """As :func:`spread`, of entries that a fault may replace."""
    domains, count = len(shares), error.target.size
    finite = bounded(before)
    inside = np.where(finite, before[0], 0), np.where(finite, before[1], 0)
    least, most = _moves(arithmetic, error, inside)
    struck = np.zeros((domains, count), dtype=bool)
    for own, places in _alike(shares):
        for part, (_, faults) in zip(_ranges(error, own), own, strict=True):
            struck[places] |= (faults > 0) & _within(error.word, part)
    below, above = arithmetic.zeros((domains, size)), arithmetic.zeros((domains, size))
    below[:, error.target] = np.where(struck, np.maximum(-least, 0), 0)
    above[:, error.target] = np.where(struck, np.maximum(most, 0), 0)
    return np.where(finite, below, np.inf), np.where(finite, above, np.inf)


def _moves(arithmetic: Arithmetic, error: Replaced, before: Interval) -> Interval:
    """From ``before`` to the range, for the entries that may be replaced."""
    low, high = (end[:, error.target] for end in before)
    lowest = arithmetic.lift_down(np.array([error.lower]))
    highest = arithmetic.lift_up(np.array([error.upper]))
    return arithmetic.add_down(lowest, -high), arithmetic.add_up(highest, -low)


def _most(
    arithmetic: Arithmetic, struck: Struck, worth: Numbers, shares: Shares, domains: int
) -> Numbers:
    """What all pairs of an entry are worth to it, ``(B, entries)``; each is, ``(k, B or 1, Q)``."""
    pairs = struck.pairs_of
    total = arithmetic.zeros((domains, len(pairs)))
    worth = np.broadcast_to(worth, (len(worth), domains, struck.word.size))
    for part, (_, most) in zip(_ranges(struck, shares), shares or ((0, 1),), strict=True):
        kept = np.where(_within(struck.word, part), worth, 0)
        table = np.where(pairs >= 0, kept[..., pairs], 0)  # (k, B, entries, m)
        table = table.reshape(len(worth), domains * len(pairs), pairs.shape[1])
        if struck.counted:
            added = totals(table, arithmetic.add_up, struck.limit)[most]
        else:
            added = arithmetic.cost(table[0], arithmetic.lift_up(np.ones(pairs.shape[1])))
        total = arithmetic.add_up(total, added.reshape(domains, len(pairs)))
    return total


def _multipliers(arithmetic: Arithmetic, struck: Struck, sources: Sequence[Interval]) -> Interval:
    """Bounds of what pairs are multiplied by, ``(1 or B, Q)``."""
    read = [sources[term.source] for term in struck.factors.terms]
    return arithmetic.linear_interval(struck.factors, read)


def _ranges(struck: Faulty, shares: Shares) -> Iterator[slice]:
    """The node's words in each range; without a budget, all of them."""
    if not shares:
        yield slice(0, struck.words.size)
        return
    firsts = np.searchsorted(struck.words, [first for first, _ in shares])
    ends = [*firsts[1:].tolist(), struck.words.size]
    for first, end in zip(firsts.tolist(), ends, strict=True):
        yield slice(first, end)


_PARTS: WeakKeyDictionary[Struck, dict[Shares, Struck]] = WeakKeyDictionary()
"""Errors without some of their words, as long as the whole ones are in use."""


def _exposed(struck: Struck, shares: Shares) -> Struck | None:
    """A node's error without the words that no fault strikes; ``None``: none is left.

    What is left out would gain nothing: a budget of 0 faults is worth 0.
    """
    if not struck.counted or not shares:
        return struck
    words = np.zeros(struck.words.size, dtype=bool)
    for part, (_, most) in zip(_ranges(struck, shares), shares, strict=True):
        words[part] = most > 0
    if words.all():
        return struck
    if not words.any():
        return None
    known = _PARTS.setdefault(struck, {})
    if shares not in known:
        known[shares] = _without(struck, words)
    return known[shares]


def _without(struck: Struck, words: npt.NDArray[np.bool_]) -> Struck:
    """An error of those of its words that are chosen, ``(P,)``."""
    held = words[struck.word]
    place = np.cumsum(held) - 1
    terms = []
    for term in struck.factors.terms:
        uses = term.map
        if not isinstance(uses, Sparse):
            raise EvidenceError("factors of faults are no sparse map")
        own = held[uses.target]
        radius = None if uses.weight.radius is None else uses.weight.radius[own]
        weight = Enclosure(uses.weight.value[own], radius)
        target, size = place[uses.target[own]], int(held.sum())
        kept = Sparse(weight, uses.source[own], target, uses.source_size, size)
        terms.append(replace(term, map=kept))
    offset = struck.factors.offset
    radius = None if offset.radius is None else offset.radius[held]
    made = Enclosure(offset.value[held], radius)
    factors = Linear(struck.factors.name, (int(held.sum()),), tuple(terms), made)
    return replace(
        struck,
        factors=factors,
        target=struck.target[held],
        word=(np.cumsum(words) - 1)[struck.word[held]],
        words=struck.words[words],
        lower=struck.lower[:, words],
        upper=struck.upper[:, words],
    )


def _rows(numbers: Numbers, places: IndexArray) -> Numbers:
    """Some rows of ``(1 or R, n)``; the only one counts for all."""
    return numbers if len(numbers) == 1 else numbers[places]


def _within(words: IndexArray, part: slice) -> npt.NDArray[np.bool_]:
    return np.asarray((words >= part.start) & (words < part.stop))


def _single(rows: Numbers) -> IndexArray | None:
    """The one entry of each row that is not 0; ``None`` where rows have several."""
    used = np.asarray(rows != 0, dtype=bool)
    if used.size and np.max(np.count_nonzero(used, axis=1)) <= 1:
        return np.argmax(used, axis=1)
    return None


def _alike(shares: Sequence[Shares]) -> Iterator[tuple[Shares, IndexArray]]:
    """Equal shares, and the places of those that have them."""
    found: dict[Shares, list[int]] = {}
    for place, own in enumerate(shares):
        found.setdefault(own, []).append(place)
    for own, places in found.items():
        yield own, np.array(places, dtype=np.int64)
