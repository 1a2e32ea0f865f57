"""The work that every simulator does: federated averaging of clients with 20 random examples each, one epoch of batches of 10, with the
update of each client clipped to norm 1 and normal noise on the sum.

Data lie in `FOLDER/examples` (idx, unsigned bytes) and `FOLDER/labels`, client i having examples 20 i to 20 i + 19.
"""

import json
import pathlib
import time

import numpy as np
import torch
from torch import nn

EXAMPLES, BATCH, CLIP_NORM, NOISE_MULTIPLIER, LEARNING_RATE = 20, 10, 1.0, 1.0, 0.1
# (clients, cohort)
CASES = {"mlp": (1_000, 100), "cnn": (1_000, 100), "softmax": (10_000, 1_000)}


def write_data(folder, n_clients):
    """Random images and labels, and a test set of ten, for the number of clients."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for prefix, n in (("", n_clients * EXAMPLES), ("test-", 10)):
        with open(folder / f"{prefix}examples", "wb") as file:
            file.write(bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (n, 28, 28)))
            for begin in range(0, n, 10_000):
                file.write(rng.integers(0, 256, (min(10_000, n - begin), 784), dtype=np.uint8).tobytes())
        with open(folder / f"{prefix}labels", "wb") as file:
            file.write(bytes([0, 0, 8, 1]) + n.to_bytes(4, "big") + (np.arange(n) % 10).astype(np.uint8).tobytes())


def load(folder):
    """Features as bytes, `[n_clients, 20, 784]`, and labels. They become numbers when a client trains, which saves three quarters of
    the memory at next to no time."""
    folder = pathlib.Path(folder)
    # Shared by processes that map it.
    features = np.memmap(folder / "examples", dtype=np.uint8, mode="c", offset=16).reshape(-1, EXAMPLES, 784)
    labels = np.fromfile(folder / "labels", dtype=np.uint8, offset=8).astype(np.int64).reshape(-1, EXAMPLES)
    return torch.from_numpy(np.asarray(features)), torch.from_numpy(labels)


def client_data(data, client):
    features, labels = data
    return features[client].float().div_(255), labels[client]


def build(case):
    if case == "softmax":
        return nn.Sequential(nn.Linear(784, 10))
    if case == "mlp":
        return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))
    # McMahan et al. 2017, section 3: 1,663,370 parameters.
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(7 * 7 * 64, 512), nn.ReLU(), nn.Linear(512, 10),
    )  # fmt: skip


def train(model, features, labels):
    """One epoch of a client."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    order = torch.randperm(EXAMPLES)
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(features[batch]), labels[batch]).backward()
        optimizer.step()


class Clock:
    """Seconds between calls, printed as a JSON list at the end."""

    def __init__(self):
        self.last, self.seconds = None, []

    def tick(self):
        now = time.perf_counter()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now

    def print(self):
        print("SECONDS " + json.dumps(self.seconds), flush=True)
