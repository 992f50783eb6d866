"""Loading a question: a model and a property, or one TOML file that names both.

A question file has these tables and keys; ``docs/question.md`` shows examples.  Paths are
relative to the file.  Numbers are exact: ``0.1`` is one tenth.

    semantics   "real", "float32", ...        optional, see specs/perturbation.py;
                                              "integer": see load_integer_question
    title       a string                      optional
    [models]    NAME = "FILE.onnx"            exactly one
    [region]    file = "FILE.vnnlib"          either the regions of a property file,
                lower, upper                  or a box,
                centre, radius, clip          or a ball, optionally cut by clip = [LOW, HIGH]
    [statement] kind = "robust"               label, optionally target
                kind = "range"                output, minimum and/or maximum
                kind = "unsafe"               formula = "(and (<= Y_0 Y_1) ...)"

A bound, radius or side of the clip is one number or a list with one per input.  Without
``[statement]`` the file of ``[region]`` states the whole property; with it, that file may
speak of inputs only.  A formula is in the syntax of VNN-LIB 1.0, and may name inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from specs import builders
from specs.document import NUMBERS, Document, read_document
from specs.errors import InputError, QuestionError
from specs.network import Network
from specs.onnx_reader import read_model
from specs.perturbation import INTEGER, REAL, Perturbation, Rounding, rounding_of
from specs.property import Case, Property
from specs.property_reader import read_property
from specs.query import Query
from specs.source import Source
from specs.vnnlib1 import read_unsafe

__all__ = ["load_question", "read_property"]

_TABLES: dict[str, dict[str, tuple[type, ...]]] = {
    "": {"semantics": (str,), "title": (str,)},
    "region": {
        "file": (str,),
        **dict.fromkeys(("lower", "upper", "centre", "radius"), NUMBERS),
        "clip": (list,),
    },
    "statement": {
        "kind": (str,),
        **dict.fromkeys(("label", "target", "output"), (int,)),
        **dict.fromkeys(("minimum", "maximum"), (int, Fraction)),
        "formula": (str,),
    },
}
_REGIONS = (
    (frozenset({"file"}), frozenset[str]()),
    (frozenset({"lower", "upper"}), frozenset[str]()),
    (frozenset({"centre", "radius"}), frozenset({"clip"})),
)
_STATEMENTS = {
    "robust": (frozenset({"label"}), frozenset({"target"})),
    "range": (frozenset({"output"}), frozenset({"minimum", "maximum"})),
    "unsafe": (frozenset({"formula"}), frozenset[str]()),
}


def load_question(*paths: str | Path, semantics: str | None = None) -> Query:
    """The query that ``NET.onnx PROPERTY.vnnlib`` or ``QUESTION.toml`` states.

    Args:
        paths: the files.
        semantics: one of ``specs.perturbation.SEMANTICS``; ``None``: what a question file
            says, and otherwise real numbers.

    Raises:
        ModelError: the model cannot be read.
        PropertyError: the property cannot be read or does not fit the model.
        QuestionError: the question file is malformed, or the paths are neither of the two.
    """
    if len(paths) == 2:
        format = rounding_of(REAL if semantics is None else semantics)
        network, model = read_model(Path(paths[0]), format)
        stated, digest = read_property(paths[1], network)
        title = " ".join(Path(path).name for path in paths)
        return Query(network, stated, (model,), digest, _perturbations(format), title)
    if len(paths) == 1 and Path(paths[0]).suffix == ".toml":
        return _load_toml(Path(paths[0]), semantics)
    raise QuestionError(
        "a question is a model and a property (NET.onnx PROPERTY.vnnlib) or a QUESTION.toml; "
        f"given: {' '.join(map(str, paths)) or 'nothing'}"
    )


def stated_semantics(*paths: str | Path) -> str | None:
    """What a question file says of semantics; ``None``: nothing, or it is no such file.

    Raises:
        QuestionError: the file is malformed.
        PropertyError: it cannot be read.
    """
    if len(paths) != 1 or Path(paths[0]).suffix != ".toml":
        return None
    written = _document(Path(paths[0])).tables.get("semantics")
    return written if isinstance(written, str) else None


def load_integer_question(*paths: str | Path) -> Query:
    """The model and the property of a question under integer semantics.

    The query returned is the same question of *real* numbers: its network and its digest are
    not those of integers, and whoever asks keeps it apart from the kernel.

    Raises:
        InputError: as :func:`load_question`, or the file states another semantics.
    """
    if len(paths) == 1 and Path(paths[0]).suffix == ".toml":
        return _load_toml(Path(paths[0]), INTEGER, integers=True)
    return load_question(*paths, semantics=REAL)


def _perturbations(format: Rounding | None) -> tuple[Perturbation, ...]:
    return () if format is None else (format,)


def _document(path: Path) -> Document:
    document = read_document(path)
    if "claim" in document.tables or "watermark" in document.tables:
        raise document.error(
            "claim",
            "",
            "the file claims something about parameters; farkas check and farkas show take it, "
            "farkas certify finds evidence",
        )
    for table in ("probability", "lipschitz"):
        if table in document.tables:
            raise document.error(
                table,
                "",
                f"the file claims something about a box, [{table}]; farkas check and farkas "
                "show take it, farkas certify finds evidence",
            )
    check_question(document, "faults")
    return document


def _load_toml(path: Path, semantics: str | None, integers: bool = False) -> Query:
    document = _document(path)
    top = document.tables
    written = top.get("semantics")
    if written is not None and semantics not in (None, written):
        raise document.error(
            "", "semantics", f"the file says semantics '{written}', the caller '{semantics}'"
        )
    try:
        format = None if integers else rounding_of(written or semantics or REAL)
    except QuestionError as error:
        raise document.error("", "semantics", str(error)) from None
    title = top.get("title", path.name)
    if "faults" in top:
        if integers or format is not None:
            raise document.error("faults", "", "faults are stated of real semantics only")
        return _load_faults(path, title)
    network, model = read_model(only_model(document), format)
    stated, digest = stated_property(document, network)
    return Query(network, stated, (model,), digest, _perturbations(format), title)


def _load_faults(path: Path, title: str) -> Query:
    """The query of a file with ``[faults]``.

    Raises:
        InputError: it is malformed, states no property, or no proof can speak of its faults.
    """
    from specs.faults.schema import load_faults  # which reads the rest as this module does
    from specs.faults.struck import WordFaults

    found = load_faults(path)
    if found.property is None or found.property_digest is None:
        raise QuestionError(f"{path}: [faults] without [region] and [statement] asks nothing")
    try:
        faults = WordFaults(found.placed, found.model)
        network = faults.network
    except QuestionError as error:
        key = "except" if str(error).startswith("except:") else ""
        raise read_document(path).error("faults", key, str(error)) from None
    models = (found.placed.model,)
    return Query(network, found.property, models, found.property_digest, (faults,), title)


def check_question(document: Document, *others: str) -> None:
    """Every key is known and of its type; tables of these other names are passed over.

    Raises:
        QuestionError: one is not; the message says where.
    """
    for key, value in document.tables.items():
        if key in others:
            continue
        if key in ("models", "region", "statement"):
            document.table(key)
            continue
        document.check("", key, value, _TABLES[""], ("[models]", "[region]", "[statement]"))
    for table in ("region", "statement"):
        for key, value in document.table(table).items():
            document.check(table, key, value, _TABLES[table])


def only_model(document: Document) -> Path:
    """The model file that ``[models]`` names.

    Raises:
        QuestionError: it does not name exactly one.
    """
    models = document.table("models")
    if len(models) != 1 or not all(isinstance(file, str) for file in models.values()):
        raise document.error("", "models", '[models] must hold one line, NAME = "FILE.onnx"')
    return document.folder / str(next(iter(models.values())))


def stated_property(document: Document, network: Network) -> tuple[Property, str]:
    """What ``[region]`` and ``[statement]`` say of a network, and its digest.

    Raises:
        InputError: it is malformed, or does not fit the network.
    """
    return _property(document, document.folder, network)


def stated_region(document: Document, network: Network) -> tuple[Case, ...]:
    """The regions that ``[region]`` states, in a file without ``[statement]``.

    Raises:
        InputError: it is malformed, does not fit the network, or speaks of outputs.
    """
    region = document.table("region")
    _require(document, "region", region, _REGIONS)
    if "file" not in region:
        return (_region(document, region, network.input_size),)
    stated, _ = read_property(document.folder / region["file"], network)
    return tuple(replace(case, unsafe=((),)) for case in stated.cases)


def _property(document: Document, folder: Path, network: Network) -> tuple[Property, str]:
    region = document.table("region")
    _require(document, "region", region, _REGIONS)
    whole = "statement" not in document.tables
    if "file" in region:
        stated, digest = read_property(folder / region["file"], network)
        if whole:
            return stated, digest
        if any(case.unsafe != ((),) for case in stated.cases):
            raise document.error(
                "region", "file", "the region's file speaks of outputs, and so does [statement]"
            )
        regions = tuple(stated.cases)
        notes = stated.notes
    elif whole:
        raise document.error("", "statement", "[statement] is missing")
    else:
        regions = (_region(document, region, network.input_size),)
        notes = ()
    unsafe = _statement(document, regions, network)
    built = replace(unsafe, notes=notes + unsafe.notes)
    return built, built.digest


def _region(document: Document, region: Mapping[str, Any], size: int) -> Case:
    if "lower" in region:
        low, high = _placed(
            document, "region", lambda: builders.box(size, region["lower"], region["upper"])
        )
    else:
        clip = region.get("clip", (None, None))
        if len(clip) != 2:
            raise document.error("region", "clip", "'clip' must be [LOW, HIGH]")
        low, high = _placed(
            document,
            "region",
            lambda: builders.ball(size, region["centre"], region["radius"], *clip),
        )
    return Case(low, high, ((),))


def _statement(document: Document, regions: tuple[Case, ...], network: Network) -> Property:
    statement = document.table("statement")
    kind = statement.get("kind")
    if kind not in _STATEMENTS:
        known = ", ".join(f"'{name}'" for name in _STATEMENTS)
        raise document.error("statement", "kind", f"kind {kind!r} is none of {known}")
    given = {key: value for key, value in statement.items() if key != "kind"}
    _require(document, "statement", given, (_STATEMENTS[kind],))
    inputs, outputs = network.input_size, network.output_size
    if kind == "unsafe":
        name = f"{document.source.name}: formula"
        unsafe = read_unsafe(Source(name, given["formula"]), inputs, outputs)
    elif kind == "robust":
        make = builders.misclassified
        unsafe = _placed(document, "statement", lambda: make(outputs, **given))
    else:
        limit = builders.out_of_range
        unsafe = _placed(document, "statement", lambda: limit(outputs, **given))
    return Property(inputs, outputs, tuple(replace(case, unsafe=unsafe) for case in regions))


def _placed(document: Document, table: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except InputError as error:
        key = re.match(r"\w+", str(error))
        raise document.error(table, key[0] if key else "", str(error)) from None


def _require(
    document: Document,
    table: str,
    given: Mapping[str, Any],
    choices: tuple[tuple[frozenset[str], frozenset[str]], ...],
) -> None:
    if any(must <= given.keys() <= must | may for must, may in choices):
        return
    forms = "; or ".join(
        ", ".join(sorted(must)) + "".join(f", optionally {key}" for key in sorted(may))
        for must, may in choices
    )
    found = ", ".join(given) or "nothing"
    raise document.error(table, "", f"[{table}] needs {forms}; it has {found}")
