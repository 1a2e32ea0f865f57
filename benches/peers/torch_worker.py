"""Times training steps of PyTorch and Opacus on request; see steps.py for the protocol.

Modes: plain (SGD), opacus (per-example gradients by hooks), opacus-ghost (ghost clipping). The Opacus modes add noise.
"""

import json
import sys
import time
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")
LEARNING_RATE = 1e-4


class Lstm(nn.Module):
    """The Keras tutorial's model: Embedding 16, LSTM 32, one sigmoid."""

    def __init__(self, private):
        super().__init__()
        self.embedding = nn.Embedding(10_000, 16)
        if private:
            from opacus.layers import DPLSTM

            self.lstm = DPLSTM(16, 32, batch_first=True)
        else:
            self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.output = nn.Linear(32, 1)

    def forward(self, tokens):
        hidden, _ = self.lstm(self.embedding(tokens))
        return self.output(hidden[:, -1]).squeeze(1)


class Attention(nn.Module):
    """Self-attention from dense layers, which Opacus knows, and PyTorch's fused scaled dot product."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x):
        n, length, width = x.shape
        parts = self.qkv(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts)
        return self.output(mixed.transpose(1, 2).reshape(n, length, width))


class EncoderLayer(nn.Module):
    """Normalisation before each part, as in Umbel."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.hidden, self.output = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.output(torch.relu(self.hidden(self.norm2(x))))


class Transformer(nn.Module):
    """Vocabulary 10,000, width 64, 4 heads, 2 layers, length 128, the mean over places, one sigmoid."""

    def __init__(self):
        super().__init__()
        self.embedding, self.position = nn.Embedding(10_000, 64), nn.Embedding(128, 64)
        self.layers = nn.Sequential(EncoderLayer(64, 4), EncoderLayer(64, 4))
        self.norm, self.output = nn.LayerNorm(64), nn.Linear(64, 1)

    def forward(self, tokens):
        # Contiguous, which Opacus' ghost clipping needs.
        places = torch.arange(128).expand(len(tokens), 128).contiguous()
        x = self.layers(self.embedding(tokens) + self.position(places))
        return self.output(self.norm(x).mean(dim=1)).squeeze(1)


def build(case, private):
    """A model, and the loss of its output."""
    if case == "softmax":
        return nn.Sequential(nn.Linear(784, 10)), nn.CrossEntropyLoss()
    if case == "mlp":
        layers = [nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)]
        return nn.Sequential(*layers), nn.CrossEntropyLoss()
    if case == "cnn":
        # McMahan et al. 2017, section 3: 1,663,370 parameters.
        convolutions = [
            nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        ]
        dense = [nn.Flatten(), nn.Linear(7 * 7 * 64, 512), nn.ReLU(), nn.Linear(512, 10)]
        return nn.Sequential(*convolutions, *dense), nn.CrossEntropyLoss()
    if case == "lstm":
        return Lstm(private), nn.BCEWithLogitsLoss()
    if case == "transformer":
        return Transformer(), nn.BCEWithLogitsLoss()
    raise ValueError(f"no case {case}")


def examples(case, n):
    """A random batch."""
    if case in ("lstm", "transformer"):
        length = 250 if case == "lstm" else 128
        return torch.randint(0, 10_000, (n, length)), torch.randint(0, 2, (n,)).float()
    shape = (n, 1, 28, 28) if case == "cnn" else (n, 784)
    return torch.rand(shape), torch.randint(0, 10, (n,))


def stepper(case, n, mode):
    """A function that takes one step."""
    torch.manual_seed(7)
    model, loss_of = build(case, mode != "plain")
    features, labels = examples(case, n)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    if mode != "plain":
        from opacus import PrivacyEngine

        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(features, labels), batch_size=n)
        settings = dict(
            module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0,
            poisson_sampling=False,
        )
        if mode == "opacus-ghost":
            model, optimizer, loss_of, _ = PrivacyEngine().make_private(
                **settings, criterion=loss_of, grad_sample_mode="ghost"
            )
        else:
            model, optimizer, _ = PrivacyEngine().make_private(**settings)

    def step():
        optimizer.zero_grad()
        loss = loss_of(model(features), labels)
        loss.backward()
        optimizer.step()

    return step


def measure(seconds, step):
    """Seconds of steps, in groups of at least 20 ms."""
    for _ in range(2):
        step()
    start = time.perf_counter()
    step()
    group = max(1, int(0.02 / (time.perf_counter() - start)) + 1)
    end, times = time.perf_counter() + seconds, []
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        for _ in range(group):
            step()
        times.append((time.perf_counter() - start) / group)
    return times


def main():
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        case, batch, mode, _, seconds = line.split()
        print(json.dumps(measure(float(seconds), stepper(case, int(batch), mode))), flush=True)


if __name__ == "__main__":
    main()
