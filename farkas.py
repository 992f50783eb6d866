"""Farkas verifies neural networks; every verdict comes with evidence that can be checked.

This module is what people import.  Its names are looked up on first use, so that
``import farkas`` costs nothing and the checker works where the verifier is not installed::

    import farkas

    verdict = farkas.verify(["net.onnx", "property.vnnlib"], timeout=60)
    print(verdict.answer)
    checked = farkas.check(["net.onnx", "property.vnnlib"], "proof.farkas")
    print(checked.verdict)
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specs import version as _version

if TYPE_CHECKING:
    from fractions import Fraction

    from proofs.check import Checked
    from proofs.explain import Explanation
    from proofs.proof import Proof
    from specs.query import Query
    from verifier.quantised.question import IntegerQuestion
    from verifier.verdict import Verdict


__version__ = _version.VERSION

_EXPORTS = {
    "Case": "specs.property",
    "Checked": "proofs.check",
    "Constraint": "specs.property",
    "EvidenceError": "specs.errors",
    "Explanation": "proofs.explain",
    "FarkasError": "specs.errors",
    "InputError": "specs.errors",
    "MissingExtraError": "specs.errors",
    "ModelError": "specs.errors",
    "Network": "specs.network",
    "Proof": "proofs.proof",
    "Property": "specs.property",
    "PropertyError": "specs.errors",
    "Query": "specs.query",
    "QuestionError": "specs.errors",
    "UndecidedError": "verifier.testing",
    "UnsupportedOperatorError": "specs.errors",
    "Verdict": "verifier.verdict",
    "ViolatedError": "verifier.testing",
    "Witness": "proofs.witness",
    "assert_holds": "verifier.testing",
    "assert_robust": "verifier.testing",
    "constraint": "specs.property",
    "content_hash": "proofs.signature",
    "load_question": "specs.question",
    "minimise": "proofs.minimise",
    "monotonicity": "specs.builders",
    "output_range": "specs.builders",
    "read_evidence": "proofs.format",
    "read_model": "specs.onnx_reader",
    "reused": "proofs.retarget",
    "robustness": "specs.builders",
    "signatures": "proofs.signature",
    "theorem": "proofs.theorem",
    "with_signature": "proofs.signature",
    "write_proof": "proofs.format",
    "write_witness": "proofs.format",
}

__all__ = ["__version__", "check", "explain", "main", "verify", *_EXPORTS]

_USAGE = """\
usage: farkas COMMAND ...

    farkas verify QUESTION    does the network have the property? with evidence
    farkas check  QUESTION EVIDENCE    is the evidence valid for the question?
    farkas check  FOLDER      and of everything in a folder
    farkas explain QUESTION PROOF    which neurons, or inputs, does the proof rest on?
    farkas minimize QUESTION PROOF -o SMALLER    a smaller proof of the same
    farkas show   FILE        what is in a proof or a witness
    farkas show   QUESTION    the theorem that a question asks about
    farkas reach  QUESTION    which outputs can the inputs lead to? a union of stars
    farkas certify CONFIG.toml    data sets under faults: shares, thresholds, a report
    farkas harden NET.onnx CONFIG.toml -o HARDENED.onnx    range restrictions, with a proof
    farkas bench  FOLDER-or-INSTANCES.csv    a list of questions, and a table of the answers

QUESTION is NET.onnx PROPERTY.vnnlib or QUESTION.toml.  farkas COMMAND --help says more.
Exit codes: 0 holds, 1 violated, 2 undecided, 3 fault of the input, 4 fault of ours,
130 interrupted.
"""

_COMMANDS = {
    "bench": "verifier.cli",
    "certify": "verifier.certify.command",
    "check": "proofs.cli",
    "explain": "verifier.explain_cli",
    "harden": "verifier.harden_cli",
    "minimize": "proofs.minimise_cli",
    "reach": "verifier.reach_cli",
    "show": "proofs.cli",
    "verify": "verifier.cli",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'farkas' has no attribute '{name}'")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


_Path = str | os.PathLike[str]


def verify(
    question: Query | IntegerQuestion | _Path | Sequence[_Path],
    *,
    semantics: str | None = None,
    **options: Any,
) -> Verdict:
    """Whether the network has the property, with evidence.

    Args:
        question: a query, a question file, or a model file and a property file.
        semantics: ``"real"``, ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"integer"``;
            ``None``: what the question says, and otherwise real numbers.
        options: see :class:`verifier.verify.Options`: ``timeout``, ``method``, ``device``.

    Raises:
        InputError: the question cannot be read, or an option makes no sense.
    """
    import pathlib

    from specs.errors import QuestionError
    from specs.query import Query
    from verifier.options import Options
    from verifier.quantised.question import IntegerQuestion, load
    from verifier.verify import verify as run

    if isinstance(question, IntegerQuestion | Query):
        if semantics not in (None, question.semantics):
            raise QuestionError(f"the query is about {question.semantics} semantics")
        return run(question, Options(**options))
    files = [question] if isinstance(question, str | os.PathLike) else question
    return run(load(*map(pathlib.Path, files), semantics=semantics), Options(**options))


def check(
    question: Query | _Path | Sequence[_Path],
    evidence: _Path,
    *,
    arithmetic: str = "outward",
    timeout: float | None = None,
    semantics: str | None = None,
) -> Checked:
    """Whether a proof or witness file is valid evidence for the question.

    Args:
        question: a query, a question file, or a model file and a property file.
        evidence: the file.
        arithmetic: ``"outward"`` or ``"exact"``.
        timeout: in seconds.
        semantics: as for :func:`verify`.

    Raises:
        InputError: the question cannot be read.
    """
    import pathlib
    import time

    from proofs.check import check_file

    deadline = None if timeout is None else time.monotonic() + timeout
    path = pathlib.Path(evidence)
    query = _query(question, semantics)
    return check_file(query, path, arithmetic=arithmetic, deadline=deadline)


def explain(
    question: Query | _Path | Sequence[_Path],
    proof: _Path | Proof | None,
    *,
    layer: str | int | None = None,
    inputs: bool = False,
    regions: tuple[int, int] | None = None,
    domain: tuple[Fraction | int | str, Fraction | int | str] | None = None,
    shape: tuple[int, int, int] | None = None,
    timeout: float | None = None,
    semantics: str | None = None,
) -> Explanation:
    """A subset-minimal set of neurons, or of inputs, that a valid proof rests on.

    Args:
        question: a query, a question file, or a model file and a property file.
        proof: a file, a proof, or ``None`` for the empty proof.
        layer: whose neurons, by name or number; by default the last before the outputs.
        inputs: explain by inputs instead.
        regions: explain by rectangles of ``(height, width)`` pixels.
        domain: the least and the greatest value that a dropped input may take; by default
            those of all cases' regions.
        shape: ``(channels, height, width)`` of the image that the input is; guessed if not given.
        timeout: in seconds; then the best explanation found so far is given.
        semantics: as for :func:`verify`.

    Raises:
        InputError: the question or the proof cannot be read, or the proof is not valid.
    """
    import time
    from fractions import Fraction

    from proofs.explain import explain_inputs, explain_neurons
    from proofs.features import layout, single_inputs
    from proofs.format import read_evidence
    from proofs.proof import Proof
    from specs.errors import InputError

    deadline = None if timeout is None else time.monotonic() + timeout
    query = _query(question, semantics)
    evidence = read_evidence(proof) if isinstance(proof, str | os.PathLike) else proof
    if evidence is not None and not isinstance(evidence, Proof):
        raise InputError("a witness explains itself; explain takes a proof")
    if not inputs and regions is None:
        return explain_neurons(query, evidence, layer, deadline=deadline)
    features = single_inputs(query.network)
    if regions is not None:
        image = layout(query.network, shape)
        if image is None:
            raise InputError("the input is no image as far as can be told: say shape")
        features = image.features(*regions)
    ends = None if domain is None else (Fraction(domain[0]), Fraction(domain[1]))
    return explain_inputs(query, evidence, features, ends, deadline=deadline)


def _query(question: Query | _Path | Sequence[_Path], semantics: str | None) -> Query:
    import pathlib

    from specs.errors import QuestionError
    from specs.query import Query
    from specs.question import load_question

    if isinstance(question, Query):
        if semantics not in (None, question.semantics):
            raise QuestionError(f"the query is about {question.semantics} semantics")
        return question
    files = [question] if isinstance(question, str | os.PathLike) else question
    return load_question(*map(pathlib.Path, files), semantics=semantics)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    # Idle BLAS threads spin: on networks of usual size they double the processor time of a
    # check and save nothing.  Read when numpy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if argv in (["--version"], ["-V"]):
        print(f"farkas {__version__}")
        return 0
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_USAGE, end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 3
    if argv[0] not in _COMMANDS:
        print(f"farkas: no command '{argv[0]}'; see farkas --help", file=sys.stderr)
        return 3
    return _run(argv)


def _module(argv: list[str]) -> str:
    """Where a command is; what asks the search for help needs the verifier."""
    if argv[0] == "minimize" and "--reoptimise" in argv:
        return "verifier.minimise_cli"
    return _COMMANDS[argv[0]]


def _run(argv: list[str]) -> int:
    """Run a command; errors become a message on standard error and an exit code."""
    # One thread for numpy's matrix products: theirs are mostly small, and on a busy machine
    # threads that wait for each other cost tenfold.  Read when numpy is first imported; a
    # choice of the user's own stands.  Torch keeps its threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from specs.errors import FarkasError, InputError

    try:
        code: int = importlib.import_module(_module(argv)).main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("farkas: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # argparse leaves so: 0 after --help, 2 on wrong usage
        return 3 if stop.code else 0
    except InputError as error:
        print(f"farkas: {error}", file=sys.stderr)
        return 3
    except BrokenPipeError:
        # Whoever read our output left; the answer cannot have reached them.
        sys.stderr.close()
        return 4
    except FarkasError as error:
        print(f"farkas: {error}", file=sys.stderr)
        return 4
    except MemoryError:
        print("farkas: out of memory", file=sys.stderr)
        return 4
    except Exception as error:
        import traceback

        traceback.print_exc()
        print(f"farkas: internal error ({type(error).__name__}); please report", file=sys.stderr)
        return 4
    return code


if __name__ == "__main__":
    sys.exit(main())
