#!/usr/bin/env bash
# A federation on this machine: mints certificates, starts a server and its clients as processes of their own, trains over mutual TLS,
# and stops by itself. Leaves a run directory, as `umbel simulate` does. Four hospitals, unless a folder with other settings is named.
#
#   examples/federation/run.sh [--out DIR]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Names of the clients, as in certificates and in the data.
clients=(cleveland hungarian switzerland va)
settings=$here
if [ "${1:-}" = --settings ]; then
    settings=$(cd "$2" && pwd)
    IFS=, read -r -a clients <<<"$3"
    shift 3
fi
name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$settings/experiment.toml")
out="runs/$name-$(date -u +%Y%m%d-%H%M%S)"
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=${2:?"--out needs a directory"}; shift 2 ;;
        *) echo "usage: $0 [--out DIR]" >&2; exit 2 ;;
    esac
done
if [ -e "$out" ] && [ -n "$(ls -A "$out")" ]; then
    echo "$out is not empty; choose another --out" >&2
    exit 1
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)

umbel=$(command -v umbel || true)
if [ -z "$umbel" ]; then
    (cd "$here/../.." && cargo build --release --locked)
    umbel=${CARGO_TARGET_DIR:-$here/../../target}/release/umbel
fi

work=$(mktemp -d)
processes=()
finish() {
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

names=()
for client in "${clients[@]}"; do names+=(--client "$client"); done
"$umbel" certs init --dir "$work/certs" "${names[@]}"

# The settings beside this script, with paths and a free port for this run.
sed -e "s|\"experiment.toml\"|\"$settings/experiment.toml\"|" -e "s|\"out\"|\"$out\"|" \
    -e 's|127.0.0.1:8443|127.0.0.1:0|' -e '/^admin = /d' "$settings/server.toml" >"$work/server.toml"
mkdir "$work/state"
"$umbel" serve "$work/server.toml" >/dev/null 2>"$work/server.log" &
server=$!
processes+=("$server")
for _ in $(seq 200); do
    port=$(sed -n 's/.*serving over mutual TLS.*address=127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/server.log")
    [ -n "$port" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
    sleep 0.1
done
tail -f "$work/server.log" >&2 &
processes+=($!)

# Each client has the example's settings, with its own name.
example=$(sed -n 's/^client = "\([^"]*\)".*/\1/p' "$settings/client.toml")
for client in "${clients[@]}"; do
    sed -e "s|localhost:8443|localhost:$port|" -e "s|\"$example\"|\"$client\"|" -e "s|/$example\([-.\"]\)|/$client\1|" \
        -e "s|\"\(\.\./[^\"]*\)\"|\"$settings/\1\"|g" "$settings/client.toml" >"$work/client-$client.toml"
    "$umbel" join "$work/client-$client.toml" 2>"$work/client-$client.log" >/dev/null &
    processes+=($!)
done
wait "$server"
echo "$out"
