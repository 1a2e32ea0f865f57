"""Times training steps of Umbel beside PyTorch and Opacus, alternating between them, and prints a table of ratios.

Each worker reads lines `CASE BATCH MODE THREADS SECONDS` and answers with the seconds of single steps, as a JSON list.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# glibc gives freed blocks of this size back to the system at once; with these settings it keeps them, which is kind to PyTorch.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}
OPACUS_MODE = {"softmax": "opacus-ghost", "mlp": "opacus-ghost", "cnn": "opacus-ghost", "lstm": "opacus"}


class Worker:
    """A process that measures what it is asked for."""

    def __init__(self, command, environment=()):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **dict(environment)},
        )

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a worker stopped at {words}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def rates(batch, seconds):
    """Examples a second: median, min, max."""
    return batch / statistics.median(seconds), batch / max(seconds), batch / min(seconds)


def text(rate):
    median, low, high = rate
    return f"{median:,.0f} ({low:,.0f} to {high:,.0f})"


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--umbel", required=True, help="the built example step_worker")
    parser.add_argument("--cases", default="softmax,mlp,cnn,lstm")
    parser.add_argument("--batches", default="64,256")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=0.6, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-opacus", action="store_true")
    options = parser.parse_args()

    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "opacus", "numpy"))
    print(f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}")
    print(f"{options.repeats} alternating measurements of {options.seconds} s each: median (slowest to fastest)\n")
    columns = ["threads", "case", "batch", "Umbel plain", "Umbel DP", "Umbel DP + noise", "PyTorch plain", "Opacus"]
    columns += ["DP / PyTorch plain", "DP + noise / PyTorch plain", "DP / Opacus", "plain time / DP time"]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for threads in map(int, options.threads.split(",")):
        umbel = Worker([options.umbel])
        torch = Worker([sys.executable, str(HERE / "torch_worker.py"), str(threads)], KEEP_MEMORY.items())
        for case in options.cases.split(","):
            for batch in map(int, options.batches.split(",")):
                jobs = [(umbel, "plain"), (umbel, "dp"), (umbel, "dp-noise"), (torch, "plain")]
                if not options.no_opacus:
                    jobs.append((torch, OPACUS_MODE[case]))
                seconds = [[] for _ in jobs]
                for _ in range(options.repeats):
                    for (worker, mode), times in zip(jobs, seconds):
                        times += worker.ask(case, batch, mode, threads, options.seconds)
                found = [rates(batch, times) for times in seconds]
                plain, dp, noisy, peer = (rate[0] for rate in found[:4])
                opacus = found[4] if len(found) > 4 else None
                cells = [threads, case, batch, *map(text, found[:4]), text(opacus) if opacus else ""]
                cells += [f"{dp / peer:.2f}", f"{noisy / peer:.2f}"]
                cells += [f"{dp / opacus[0]:.1f}" if opacus else "", f"{dp / plain:.2f}"]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        if threads == 1:
            peak = 2 * 768**3 / statistics.median(umbel.ask("gemm", 0, "plain", 1, 1.0))
        umbel.close()
        torch.close()
    print(f"\nUmbel's matrix product of 768 x 768, f32, one thread: {peak / 1e9:.1f} GFLOP/s.")
    print("Noise: Umbel one normal value a parameter (ChaCha8, ziggurat); Opacus its default generator.")


if __name__ == "__main__":
    main()
