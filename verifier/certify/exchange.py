"""An outcome for other programs: JUnit's XML for test reports, SARIF for code scanning.

Thresholds decide, as for the exit code: one that is missed is a failure, one that is open an error.
Questions that are not proved are listed without failing anything, since a threshold may allow for
them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from specs.version import VERSION
from verifier.certify.delivery import told_apart
from verifier.certify.run import Outcome
from verifier.certify.section import (
    CONTRADICTED,
    PROVED,
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Part,
)

MOST = 5000
"""Results of a SARIF file; those of thresholds come first."""

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
"""Of SARIF files."""

RULES = {
    "threshold-missed": (
        "error",
        "A threshold is missed, for certain.",
        "It is proved, or was evaluated exactly, that the threshold is not reached; where that "
        "rests on counterexamples, they are on the page and in the evidence folder. Mend the "
        "model, or state what it can hold.",
    ),
    "threshold-contradicted": (
        "error",
        "A threshold is missed by samples, with the stated confidence.",
        "What was measured contradicts the threshold; it is no proof, and there may be no "
        "counterexample. The page says what was sampled, and with which confidence it holds.",
    ),
    "threshold-undecided": (
        "warning",
        "It was not decided whether a threshold is met.",
        "Questions that were left open could still decide the threshold either way. Give them "
        "more time ([limits] timeout), or a smaller region.",
    ),
    "question-refuted": (
        "note",
        "A question has a counterexample.",
        "The counterexample is in the evidence folder; farkas check confirms it. It fails nothing "
        "by itself: a threshold may allow for it.",
    ),
    "question-undecided": (
        "note",
        "A question was not decided in time.",
        "Neither a proof nor a counterexample was found. It fails nothing by itself: a threshold "
        "may allow for it.",
    ),
}
"""By the name of a SARIF rule its level, its meaning, and what to do."""

_MET, _MISSED = (PROVED, SUPPORTED), (REFUTED, CONTRADICTED)
_RULE_OF = {
    REFUTED: "threshold-missed",
    CONTRADICTED: "threshold-contradicted",
    UNDECIDED: "threshold-undecided",
}


def as_junit(outcome: Outcome) -> str:
    """The outcome as JUnit's XML.

    Each part is a suite; each of its thresholds and questions a test case.  A threshold is a
    failure where it is missed and an error where it is undecided; a question that is not proved
    is skipped, with the reason.
    """
    root = Element("testsuites", name=_xml(outcome.title), time=f"{outcome.seconds:.3f}")
    for section, title, part in _titled(outcome):
        _suite(root, section, title, part)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _titled(outcome: Outcome) -> Iterator[tuple[str, str, Part]]:
    """By section the parts, with titles that occur once in it."""
    for section, parts in outcome.parts.items():
        titles = told_apart([part.title for part in parts])
        yield from ((section, title, part) for title, part in zip(titles, parts, strict=True))


def _suite(root: Element, section: str, title: str, part: Part) -> None:
    suite = SubElement(root, "testsuite", name=_xml(f"{section}: {title}"))
    place = _xml(f"{section}.{title}")
    for judged in part.judged:
        case = SubElement(suite, "testcase", classname=place, name=_xml(judged.asked), time="0")
        if judged.verdict not in _MET:
            kind = "failure" if judged.verdict in _MISSED else "error"
            found = SubElement(case, kind, type=_RULE_OF[judged.verdict])
            found.set("message", _xml(f"found: {judged.found}"))
            found.text = _xml(f"{judged.asked}\nfound: {judged.found}")
    for asked in part.asked:
        case = SubElement(suite, "testcase", classname=place, name=_xml(asked.name))
        case.set("time", f"{asked.seconds:.3f}")
        if asked.verdict != PROVED:
            SubElement(case, "skipped", message=_xml(f"{asked.verdict}: {asked.reason}"))
        if asked.evidence is not None:
            SubElement(case, "system-out").text = _xml(f"evidence/{asked.evidence}")
    suite.set("tests", str(len(suite)))
    for count, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("time", f"{sum(asked.seconds for asked in part.asked):.3f}")


def as_sarif(outcome: Outcome, config: Path, folder: Path) -> str:
    """The outcome as SARIF 2.1.0 (OASIS standard).

    Args:
        outcome: what was found; what is proved does not appear.
        config: the configuration, where results are placed: at the section's table.
        folder: what paths in the file are relative to, where the configuration lies below it.
    """
    text = config.read_text(encoding="utf-8")
    place = _relative(config, folder)
    results = list(_results(outcome, text, place))[:MOST]
    rules = [
        {
            "id": name,
            "shortDescription": {"text": meaning},
            "fullDescription": {"text": meaning},
            "help": {"text": remedy},
            "defaultConfiguration": {"level": level},
        }
        for name, (level, meaning, remedy) in RULES.items()
    ]
    driver = {"name": "Farkas", "version": VERSION, "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _results(outcome: Outcome, text: str, place: str) -> Iterator[dict[str, Any]]:
    parts = list(_titled(outcome))
    for name, title, part in parts:
        for judged in part.judged:
            if judged.verdict not in _MET:
                words = f"{title}: {judged.asked}; found: {judged.found}"
                key = f"{name}|{title}|{judged.asked}"
                yield _result(_RULE_OF[judged.verdict], words, key, place, _region(text, name))
    for name, title, part in parts:
        for asked in part.asked:
            if asked.verdict != PROVED:
                words = f"{title}, {asked.name}: {asked.verdict}; {asked.reason}"
                key = f"{name}|{title}|{asked.name}"
                yield _result(f"question-{asked.verdict}", words, key, place, _region(text, name))


def _result(rule: str, words: str, key: str, place: str, region: dict[str, int]) -> dict[str, Any]:
    where = {"artifactLocation": {"uri": place}, "region": region}
    print_of = hashlib.sha256(key.encode()).hexdigest()[:32]
    return {
        "ruleId": rule,
        "ruleIndex": list(RULES).index(rule),
        "level": RULES[rule][0],
        "message": {"text": words},
        "locations": [{"physicalLocation": where}],
        # The name that GitHub heeds; what it would compute itself is the same for all of a line.
        "partialFingerprints": {"primaryLocationLineHash": print_of},
    }


def _region(text: str, section: str) -> dict[str, int]:
    """The line where the section's first table begins; the first where no line shows it."""
    found = re.search(rf"^[ \t]*\[+[ \t]*{re.escape(section)}[ \t]*[.\]]", text, re.MULTILINE)
    line = 1 if found is None else text.count("\n", 0, found.start()) + 1
    end = len(text.split("\n")[line - 1]) + 1
    return {"startLine": line, "startColumn": 1, "endLine": line, "endColumn": end}


def _relative(path: Path, folder: Path) -> str:
    """As a URI: relative below the folder, otherwise whole."""
    from urllib.parse import quote

    whole, base = path.resolve(), folder.resolve()
    if whole.is_relative_to(base):
        return quote(whole.relative_to(base).as_posix())
    return whole.as_uri()


def _xml(text: str) -> str:
    """Without characters that XML cannot hold."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
