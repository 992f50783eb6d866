#!/usr/bin/env bash
# Answers an instance: the results file begins with unsat, sat, unknown, timeout or error.
# VNN-COMP calls: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT
set -euo pipefail
if [[ "${1:-}" != v1 || $# -lt 6 ]]; then
    echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT" >&2
    exit 1
fi
export FARKAS_STARTED="${EPOCHREALTIME/,/.}" # some locales write a comma
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${FARKAS_PYTHON:-$root/.venv/bin/python}" -m verifier.vnncomp "$2" "$3" "$4" "$5" "$6"
