"""The section ``[probabilistic]``: its table, read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import product

from specs.errors import InputError
from verifier.certify.probabilistic.answer import Probabilistic, Wanted
from verifier.certify.sampled import black_box, confidence, device, samples
from verifier.certify.section import Answer, Setting
from verifier.certify.table import Table
from verifier.statistics.intervals import sample_size
from verifier.statistics.noise import KINDS, Around
from verifier.statistics.robustness import Plan, side_level

RHO = (Fraction(1, 100),)
CONFIDENCE = Fraction(95, 100)
MOST = 10**9
"""Samples for an input at most."""
ROWS = 256
"""Samples whose boxes are looked at together."""
SHARES = {"pr_at": "pr", "prob_acc_at": "prob_acc", "population_at": "population"}
"""By key of a threshold the number it is on."""


def read(setting: Setting) -> Sequence[Answer]:
    """The answer that ``[probabilistic]`` asks for; ``docs/certify.md`` lists its keys.

    Raises:
        InputError: it is malformed; the message says where.
    """
    table = Table.of(setting.document, "probabilistic")
    place = device(table)
    nets = table.strings("nets") or tuple(setting.models)
    boxes = {net: black_box(setting, table, "nets", net, place) for net in nets}
    data = [samples(setting, table, box) for box in boxes.values()][-1]
    arounds = tuple(_arounds(table))
    for around, dtype in product(arounds, {box.dtype for box in boxes.values()}):
        for start in range(0, len(data.points), ROWS):
            table.placed("radii", partial(around.box, data.points[start : start + ROWS], dtype))
    rhos = table.numbers("rho") or RHO
    if not all(0 < rho < 1 for rho in rhos):
        raise table.error("rho", "'rho' must hold numbers between 0 and 1")
    population, together = table.flag("population"), confidence(table, CONFIDENCE)
    cells = len(boxes) * len(arounds)
    statements = cells * (2 + len(rhos) + population * (1 + len(rhos))) + population * len(boxes)
    level = side_level(together, statements)
    plan = _plan(table, rhos, level / len(data.points))
    wanted = tuple(each for key in SHARES for each in _wanted(table, key))
    answer = Probabilistic(
        boxes, data, arounds, rhos, plan, together, population, wanted, statements
    )
    _check(table, answer)
    table.done()
    return (answer,)


def _arounds(table: Table) -> Iterator[Around]:
    radii, valid = table.ratios("radii"), table.interval("valid")
    spread = table.number("spread", Fraction(1))
    kinds = table.strings("noise") or KINDS[:1]
    if not radii:
        raise table.error("", f"[{table.name}] needs radii, such as radii = [0.03, 0.08]")
    for key, given in (("radii", radii), ("noise", kinds)):
        if len(set(given)) != len(given):
            raise table.error(key, f"'{key}' names something twice")
    for kind, radius in product(kinds, radii):
        key = "noise" if kind not in KINDS else "radii" if radius <= 0 else "spread"
        yield table.placed(
            key, partial(Around, kind, radius, Fraction(1) if spread is None else spread, valid)
        )


def _plan(table: Table, rhos: Sequence[Fraction], level: Fraction) -> Plan:
    """As many samples as are stated, or as the claim about each input needs at a level."""
    stated, failures = table.integer("samples", None, 1), table.integer("failures", None)
    sequential, seed = table.flag("sequential"), table.integer("seed", 0)
    if stated is not None and failures is not None:
        raise table.error("failures", "'failures' chooses samples, which are stated: leave one out")
    if sequential and stated is None:
        raise table.error("sequential", "'sequential' needs samples, the most for an input")
    shares = tuple(1 - rho for rho in rhos)
    if stated is None:
        key = "failures" if failures is not None else "rho"
        stated = table.placed(key, lambda: _enough(max(shares), level, failures or 0))
    if stated > MOST:
        raise table.error("samples", f"{stated} samples for an input; at most {MOST}")
    return Plan(stated, shares, level if sequential else None, seed or 0)


def _enough(share: Fraction, level: Fraction, failures: int) -> int:
    try:
        return sample_size(share, level, failures)
    except ValueError as error:
        raise InputError(str(error)) from None


def _wanted(table: Table, key: str) -> Iterator[Wanted]:
    for each in table.tables(key):
        share = each.share("at_least")
        if share is None:
            raise each.error(key, f"'{key}' needs at_least")
        yield Wanted(
            SHARES[key],
            share,
            each.text("net"),
            each.text("noise"),
            each.ratio("radius"),
            None if key == "pr_at" else each.number("rho"),
        )
        each.done()


def _check(table: Table, answer: Probabilistic) -> None:
    """Every threshold is about something."""
    keys = {number: key for key, number in SHARES.items()}
    for wanted in answer.wanted:
        key = keys[wanted.number]
        if wanted.number == "population" and not answer.population:
            raise table.error(key, f"'{key}' needs population = true")
        known = wanted.rho is None or wanted.rho in answer.rhos
        if not known or not any(map(wanted.about, answer.cells)):
            raise table.error(
                key, f"'{key}' is about no model, noise, radius and rho of this table"
            )
