#!/usr/bin/env bash
# Says on standard error what hinders an answer.  Nothing is computed ahead.  The exit code is 0 where
# Farkas runs at all: after a failure the competition skips the rest of the benchmark.
# VNN-COMP calls: prepare_instance.sh v1 CATEGORY ONNX VNNLIB
set -euo pipefail
if [[ "${1:-}" != v1 || $# -lt 4 ]]; then
    echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2
    exit 1
fi
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${FARKAS_PYTHON:-$root/.venv/bin/python}" -m verifier.vnncomp --prepare "$2" "$3" "$4"
