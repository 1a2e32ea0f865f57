#!/bin/sh
# Times umbel-accounting beside dp-accounting and prv-accountant in one run and prints a table.
#
# Needs cargo and python3 with venv; installs the Python packages in a folder outside of the repository.
# Usage: benches/accounting/run.sh [--quick]      (--quick leaves out what takes the others more than about ten seconds)
set -eu
cd "$(dirname "$0")/../.."
venv="${UMBEL_BENCH_VENV:-${TMPDIR:-/tmp}/umbel-accounting-bench}"
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet dp-accounting==0.6.0 prv-accountant==0.2.0
fi
cargo bench --quiet -p umbel-accounting --bench accounting | "$venv/bin/python" benches/accounting/compare.py "$@"
