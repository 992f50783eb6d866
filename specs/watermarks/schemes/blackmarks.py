"""BlackMarks (Chen et al., 2019): a signature, decoded from the classes of key inputs.

The classes form two clusters, 0 and 1.  Key input ``i`` is made so that the marked model puts it
into a class of the cluster that bit ``i`` of the signature names.  The signature follows from the
seed; inputs and clusters stand in the question, and the commitment covers them.

A bit matches by chance *not* with probability one half: key inputs are adversarial for one cluster
or the other.  The question says in how many of a number of independent models without the mark
each bit matched, and the null hypothesis takes upper bounds of the rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from specs.document import Document
from specs.enclosure import FloatArray
from specs.watermarks.key import BoolArray, Key
from specs.watermarks.mark import Commitment
from specs.watermarks.points import digest_of, read_points
from specs.watermarks.rates import MOST_MODELS, upper_rates
from specs.watermarks.reading import COMMON, MARK, Keys

KEYS = {
    **COMMON,
    "points": (str,),
    **dict.fromkeys(("clusters", "hits"), (list,)),
    "models": (int,),
    "doubt": (int, Fraction),
}
DOUBT = Fraction(1, 1000)


@dataclass(frozen=True, eq=False)
class BlackMarks:
    """A mark of this scheme.

    Attributes:
        key: from which the signature follows.
        points: ``(n, inputs)``, exact.
        clusters: ``(classes,)``, 0 or 1.
        hits: ``(n,)`` in how many models without the mark each bit matched.
        models: how many of those there were.
        doubt: the probability that they mislead.
        commitment: of it.
    """

    key: Key
    points: FloatArray
    clusters: tuple[int, ...]
    hits: tuple[int, ...]
    models: int
    doubt: Fraction
    commitment: Commitment

    scheme = "blackmarks"

    @property
    def text(self) -> str:
        """What the mark depends on beside the seed."""
        return text_of(self.points, self.clusters)

    @property
    def size(self) -> int:
        """How many bits."""
        return len(self.points)

    @property
    def classes(self) -> int:
        """How many the model tells apart."""
        return len(self.clusters)

    @cached_property
    def null(self) -> tuple[Fraction, ...]:
        """Upper bounds of the measured rates."""
        return upper_rates(self.hits, self.models, self.doubt)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the rates rest on."""
        return (
            f"each bit's rate of matching by chance is bounded from {self.models} models without "
            f"the mark, as the question states them; all {self.size} bounds hold but for a "
            f"probability of {self.doubt} over the choice of those models",
            "a model without the mark is one that is drawn as those were, and its bits match "
            "independently of each other",
            "key inputs were fixed before the model was known: whoever knows a model can make "
            "inputs that it, and no other, answers as any signature says",
        )

    @cached_property
    def bits(self) -> BoolArray:
        """``(n,)`` the signature."""
        return signature(self.key, self.size)

    def matching(self, answers: Sequence[int]) -> list[bool]:
        """Which answers lie in the clusters that the signature names."""
        return [self.clusters[a] == int(b) for a, b in zip(answers, self.bits, strict=True)]


def signature(key: Key, size: int) -> BoolArray:
    """``(size,)`` bits; they are known before the inputs are made."""
    return key.bits(f"blackmarks bits {size}", size)


def text_of(points: FloatArray, clusters: Sequence[int]) -> str:
    """What a mark depends on beside its seed."""
    joined = "".join(map(str, clusters))
    return f"blackmarks points={digest_of(points)} clusters={joined}"


def read(document: Document) -> BlackMarks:
    """Keys: ``seed``, ``points``, ``clusters``, ``hits``, ``models``, ``doubt`` (1/1000)."""
    table = Keys.of(document, MARK, KEYS)
    key, points = table.key(), read_points(table, "points")
    clusters, hits = table.need("clusters"), table.need("hits")
    if set(clusters) != {0, 1}:
        raise table.error("clusters", "'clusters' must hold a 0 or a 1 for each class, and both")
    models = table.whole("models", 1, MOST_MODELS)
    if len(hits) != len(points):
        raise table.error("hits", f"{len(hits)} 'hits' of {len(points)} key inputs")
    if any(not isinstance(hit, int) or not 0 <= hit <= models for hit in hits):
        raise table.error("hits", f"'hits' must be whole numbers from 0 to {models}, 'models'")
    doubt = Fraction(table.values.get("doubt", DOUBT))
    if not 0 < doubt < 1:
        raise table.error("doubt", "'doubt' must lie between 0 and 1")
    commitment = table.commitment(key, text_of(points, clusters))
    whole = tuple(int(cluster) for cluster in clusters)
    return BlackMarks(key, points, whole, tuple(hits), models, doubt, commitment)
