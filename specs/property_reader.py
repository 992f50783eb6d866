"""Reading a property file of either version of VNN-LIB."""

from __future__ import annotations

import re
from pathlib import Path

from specs.network import Network
from specs.property import Property
from specs.source import read_source
from specs.vnnlib1 import read_vnnlib1

_VERSION = re.compile(r"(?:\s|;[^\n]*(?:\n|\Z))*\(\s*vnnlib-version\b")


def read_property(path: str | Path, network: Network) -> tuple[Property, str]:
    """The property that a ``.vnnlib`` file states of ``network``, and the file's hash.

    The file may be gzipped, and named without its ``.gz``.  The hash is the SHA-256
    (hexadecimal) of the decompressed bytes.

    Raises:
        PropertyError: with ``FILE:LINE:COLUMN``; the file cannot be read, is malformed, or
            does not fit the network.
    """
    source, digest = read_source(path)
    return read_vnnlib1(source, network.input_size, network.output_size), digest
