"""A reachable set projected to one or two outputs, with outputs of sampled inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

EXACT, RELAXED, EDGE, SAMPLE = "#35b779", "#9ecae1", "#31688e", "#440154"
MANY = 400
"""Polygons from which on their edges are thin and their faces opaque."""


def draw(
    polygons: Sequence[FloatArray],
    exact: Sequence[bool],
    samples: FloatArray,
    axes: tuple[int, ...],
    title: str,
    stream: BinaryIO,
    format: str,
) -> None:
    """Draw the projection.

    Args:
        polygons: by star its corners ``(k, 2)``, or ends ``(2, 1)``.
        exact: by star whether it is exact; others are only known to contain.
        samples: ``(n, d)`` outputs that the network computes, projected.
        axes: the outputs.
        title: what stands above.
        stream: where to write to.
        format: ``"png"``, ``"svg"`` or ``"pdf"``.
    """
    settings = {"svg.hashsalt": "farkas", "svg.fonttype": "none", "font.size": 9}
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format)
    with matplotlib.rc_context(settings):
        flat = len(axes) == 1
        picture = Figure(figsize=(6.4, 2.6 if flat else 5.4), layout="constrained")
        panel = picture.add_subplot()
        (_intervals if flat else _polygons)(panel, polygons, exact, samples)
        panel.set_xlabel(f"output {axes[0]}")
        if not flat:
            panel.set_ylabel(f"output {axes[1]}")
        panel.set_title(title, fontsize=9)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
        _legend(picture, exact, len(samples) > 0)
        picture.savefig(stream, format=format, dpi=110, metadata=metadata)


def _polygons(
    panel: Axes, polygons: Sequence[FloatArray], exact: Sequence[bool], samples: FloatArray
) -> None:
    width = 0.1 if len(polygons) > MANY else 0.6
    # Relaxed stars are larger: below the others.
    for kind, colour in ((False, RELAXED), (True, EXACT)):
        chosen = [p for p, e in zip(polygons, exact, strict=True) if e == kind]
        drawn = PolyCollection(
            [p if len(p) > 1 else np.repeat(p, 2, axis=0) for p in chosen],
            facecolors=colour,
            edgecolors=EDGE,
            linewidths=width,
            alpha=0.9 if len(polygons) > MANY else 0.5,
        )
        drawn.set_rasterized(len(polygons) > MANY)
        panel.add_collection(drawn)
    panel.scatter(*samples.T, s=1.5, color=SAMPLE, linewidths=0, zorder=3)
    corners = np.concatenate([*polygons, samples])
    low, high = corners.min(axis=0), corners.max(axis=0)
    margin = 0.04 * np.where(high > low, high - low, 1.0)
    panel.set_xlim(low[0] - margin[0], high[0] + margin[0])
    panel.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _intervals(
    panel: Axes, polygons: Sequence[FloatArray], exact: Sequence[bool], samples: FloatArray
) -> None:
    """A bar for each star, from the lowest end upwards; samples as a rug."""
    order = sorted(range(len(polygons)), key=lambda k: float(polygons[k].min()))
    for row, k in enumerate(order):
        low, high = float(polygons[k].min()), float(polygons[k].max())
        colour = EXACT if exact[k] else RELAXED
        panel.plot(
            [low, high], [row + 1, row + 1], color=colour, linewidth=2, solid_capstyle="butt"
        )
    panel.scatter(samples[:, 0], np.zeros(len(samples)), marker="|", color=SAMPLE, linewidths=0.5)
    panel.set_ylabel("star")
    panel.set_ylim(-0.5 - 0.02 * len(order), len(order) + 0.5)


def _legend(picture: Figure, exact: Sequence[bool], sampled: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Patch | Line2D] = []
    if any(exact):
        handles.append(Patch(color=EXACT, label=f"{sum(exact)} exact stars"))
    if not all(exact):
        handles.append(Patch(color=RELAXED, label=f"{len(exact) - sum(exact)} that contain"))
    if sampled:
        handles.append(
            Line2D([], [], marker=".", linestyle="", color=SAMPLE, label="sampled outputs")
        )
    place = "outside lower center"
    picture.legend(handles=handles, fontsize=8, frameon=False, loc=place, ncols=len(handles))
