#!/usr/bin/env bash
# A hundred kills of real servers and clients over mutual TLS, at least five in every state of a round; prints how many fell in which.
#
#   tests/kills/run.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo test --workspace --locked --test whole_program -- --ignored --nocapture \
    kills::a_hundred_kills_in_all_states_of_a_round_lose_nothing
