"""Counterexamples beside their originals, as elements of a page."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from html import escape

import numpy as np
import numpy.typing as npt

from verifier.certify.delivery import FloatArray, Pair

LISTED = 8
"""Inputs of a counterexample that is no image that are listed, most changed first."""

MORE, SAME, LESS = np.array([[0.80, 0.33, 0.0], [0.93, 0.93, 0.93], [0.0, 0.36, 0.70]])
"""Colours of a difference of grey images: orange, light grey and blue are told apart by all."""


def pair_html(pair: Pair) -> Iterator[str]:
    """A pair: three images, or a table of the inputs that change most."""
    yield f"<figure><figcaption>{escape(pair.name)}</figcaption>"
    if pair.shape is None:
        yield from _listed(pair)
    else:
        yield from _images(pair, pair.shape)
    yield "</figure>\n"


def _images(pair: Pair, shape: tuple[int, int, int]) -> Iterator[str]:
    both = pair.original, pair.changed
    if pair.pixels is not None:
        both = pair.pixels.of(pair.original), pair.pixels.of(pair.changed)
    original, changed = (each.reshape(shape) for each in both)
    low = min(original.min(), changed.min())
    high = max(original.max(), changed.max())
    span = (high - low) or 1.0
    difference = changed - original
    largest = float(np.abs(difference).max())
    parts = difference / largest if largest else np.zeros(shape)
    factor = span / (2 * largest) if largest else 1.0
    legend = "orange: more, blue: less" if shape[0] == 1 else "grey: none"
    unit = "" if pair.pixels is None else " before mean and std"
    shown = (
        (pair.kinds[0], pair.before, (original - low) / span),
        (pair.kinds[1], pair.after, (changed - low) / span),
        (
            f"difference, {_factor(factor)}",
            f"largest {largest:.3g}{unit}; {legend}",
            _coloured(parts),
        ),
    )
    yield '<div class="images">'
    for title, words, pixels in shown:
        alt = escape(f"{title}: {pair.name}")
        yield f'<div><img alt="{alt}" src="data:image/png;base64,{_encoded(pixels)}">'
        under = f"{title}<br>{escape(words)}" if words else title
        yield f"<span>{under.replace('counterex', 'counter&shy;ex')}</span></div>"
    yield "</div>"


def _coloured(parts: FloatArray) -> FloatArray:
    """Differences from -1 to 1, one or three channels, as an image of three."""
    if len(parts) == 3:
        return np.asarray(parts / 2 + 0.5)
    up, down = (np.maximum(sign * parts[0], 0)[..., None] for sign in (1, -1))
    mixed = SAME + up * (MORE - SAME) + down * (LESS - SAME)
    return np.moveaxis(mixed, -1, 0)


def _factor(factor: float) -> str:
    return f"\N{MULTIPLICATION SIGN}{factor:.3g}"


def _listed(pair: Pair) -> Iterator[str]:
    difference = pair.changed - pair.original
    order = np.argsort(-np.abs(difference), kind="stable")
    moved = [k for k in order if difference[k] != 0]
    if pair.before or pair.after:
        yield f"<span>{escape(pair.before)} \N{RIGHTWARDS ARROW} {escape(pair.after)}</span>"
    yield '<div class="wide" tabindex="0"><table><tr>'
    for head in ("input", *pair.kinds, "change"):
        yield f'<th class="number">{escape(head)}</th>'
    yield "</tr>"
    for k in moved[:LISTED]:
        cells = (str(k), *(f"{x[k]:.6g}" for x in (pair.original, pair.changed, difference)))
        yield "<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"
    yield "</table></div>"
    if len(moved) > LISTED:
        yield f"<span>and {len(moved) - LISTED} inputs that change less</span>"


def _encoded(pixels: FloatArray) -> str:
    return base64.b64encode(png(pixels)).decode()


def png(pixels: FloatArray) -> bytes:
    """An image file (Portable Network Graphics, ISO/IEC 15948).

    Args:
        pixels: ``(channels, height, width)``, one or three channels, from 0 to 1; what lies
            outside is cut.
    """
    levels: npt.NDArray[np.uint8] = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    channels, height, width = levels.shape
    lines = np.moveaxis(levels, 0, -1).reshape(height, width * channels)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1)
    kind = {1: 0, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
