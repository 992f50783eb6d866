"""What a proof rests on: a heat map beside the input, or bars."""

from __future__ import annotations

from typing import BinaryIO

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from proofs.explain import Explanation
from proofs.features import Layout
from specs.query import Query

BARS = 24
"""Features that get a bar; the ones whose loss costs most."""

DROPPED = "#d9d9d9"
COLOURS = "viridis"
BAR = "#31688e"


def draw(
    query: Query, found: Explanation, image: Layout | None, stream: BinaryIO, format: str
) -> None:
    """Draw an explanation.

    Args:
        query: the question whose proof was explained.
        found: the explanation.
        image: how the inputs make up an image; ``None``: they do not.
        stream: where to write to.
        format: ``"png"``, ``"svg"`` or ``"pdf"``.
    """
    settings = {"svg.hashsalt": "farkas", "svg.fonttype": "none", "font.size": 9}
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format)
    with matplotlib.rc_context(settings):
        picture = figure(query, found, image)
        picture.savefig(stream, format=format, dpi=110, metadata=metadata)


def figure(query: Query, found: Explanation, image: Layout | None) -> Figure:
    """The picture: an image's panels side by side, or bars alone."""
    if image is None:
        shown = min(len(found.kept), BARS)
        picture = Figure(figsize=(6.4, 1.3 + 0.22 * max(3, shown)), layout="constrained")
        _bars(picture.add_subplot(), found)
        picture.suptitle(_title(found))
        return picture
    neurons = found.kind == "neurons"
    picture = Figure(figsize=(10.5 if neurons else 7.4, 3.9), layout="constrained")
    panels = picture.subplots(1, 3 if neurons else 2, squeeze=False)[0]
    _input(panels[0], query, image)
    if neurons:
        _sensitivity(panels[1], query, found, image)
        _bars(panels[2], found)
    else:
        _falls(panels[1], found, image)
    picture.suptitle(_title(found))
    return picture


def _title(found: Explanation) -> str:
    of = f"neurons of {found.layer}" if found.kind == "neurons" else "input features"
    settled = "" if found.minimal else " (not proved minimal)"
    return f"The proof rests on {len(found.kept)} of {len(found.features)} {of}{settled}"


def _input(axes: Axes, query: Query, image: Layout) -> None:
    low, high = query.property.cases[0].box()
    centre = (0.5 * low + 0.5 * high)[image.index]
    least, most = float(centre.min()), float(centre.max())
    shown = (centre - least) / (most - least or 1.0)
    if len(shown) == 3:
        axes.imshow(shown.transpose(1, 2, 0), interpolation="nearest")
    else:
        axes.imshow(shown.mean(axis=0), cmap="gray", interpolation="nearest")
    many = len(query.property.cases) > 1
    axes.set_title("centre of the first region" if many else "centre of the region")
    _bare(axes)


def _sensitivity(axes: Axes, query: Query, found: Explanation, image: Layout) -> None:
    axes.set_title("what each input can change")
    _bare(axes)
    if found.sensitivity is None:
        axes.text(0.5, 0.5, "not computed in time", ha="center", transform=axes.transAxes)
        return
    low, high = query.property.cases[0].box()
    changes = (found.sensitivity * (high - low))[image.index].sum(axis=0)
    _map(axes, changes, "change of the bound, mean over leaves")


def _falls(axes: Axes, found: Explanation, image: Layout) -> None:
    values = np.full(image.index.size, np.nan)
    for k, fall in zip(found.kept, _finite(found), strict=True):
        values[list(found.features[k].entries)] = fall or 0.0
    axes.set_title("what the proof rests on")
    _bare(axes)
    shown = values[image.index]
    known = ~np.isnan(shown).all(axis=0)
    total = np.where(known, np.nan_to_num(shown).max(axis=0), np.nan)
    _map(axes, total, "fall of the slack without it; grey: free")


def _map(axes: Axes, values: npt.NDArray[np.float64], label: str) -> None:
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=DROPPED)
    drawn = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, interpolation="nearest")
    bar = axes.get_figure().colorbar(drawn, ax=axes, shrink=0.8)  # type: ignore[union-attr]
    bar.set_label(label)


def _bars(axes: Axes, found: Explanation) -> None:
    known = [pair for pair in zip(_finite(found), found.kept, strict=True) if pair[0] is not None]
    shown = sorted(known, key=lambda pair: -(pair[0] or 0.0))[:BARS]
    names = [_short(found.features[k].name) for _, k in shown]
    axes.barh(range(len(shown)), [fall or 0.0 for fall, _ in shown], color=BAR)
    axes.set_yticks(range(len(shown)), names, fontsize=7 if len(shown) > 12 else 9)
    axes.invert_yaxis()
    axes.set_xlabel("fall of the worst leaf's slack without it")
    if len(shown) < len(found.kept):
        missing = len(found.kept) - len(known)
        late = f"; {missing} not computed in time" if missing else ""
        axes.set_title(f"{len(shown)} of {len(found.kept)} shown{late}", fontsize=9)
    if not found.kept:
        text = "nothing: intervals alone suffice"
        axes.text(0.5, 0.5, text, ha="center", transform=axes.transAxes)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _finite(found: Explanation) -> list[float | None]:
    """Falls that can be drawn: an unbounded one as the largest; ``None``: not known."""
    largest = max((fall for fall in found.falls if np.isfinite(fall)), default=1.0)
    return [None if np.isnan(fall) else min(fall, largest) for fall in found.falls]


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
