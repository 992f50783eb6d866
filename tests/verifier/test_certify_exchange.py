"""JUnit's XML and SARIF: what readers of these formats require."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farkas
from tests.verifier.certify_files import folder_with
from tests.verifier.page_outcome import outcome
from verifier.certify import exchange
from verifier.certify.exchange import as_junit, as_sarif
from verifier.certify.run import Outcome
from verifier.certify.section import Judged, Part

MAP = '[faults]\nmodel = "bit_flips"\nformat = "int8"\n[faults.map]\n'

# Of the schemas that Jenkins and GitLab publish: elements, their attributes, required ones first.
SCHEMA = {
    "testsuites": ("name tests failures errors skipped time", {"testsuite"}),
    "testsuite": ("name tests failures errors skipped time", {"testcase"}),
    "testcase": ("name classname time", {"failure", "error", "skipped", "system-out"}),
    "failure": ("message type", set()),
    "error": ("message type", set()),
    "skipped": ("message", set()),
    "system-out": ("", set()),
}


def conforms(element: ElementTree.Element) -> None:
    attributes, children = SCHEMA[element.tag]
    assert set(element.attrib) == set(attributes.split())
    for count in {"tests", "failures", "errors", "skipped"} & set(element.attrib):
        tag = {"tests": "testcase", "failures": "failure", "errors": "error"}.get(count, count)
        assert int(element.get(count)) == sum(1 for _ in element.iter(tag))
    assert float(element.get("time", "0")) >= 0
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
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "65",
        "failures": "1",
        "errors": "1",
        "skipped": "20",
    }
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


REQUIRED = {"ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"}


def checked_sarif(text: str) -> list[dict]:
    """Results, after what GitHub's code scanning requires of the file."""
    about = json.loads(text)
    assert about["version"] == "2.1.0"
    (run,) = about["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "Farkas"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for result in run["results"]:
        assert set(result) == REQUIRED
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        (place,) = result["locations"]
        assert place["physicalLocation"]["region"]["startLine"] >= 1
        assert not place["physicalLocation"]["artifactLocation"]["uri"].startswith("/")
    prints = [result["partialFingerprints"]["farkas/v1"] for result in run["results"]]
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
    assert place["region"]["startLine"] == 5


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
