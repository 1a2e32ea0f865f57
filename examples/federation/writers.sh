#!/usr/bin/env bash
# Ten people who wrote digits, each of them protected with all they wrote, by a server that adds the noise.
#
#   examples/federation/writers.sh [--out DIR]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/run.sh" --settings "$here/writers" 0,2154,2232,2168,2109,2124,2303,2276,2152,2284 "$@"
