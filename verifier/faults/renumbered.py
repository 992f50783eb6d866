"""Hints in the numbers of one network's tensors, for another network with the same names.

A question about fewer cells may have fewer perturbed nodes, so its tensors have other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from proofs.tables import EMPTY, Step, Substitution
from specs.network import Network


@dataclass(eq=False)
class Renumbered:
    """From the numbers of the intact network's tensors to those of a faulty one.

    Hints that are the same object stay the same object.

    Attributes:
        place: by tensor of the intact network, the tensor of that name.
    """

    place: dict[int, int]
    _known: dict[int, tuple[Substitution, Substitution]] = field(default_factory=dict)

    @staticmethod
    def of(intact: Network, faulty: Network) -> Renumbered:
        """Every tensor of the intact network has a name in the faulty one."""
        return Renumbered({n: faulty.tensors[node.name] for n, node in enumerate(intact.nodes)})

    def hints(self, given: Substitution | None) -> Substitution | None:
        """Hints of a leaf."""
        return None if given is None else self._moved(given)

    def step(self, given: Step) -> Step:
        """A bound step."""
        moved = given.substitution
        if moved is not EMPTY:
            moved = self._moved(moved)
        return replace(given, target=self.place[given.target], substitution=moved)

    def _moved(self, given: Substitution) -> Substitution:
        held = self._known.get(id(given))
        if held is not None:
            return held[1]
        blocks = tuple(replace(block, tensor=self.place[block.tensor]) for block in given.blocks)
        made = replace(given, blocks=blocks)
        self._known[id(given)] = given, made  # so that the identity stays its own
        return made
