"""The page of a report in a real browser."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.verifier.browser import Browser, installed
from tests.verifier.page_outcome import outcome
from verifier.certify.report import as_html

PROBE = """<script>
const seen = [];
const rows = () => Array.from(document.querySelectorAll("#questions-table tbody tr"));
const shown = () => rows().filter((row) => row.getClientRects().length > 0).length;
const form = document.getElementById("filters");
function choose(name, value) {
  form.elements[name].value = value;
  form.dispatchEvent(new Event("input", { bubbles: true }));
  seen.push(`${name}=${value}: ${shown()}`);
}
choose("verdict", "undecided");
choose("text", "SAMPLE 4,");
choose("verdict", "");
choose("text", "");
choose("part", "p0");
const head = document.querySelectorAll("#questions-table th button");
head[2].click();
const seconds = rows().map((row) => Number(row.cells[2].dataset.value));
seen.push(`up: ${seconds.every((x, k) => k === 0 || seconds[k - 1] <= x)}`);
head[3].click(); head[3].click();
const sizes = rows().map((row) => row.cells[3].dataset.value);
const first = sizes.indexOf("");
const falls = (x, k) => k === 0 || Number(sizes[k - 1]) >= Number(x);
seen.push(`down: ${sizes.slice(0, first).every(falls)}`);
seen.push(`blanks last: ${sizes.slice(first).every((x) => x === "")}`);
seen.push(`wider than the window: ${document.documentElement.scrollWidth > innerWidth}`);
document.title = seen.join("; ");
</script></body>"""

BARE = """<script>
const count = (what) => Array.from(document.querySelectorAll(what)).filter(
  (one) => one.getClientRects().length > 0).length;
document.title = `${count("#questions-table tbody tr")} rows, ${count("form")} forms`;
</script>"""

SAID = (
    "verdict=undecided: 10; text=SAMPLE 4,: 1; verdict=: 1; text=: 60; part=p0: 60; "
    "up: true; down: true; blanks last: true; wider than the window: false"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Browser:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    return Browser(program, tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def text() -> str:
    return as_html(outcome())


@pytest.fixture(scope="module")
def address(browser, text) -> str:
    file = browser.folder / "report.html"
    file.write_text(text)
    return file.as_uri()


def shown(dom: str) -> str:
    (found,) = re.findall(r'<output id="shown">(.*?)</output>', dom)
    return found


def test_the_page_loads_without_a_word_on_the_console(browser, address):
    dom, console = browser.dom(address)
    assert console == []
    assert shown(dom) == "60 of 60 shown"
    assert "<form" in dom
    assert 'id="filters" hidden' not in dom


def test_filters_and_sorting(browser, text):
    file = browser.folder / "probe.html"
    file.write_text(text.replace("</body>", PROBE))
    dom, console = browser.dom(file.as_uri())
    assert console == []
    (title,) = re.findall(r"<title>(.*?)</title>", dom)
    assert title == SAID


def test_a_threshold_leads_to_its_questions(browser, address):
    dom, console = browser.dom(address + "#questions?part=p0&verdict=refuted")
    assert console == []
    assert shown(dom) == "10 of 60 shown"


def test_without_its_script_all_is_there(browser, text):
    file = browser.folder / "bare.html"
    file.write_text(re.sub(r"<script>.*</script>", BARE, text, flags=re.DOTALL))
    dom, _ = browser.dom(file.as_uri())
    assert re.findall(r"<title>(.*?)</title>", dom) == ["60 rows, 0 forms"]


def test_what_a_page_would_fetch_is_refused(browser, text):
    file = browser.folder / "fetch.html"
    file.write_text(text.replace("</body>", '<img src="http://example.invalid/x.png"></body>'))
    _, console = browser.dom(file.as_uri())
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_drawn_in_light_and_dark(browser, address, dark):
    image = pytest.importorskip("PIL.Image")
    file = browser.screenshot(address, 800, 900, dark=dark)
    pixels = np.asarray(image.open(file).convert("L"))
    assert (np.median(pixels) < 60) == dark
    assert pixels.std() > 10
