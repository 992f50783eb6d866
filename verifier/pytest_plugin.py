"""The pytest plugin: where assertions keep their evidence, and what a run says of them.

Registered as the entry point ``farkas`` of ``pytest11``; nothing heavy is imported before a
test asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from verifier.testing import FOLDER, Keeper, kept_in

_PROPERTY = "farkas"
_WORDS = {"unsat": "proved", "sat": "violated"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--farkas-evidence``, and the same as a setting of the file."""
    about = f"folder that keeps questions and evidence; default: {FOLDER} in the root folder"
    group = parser.getgroup("farkas")
    group.addoption("--farkas-evidence", metavar="DIR", default=None, help=about)
    parser.addini("farkas_evidence", about, default=None)


def folder_of(config: pytest.Config) -> Path:
    """Where evidence is kept: from the command line relative to the current folder, otherwise
    to the root folder.
    """
    given = config.getoption("--farkas-evidence")
    if given is not None:
        return Path(config.invocation_params.dir) / given
    return config.rootpath / (config.getini("farkas_evidence") or FOLDER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Notes what a test asked; it becomes a property of the test in JUnit's XML, too."""
    keeper = Keeper(folder_of(item.config))
    item.stash[_KEEPER] = keeper
    with kept_in(keeper):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Hands over what was asked since the last report."""
    keeper = item.stash.get(_KEEPER, None)
    if keeper is not None:
        for words, answer, files in keeper.asked:
            said = f"{_WORDS.get(answer, 'undecided')}: {words}; {' '.join(files)}"
            item.user_properties.append((_PROPERTY, said))
        keeper.asked.clear()
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: how many were proved, violated and undecided, and where the evidence is."""
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                said = (text for name, text in report.user_properties if name == _PROPERTY)
                counts.update(text.partition(":")[0] for text in said)
    if counts:
        told = ", ".join(f"{counts[word]} {word}" for word in ("proved", "violated", "undecided"))
        folder = folder_of(terminalreporter.config)
        terminalreporter.write_line(f"farkas: {told}; evidence in {folder}")


_KEEPER = pytest.StashKey[Keeper]()
