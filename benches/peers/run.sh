#!/bin/sh
# Times Umbel beside other software in one run and prints tables: training steps beside PyTorch, Opacus and jax-privacy, and rounds of
# simulation beside Flower, pfl-research, BlazeFL and bare PyTorch.
#
# Needs cargo and Python 3.11 or 3.12 with venv; BlazeFL needs python3.13 and is left out without it. Installs the Python packages, in
# the versions below, in a folder outside of the repository (about 12 GB with what PyTorch's wheel asks for, though no GPU is used).
#
# Usage: benches/peers/run.sh steps [options of steps.py, such as --threads 1 --cases mlp,cnn]
#        benches/peers/run.sh simulation [options of simulation.py, such as --cases softmax]
#        benches/peers/run.sh              both, about 25 minutes after the set-up
# UMBEL_PEERS_VENV is where the packages go, PYTHON the Python to make it with. With UMBEL_PEERS_PRIORITY=10 what is measured runs at that
# real-time priority, so that other work disturbs it less.
set -eu
cd "$(dirname "$0")/../.."
venvs="${UMBEL_PEERS_VENV:-${TMPDIR:-/tmp}/umbel-peers}"
python="${PYTHON:-python3}"
mkdir -p "$venvs"

# install NAME PYTHON TEST PACKAGE...: an environment that can import TEST.
install() {
    name="$1"; with="$2"; test="$3"; shift 3
    if ! "$venvs/$name/bin/python" -c "import $test" 2> /dev/null; then
        "$with" -m venv "$venvs/$name"
        "$venvs/$name/bin/pip" install --quiet "$@"
    fi
}

part="${1:-both}"
[ $# -eq 0 ] || shift
install peers "$python" torch,opacus torch==2.15.0 opacus==1.6.0 numpy==2.4.6
cargo build --release --quiet --workspace --bins --example step_worker
target="${CARGO_TARGET_DIR:-target}/release"
case "$part" in steps | both)
    install jax "$python" jax_privacy jax==0.10.2 jax-privacy==2.0.0
    "$venvs/peers/bin/python" benches/peers/steps.py \
        --umbel "$target/examples/step_worker" --jax "$venvs/jax/bin/python" "$@" ;;
esac
case "$part" in simulation | both)
    install peers "$python" torch,flwr,ray,pfl 'flwr[simulation]==1.42.0' pfl==0.6.0 numpy==2.4.6
    set -- --umbel "$(realpath "$target")/umbel" "$@"
    if command -v python3.13 > /dev/null && install blazefl python3.13 blazefl,torch,numpy,tqdm \
        blazefl==2.0.3 torch==2.15.0 numpy==2.4.6 tqdm; then
        set -- --blazefl "$venvs/blazefl/bin/python" "$@"
    fi
    "$venvs/peers/bin/python" benches/peers/simulation.py "$@" ;;
esac
