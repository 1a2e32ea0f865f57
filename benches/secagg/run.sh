#!/bin/sh
# Times an attempt of secure aggregation beside Flower's SecAgg+ functions on the same work, and prints a table.
#
# Needs cargo and python3 with venv; installs the Python packages in a folder outside of the repository. Takes a few minutes.
# Usage: benches/secagg/run.sh
set -eu
cd "$(dirname "$0")/../.."
venv="${UMBEL_BENCH_VENV:-${TMPDIR:-/tmp}/umbel-secagg-bench}"
if ! "$venv/bin/python" -c "import flwr" 2>/dev/null; then
    python3 -m venv "$venv"
    # What the SecAgg+ functions import, and not all that the package declares: a `certifi` that some indexes do not have, `uvicorn`, `alembic`.
    "$venv/bin/pip" install --quiet --no-deps flwr==1.42.0
    "$venv/bin/pip" install --quiet numpy 'cryptography>=50,<51' 'pycryptodome>=3.18,<4' 'protobuf>=5.28,<7' 'grpcio>=1.70,<2' \
        'httpx<1' 'typer<0.21' 'iterators<0.0.3'
fi
cargo bench --quiet -p umbel-secagg --bench attempt | "$venv/bin/python" benches/secagg/compare.py
