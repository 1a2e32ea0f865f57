#!/usr/bin/env bash
# Ten people who wrote digits, with noise of their own and secure aggregation: the server sees sums only.
#
#   examples/federation/secure.sh [--out DIR]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/run.sh" --settings "$here/secure" 0,2154,2232,2168,2109,2124,2303,2276,2152,2284 "$@"
