"""The section ``[monotonicity]``: raising features never lowers an output, or never raises it.

The question is asked of two copies of the network in one model: one at the inputs, one at the same
inputs with further ones added to ``features``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache, partial

import numpy as np

from specs.enclosure import FloatArray
from specs.network import Network
from specs.property import Case, Property, constraint
from specs.query import ModelFile
from verifier.certify.delivery import Pair
from verifier.certify.inquiry import Inquiry, Item, Posed, asked_of, index_of, regions_of
from verifier.certify.models import side_by_side
from verifier.certify.pairs import outputs_at
from verifier.certify.prefix import PARAMETERS, Builder, Piece, input_size, prefixed
from verifier.certify.question_files import in_memory
from verifier.certify.questions import Box, Stated
from verifier.certify.section import Answer, Place, Setting, shown
from verifier.certify.subject import Subject
from verifier.certify.table import Table


def read(setting: Setting) -> Sequence[Answer]:
    """The answers of one table ``[monotonicity]`` or of several.

    Raises:
        InputError: one is malformed; the message says where.
    """
    return [
        _monotonicity(setting, table) for table in Table.several(setting.document, "monotonicity")
    ]


def _monotonicity(setting: Setting, table: Table) -> Inquiry:
    subject = Subject.of(setting, table)
    inputs, outputs = subject.network.input_size, subject.network.output_size
    regions = regions_of(table, subject)
    output = index_of(table, "output", outputs)
    features = table.indices("features", inputs)
    if not features:
        raise table.error("features", "'features' must list one input or more")
    direction = table.text("direction", "increasing", ("increasing", "decreasing"))
    slack = table.ratio("slack", 0) or Fraction(0)
    holds = table.share("holds")
    table.done()

    @cache
    def content() -> bytes:
        return raised(subject.model, features)

    asked_of(table, content)

    def pose(box: Box, place: Place) -> Posed:
        wanted = falls(box, features, output, outputs, direction == "decreasing", slack)
        return in_memory(content(), place), Stated.of(wanted)

    items = tuple(
        Item(
            name,
            (subject.model.digest, f"{features} {output} {direction} {slack}", f"{box}"),
            partial(pose, box),
            partial(_paired, subject.network, features, output, name),
        )
        for name, box, _ in regions.named
    )
    verb = "lowers" if direction == "increasing" else "raises"
    by = f" by more than {shown(slack)}" if slack else ""
    return Inquiry(
        "monotonicity",
        f"Monotonicity of output {output} of {subject.name}",
        (
            f"raising features {', '.join(map(str, features))} never {verb} output {output}"
            f"{by}; {regions.words}",
        ),
        items,
        setting,
        holds,
        "share of regions with a monotone output",
    )


def _paired(
    network: Network, features: Sequence[int], output: int, name: str, point: FloatArray
) -> Pair:
    """Both inputs of a witness: one, and the same with features raised."""
    low, high = point[: network.input_size], point[: network.input_size].copy()
    high[list(features)] += point[network.input_size :]
    words = (f"output {output} is {outputs_at(network, x)[output]:.6g}" for x in (low, high))
    return Pair(f"{name}, where features rise", low, high, None, *words, ("before", "raised"))


def raised(file: ModelFile, features: Sequence[int]) -> bytes:
    """The network at ``x``, beside itself at ``x`` with ``features`` raised by further inputs."""

    def make(name: str, shape: tuple[int, ...], kind: type, *, up: bool) -> Piece:
        size, build = math.prod(shape), Builder(kind)
        x = build.part(PARAMETERS, range(size))
        if up:
            steps = build.shaped(
                build.part(PARAMETERS, range(size, size + len(features))), (1, len(features))
            )
            places = np.zeros((len(features), size))
            places[np.arange(len(features)), list(features)] = 1
            x = build.node("Add", x, build.shaped(_product(build, steps, places), (size,)))
        build.shaped(x, shape, name)
        return build.piece

    size = input_size(file)
    both = (prefixed(file, size + len(features), partial(make, up=up)) for up in (False, True))
    one, two = (ModelFile(None, c, hashlib.sha256(c).hexdigest()) for c in both)
    return side_by_side(one, two)


def _product(build: Builder, left: str, matrix: object) -> str:
    return build.node("MatMul", left, build.constant(matrix))


def falls(
    box: Box,
    features: Sequence[int],
    output: int,
    outputs: int,
    decreasing: bool,
    slack: Fraction = Fraction(0),
) -> Property:
    """The output of the raised copy is less than that of the other by more than ``slack``.

    With ``decreasing``: greater.  Without a slack both are equal where nothing is raised, and a
    bound that touches is rarely proved where Relus change their phase.
    """
    one = Fraction(1)
    lower, upper = box
    size = len(lower)
    steps = tuple(upper[k] - lower[k] for k in features)
    within = tuple(
        constraint({k: one, size + place: one}, {}, -upper[k]) for place, k in enumerate(features)
    )
    sign = -one if decreasing else one
    wrong = constraint({}, {outputs + output: sign, output: -sign}, slack, strict=True)
    zeros = (Fraction(0),) * len(steps)
    case = Case((*lower, *zeros), (*upper, *steps), ((wrong,),), within)
    return Property(size + len(steps), 2 * outputs, (case,))
