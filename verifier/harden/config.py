"""The file that says how a model is hardened; ``docs/harden.md`` describes it for users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from specs.builders import box
from specs.document import NUMBERS, Document, read_document
from specs.errors import InputError, QuestionError
from specs.faults.models import BitFaults, BitFlips, StuckAt
from specs.faults.schema import read_faults
from specs.perturbation import REAL, rounding_of
from verifier.harden.clipact import Thresholds
from verifier.harden.schemes import LAYER, NEURON
from verifier.harden.surgery import CLIP, ZERO
from verifier.harden.theorem import Box
from verifier.harden.tuned import Training

CERTIFIED, PROFILED, LEARNT = "certified", "profiled", "learnt"
SCHEMES = ("ranger", "ft-clipact", "fitact", "proact")
DEFAULTS = {"bounds": CERTIFIED, "action": CLIP, "per": LAYER}

_REAL = (int, Fraction)
KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "domain": {"lower": NUMBERS, "upper": NUMBERS},
    "restrict": {
        **dict.fromkeys(("scheme", "bounds", "action", "per", "semantics"), (str,)),
        **dict.fromkeys(("after", "tensors"), (list,)),
        **dict.fromkeys(("margin", "percentile", "seconds"), _REAL),
        "stored": (bool,),
    },
    "data": {"file": (str,)},
    "training": {
        **dict.fromkeys(("epochs", "batch", "seed"), (int,)),
        **dict.fromkeys(("rate", "weight", "loss"), _REAL),
    },
    "search": {
        "rates": (list,),
        **dict.fromkeys(("trials", "samples", "rounds", "parts", "seed"), (int,)),
    },
    "agreement": {"file": (str,), "boxes": (int,), "radius": _REAL, "seconds": _REAL},
}
"""Tables and keys; ``[faults]`` is described in ``docs/faults.md``."""

_NAMES = ("after", "tensors")
"""Keys that hold lists of names."""


@dataclass(frozen=True)
class Agreement:
    """What a hardened model is compared on.

    Attributes:
        file: samples.
        boxes: so many of the first of them are centres of boxes.
        radius: of these.
        seconds: of search for one of them.
    """

    file: Path
    boxes: int = 0
    radius: Fraction = Fraction(0)
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Config:
    """How a model is hardened.

    Attributes:
        document: the file, for errors.
        scheme: a published one; ``None``: what bounds, action and per say.
        bounds: ``"certified"``, ``"profiled"`` or ``"learnt"``.
        action: ``"clip"`` or ``"zero"``.
        per: ``"layer"`` or ``"neuron"``.
        semantics: under which certified bounds hold.
        after: operator types whose results are restricted; ``None``: the scheme's own.
        tensors: these are restricted, and no others; ``None``: what ``after`` says.
        margin: relative widening of certified bounds.
        percentile: of profiled values.
        seconds: of search for tighter certified bounds.
        stored: see ``surgery.Restriction``.
        data: the file of samples to profile and train with.
        training, search: of bounds, of thresholds.
        faults: that thresholds are searched under.
        agreement: what is compared.
    """

    document: Document
    scheme: str | None
    bounds: str
    action: str
    per: str
    semantics: str
    after: tuple[str, ...] | None
    tensors: tuple[str, ...] | None
    margin: float
    percentile: float
    seconds: float
    stored: bool
    data: Path | None
    training: Training
    search: Thresholds
    faults: BitFaults
    agreement: Agreement | None

    @property
    def certified(self) -> bool:
        """Whether no restriction may ever change a value on the domain."""
        return self.scheme is None and self.bounds == CERTIFIED

    def domain(self, size: int) -> Box | None:
        """The box of inputs that is spoken of, for a network of so many inputs.

        Raises:
            QuestionError: it does not fit.
        """
        table = self.document.table("domain")
        if not table:
            return None
        try:
            return box(size, table["lower"], table["upper"])
        except InputError as error:
            raise self.document.error("domain", "", str(error)) from None


def read_config(path: Path) -> Config:
    """The file.

    Raises:
        QuestionError: it is malformed; the message says where.
        PropertyError: it cannot be read.
    """
    document = read_document(path)
    for name in document.tables:
        if name not in (*KEYS, "faults"):
            known = ", ".join(f"[{table}]" for table in (*KEYS, "faults"))
            raise document.error("", name, f"unknown '{name}'; known here: {known}")
    for table, keys in KEYS.items():
        for key, value in document.table(table).items():
            _check(document, table, key, value, keys)
    _together(document, "domain", ("lower", "upper"))
    given = document.table("restrict")
    scheme = given.get("scheme")
    _one_of(document, "scheme", scheme, SCHEMES)
    for key, choices in (
        ("bounds", (CERTIFIED, PROFILED, LEARNT)),
        ("action", (CLIP, ZERO)),
        ("per", (LAYER, NEURON)),
    ):
        _one_of(document, key, given.get(key), choices)
        if scheme is not None and key in given:
            raise document.error("restrict", key, f"'{key}' is the scheme's own: leave one out")
    chosen = {key: given.get(key, default) for key, default in DEFAULTS.items()}
    semantics = given.get("semantics", REAL)
    try:
        rounding_of(semantics)
    except QuestionError as error:
        raise document.error("restrict", "semantics", str(error)) from None
    config = Config(
        document,
        scheme,
        **chosen,
        semantics=semantics,
        after=_names(given, "after"),
        tensors=_names(given, "tensors"),
        margin=_number(document, given, "margin", Fraction(1, 1024), 0, 1000),
        percentile=_number(document, given, "percentile", Fraction(100), 50, 100),
        seconds=_number(document, given, "seconds", Fraction(0), 0, 10**7),
        stored=given.get("stored", False),
        data=_file(document, "data"),
        training=_made(document, "training", Training),
        search=_made(document, "search", Thresholds),
        faults=_faults(document),
        agreement=_agreement(document),
    )
    _check_whole(config)
    return config


def _check_whole(config: Config) -> None:
    """What is said fits together.

    Raises:
        QuestionError: it does not.
    """
    error, table = config.document.error, config.document.table
    if config.certified and not table("domain"):
        raise error("restrict", "bounds", "certified bounds need [domain] with lower and upper")
    if not config.certified and config.data is None:
        what = f"scheme '{config.scheme}'" if config.scheme else f"{config.bounds} bounds"
        raise error("restrict", "scheme", f"{what}: needs [data] with a file of samples")
    if config.bounds == LEARNT and config.action == ZERO:
        raise error("restrict", "action", "bounds are learnt for clips only: zero has no gradient")
    if config.after is not None and config.tensors is not None:
        raise error("restrict", "after", "'after' and 'tensors': leave one out")
    for key, needed in (("margin", config.certified), ("seconds", config.certified)):
        if key in table("restrict") and not needed:
            raise error("restrict", key, f"'{key}' goes with certified bounds")
    if "semantics" in table("restrict") and not config.certified:
        raise error("restrict", "semantics", "'semantics' goes with certified bounds")
    ranges = config.bounds == PROFILED or config.scheme == "ranger"
    if "percentile" in table("restrict") and not ranges:
        raise error("restrict", "percentile", "'percentile' goes with profiled bounds")


def _check(
    document: Document, table: str, key: str, value: Any, keys: Mapping[str, tuple[type, ...]]
) -> None:
    if key in _NAMES and table == "restrict" and isinstance(value, list):
        if not value or not all(isinstance(entry, str) for entry in value):
            raise document.error(table, key, f"'{key}' must be a list of names")
        return
    document.check(table, key, value, keys)


def _together(document: Document, table: str, keys: tuple[str, ...]) -> None:
    given = document.table(table)
    if table in document.tables and any(key not in given for key in keys):
        raise document.error(table, "", f"[{table}] needs {' and '.join(keys)}")


def _one_of(document: Document, key: str, value: object, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        known = ", ".join(f"'{choice}'" for choice in choices)
        raise document.error("restrict", key, f"{key} {value!r}: use one of {known}")


def _names(given: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    return tuple(dict.fromkeys(given[key])) if key in given else None


def _number(
    document: Document, given: Mapping[str, Any], key: str, default: Fraction, low: int, high: int
) -> float:
    value = given.get(key, default)
    if not low <= value <= high:
        raise document.error("restrict", key, f"'{key}' is between {low} and {high}")
    return float(value)


def _file(document: Document, table: str) -> Path | None:
    if table not in document.tables:
        return None
    _together(document, table, ("file",))
    return document.folder / str(document.table(table)["file"])


def _made(document: Document, table: str, kind: type[Any]) -> Any:
    given = dict(document.table(table))
    if "rates" in given:
        given["rates"] = tuple(map(float, given["rates"]))
    for key, value in given.items():
        if isinstance(value, Fraction):
            given[key] = float(value)
    try:
        return kind(**given)
    except InputError as error:
        raise document.error(table, "", str(error)) from None


def _faults(document: Document) -> BitFaults:
    if "faults" not in document.tables:
        return BitFlips()
    found = read_faults(document)
    if not isinstance(found, BitFlips | StuckAt):
        raise document.error("faults", "model", "thresholds need faults of stored bits")
    return found


def _agreement(document: Document) -> Agreement | None:
    file = _file(document, "agreement")
    if file is None:
        return None
    given = document.table("agreement")
    boxes, radius = given.get("boxes", 0), Fraction(given.get("radius", 0))
    if boxes < 0 or radius < 0 or given.get("seconds", 0) < 0:
        raise document.error("agreement", "", "boxes, radius and seconds are not negative")
    if bool(boxes) != ("radius" in given):
        raise document.error("agreement", "", "'boxes' and 'radius' go together")
    return Agreement(file, boxes, radius, float(given.get("seconds", 0)))
