#!/bin/sh
# Times training steps of Umbel beside PyTorch and Opacus in one run and prints a table.
#
# Needs cargo and python3 with venv; installs the Python packages in a folder outside of the repository (about 6 GB with what
# PyTorch's wheel asks for, though no GPU is used).
# Usage: benches/peers/run.sh [options of steps.py, such as --threads 1 --cases mlp,cnn]
set -eu
cd "$(dirname "$0")/../.."
venv="${UMBEL_PEERS_VENV:-${TMPDIR:-/tmp}/umbel-peers}"
if ! "$venv/bin/python" -c 'import torch, opacus' 2> /dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet torch==2.15.0 opacus==1.6.0 numpy
fi
cargo build --release --quiet -p umbel-train --example step_worker
exec "$venv/bin/python" benches/peers/steps.py \
    --umbel "${CARGO_TARGET_DIR:-target}/release/examples/step_worker" "$@"
