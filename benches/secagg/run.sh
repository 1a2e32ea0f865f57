#!/bin/sh
# Times an attempt of secure aggregation beside Flower's SecAgg+ functions on the same work, and prints a table.
#
# Needs cargo and python3 with venv; installs the Python packages in a folder outside of the repository. Takes a few minutes.
# Usage: benches/secagg/run.sh
set -eu
cd "$(dirname "$0")/../.."
venv="${UMBEL_BENCH_VENV:-${TMPDIR:-/tmp}/umbel-secagg-bench}"
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet flwr==1.42.0
fi
cargo bench --quiet -p umbel-secagg --bench attempt | "$venv/bin/python" benches/secagg/compare.py
