#!/usr/bin/env bash
# Installs Farkas with its search into .venv beside this folder.
# VNN-COMP calls: install_tool.sh v1
set -euo pipefail
if [[ "${1:-}" != v1 ]]; then
    echo "expected the version string v1, got '${1:-}'" >&2
    exit 1
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
    sudo apt-get update
    sudo apt-get install -y python3-venv
fi
python3 -m venv .venv
.venv/bin/python -m pip install -c constraints.txt ".[verifier]"
.venv/bin/python -c 'import verifier.vnncomp, torch, onnxruntime'
