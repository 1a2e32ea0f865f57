"""Times DP-SGD steps of jax-privacy on the tutorial's LSTM on request; see steps.py for the protocol.

Modes: plain (a jitted step without clipping), jax-privacy (clipped_grad over microbatches of 16, and normal noise).
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import jax_privacy

LEARNING_RATE = 1e-4


def initial(key):
    keys = jax.random.split(key, 4)
    uniform = lambda key, shape: jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)
    return {
        "embedding": uniform(keys[0], (10_000, 16)),
        "kernel": uniform(keys[1], (16, 128)),
        "recurrent": uniform(keys[2], (32, 128)),
        "bias": jnp.zeros(128),
        "weight": uniform(keys[3], (32,)),
        "offset": jnp.zeros(()),
    }


def loss_of(parameters, tokens, labels):
    """The mean binary cross-entropy of Embedding 16, LSTM 32, one sigmoid."""
    inputs = parameters["embedding"][tokens] @ parameters["kernel"] + parameters["bias"]

    def step(state, gates):
        hidden, cell = state
        i, f, g, o = jnp.split(gates + hidden @ parameters["recurrent"], 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), None

    zeros = jnp.zeros((len(tokens), 32))
    (hidden, _), _ = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(inputs, 0, 1))
    logits = hidden @ parameters["weight"] + parameters["offset"]
    return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)


def stepper(n, mode):
    """A function that takes one step."""
    keys = jax.random.split(jax.random.key(7), 3)
    tokens = jax.random.randint(keys[0], (n, 250), 0, 10_000)
    labels = jax.random.randint(keys[1], (n,), 0, 2).astype(jnp.float32)
    gradient = jax.grad(loss_of)
    if mode == "jax-privacy":
        clipped = jax_privacy.clipped_grad(loss_of, l2_clip_norm=1.0, batch_argnums=(1, 2), microbatch_size=16)

        def gradient(parameters, tokens, labels, key):
            total = clipped(parameters, tokens, labels)
            leaves, tree = jax.tree.flatten(total)
            noise = [jax.random.normal(k, leaf.shape) for k, leaf in zip(jax.random.split(key, len(leaves)), leaves)]
            return jax.tree.unflatten(tree, [(leaf + z) / n for leaf, z in zip(leaves, noise)])
    else:
        plain = gradient
        gradient = lambda parameters, tokens, labels, key: plain(parameters, tokens, labels)

    @jax.jit
    def update(parameters, key):
        key, own = jax.random.split(key)
        slopes = gradient(parameters, tokens, labels, own)
        return jax.tree.map(lambda value, slope: value - LEARNING_RATE * slope, parameters, slopes), key

    state = [(initial(keys[2]), jax.random.key(8))]

    def step():
        state[0] = jax.block_until_ready(update(*state[0]))

    return step


def measure(seconds, step):
    """Seconds of single steps."""
    step()
    end, times = time.perf_counter() + seconds, []
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def main():
    for line in sys.stdin:
        case, batch, mode, _, seconds = line.split()
        assert case == "lstm", case
        print(json.dumps(measure(float(seconds), stepper(int(batch), mode))), flush=True)


if __name__ == "__main__":
    main()
