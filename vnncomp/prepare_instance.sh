#!/usr/bin/env bash
# Says whether an instance can be run: 0 yes, 1 no.  Nothing is computed ahead.
# VNN-COMP calls: prepare_instance.sh v1 CATEGORY ONNX VNNLIB
set -euo pipefail
if [[ "${1:-}" != v1 || $# -lt 4 ]]; then
    echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2
    exit 1
fi
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${FARKAS_PYTHON:-$root/.venv/bin/python}" -m verifier.vnncomp --prepare "$2" "$3" "$4"
