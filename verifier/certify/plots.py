"""Plots of the report: SVG that stands in the page and takes its colours.

Text and axes are drawn in the colour of the page's text, series in the page's variables, so that
one picture is legible by day, in the dark and in print.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

from verifier.certify.delivery import Asked, Sweep

INK = "#010203"
SERIES = ("#010211", "#010212", "#010213", "#010214")
"""Colours that stand for those of the page: see ``_COLOURS``."""

_COLOURS = {INK: "currentColor"} | {
    colour: f"var(--series{number})" for number, colour in enumerate(SERIES, 1)
}

_SIZE = (4.4, 3.0)
"""Inches: text is legible where a phone shrinks it, too."""

DOTS = 60
"""Questions up to which each has a dot on its line."""

_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def available() -> bool:
    """Whether pictures can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def svg(draw: Callable[[Any], None], caption: str, name: str) -> str:
    """What ``draw`` draws on a ``matplotlib.figure.Figure``, as an element of a page.

    Args:
        draw: draws.
        caption: says what is seen, to those who do not see it.
        name: of the picture; in its page, unique.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 10,
        "axes.prop_cycle": cycler(color=SERIES),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        **{f"{key}.color": INK for key in ("text", "xtick", "ytick")},
        **{f"axes.{key}": INK for key in ("edgecolor", "labelcolor", "titlecolor")},
        "axes.facecolor": "none",
        "grid.color": INK,
        "grid.alpha": 0.15,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure)
        _plain(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA)
    return _inline(buffer.getvalue().decode(), caption, name)


def _plain(figure: Any) -> None:
    """A dollar sign in the name of a model or a tensor begins no formula."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_ticklabels()  # so that they are there
    for words in figure.findobj(Text):
        text = words.get_text()
        if "$" in text and not text.startswith(r"$\mathdefault{"):
            words.set_parse_math(False)


def _inline(text: str, caption: str, name: str) -> str:
    """Without what only a file of its own needs; elements get names of this picture's own."""
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in [one for one in parent if _local(one.tag) == "metadata"]:
            parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        given = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _renamed(key, value, name) for key, value in given.items()})
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": caption})
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _renamed(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    for colour, shown in _COLOURS.items():
        value = value.replace(colour, shown)
    return value.replace("url(#", f"url(#{name}-")


def accuracy(sweep: Sweep) -> Callable[[Any], None]:
    """Draws certified accuracy over radii: what is proved, and what is not refuted."""

    def draw(figure: Any) -> None:
        panel = figure.add_subplot()
        radii = [float(point.radius) for point in sweep.points]
        certified = [float(point.certified) for point in sweep.points]
        possible = [float(point.possible) for point in sweep.points]
        panel.plot(radii, possible, "o--", color=SERIES[1], ms=4, label="not refuted")
        panel.plot(radii, certified, "o-", color=SERIES[0], ms=4, label="proved")
        panel.fill_between(radii, certified, possible, color=SERIES[0], alpha=0.15, lw=0)
        if sweep.clean is not None:
            panel.axhline(float(sweep.clean), color=SERIES[2], ls=":", label="clean accuracy")
        panel.set_ylim(-0.03, 1.03)
        panel.set_xlabel("radius")
        panel.set_ylabel("share of samples")
        panel.grid(True)
        panel.legend()

    return draw


def cactus(asked: Sequence[Asked]) -> Callable[[Any], None]:
    """Draws how many questions are decided if each gets a given time."""

    def draw(figure: Any) -> None:
        panel = figure.add_subplot()
        for verdict, colour, style in (("proved", SERIES[0], "-"), ("refuted", SERIES[1], "--")):
            seconds = sorted(each.seconds for each in asked if each.verdict == verdict)
            if seconds:
                counts = range(1, len(seconds) + 1)
                label = f"{verdict} ({len(seconds)})"
                marker = "." if len(seconds) <= DOTS else ""
                panel.plot(counts, seconds, style, color=colour, marker=marker, label=label)
        _log(panel.yaxis, [each.seconds for each in asked if each.verdict != "undecided"])
        panel.set_xlabel("questions, quickest first")
        panel.set_ylabel("seconds for each")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(True)
        panel.legend()

    return draw


def sizes(asked: Sequence[Asked]) -> Callable[[Any], None]:
    """Draws the bytes of proofs against the seconds that checking them takes."""

    def draw(figure: Any) -> None:
        panel = figure.add_subplot()
        known = [each for each in asked if measured(each)]
        lengths = [float(each.bytes or 0) for each in known]
        seconds = [each.check_seconds or 0.0 for each in known]
        panel.plot(lengths, seconds, "o", color=SERIES[0], alpha=0.7, ms=4)
        _log(panel.xaxis, lengths)
        _log(panel.yaxis, seconds)
        if panel.get_xscale() == "linear":
            panel.locator_params(axis="x", integer=True, nbins=5)
        panel.set_xlabel("bytes of the proof")
        panel.set_ylabel("seconds to check it")
        panel.grid(True)

    return draw


def _log(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis with as many labels as there is room for, if numbers differ by much."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    positive = [value for value in values if value > 0] or [1.0]
    if max(positive) < 2 * min(positive):
        return
    wide = max(positive) > 100 * min(positive)
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def measured(each: Asked) -> bool:
    """Whether the size of its proof and the time to check it are known."""
    return each.verdict == "proved" and bool(each.bytes) and bool(each.check_seconds)
