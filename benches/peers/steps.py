"""Times training steps of Umbel beside PyTorch, Opacus and jax-privacy, alternating between them, and prints tables of rates and ratios.

Each worker reads lines `CASE BATCH MODE THREADS SECONDS` and answers with the seconds of single steps, as a JSON list.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from machine import KEEP_MEMORY, describe, pin

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = ("softmax", "mlp", "cnn", "lstm", "transformer")
# The faster of hooks and ghost clipping for each case and batch, found by timing both (with `--both-opacus`).
OPACUS_MODE = {"softmax": "opacus-ghost", "mlp": "opacus-ghost", "cnn": "opacus-ghost", "lstm": "opacus", "transformer": "opacus"}


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


def text(batch, seconds):
    """Examples a second: median (slowest to fastest)."""
    return f"{batch / statistics.median(seconds):,.0f} ({batch / max(seconds):,.0f} to {batch / min(seconds):,.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--umbel", required=True, help="the built example step_worker")
    parser.add_argument("--jax", help="a Python with jax-privacy; without it the LSTM is not compared with it")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--batches", default="64,256")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-opacus", action="store_true")
    parser.add_argument("--both-opacus", action="store_true", help="time hooks and ghost clipping, and compare with the faster")
    options = parser.parse_args()

    print(describe(("torch", "opacus", "numpy"), options.jax))
    print(f"Examples a second; {options.repeats} alternating measurements of {options.seconds} s each: median (slowest to fastest).")
    print("DP: the clipped sum and the step, without a noise draw. PyTorch and Opacus keep freed memory (MALLOC_* settings).\n")
    rows, peak = [], None
    columns = ["threads", "case", "batch", "Umbel plain", "Umbel DP", "+ continuous noise", "+ integer noise"]
    columns += ["PyTorch plain", "Opacus", "jax-privacy"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    for threads in map(int, options.threads.split(",")):
        umbel = Worker(pin(threads, [options.umbel]))
        torch = Worker(pin(threads, [sys.executable, f"{HERE}/torch_worker.py", str(threads)]), KEEP_MEMORY.items())
        jax = Worker(pin(threads, [options.jax, f"{HERE}/jax_worker.py"])) if options.jax and threads == 1 else None
        for case in options.cases.split(","):
            for batch in map(int, options.batches.split(",")):
                jobs = [(umbel, mode) for mode in ("plain", "dp", "dp-continuous", "dp-integer")] + [(torch, "plain")]
                if options.both_opacus:
                    jobs += [(torch, "opacus"), (torch, "opacus-ghost")]
                elif not options.no_opacus:
                    jobs.append((torch, OPACUS_MODE[case]))
                if jax and case == "lstm":
                    jobs.append((jax, "jax-privacy"))
                seconds = {job: [] for job in jobs}
                for _ in range(options.repeats):
                    for worker, mode in jobs:
                        seconds[worker, mode] += worker.ask(case, batch, mode, threads, options.seconds)
                found = [seconds[umbel, mode] for mode in ("plain", "dp", "dp-continuous", "dp-integer")]
                found.append(seconds[torch, "plain"])
                opacus = [seconds[job] for job in jobs if job[1].startswith("opacus")]
                found.append(min(opacus, key=statistics.median) if opacus else None)
                found.append(seconds.get((jax, "jax-privacy")))
                cells = [text(batch, times) if times else "" for times in found]
                print("| " + " | ".join(map(str, [threads, case, batch, *cells])) + " |", flush=True)
                rows.append((threads, case, batch, [statistics.median(times) if times else None for times in found]))
        if threads == 1:
            peak = 2 * 768**3 / statistics.median(umbel.ask("gemm", 0, "plain", 1, 1.0))
        for worker in filter(None, (umbel, torch, jax)):
            worker.close()

    print("\nRatios of medians; the last column is Umbel's time with clipping over its time without.\n")
    columns = ["threads", "case", "batch", "DP / PyTorch plain", "+ continuous / PyTorch plain", "+ integer / PyTorch plain"]
    columns += ["DP / Opacus", "DP / jax-privacy", "DP time / plain time"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for threads, case, batch, (plain, dp, continuous, integer, peer, opacus, jax) in rows:
        cells = [f"{peer / dp:.2f}", f"{peer / continuous:.2f}", f"{peer / integer:.2f}"]
        cells += [f"{opacus / dp:.1f}" if opacus else "", f"{jax / dp:.1f}" if jax else "", f"{dp / plain:.2f}"]
        print("| " + " | ".join(map(str, [threads, case, batch, *cells])) + " |")
    if peak:
        print(f"\nUmbel's matrix product of 768 x 768, f32, one thread: {peak / 1e9:.1f} GFLOP/s.")
        # Forward and both gradients of both convolutions (the first needs none by the image) and the dense layers.
        convolutions = 784 * 25 * 32 * 4 + 196 * 800 * 64 * 6
        operations = convolutions + 3136 * 512 * 6 + 512 * 10 * 6
        for threads, case, batch, (plain, dp, *_) in rows:
            if (threads, case) == (1, "cnn"):
                shares = [100 * operations * batch / seconds / peak for seconds in (dp, plain)]
                print(f"CNN, batch {batch}: {shares[0]:.0f} % of that in the DP step, {shares[1]:.0f} % in the plain one.")
    print("Noise: one normal value a parameter; continuous in floating point (ziggurat), integer a rounded Gaussian sampled")
    print("exactly, both from ChaCha20; Opacus and jax-privacy with their default generators, in their column.")


if __name__ == "__main__":
    main()
