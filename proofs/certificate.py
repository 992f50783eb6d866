"""A check as a document that an auditor can file; ``docs/certificate.md`` describes it.

What stands in it about rules is a fact about the file, gathered outside the kernel.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from proofs.check import Checked, read_and_check
from proofs.format import VERSION
from proofs.proof import Fact, NodeKind, Proof
from proofs.signature import content_hash, signatures
from proofs.squares import with_squares_of
from proofs.statement import established, number_of_unsafe_sets
from proofs.theorem import theorem
from proofs.witness import Witness
from specs import version
from specs.errors import EvidenceError
from specs.faults.struck import faults_of
from specs.network import Linear, Product, Univariate
from specs.query import Query

FORMAT, SCHEMA = "farkas-certificate", 1
WHOLE = 10_000
"""Bounds of a property, of all cases, up to which a certificate spells out the theorem."""


@dataclass(frozen=True, eq=False)
class Audit:
    """A check of one file, and what was read from it.

    Attributes:
        evidence: ``None`` where the file is no evidence.
    """

    query: Query
    path: Path
    checked: Checked
    evidence: Proof | Witness | None


def audit(
    query: Query,
    path: str | Path,
    *,
    arithmetic: str = "outward",
    timeout: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
    processes: int | None = None,
) -> Audit:
    """Check a file as :func:`proofs.check.check_file` does, and keep what was read.

    Args:
        timeout: in seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    checked, evidence = read_and_check(
        query,
        path,
        arithmetic=arithmetic,
        deadline=deadline,
        progress=progress,
        processes=processes,
    )
    return Audit(query, Path(path), checked, evidence)


def certificate(found: Audit) -> dict[str, Any]:
    """The certificate of a check, as plain data."""
    query, checked = found.query, found.checked
    bounds = query.network.input_size * len(query.property.cases)
    return {
        "format": FORMAT,
        "version": SCHEMA,
        "verdict": checked.verdict,
        "established": established(query, checked),
        "theorem": theorem(query, full=bounds <= WHOLE),
        "question": _question(query),
        "check": {
            "arithmetic": checked.arithmetic,
            "leaves": checked.leaves,
            "vacuous_cases": list(checked.vacuous),
            "rejected": [asdict(leaf) for leaf in checked.rejected],
            "cpu_seconds": checked.cpu_seconds,
        },
        "evidence": _evidence(found),
        "versions": versions(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _question(query: Query) -> dict[str, Any]:
    network, stated = query.network, query.property
    faults, functions = faults_of(query), Counter[str]()
    for tensor, node in enumerate(network.nodes):
        if isinstance(node, Univariate | Product):
            name = node.function if isinstance(node, Univariate) else "product"
            functions[name] += network.sizes[tensor]
    return {
        "digest": query.digest,
        "semantics": query.semantics,
        "not_modelled": list(query.not_modelled),
        "faults": None if faults is None else faults.model.text,
        "models": [
            {
                "file": None if model.path is None else model.path.name,
                "sha256": model.digest,
                "operators": operators(model.content),
            }
            for model in query.models
        ],
        "network": {
            "inputs": network.input_size,
            "outputs": network.output_size,
            "neurons": network.neurons,
            "linear_nodes": sum(isinstance(node, Linear) for node in network.nodes),
            "functions": dict(sorted(functions.items())),
        },
        "property": {
            "sha256": query.property_digest,
            "cases": len(stated.cases),
            "unsafe_sets": number_of_unsafe_sets(query),
            "notes": list(stated.notes),
        },
    }


def operators(content: bytes) -> dict[str, int]:
    """How often a model uses each ONNX operator, subgraphs and functions included."""
    model = ModelProto.FromString(content)
    found: Counter[str] = Counter()
    waiting: list[Iterable[NodeProto]] = [model.graph.node, *(f.node for f in model.functions)]
    while waiting:
        for node in waiting.pop():
            found[node.op_type] += 1
            waiting += [graph.node for graph in _subgraphs(node.attribute)]
    return dict(sorted(found.items()))


def _subgraphs(attributes: Iterable[AttributeProto]) -> list[GraphProto]:
    return [graph for a in attributes for graph in (*a.graphs, *([a.g] if a.HasField("g") else []))]


def _evidence(found: Audit) -> dict[str, Any]:
    evidence = found.evidence
    entry: dict[str, Any] = {
        "file": found.path.name,
        "sha256": file_hash(found.path),
        "kind": None,
        "question": None,
        "content_sha256": None,
        "rules": None,
        "signatures": None,
    }
    if evidence is None:
        return entry
    entry |= {
        "kind": "witness" if isinstance(evidence, Witness) else "proof",
        "question": evidence.question,
    }
    if found.checked.verdict != "unreadable":
        entry["content_sha256"] = content_hash(evidence)
        if isinstance(evidence, Proof):
            entry |= {"rules": rules(evidence, found.query), "signatures": carried(evidence)}
    return entry


def carried(proof: Proof) -> dict[str, Any]:
    """The signatures that a proof carries; that they are not verified is part of it."""
    try:
        listed, fault = [asdict(each) for each in signatures(proof)], None
    except EvidenceError as error:
        listed, fault = [], str(error)
    return {"carried": listed, "verified": False, "fault": fault}


def rules(proof: Proof, query: Query) -> dict[str, Any]:
    """Which rules of inference a proof uses, and how often, as stored in its file.

    Args:
        proof: one whose arrays fit the query.
    """
    arrays, query = proof.arrays, with_squares_of(query, proof)
    kinds = arrays["node_kind"].astype(np.int64)
    args = arrays["node_arg"].astype(np.int64)
    count = {kind: int(np.count_nonzero(kinds == kind)) for kind in NodeKind}
    at = Counter(_form_kind(proof, query, int(form)) for form in args[kinds == NodeKind.SPLIT_AT])
    prelude = [NodeKind(int(kind)) for kind in arrays["prelude_kind"]]
    intervals = int(np.count_nonzero(args[kinds == NodeKind.SWEEP] == 1))
    intervals += int(np.count_nonzero(arrays["prelude_arg"][arrays["prelude_kind"] == 3] == 1))
    hinted = int(np.count_nonzero(args[kinds == NodeKind.CLOSE]))
    facts = arrays["multiplier_kind"]
    return {
        "cases_with_trees": len(arrays["case_number"]),
        "trees": len(arrays["tree_case"]),
        "lemmas": int(np.count_nonzero(np.diff(arrays["tree_literal_ptr"].astype(np.int64)))),
        "splits": {
            "inputs": count[NodeKind.SPLIT_INPUT] + at["input"],
            "neurons": count[NodeKind.SPLIT_NEURON] + at["neuron"],
            "forms": at["form"],
            "disjuncts": count[NodeKind.SPLIT_DISJUNCT],
        },
        "sweeps": count[NodeKind.SWEEP] + prelude.count(NodeKind.SWEEP) - intervals,
        "interval_passes": intervals,
        "bound_steps": count[NodeKind.BOUND] + prelude.count(NodeKind.BOUND),
        "clips": count[NodeKind.CLIP],
        "closes": {"with_hints": hinted, "without_hints": count[NodeKind.CLOSE] - hinted},
        "citations": count[NodeKind.CITE],
        "holes": count[NodeKind.HOLE],
        "multiplied_facts": {
            fact.name.lower(): int(np.count_nonzero(facts == fact)) for fact in Fact
        },
        "slopes": int(arrays["slope"].size),
        "squares": int(arrays["square_scale"].size),
    }


def _form_kind(proof: Proof, query: Query, form: int) -> str:
    """What a split on a linear form is about: one input, one neuron, or a form indeed."""
    start, end = (int(k) for k in proof.arrays["form_ptr"][form : form + 2])
    if end - start != 1:
        return "form"
    name = proof.tensors[int(proof.arrays["entry_tensor"][start])]
    tensor = query.network.tensors.get(name)
    if tensor in query.network.inputs:
        return "input"
    return "neuron" if tensor in query.network.preactivations else "form"


def file_hash(path: Path) -> str | None:
    """SHA-256 of a regular file; ``None`` of anything else."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def evidence_of_claim(path: Path, evidence: Any, kind: str) -> dict[str, Any]:
    """The end of a certificate of a claim: its evidence, if it is some, versions and time."""
    return {
        "evidence": {
            "file": path.name,
            "sha256": file_hash(path),
            "kind": None if evidence is None else kind,
            "question": None if evidence is None else evidence.question,
            "content_sha256": None if evidence is None else content_hash(evidence),
        },
        "versions": versions(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Of all that a verdict may depend on."""
    return {
        "farkas": version.VERSION,
        "evidence_format": str(VERSION),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "python_flint": metadata.version("python-flint"),
    }
