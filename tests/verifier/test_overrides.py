"""Settings by name: which there are, which values they take, and that they arrive."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from specs.errors import InputError, MissingExtraError
from tests.verifier.test_verify import hard
from verifier import attack, overrides, policy
from verifier import verify as module
from verifier.options import Options
from verifier.overrides import (
    Count,
    Setting,
    Share,
    every_setting,
    in_words,
    listing,
    of_group,
    read_pairs,
    validated,
)
from verifier.verdict import as_json
from verifier.verify import verify

ROOT = Path(__file__).resolve().parents[2]


def test_every_field_of_every_dataclass_is_a_setting_with_a_meaning() -> None:
    pytest.importorskip("torch")
    from verifier import bab_settings
    from verifier.quantised import settings as quantised_settings
    from verifier.smt import settings as smt_settings

    groups = {
        "policy": policy,
        "attack": attack,
        "search": bab_settings,
        "quantised": quantised_settings,
        "smt": smt_settings,
    }
    wanted = [
        f"{group}.{field.name}"
        for group, where in groups.items()
        for field in dataclasses.fields(where.Settings)
    ]
    found = list(every_setting())
    assert [setting.name for setting in found] == wanted
    assert [setting.name for setting in found if len(setting.meaning) < 10] == []
    for setting in found:  # the defaults are themselves allowed
        assert setting.parse(setting.default) == setting.default


def test_a_field_explained_in_passing_has_its_own_meaning() -> None:
    @dataclass(frozen=True)
    class Settings:
        """Made up.

        Attributes:
            first, second: of both,
                over two lines; ``third``: of another.
            share: of a kind with a
                range.

        Not of an attribute: nor this.
        """

        first: int = 1
        second: int = 1
        third: bool = False
        share: Share = 0.5

    assert overrides._meanings(Settings) == {
        "first": "of both, over two lines",
        "second": "of both, over two lines",
        "third": "of another",
        "share": "of a kind with a range",
    }


def setting(kind: Any, *, choices: tuple[str, ...] = (), default: Any = 0) -> Setting:
    return Setting("x.y", kind, choices, overrides.Range(0.0, 5.0), default, "")


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (int, "3", 3),
        (int, " 3 ", 3),
        (int, 3, 3),
        (float, "1e-3", 1e-3),
        (float, 2, 2.0),
        (float, "0", 0.0),
        (bool, "true", True),
        (bool, "False", False),
        (bool, False, False),
        (str, "inputs", "inputs"),
    ],
)
def test_values_are_read(kind: type, given: object, value: object) -> None:
    found = setting(kind).parse(given)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (int, "1.5"),
        (int, 1.5),
        (int, True),
        (int, ""),
        (int, "6"),
        (int, "-1"),
        (float, "nan"),
        (float, float("nan")),
        (float, "inf"),
        (float, "-0.5"),
        (float, 5.5),
        (float, "half"),
        (float, None),
        (float, True),
        (float, 10**400),
        (bool, "yes!"),
        (bool, 1),
        (str, 3),
    ],
)
def test_values_of_another_kind_or_out_of_range_are_refused(kind: type, given: object) -> None:
    with pytest.raises(InputError, match=r"x\.y="):
        setting(kind).parse(given)


def test_a_number_without_an_upper_end_is_still_finite() -> None:
    with pytest.raises(InputError):
        validated({"attack.work": "inf"})
    assert validated({"attack.work": "1e30"}) == {"attack.work": 1e30}


def test_choices_are_listed_when_another_word_is_given() -> None:
    pytest.importorskip("torch")
    assert validated({"search.method": "inputs"}) == {"search.method": "inputs"}
    with pytest.raises(InputError, match="one of auto, inputs, neurons"):
        validated({"search.method": "magic"})


def test_ranges_come_from_the_types_of_the_fields() -> None:
    @dataclass(frozen=True)
    class Settings:
        """Made up."""

        share: Share = 0.5
        count: Count = 1

    hints = {"share": Share, "count": Count}
    share, count = (overrides._setting(f"x.{n}", hints[n], 1, {}) for n in ("share", "count"))
    assert share.parse("1") == 1.0
    assert count.parse("1") == 1
    for one, bad in ((share, "1.01"), (share, "-0.1"), (count, "0")):
        with pytest.raises(InputError, match="at least"):
            one.parse(bad)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("search.bach", "search.batch"),
        ("serch.batch", "search.batch"),
        ("batch", "search.batch"),
        ("policy.atack_share", "policy.attack_share"),
        ("kernel.steps", "attack.steps"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name: str, near: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError, match=f"no setting '{name}'.*{near}"):
        validated({name: 1})


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert read_pairs(["a.b=1", " c.d = x=y", "a.b=2"]) == {"a.b": "2", "c.d": " x=y"}
    for bad in ("a.b", "=3", ""):
        with pytest.raises(InputError, match="NAME=VALUE"):
            read_pairs([bad])


def test_words_read_back_as_the_same_settings() -> None:
    pytest.importorskip("torch")
    given = validated(
        {"search.split": False, "attack.work": 0.1 + 0.2, "attack.steps": 7, "search.margin": 1e-9}
    )
    assert validated(read_pairs(in_words(given).split())) == given
    assert of_group(given, "search") == {"split": False, "margin": 1e-9}


def test_the_listing_has_a_line_for_every_setting() -> None:
    pytest.importorskip("torch")
    lines = listing(policy.attack_defaults()).splitlines()
    assert len(lines) == len(list(every_setting()))
    (steps,) = [line for line in lines if line.startswith("attack.steps ")]
    assert "60 | 80" in steps  # not the default of the class, which no member uses
    (share,) = [line for line in lines if line.startswith("policy.kernel_share ")]
    assert "share of the kernel" in share


def test_settings_of_policy_and_attack_need_no_torch() -> None:
    program = (
        "import sys\n"
        "from verifier.overrides import validated\n"
        "validated({'policy.kernel_share': 0.5, 'attack.steps': '3'})\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_settings_of_the_search_say_that_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError("no", name="torch")

    monkeypatch.setattr(overrides.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match="torch"):
        validated({"search.batch": 3})


def test_settings_reach_the_member_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import verifier.bab

    seen: dict[str, Any] = {}

    class Search(verifier.bab.Search):
        def __init__(self, *args: Any, settings: Any, **more: Any) -> None:
            seen["search"] = settings
            super().__init__(*args, settings=settings, **more)

    class Attack(attack.Attack[Any]):
        def __init__(self, *args: Any, settings: Any, **more: Any) -> None:
            seen.setdefault("attacks", []).append(settings)
            super().__init__(*args, settings=settings, **more)

    monkeypatch.setattr(verifier.bab, "Search", Search)
    monkeypatch.setattr(module, "Attack", Attack)
    given = {"search.batch": "256", "attack.steps": 3, "attack.seed": 5, "policy.reopenings": 1}
    query = hard()
    verdict = verify(query, Options(timeout=60, settings=given))
    assert verdict.answer == "unsat"
    assert seen["search"] == verifier.bab.Settings(batch=256)
    assert {(a.steps, a.seed) for a in seen["attacks"]} == {(3, 5)}
    wanted = {"search.batch": 256, "attack.steps": 3, "attack.seed": 5, "policy.reopenings": 1}
    assert as_json(query, verdict)["settings"] == wanted
    assert as_json(query, verify(query, Options(timeout=60)))["settings"] == {}


def test_a_share_of_nothing_leaves_a_member_out() -> None:
    verdict = verify(hard(), Options(timeout=30, settings={"policy.kernel_share": 0}))
    assert "kernel" not in {stage.name for stage in verdict.stages}
    assert verdict.answer == "unsat"


@pytest.mark.parametrize("low", [True, False])
def test_the_ends_of_every_range_neither_crash_nor_change_an_answer(low: bool) -> None:
    """Whatever is allowed is survived: verdicts may be lost, never wrong or an error."""
    pytest.importorskip("torch")
    query = hard()
    for one in every_setting():
        if one.kind not in (int, float) or (not low and one.range.high > 1):
            continue
        value = one.kind(one.range.low if low else one.range.high)
        for method in ("inputs", "neurons") if one.name.startswith("search.") else ("auto",):
            given = {"search.method": method, "search.last_steps": 5, one.name: value}
            verdict = verify(query, Options(timeout=3, settings=given))
            assert verdict.answer in ("unsat", "unknown", "timeout"), one.name
