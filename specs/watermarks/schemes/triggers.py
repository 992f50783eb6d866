"""A trigger set, as Adi et al. (2018) have it: secret inputs with random classes.

The inputs are drawn from the seed (abstract images), or stored in a file.  Their classes are drawn
by a hash of the seed and of all inputs, so whoever changes an input draws all classes anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from specs.document import Document
from specs.enclosure import FloatArray
from specs.linear import IndexArray
from specs.watermarks.key import Key
from specs.watermarks.mark import Commitment
from specs.watermarks.points import (
    MOST_ENTRIES,
    MOST_POINTS,
    digest_of,
    drawn_classes,
    drawn_points,
    read_points,
)
from specs.watermarks.reading import COMMON, MARK, Keys

KEYS = {
    **COMMON,
    "points": (str,),
    **dict.fromkeys(("count", "size", "classes"), (int,)),
}


@dataclass(frozen=True, eq=False)
class Triggers:
    """A mark of this scheme.

    Attributes:
        key: from which the classes follow, and the inputs where no file holds them.
        points: ``(n, inputs)``, exact.
        classes: how many the model tells apart.
        commitment: of it.
    """

    key: Key
    points: FloatArray
    classes: int
    commitment: Commitment

    scheme = "triggers"
    assumptions = (
        "for a model that does not depend on the key, each trigger's class is as likely as any "
        "other, independently, whatever the model answers: the hash that draws classes acts as a "
        "random oracle, and the key was fixed before the model was known",
    )

    @property
    def text(self) -> str:
        """What the mark depends on beside the seed."""
        return text_of(self.points, self.classes)

    @property
    def size(self) -> int:
        """How many triggers."""
        return len(self.points)

    @property
    def null(self) -> tuple[Fraction, ...]:
        """One over the number of classes, each."""
        return (Fraction(1, self.classes),) * self.size

    @cached_property
    def labels(self) -> IndexArray:
        """``(n,)`` the classes, from 0 on."""
        return drawn_classes(self.key, f"triggers labels {self.text}", self.size, self.classes)

    def matching(self, answers: Sequence[int]) -> list[bool]:
        """Which answers are the triggers' classes."""
        return [int(a) == int(b) for a, b in zip(answers, self.labels, strict=True)]


def text_of(points: FloatArray, classes: int) -> str:
    """What a mark depends on beside its seed."""
    return f"triggers points={digest_of(points)} classes={classes}"


def drawn(key: Key, count: int, size: int) -> FloatArray:
    """``(count, size)`` abstract images of a key."""
    return drawn_points(key, f"triggers points {count} {size}", count, size)


def read(document: Document) -> Triggers:
    """Keys: ``seed``, ``classes``; and ``points``, a file, or ``count`` and ``size``."""
    table = Keys.of(document, MARK, KEYS)
    key, classes = table.key(), table.whole("classes", 2, 1 << 16)
    if "points" in table.values:
        for other in ("count", "size"):
            if other in table.values:
                raise table.error(other, f"'{other}' is of drawn inputs; 'points' names a file")
        points = read_points(table, "points")
    else:
        count, size = table.whole("count", 1, MOST_POINTS), table.whole("size", 1, 1 << 20)
        if count * size > MOST_ENTRIES:
            raise table.error("count", f"{count} inputs of {size} entries are too many")
        points = drawn(key, count, size)
    return Triggers(key, points, classes, table.commitment(key, text_of(points, classes)))
