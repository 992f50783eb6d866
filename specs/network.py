"""Networks: graphs of linear, univariate, product and perturbed nodes over flat tensors.

Node ``i`` defines tensor ``i``.  Nodes stand in topological order, so every source of a
node has a smaller number.  Tensors are flat (row-major); the shape of the ONNX tensor is
kept for display only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np

from specs.enclosure import Enclosure, FloatArray, zeros
from specs.errors import ModelError
from specs.linear import IndexArray, LinearMap, Scatter

RESERVED = "farkas:"
"""How the names of tensors start that are in no model."""


@dataclass(frozen=True, eq=False)
class Input:
    """A network input."""

    name: str
    shape: tuple[int, ...]

    @property
    def sources(self) -> tuple[int, ...]:
        """None."""
        return ()


@dataclass(frozen=True, eq=False)
class Term:
    """``map`` applied to tensor ``source``."""

    source: int
    map: LinearMap


@dataclass(frozen=True, eq=False)
class Linear:
    """The sum of ``terms`` plus ``offset``."""

    name: str
    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    offset: Enclosure

    @property
    def sources(self) -> tuple[int, ...]:
        """The tensors that the terms read, in their order."""
        return tuple(term.source for term in self.terms)


@dataclass(frozen=True, eq=False)
class Univariate:
    """``function`` applied to every entry of tensor ``source``.

    Attributes:
        parameters: numbers that the function depends on, exactly (the exponent of a
            power, say); which they are is the function's own affair.
    """

    name: str
    shape: tuple[int, ...]
    source: int
    function: str
    parameters: tuple[float, ...] = ()

    @property
    def sources(self) -> tuple[int, ...]:
        """The argument's tensor."""
        return (self.source,)

    @property
    def bounded(self) -> tuple[int, ...]:
        """The tensors on whose bounds it is relaxed."""
        return (self.source,)


@dataclass(frozen=True, eq=False)
class Squares:
    """Tensors ``x + t y`` and ``x - t y`` beside a product ``x y``, entry by entry.

    As ``4 t x y = (x + t y)^2 - (x - t y)^2``, their bounds are bounds of the product.

    Attributes:
        total, difference: the tensors.
        scale: ``(n,)`` the ``t``, positive.
    """

    total: int
    difference: int
    scale: FloatArray


@dataclass(frozen=True, eq=False)
class Product:
    """The elementwise product of tensors ``left`` and ``right``, which may be the same."""

    name: str
    shape: tuple[int, ...]
    left: int
    right: int
    squares: Squares | None = None

    @property
    def sources(self) -> tuple[int, ...]:
        """The factors' tensors."""
        return (self.left, self.right)

    @property
    def bounded(self) -> tuple[int, ...]:
        """The tensors on whose bounds it is relaxed: the factors, and those of its squares."""
        beside = () if self.squares is None else (self.squares.total, self.squares.difference)
        return (*self.sources, *beside)


@dataclass(frozen=True, eq=False)
class Error:
    """How far a tensor may lie from the one that it is computed as, entry by entry.

    The kernel computes the radius from magnitudes: bounds of absolute values.  ``y`` is the
    tensor before, ``N`` the node that defines it.

    Attributes:
        own: times ``|y|``.
        spread: times ``S``, the sum of magnitudes of the terms of ``N``, a linear node,
            plus ``base``.
        peak: times the largest ``|y|`` of the whole tensor.
        lean: times the sum of the magnitudes of the tensors that ``N``, a product or a
            function, reads.
        floor: ``(n,)`` or ``(1,)``, added.
        base: ``(n,)`` or ``(1,)``, magnitudes of the constant terms of ``N``.
        reach: what ``N`` computes on its way is at most ``reach`` times the largest
            magnitude that ``N`` reads.
        limit: the radius is infinite where ``S`` (``|y|``, unless ``N`` is linear) and the
            radius, or what is computed on the way, may add up to more.

    Raises:
        ModelError: a number is negative, or no number.
    """

    own: float = 0.0
    spread: float = 0.0
    peak: float = 0.0
    lean: float = 0.0
    floor: FloatArray = field(default_factory=lambda: np.zeros(1))
    base: FloatArray = field(default_factory=lambda: np.zeros(1))
    reach: float = 0.0
    limit: float = math.inf

    def __post_init__(self) -> None:
        numbers = (self.own, self.spread, self.peak, self.lean, self.reach, self.limit)
        if not all(number >= 0 for number in numbers):
            raise ModelError("an error's bound is negative or no number")
        for name in ("floor", "base"):
            object.__setattr__(self, name, Enclosure(getattr(self, name)).value)
            if np.any(getattr(self, name) < 0):
                raise ModelError("an error's bound is negative")


@dataclass(frozen=True, eq=False)
class Struck:
    """How far a linear node may be off when words that hold its constants are faulty.

    Word ``p`` moves by a step ``d[p]``; then entry ``t`` of the node moves by the sum of
    ``d[word[q]] * z[q]`` over the *pairs* ``q`` with ``target[q] = t``.  What a pair is
    multiplied by, ``z``, is all that its word does to its entry, added up.

    Attributes:
        factors: the node ``z``; source ``i`` of its terms is the ``i``-th source of the
            node that is struck.
        target, word: ``(Q,)``, entries and positions in ``words``; each pair once, ascending.
        words: ``(P,)`` ascending, their numbers among all words of the network.
        lower, upper: ``(k, P)`` the ends of the steps of words of which at most
            ``1, 2, ..., k`` cells fail; 0 lies between them.
        counted: the faults of all words of the network together are at most ``k``; otherwise
            every word takes any step of its own, and ``k`` is 1.
        shared: some of the words stand in other nodes as well.
        limit: a word fails once or not at all, and at most so many do: then ``lower`` and
            ``upper`` have one row; 0: they have ``k``.

    Raises:
        ModelError: the parts do not fit, or a step has no ends.
    """

    factors: Linear
    target: IndexArray
    word: IndexArray
    words: IndexArray
    lower: FloatArray
    upper: FloatArray
    counted: bool
    shared: bool = False
    limit: int = 0

    def __post_init__(self) -> None:
        pairs, words = self.target.size, self.words.size
        fits = self.word.size == pairs == math.prod(self.factors.shape)
        shapes = {self.lower.shape, self.upper.shape}
        fits = fits and shapes == {(len(self.lower), words)} and len(self.lower) > 0
        fits = fits and self.limit >= 0 and (not self.limit or len(self.lower) == 1)
        if not fits or np.any(self.word < 0) or np.any(self.word >= words):
            raise ModelError("the parts of a fault do not fit each other")
        if np.any(np.diff(self.words) <= 0) or np.any(
            np.diff(self.target * words + self.word) <= 0
        ):
            raise ModelError("the words or pairs of a fault are not ascending")
        if not np.all(np.isfinite(self.lower) & np.isfinite(self.upper)):
            raise ModelError("a faulty word has no bounds")
        if np.any(self.lower > 0) or np.any(self.upper < 0):
            raise ModelError("a faulty word cannot stay as it is")

    @property
    def most(self) -> int:
        """The ``k``."""
        return self.limit or len(self.lower)

    @cached_property
    def sums(self) -> Linear:
        """From numbers for each pair to their sums for each word."""
        return _sums(self.word, self.words.size)

    @cached_property
    def pairs_of(self) -> IndexArray:
        """``(entries, m)``: the pairs of each entry up to the last that has some; -1: no more."""
        count = int(self.target[-1]) + 1 if self.target.size else 0
        firsts = np.searchsorted(self.target, np.arange(count + 1))
        width = int(np.diff(firsts).max(initial=0))
        found = firsts[:-1, None] + np.arange(width)
        return np.where(found < firsts[1:, None], found, -1)


@dataclass(frozen=True, eq=False)
class Replaced:
    """Entries of a tensor that faults replace by any values of a range.

    Attributes:
        target: ``(Q,)`` ascending, the entries that may be replaced.
        word: ``(Q,)`` positions in ``words``: entries of one word are replaced together, each
            by a value of its own.
        words: ``(P,)`` ascending, their numbers among all of the network.
        lower, upper: the range.
        most: how many words of the network are struck at most.

    Raises:
        ModelError: the parts do not fit, or the range has no ends.
    """

    target: IndexArray
    word: IndexArray
    words: IndexArray
    lower: float
    upper: float
    most: int

    def __post_init__(self) -> None:
        ascending = np.all(np.diff(self.target) > 0) and np.all(np.diff(self.words) > 0)
        fits = self.target.size == self.word.size and self.most > 0 and ascending
        if not fits or np.any(self.word < 0) or np.any(self.word >= self.words.size):
            raise ModelError("the parts of a fault do not fit each other")
        if not (math.isfinite(self.lower) and math.isfinite(self.upper)):
            raise ModelError("a faulty activation has no bounds")

    @cached_property
    def sums(self) -> Linear:
        """From numbers for each entry that may be replaced to their sums for each word."""
        return _sums(self.word, self.words.size)


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Tensor ``source`` plus an error, entry by entry."""

    name: str
    shape: tuple[int, ...]
    source: int
    error: Error | Struck | Replaced

    @property
    def sources(self) -> tuple[int, ...]:
        """The tensor before."""
        return (self.source,)


Nonlinear = Univariate | Product
Faulty = Struck | Replaced
Node = Input | Linear | Univariate | Product | Perturbed


def moved(node: Node, place: Callable[[int], int]) -> Node:
    """``node`` with sources numbered anew: tensor ``i`` is ``place(i)``."""
    match node:
        case Linear():
            terms = tuple(replace(term, source=place(term.source)) for term in node.terms)
            return replace(node, terms=terms)
        case Univariate() | Perturbed():
            return replace(node, source=place(node.source))
        case Product():
            squares = node.squares
            if squares is not None:
                total, difference = place(squares.total), place(squares.difference)
                squares = replace(squares, total=total, difference=difference)
            return replace(node, left=place(node.left), right=place(node.right), squares=squares)
        case Input():
            return node


@dataclass(frozen=True, eq=False)
class Network:
    """A network in normal form.

    Attributes:
        nodes: in topological order; node ``i`` defines tensor ``i``.
        outputs: the output tensors.  Inputs and outputs of a property are numbered
            through all input (output) tensors in order.
        aliases: further ONNX names of tensors (a Reshape, say, makes no node).
        semantics: which evaluation the perturbed nodes stand for; ``"real"``: there are none.

    Raises:
        ModelError: sources out of order, sizes that do not fit, names used twice.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    aliases: Mapping[str, int] = field(default_factory=dict)
    semantics: str = "real"

    def __post_init__(self) -> None:
        object.__setattr__(self, "aliases", MappingProxyType(dict(self.aliases)))
        sizes: list[int] = []
        for number, node in enumerate(self.nodes):
            sizes.append(math.prod(node.shape))
            _check_node(node, number, sizes)
        if not self.outputs or not all(0 <= o < len(self.nodes) for o in self.outputs):
            raise ModelError("the network's outputs are not among its tensors")
        if not self.inputs:
            raise ModelError("the network has no input")
        names = [node.name for node in self.nodes] + list(self.aliases)
        if len(set(names)) != len(names):
            raise ModelError("two tensors of the network have the same name")

    def __reduce__(self) -> tuple[type[Network], tuple[object, ...]]:
        """Pickled by what it is made of; what is cached is made anew."""
        return Network, (self.nodes, self.outputs, dict(self.aliases), self.semantics)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of every tensor."""
        return tuple(math.prod(node.shape) for node in self.nodes)

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """The input tensors, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Input))

    @cached_property
    def nonlinear(self) -> tuple[int, ...]:
        """The tensors that univariate and product nodes define, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Nonlinear))

    @cached_property
    def perturbed(self) -> tuple[int, ...]:
        """The tensors that perturbed nodes define, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, Perturbed))

    @cached_property
    def struck(self) -> tuple[int, ...]:
        """Those of them whose error comes from faulty words or activations."""
        return tuple(i for i in self.perturbed if isinstance(_error(self.nodes[i]), Faulty))

    @cached_property
    def preactivations(self) -> tuple[int, ...]:
        """The tensors on whose bounds these nodes are relaxed, in order."""
        return tuple(sorted({t for i in self.nonlinear for t in _used(self.nodes[i])}))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """By tensor the nodes that read it, or are relaxed on its bounds, in order."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for number, node in enumerate(self.nodes):
            for source in dict.fromkeys(_used(node)):
                found[source].append(number)
        return tuple(tuple(numbers) for numbers in found)

    @cached_property
    def input_size(self) -> int:
        return sum(self.sizes[i] for i in self.inputs)

    @cached_property
    def output_size(self) -> int:
        return sum(self.sizes[i] for i in self.outputs)

    @cached_property
    def tensors(self) -> Mapping[str, int]:
        """Every tensor name, aliases included, with its number."""
        named = {node.name: i for i, node in enumerate(self.nodes)}
        return MappingProxyType({**self.aliases, **named})

    @cached_property
    def neurons(self) -> int:
        """Number of neurons, that is of entries of univariate and product nodes."""
        return sum(self.sizes[i] for i in self.nonlinear)


def _used(node: Node) -> tuple[int, ...]:
    return node.bounded if isinstance(node, Nonlinear) else node.sources


def _sums(index: IndexArray, size: int) -> Linear:
    return Linear("sums", (size,), (Term(0, Scatter(index, size)),), zeros(size))


def _error(node: Node) -> Error | Struck | Replaced | None:
    return node.error if isinstance(node, Perturbed) else None


def _check_node(node: Node, number: int, sizes: list[int]) -> None:
    size = sizes[number]
    if not all(0 <= source < number for source in _used(node)):
        raise ModelError(f"node '{node.name}' reads a tensor that is not defined yet")
    if isinstance(node, Linear):
        if node.offset.shape != (size,):
            raise ModelError(f"node '{node.name}': offset of {node.offset.shape}, not ({size},)")
        for term in node.terms:
            if (term.map.source_size, term.map.target_size) != (sizes[term.source], size):
                raise ModelError(f"node '{node.name}': a term's map does not fit its tensors")
    elif any(sizes[source] != size for source in _used(node)):
        raise ModelError(f"node '{node.name}' does not fit its sources")
    error = _error(node)
    if isinstance(error, Faulty) and error.target.size and error.target[-1] >= size:
        raise ModelError(f"node '{node.name}': a fault of an entry that it lacks")
    if isinstance(error, Error):
        for part in (error.floor, error.base):
            if part.shape not in ((size,), (1,)):
                raise ModelError(f"node '{node.name}': an error of {part.shape}, not ({size},)")
    if isinstance(node, Univariate) and not all(map(math.isfinite, node.parameters)):
        raise ModelError(f"node '{node.name}': a parameter is not finite")
