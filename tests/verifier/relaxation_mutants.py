"""Wrong relaxations, made from right ones; the conformance suite must notice each.

Every one names the check that is to fail.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from verifier.relaxations import Lines, Rates


def changed(thing: Any, **methods: Any) -> SimpleNamespace:
    kept = {key: getattr(thing, key) for key in dir(thing) if not key.startswith("_")}
    return SimpleNamespace(**{**kept, **methods})


def lines_changed(change: Callable[[Lines], Lines]) -> Callable[[Any], Any]:
    return lambda r: changed(r, default=lambda l, u: change(r.default(l, u)))  # noqa: E741


def free_changed(**methods: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Methods of the lines with parameters, each made from the right object."""

    def change(r: Any) -> Any:
        def relaxed(lower: Any, upper: Any) -> Any:
            free = r.relaxed(lower, upper)
            return changed(free, **{name: make(free) for name, make in methods.items()})

        return changed(r, relaxed=relaxed)

    return change


def exchanged(lines: Lines) -> Lines:
    floor = torch.zeros_like(lines.lower_slope)
    floor = floor if lines.lower_intercept is None else lines.lower_intercept
    return Lines(lines.upper_slope, lines.upper_intercept, lines.lower_slope, floor)


def lifted(by: float) -> Callable[[Lines], Lines]:
    def change(lines: Lines) -> Lines:
        floor = torch.zeros_like(lines.lower_slope)
        floor = floor if lines.lower_intercept is None else lines.lower_intercept
        return Lines(lines.lower_slope, floor + by, lines.upper_slope, lines.upper_intercept)

    return change


def chords(r: Any) -> Any:
    """Both lines through the ends, on whichever side the function lies."""

    def relaxed(lower: Any, upper: Any) -> Any:
        free = r.relaxed(lower, upper)
        low, high = r.value(lower), r.value(upper)
        slope = (high - low) / (upper - lower)
        line = slope, low - slope * lower
        return changed(free, lines=lambda *parameters: Lines(*line, *line))

    return changed(r, relaxed=relaxed)


def naive_chord(r: Any) -> Any:
    def default(lower: Any, upper: Any) -> Lines:
        lines = r.default(lower, upper)
        slope = (r.value(upper) - r.value(lower)) / (upper - lower)
        return Lines(lines.lower_slope, lines.lower_intercept, slope, lines.upper_intercept)

    return changed(r, default=default)


def coarse(lines: Lines) -> Lines:
    floor = lines.lower_intercept
    ceiling = lines.upper_intercept.bfloat16().to(lines.upper_slope.dtype)
    slope = lines.upper_slope.bfloat16().to(lines.upper_slope.dtype)
    return Lines(lines.lower_slope, floor, slope, ceiling)


def scaled(rates: Rates, slope: float, intercept: float) -> Rates:
    def times(part: Any, factor: float) -> Any:
        return None if part is None else part * factor

    return Rates(
        times(rates.lower_slope, slope),
        times(rates.lower_intercept, intercept),
        times(rates.upper_slope, slope),
        times(rates.upper_intercept, intercept),
    )


def from_ends(r: Any) -> Any:
    """Intercepts from the ends alone."""

    def intercepts(lower: Any, upper: Any, below: Any, above: Any) -> Any:
        at = [(r.value(x) - below * x, r.value(x) - above * x) for x in (lower, upper)]
        return torch.minimum(at[0][0], at[1][0]), torch.maximum(at[0][1], at[1][1])

    return changed(r, intercepts=intercepts)


def bound_by_half(r: Any) -> Any:
    """Lines for the left half of the interval."""
    return changed(r, default=lambda l, u: r.default(l, 0.5 * l + 0.5 * u))  # noqa: E741


MUTANTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "value shifted": ("value", lambda r: changed(r, value=lambda x: r.value(x) + 1e-9)),
    "derivative of something else": (
        "value",
        lambda r: changed(r, value=lambda x: r.value(x.detach()) + 0 * x),
    ),
    "lines exchanged": ("default", lines_changed(exchanged)),
    "line too high": ("default", lines_changed(lifted(1e-6))),
    "line too low": ("default", lines_changed(lifted(-1e-6))),
    "half an interval": ("default", bound_by_half),
    "range too wide": (
        "free",
        free_changed(lines=lambda free: lambda *p: free.lines(*(1.5 * x - 0.25 for x in p))),
    ),
    "chord instead of tangent": ("free", chords),
    "start elsewhere": (
        "start",
        free_changed(start=lambda free: lambda: tuple(0.5 * s + 0.3 for s in free.start())),
    ),
    "rates of wrong sign": (
        "rates",
        free_changed(rates=lambda free: lambda *p: scaled(free.rates(*p), -1.0, -1.0)),
    ),
    "rates of slopes alone": (
        "rates",
        free_changed(rates=lambda free: lambda *p: scaled(free.rates(*p), 1.0, 0.0)),
    ),
    "intercepts of the ends": ("intercepts", from_ends),
    "image of one end": ("image", lambda r: changed(r, image=lambda l, u: r.image(l, l))),  # noqa: E741
    "image loose": (
        "image",
        lambda r: changed(r, image=lambda l, u: (r.image(l, u)[0] - 1e-6, r.image(l, u)[1])),  # noqa: E741
    ),
    "linear everywhere": (
        "shape",
        lambda r: changed(
            r,
            linear=lambda l, u: (l <= u, 0 * l),  # noqa: E741
            unstable=lambda l, u: l > u,  # noqa: E741
        ),
    ),
    "stable nowhere": ("shape", lambda r: changed(r, unstable=lambda l, u: l <= u)),  # noqa: E741
    "numbers not guarded": ("numbers", naive_chord),
    "half the digits": (
        "singles",
        free_changed(lines=lambda free: lambda *p: coarse(free.lines(*p))),
    ),
    "defined everywhere": (
        "undefined",
        lambda r: changed(r, image=lambda l, u: (r.value(u), r.value(u))),  # noqa: E741
    ),
    "split at an end": ("split", lambda r: changed(r, split_point=lambda l, u: u)),  # noqa: E741
    "default elsewhere": (
        "slopes",
        lambda r: changed(
            r,
            default=lambda l, u: r.relaxed(l, u).lines(*[0.3 + 0 * l] * r.free),  # noqa: E741
        ),
    ),
}
