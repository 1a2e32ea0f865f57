"""Reads the lines of umbel-secagg's benchmark, does the same work with Flower's SecAgg+ functions, prints Markdown tables.

Flower's client functions are timed as they are, for one client in one attempt. Its server unmasks inside a workflow that
cannot be called alone, so its time is that of the calls it makes, one of each kind timed, times their numbers.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import time

import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.common.secure_aggregation import secaggplus_constants as constants
from flwr.common.secure_aggregation.crypto import shamir
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_subtraction
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat

# The package has a function of the same name as its module.
mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")

MODULUS = 1 << 32


def seconds(call):
    """Processor time, of all threads: other work on the machine counts little."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def flower(n, shares, threshold, dimension, dropped):
    """Client seconds, and server seconds as estimated."""
    key = constants.Key
    setup = {
        key.SAMPLE_NUMBER: n,
        key.SHARE_NUMBER: shares,
        key.THRESHOLD: threshold,
        key.CLIPPING_RANGE: 8.0,
        key.TARGET_RANGE: 1 << 22,
        key.MOD_RANGE: MODULUS,
        key.MAX_WEIGHT: 1000.0,
    }
    states = []
    for i in range(shares):
        state = mod.SecAggPlusState()
        state.nid = i + 1
        mod._setup(state, dict(setup))
        states.append(state)
    client = mod.SecAggPlusState()
    client.nid = 1
    total, _ = seconds(lambda: mod._setup(client, dict(setup)))
    states[0] = client
    keys = {str(state.nid): (state.pk1, state.pk2) for state in states}
    took, _ = seconds(lambda: mod._share_keys(client, dict(keys)))
    total += took
    ciphertexts = []
    for state in states[1:]:
        shared = mod.generate_shared_key(
            mod.bytes_to_private_key(state.sk2), mod.bytes_to_public_key(client.pk2)
        )
        ciphertexts.append(mod.encrypt(shared, share_keys_plaintext_concat(state.nid, 1, bytes(52), bytes(256))))
    update = np.random.default_rng(1).standard_normal(dimension).astype(np.float32)
    parameters = ndarrays_to_parameters([update])
    request = {key.CIPHERTEXT_LIST: ciphertexts, key.SOURCE_LIST: [state.nid for state in states[1:]]}
    took, answer = seconds(lambda: mod._collect_masked_vectors(client, request, 500, parameters))
    total += took
    upload = sum(len(array) for array in answer[key.MASKED_PARAMETERS])
    n_dead = shares * dropped // n
    request = {
        key.ACTIVE_NODE_ID_LIST: [state.nid for state in states[: shares - n_dead]],
        key.DEAD_NODE_ID_LIST: [state.nid for state in states[shares - n_dead :]],
    }
    took, _ = seconds(lambda: mod._unmask(client, request))
    total += took

    own = shamir.create_shares(os.urandom(32), threshold, shares)[:threshold]
    key_shares = shamir.create_shares(client.sk1, threshold, shares)[:threshold]
    combine_own, seed = seconds(lambda: shamir.combine_shares(own))
    combine_key, secret = seconds(lambda: shamir.combine_shares(key_shares))
    shape = [(dimension,)]
    vector = [np.zeros(dimension, dtype=np.int64)]
    expand, _ = seconds(lambda: parameters_subtraction(vector, pseudo_rand_gen(seed, MODULUS, shape)))
    agree, _ = seconds(
        lambda: mod.generate_shared_key(
            mod.bytes_to_private_key(secret), mod.bytes_to_public_key(states[1].pk1)
        )
    )
    server = (n - dropped) * (combine_own + expand) + dropped * (combine_key + (shares - 1) * (agree + expand))
    return total, server, upload


def main():
    # A share is infinite where the system's clock has steps longer than the work: shown as such.
    tasks = [json.loads(line.replace(": inf", ": Infinity")) for line in sys.stdin if line.startswith("{")]
    print(f"flwr {importlib.metadata.version('flwr')}, python {sys.version.split()[0]}, numpy {np.__version__}\n")
    for task in tasks:
        if task["task"] == "mask generator":
            print(f"ChaCha20 alone, in the cache: {task['bytes_per_second'] / 1e9:.2f} GB/s on one thread\n")
    print("| graph | d | bits | umbel client s | flower client s | ratio | umbel server s | flower server s | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    measured = {}
    for task in (task for task in tasks if task["task"] == "attempt"):
        n, d, dropped = task["n"], task["d"], task["dropped"]
        # A complete graph beside one; a regular one, with more neighbours than Flower's example, beside 21 shares.
        case = (100, 51) if task["graph"] == "complete" else (21, 11)
        if (case, d) not in measured:
            measured[case, d] = flower(n, *case, d, dropped)
        client, server, _ = measured[case, d]
        print(
            f"| {task['graph']}, k = {task['degree']} beside {case[0]} shares | {d:.0e} | {task['bits']} "
            f"| {task['client_seconds']:.3f} | {client:.3f} | 1 / {client / task['client_seconds']:.1f} "
            f"| {task['server_seconds']:.2f} | {server:.1f} | 1 / {server / task['server_seconds']:.0f} |"
        )
    print("\nSeconds of processor time on one thread. Flower's server is estimated from single calls, umbel's measured.\n")
    print("| graph | d | bits | upload of the vector | all the client sends | client masking, of the generator | server unmasking, of the generator |")
    print("|---|---|---|---|---|---|---|")
    for task in (task for task in tasks if task["task"] == "attempt"):
        print(
            f"| {task['graph']} | {task['d']:.0e} | {task['bits']} | {task['vector_bytes'] / (4 * task['d']):.3f} of f32 "
            f"| {task['client_bytes'] / (4 * task['d']):.3f} of f32 "
            f"| {100 * task['client_mask_share']:.0f} % | {100 * task['server_mask_share']:.0f} % |"
        )


if __name__ == "__main__":
    main()
