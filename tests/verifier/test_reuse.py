"""Old proofs on changed questions: what survives, what is mended, and what is never said."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from proofs.check import check_proof
from proofs.proof import NodeKind, Proof, ProofBuilder, Side
from specs.builders import robustness
from specs.errors import InputError
from specs.property import Case, Property, constraint
from specs.query import Query
from tests.verifier.small import mlp, random_mlp
from verifier.bab_input import InputSearch
from verifier.bab_neuron import NeuronSearch
from verifier.old_proof import tried
from verifier.options import Options
from verifier.verdict import as_json
from verifier.verify import verify

SIZES = (4, 10, 10, 2)


def weights(seed: int = 6, noise: float = 0.0) -> Any:
    """A network that may have been trained a little longer."""
    rng, more = np.random.default_rng(seed), np.random.default_rng(99)
    pairs = list(pairwise(SIZES))
    made = [rng.normal(size=pair) / np.sqrt(pair[0]) for pair in pairs]
    biases = [rng.normal(size=b) / 4 for _, b in pairs]
    return mlp([w + noise * more.normal(size=w.shape) for w in made], biases)


def asked(
    made: Any, threshold: float = 1.0, radius: float = 1.0, cases: int = 1, disjuncts: int = 1
) -> Query:
    """Whether the first output stays below a threshold, on a box or on its two halves."""
    network, model = made
    end, low = Fraction(radius), [-Fraction(radius)] * 4
    unsafe = tuple(
        (constraint({}, {k % 2: Fraction(-1)}, Fraction(threshold) + k),) for k in range(disjuncts)
    )
    if cases == 1:
        regions = [Case(low, [end] * 4, unsafe)]
    else:
        regions = [Case(low, [Fraction(0), *[end] * 3], unsafe)]
        regions += [Case([Fraction(0), *low[1:]], [end] * 4, unsafe)]
    stated = Property(4, 2, tuple(regions))
    return Query(network, stated, (model,), stated.digest)


def proved(query: Query, **settings: Any) -> Proof:
    verdict = verify(query, Options(timeout=60, settings=settings, proof_effort="none"))
    assert verdict.answer == "unsat"
    assert isinstance(verdict.evidence, Proof)
    return verdict.evidence


PLAIN = {
    "search.feeds": 0,
    "search.root_feeds": 0,
    "search.clips": 0,
    "search.margin": 1e-7,
    "search.stars": "never",
}
"""Searches that need more splits."""

KINDS = {kind: {"search.method": kind, **PLAIN} for kind in ("neurons", "inputs")}


@pytest.fixture(scope="module", params=list(KINDS))
def old(request: pytest.FixtureRequest) -> tuple[str, Proof]:
    """A proof with splits, of neurons or of inputs."""
    proof = proved(asked(weights()), **KINDS[request.param])
    assert proof.leaves > 3
    assert proof.splits == request.param
    return request.param, proof


def stages(verdict: Any) -> list[str]:
    return [stage.name for stage in verdict.stages]


def test_on_the_same_question_everything_survives(old: tuple[str, Proof]) -> None:
    verdict = verify(asked(weights()), Options(reuse=old[1]))
    assert verdict.answer == "unsat"
    assert verdict.reused is not None
    assert verdict.reused.survived == verdict.reused.leaves == old[1].leaves
    assert (verdict.reused.share, verdict.reused.added, verdict.reused.dropped) == (1.0, 0, {})
    assert stages(verdict) == ["attack", "reuse"]
    assert as_json(asked(weights()), verdict)["reused"]["share"] == 1.0


def test_on_a_smaller_region_all_or_most_survives(old: tuple[str, Proof]) -> None:
    """Default slopes depend on the region, so that a leaf without hints may want others."""
    verdict = verify(asked(weights(), radius=0.9), Options(timeout=60, reuse=old[1]))
    assert verdict.answer == "unsat"
    assert verdict.reused is not None
    assert verdict.reused.share > (0.9 if old[0] == "inputs" else 0.999)


@pytest.mark.parametrize("by", list(KINDS))
def test_what_fails_is_mended_and_nothing_else_searched(
    old: tuple[str, Proof], by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By either search, whichever made the proof."""
    query = asked(weights(noise=0.02))
    given: list[int] = []
    for engine in (InputSearch, NeuronSearch):
        plain = engine.take_up

        def counted(self: Any, *args: Any, plain: Any = plain) -> bool:
            given.append(len(args[-1]))
            return bool(plain(self, *args))

        monkeypatch.setattr(engine, "take_up", counted)
    least = {"policy.least_reused_share": 0.0}
    options = Options(60, proof_effort="none", reuse=old[1], settings=KINDS[by] | least)
    verdict = verify(query, options)
    assert verdict.answer == "unsat"
    assert check_proof(query, verdict.evidence, arithmetic="exact").valid  # type: ignore[arg-type]
    kept = verdict.reused
    assert kept is not None
    assert 0 < kept.survived < kept.leaves == old[1].leaves
    assert given == [kept.leaves - kept.survived]
    assert kept.added is not None
    assert kept.added >= given[0]
    assert verdict.evidence.leaves == kept.survived + kept.added  # type: ignore[union-attr]
    assert "kernel" not in stages(verdict)


def test_a_question_that_does_not_hold_any_more_is_never_unsat(old: tuple[str, Proof]) -> None:
    for seed in (6, 7):
        made = weights(seed, 0.3)
        points = np.random.default_rng(0).uniform(-1, 1, size=(20000, 4))
        from verifier.attack_forward import NumpyEvaluator

        top = float(NumpyEvaluator(made[0]).evaluate(points)[0][:, 0].max())
        query = asked(made, top - 0.01)
        assert verify(query, Options(timeout=20, reuse=old[1])).answer == "sat"
        unsure = Options(timeout=5, reuse=old[1], method="bounds", settings={"search.split": False})
        assert verify(query, unsure).answer != "unsat"


def test_several_cases_and_disjuncts() -> None:
    before = asked(weights(), cases=2, disjuncts=2)
    for kind in KINDS.values():
        proof = proved(before, **kind)
        same = verify(before, Options(reuse=proof)).reused
        assert same is not None
        assert same.share == 1.0
        query = asked(weights(noise=0.02), cases=2, disjuncts=2)
        options = {"policy.least_reused_share": 0.0} | kind
        verdict = verify(query, Options(timeout=60, reuse=proof, settings=options))
        assert verdict.answer == "unsat"
        assert verdict.reused is not None
        assert verdict.reused.survived < verdict.reused.leaves
        fewer = verify(asked(weights(), cases=2), Options(timeout=60, reuse=proof))
        assert fewer.answer == "unsat"
        more = verify(asked(weights(), cases=2, disjuncts=3), Options(timeout=60, reuse=proof))
        assert more.answer == "unsat"


def test_a_proof_of_another_network_is_no_hindrance(old: tuple[str, Proof]) -> None:
    made, model = weights()
    nodes = tuple(replace(node, name=f"other/{node.name}") for node in made.nodes)
    query = asked((replace(made, nodes=nodes), model))
    proof = proved(asked(weights()), **KINDS["neurons"])
    verdict = verify(query, Options(timeout=60, reuse=proof))
    assert verdict.answer == "unsat"
    assert verdict.reused is not None
    assert verdict.reused.survived == 0
    assert verdict.reused.dropped["splits"] > 0
    assert "too few" in verdict.reused.in_words()
    assert "kernel" in stages(verdict)
    small = robustness(random_mlp([2, 3, 2], 1), [0, 0], 0, Fraction(1, 100))
    assert verify(small, Options(timeout=60, reuse=old[1])).answer in ("unsat", "sat")


def test_a_pruned_network_takes_what_fits() -> None:
    proof = proved(asked(weights()), **KINDS["neurons"])
    (network, _), cut = weights(), 9
    dense = [node.terms[0].map.weight.value for node in network.nodes if hasattr(node, "terms")]
    offsets = [node.offset.value for node in network.nodes if hasattr(node, "terms")]
    made = mlp(
        [dense[0][:, :cut], dense[1][:cut], dense[2]], [offsets[0][:cut], offsets[1], offsets[2]]
    )
    verdict = verify(asked(made, 2.0), Options(timeout=60, reuse=proof))
    assert verdict.answer == "unsat"
    assert verdict.reused is not None
    assert verdict.reused.dropped


def lemma_proof(query: Query, refuted: bool) -> Proof:
    """The case's tree cites a lemma about one half; it closes, or not, by itself."""
    builder = ProofBuilder(query)
    builder.begin_case(0)
    form = builder.form([(1, 0, 1.0)], -50.0 if refuted else 50.0)
    lemma = builder.begin_tree([(form, Side.LOWER)])
    builder.close()
    builder.begin_tree()
    builder.split_form(form)
    builder.cite(lemma)
    builder.split_neuron(1, 1)
    builder.close()
    builder.close()
    return builder.finish()


@pytest.mark.parametrize("refuted", [True, False])
def test_lemmas_that_fail_are_dropped_and_others_kept(refuted: bool) -> None:
    query = asked(weights())
    proof = lemma_proof(query, refuted)
    found = tried(query, proof, None, 0.0)
    assert found.rest is not None
    assert len(found.rest.draft.cases[0].trees) == 1 + refuted
    least = {"policy.least_reused_share": 0.0, "search.method": "neurons"}
    verdict = verify(query, Options(60, proof_effort="none", reuse=proof, settings=least))
    assert verdict.answer == "unsat"
    kinds = verdict.evidence.arrays["node_kind"]  # type: ignore[union-attr]
    assert (NodeKind.CITE in kinds) == refuted
    assert NodeKind.SPLIT_AT in kinds


def test_float_semantics() -> None:
    from specs.onnx_reader import read_model_bytes
    from specs.perturbation import rounding_of

    def rounded(made: Any) -> Query:
        format = rounding_of("float32")
        network = read_model_bytes(made[1].content, None, "m", format)
        plain = asked((network, made[1])) if format is None else None
        stated = asked(made).property
        assert plain is None
        return Query(network, stated, (made[1],), stated.digest, (format,))  # type: ignore[arg-type]

    proof = proved(rounded(weights()), **KINDS["neurons"])
    again = verify(rounded(weights()), Options(timeout=60, reuse=proof))
    assert again.reused is not None
    assert again.reused.share == 1.0
    changed = verify(rounded(weights(noise=0.003)), Options(timeout=60, reuse=proof))
    assert changed.answer == "unsat"
    assert changed.reused is not None
    assert 0 < changed.reused.survived < changed.reused.leaves


def test_a_proof_with_holes_is_filled() -> None:
    query = asked(weights())
    builder = ProofBuilder(query)
    builder.begin_case(0)
    builder.begin_tree()
    builder.split_neuron(1, 0)
    builder.hole()
    builder.hole()
    options = {"policy.least_reused_share": 0.0}
    verdict = verify(query, Options(timeout=60, reuse=builder.finish(), settings=options))
    assert verdict.answer == "unsat"
    assert verdict.reused is not None
    assert (verdict.reused.leaves, verdict.reused.survived) == (2, 0)


def test_attacks_alone_do_not_take_a_proof(old: tuple[str, Proof]) -> None:
    with pytest.raises(InputError, match="reuse"):
        Options(method="attack", reuse=old[1])


def test_a_damaged_proof_is_said_to_be_so(old: tuple[str, Proof]) -> None:
    damaged = replace(old[1], manifest={"sizes": 1})
    verdict = verify(asked(weights()), Options(timeout=60, reuse=damaged))
    assert verdict.answer == "unsat"
    assert verdict.reused is not None
    assert "manifest" in verdict.reused.why_not
