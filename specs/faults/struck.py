"""Networks whose stored words may be faulty: a perturbed node behind every node that is struck.

The network is the one with the *stored* values.  Behind every linear node in which words stand
that a fault model speaks of comes a perturbed one; ``specs.network.Struck`` says how far the
node may be off.  The tensor with its error has the ONNX name, the one before a reserved name.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specs.decimals import round_down, round_up
from specs.enclosure import Enclosure, FloatArray
from specs.errors import QuestionError
from specs.faults.formats import BoolArray, IndexArray
from specs.faults.memory import Stored, store
from specs.faults.models import (
    ActivationFaults,
    BitFlips,
    FaultModel,
    Pruning,
    StuckAt,
    ValueFaults,
    WeightBox,
)
from specs.faults.placed import Placed, image, linear, weighted
from specs.faults.reach import hull
from specs.faults.sites import (
    Cells,
    activation_groups,
    cells,
    chosen_entries,
    weight_intervals,
)
from specs.linear import Sparse
from specs.network import (
    RESERVED,
    Faulty,
    Linear,
    Network,
    Node,
    Perturbed,
    Replaced,
    Struck,
    Term,
    moved,
)
from specs.query import Query
from specs.reader import rounding
from specs.reader.parameters import LINEAR, Place

MOST = 64
"""Faults anywhere: what they cost grows with their square."""

LISTED = 1 << 20
"""Most words that one word's faults are enumerated to, where some of them have no image."""

Steps = tuple[FloatArray, FloatArray]
"""The least and the greatest moves of every entry, ``(k, size)`` each."""


@dataclass(frozen=True, eq=False)
class WordFaults:
    """That stored words, or activations, may be faulty: a perturbation of a query.

    Attributes:
        placed: the model.
        model: what may happen; of activations, each neuron or channel counts as a word.

    Raises:
        QuestionError: the model has no rule in proofs, or does not fit the network.
    """

    placed: Placed
    model: FaultModel

    def __post_init__(self) -> None:
        model = self.model
        if isinstance(model, WeightBox) or (
            isinstance(model, BitFlips | StuckAt) and model.per_word
        ):
            return
        if model.k > MOST:
            raise QuestionError(f"k = {model.k}: proofs speak of at most {MOST} faults anywhere")

    @property
    def text(self) -> str:
        """What a query's digest covers."""
        return f"faults {self.model.text}"

    @property
    def faulty_nodes(self) -> int:
        """How many nodes of the network are struck."""
        return len(self.network.struck)

    @property
    def not_modelled(self) -> tuple[str, ...]:
        """What an answer leaves out, in words."""
        lost: tuple[str, ...] = (
            "faults by which a word becomes Inf or NaN, or a value with which the network is not "
            "defined; they are taken to be noticed",
        )
        kept = ("faults of anything but the words stated", "rounding and overflow in a runtime")
        if isinstance(self.model, ActivationFaults):
            return ("faults of anything but the activations stated", kept[1])
        if isinstance(self.model, ValueFaults):
            return kept
        spared = len(self.model.spared)
        if spared:
            lost = (f"faults of {spared} memory cells, those of 'except'", *lost)
        return (*lost, *kept)

    @cached_property
    def cells(self) -> Cells | None:
        """The memory cells that may be struck; ``None``: the model is not of bits."""
        if isinstance(self.model, ValueFaults | ActivationFaults):
            return None
        return cells(store(self.placed, self.model.format), self.model)

    @cached_property
    def intervals(self) -> Mapping[str, tuple[FloatArray, FloatArray]]:
        """Of boxes of weights and of pruning, by parameter, where every entry may lie."""
        if not isinstance(self.model, ValueFaults):
            return {}
        found = weight_intervals(self.placed, self.model)
        if not found:
            raise QuestionError("no parameter is left by what [faults] says of where")
        return found

    @property
    def box(self) -> WeightBox:
        """The model, where it is a box of weights.

        Raises:
            QuestionError: it is none.
        """
        if not isinstance(self.model, WeightBox):
            raise QuestionError("the fault model is no box of weights")
        return self.model

    def chosen(self, name: str) -> BoolArray:
        """``(size,)`` which entries of a parameter the model speaks of."""
        return chosen_entries(self.placed, self.model.where)[name]

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that are struck, in the order in which their words are numbered."""
        known: Mapping[str, object] = self.intervals if self.cells is None else self.cells.exposed
        return tuple(name for name in self.placed.parameters if name in known)

    @cached_property
    def struck(self) -> tuple[str, ...]:
        """What may be faulty, by its ONNX names: parameters, or tensors of activations."""
        if isinstance(self.model, ActivationFaults):
            return tuple(self.network.nodes[tensor].name for tensor in self.network.struck)
        return self.parameters

    @cached_property
    def first_words(self) -> Mapping[str, int]:
        """The number of the first word of each of these parameters."""
        sizes = [self.placed.parameters[name].size for name in self.parameters]
        starts = itertools.accumulate(sizes, initial=0)
        return dict(zip(self.parameters, starts, strict=False))

    @cached_property
    def intact(self) -> Network:
        """The network with the stored values."""
        return self.placed.network if self.cells is None else self.cells.memory.network

    @cached_property
    def network(self) -> Network:
        """The network with its perturbed nodes.

        Raises:
            QuestionError: a parameter's faults have no rule in proofs.
        """
        if isinstance(self.model, ActivationFaults):
            return with_errors(self.intact, _replaced(self.placed, self.model))
        return with_errors(self.intact, self._errors())

    def values(self, name: str) -> FloatArray:
        """The stored values of a parameter, flat."""
        if self.cells is None:
            return self.placed.parameters[name].values
        return self.cells.memory.values[name]

    def _errors(self) -> dict[int, Struck]:
        by_node: dict[int, list[Place]] = {}
        for place in self.placed.places:
            if place.tensor in self.parameters:
                by_node.setdefault(place.node, []).append(place)
        made = {}
        for node, places in by_node.items():
            steps = {name: self._steps(places, name) for name in {p.tensor for p in places}}
            made[node] = (places, steps)
        uses = Counter(
            (name, entry)
            for _, steps in made.values()
            for name, ends in steps.items()
            for entry in np.flatnonzero(_moves(ends)).tolist()
        )
        several = {name for (name, _), count in uses.items() if count > 1}
        found = {}
        for node, (places, steps) in made.items():
            before = linear(self.intact.nodes[node])
            shared = any(name in several for name in steps)
            error = self._struck(before, places, steps, shared)
            if error is not None:
                found[node] = error
        return found

    def _steps(self, places: Sequence[Place], name: str) -> Steps:
        """How far ``f`` of every entry of a parameter may move, as it stands in one node."""
        own = [place for place in places if place.tensor == name]
        if len({(place.function, place.shift) for place in own}) > 1:
            raise QuestionError(f"{own[0].operator}: '{name}' stands there in two ways")
        if self.cells is None:
            ends = self.intervals[name]
            return _image_steps(own[0], self.values(name), ends[0][None], ends[1][None])
        counts = [self.cells.model.k]
        if not self.cells.model.per_word:
            counts = list(range(1, self.cells.model.k + 1))
        hulls = [_hull(self.cells, own[0], name, count) for count in counts]
        lower, upper = (np.stack(ends) for ends in zip(*hulls, strict=True))
        return _image_steps(own[0], self.values(name), lower, upper)

    def _struck(
        self, before: Linear, places: Sequence[Place], steps: Mapping[str, Steps], shared: bool
    ) -> Struck | None:
        """What the words of a node do to it; ``None``: none of them moves."""
        base = self.first_words
        known = {name: np.flatnonzero(_moves(ends)) for name, ends in steps.items()}
        order = sorted(known, key=base.__getitem__)
        words = np.concatenate([base[name] + known[name] for name in order])
        if not words.size:
            return None
        uses = [_uses(before, place, known[place.tensor]) for place in places]
        keys = [
            target * words.size + np.searchsorted(words, base[place.tensor] + entry)
            for place, (entry, target, _, _) in zip(places, uses, strict=True)
        ]
        pairs, pair = np.unique(np.concatenate(keys), return_inverse=True)
        target, word = np.divmod(pairs, words.size)
        ends = np.cumsum([len(key) for key in keys])[:-1]
        parts = np.split(pair.reshape(-1), ends)
        factors = _factors(before, places, uses, parts, pairs.size)
        lower, upper = (
            np.concatenate([steps[name][side][:, known[name]] for name in order], axis=1)
            for side in (0, 1)
        )
        counted = not isinstance(self.model, WeightBox)
        limit = self.model.k if isinstance(self.model, Pruning) else 0
        return Struck(factors, target, word, words, lower, upper, counted, shared, limit)


def _replaced(placed: Placed, model: ActivationFaults) -> dict[int, Replaced]:
    """By tensor, which entries faults replace; words are neurons, or whole channels."""
    found, first = {}, 0
    for number, groups in activation_groups(placed, model).items():
        target = np.concatenate(groups)
        word = np.repeat(np.arange(len(groups)), [group.size for group in groups])
        order = np.argsort(target)
        words = first + np.arange(len(groups))
        first += len(groups)
        ends = round_down(model.lower), round_up(model.upper)
        found[number] = Replaced(target[order], word[order], words, *ends, model.k)
    return found


def faults_of(query: Query) -> WordFaults | None:
    """The faults that a query speaks of, if any."""
    return next((p for p in query.perturbations if isinstance(p, WordFaults)), None)


Uses = tuple[IndexArray, IndexArray, IndexArray | None, Enclosure]
"""Entries, targets, sources (``None``: of an offset) and factors of products."""


def _uses(before: Linear, place: Place, entries: IndexArray) -> Uses:
    """The products that some entries of a parameter take part in at a place."""
    held = np.flatnonzero(np.isin(place.entries, entries))
    if place.term is None:
        return place.entries[held], held, None, _picked(place.factor, held)
    which, target, source = weighted(before.terms[place.term]).uses(held)
    chosen = held[which]
    return place.entries[chosen], target, source, _picked(place.factor, chosen)


def _factors(
    before: Linear,
    places: Sequence[Place],
    uses: Sequence[Uses],
    parts: Sequence[IndexArray],
    pairs: int,
) -> Linear:
    """What every pair is multiplied by, as a node."""
    terms: list[Term] = []
    value, radius = np.zeros(pairs), np.zeros(pairs)
    held = np.zeros(pairs, dtype=np.bool_)
    for place, (_, _, source, factor), pair in zip(places, uses, parts, strict=True):
        if source is None or place.term is None:
            if np.any(held[pair]) or np.unique(pair).size != pair.size:
                raise QuestionError(f"{place.operator}: '{place.tensor}' is added twice")
            held[pair] = True
            value[pair] = factor.value
            radius[pair] = 0.0 if factor.radius is None else factor.radius
        elif pair.size:
            size = before.terms[place.term].map.source_size
            terms.append(Term(place.term, Sparse(factor, source, pair, size, pairs)))
    return Linear("factors", (pairs,), tuple(terms), Enclosure(value, radius))


def _picked(constants: Enclosure, positions: IndexArray) -> Enclosure:
    radius = None if constants.radius is None else constants.radius[positions]
    return Enclosure(constants.value[positions], radius)


def _moves(steps: Steps) -> BoolArray:
    """Which entries move at all."""
    return np.asarray(np.any((steps[0] < 0) | (steps[1] > 0), axis=0))


def _image_steps(place: Place, values: FloatArray, lower: FloatArray, upper: FloatArray) -> Steps:
    """How far ``f`` moves from that of values to that of numbers between ends, ``(k, size)``.

    Raises:
        QuestionError: some number between the ends has no image.
    """
    old, defined = image(place, values)
    ends = []
    for end in (lower, upper):  # f is monotone: linear, or an inverse root
        new, known = image(place, end)
        if not np.all(known & defined):
            entry = int(np.flatnonzero(~np.all(known & defined, axis=0))[0])
            raise QuestionError(
                f"{place.operator}: entry {entry} of '{place.tensor}' may take values for which "
                "the network is not defined"
            )
        step = rounding.subtract(new, old)
        width = np.zeros(step.shape) if step.radius is None else step.radius
        low = np.where(width == 0.0, step.value, np.nextafter(step.value - width, -np.inf))
        high = np.where(width == 0.0, step.value, np.nextafter(step.value + width, np.inf))
        same = end == values
        ends.append((np.where(same, 0.0, low), np.where(same, 0.0, high)))
    least = np.minimum(np.minimum(ends[0][0], ends[1][0]), 0.0)
    return least, np.maximum(np.maximum(ends[0][1], ends[1][1]), 0.0)


def _hull(cells: Cells, place: Place, name: str, count: int) -> tuple[FloatArray, FloatArray]:
    """The ends of what entries become by at most ``count`` faults, where ``f`` has a value.

    Words without an image, as those that are no numbers, are a class of their own.
    """
    stored, changeable = cells.memory.stored[name], cells.changeable(name)
    found = hull(stored.format, stored.words, changeable, count, stored.channel)
    lower, upper = found.lower.copy(), found.upper.copy()
    if place.function == LINEAR:
        return lower, upper
    defined = image(place, lower)[1] & image(place, upper)[1]
    for entry in np.flatnonzero(~defined).tolist():
        values = _reached(stored, entry, int(changeable[entry]), count)
        values = values[image(place, values)[1]]
        lower[entry], upper[entry] = values.min(initial=np.inf), values.max(initial=-np.inf)
        if not values.size:
            raise QuestionError(f"'{name}': entry {entry} is stored as a value without an image")
    return lower, upper


def _reached(stored: Stored, entry: int, changeable: int, count: int) -> FloatArray:
    """All numbers that a word becomes when at most ``count`` bits of it are changed."""
    bits = [1 << bit for bit in range(32) if changeable >> bit & 1]
    many = sum(math.comb(len(bits), j) for j in range(min(count, len(bits)) + 1))
    if many > LISTED:
        raise QuestionError(
            f"'{stored.parameter.name}': {many} words come of {count} faults of entry {entry}, "
            "some without an image; state fewer faults or bits"
        )
    changes = [
        sum(chosen)
        for size in range(min(count, len(bits)) + 1)
        for chosen in itertools.combinations(bits, size)
    ]
    words = stored.words[entry] ^ np.array(changes, dtype=np.uint32)
    values, number = stored.decode(np.full(words.shape, entry), words)
    return values[number]


def with_errors(network: Network, errors: Mapping[int, Faulty]) -> Network:
    """The network with a perturbed node behind some nodes."""
    nodes: list[Node] = []
    place: list[int] = []
    for number, node in enumerate(network.nodes):
        found = moved(node, place.__getitem__)
        error = errors.get(number)
        if error is not None:
            nodes.append(dataclasses.replace(found, name=f"{RESERVED}{found.name}/intact"))
            found = Perturbed(found.name, found.shape, len(nodes) - 1, error)
        place.append(len(nodes))
        nodes.append(found)
    aliases = {name: place[tensor] for name, tensor in network.aliases.items()}
    outputs = tuple(place[tensor] for tensor in network.outputs)
    return Network(tuple(nodes), outputs, aliases, network.semantics)
