"""How threads wait is chosen once, and a user's own choice stands."""

from __future__ import annotations

import pytest

from verifier import threads


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, str(threads.SPINS)),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, None),
    ],
)
def test_the_user_decides_how_threads_wait(
    given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = dict(given)
    monkeypatch.setattr(threads.os, "environ", environment)
    threads.settle()
    assert environment.get("GOMP_SPINCOUNT") == expected
    assert environment.get("OMP_WAIT_POLICY") == given.get("OMP_WAIT_POLICY")
