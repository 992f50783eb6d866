"""Reading a property file of either version of VNN-LIB."""

from __future__ import annotations

import re
from pathlib import Path

from specs.network import Network
from specs.property import Property
from specs.source import read_source
from specs.vnnlib1 import read_vnnlib1
from specs.vnnlib2 import read_vnnlib2

_VERSION = re.compile(r"\s*(?:;[^\n]*\s*)*\(\s*vnnlib-version\s*([^\s)]*)")


def read_property(path: str | Path, network: Network) -> tuple[Property, str]:
    """The property that a ``.vnnlib`` file states of ``network``, and the file's hash.

    The file may be gzipped, and named without its ``.gz``.  The hash is the SHA-256
    (hexadecimal) of the decompressed bytes.

    Raises:
        PropertyError: with ``FILE:LINE:COLUMN``; the file cannot be read, is malformed, or
            does not fit the network.
    """
    source, digest = read_source(path)
    version = _VERSION.match(source.text)
    if version is not None and version[1] != "<2.0>":
        raise source.error(version.start(1), f"version {version[1]}; known are 1.0 and <2.0>")
    if version is not None:
        return read_vnnlib2(source, network), digest
    return read_vnnlib1(source, network.input_size, network.output_size), digest
