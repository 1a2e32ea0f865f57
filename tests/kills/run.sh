#!/usr/bin/env bash
# A hundred kills of real servers and clients over mutual TLS, ten in every state of a round; prints how many fell in which.
# Where DATABASE_URL names a PostgreSQL server, a hundred more with its state there and a standby that takes over (some twenty minutes).
#
#   tests/kills/run.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
UMBEL_KILLED_RUNS=10 cargo test --workspace --locked --test whole_program -- --nocapture kills::
