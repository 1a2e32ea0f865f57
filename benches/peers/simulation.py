"""Times rounds of simulated federated averaging with client-level clipping and noise, in Umbel beside other simulators, in alternation, and prints
tables of rates, peak memory and ratios. Each run is its own process; its first round is not counted.

Memory is the largest sum of the proportional set sizes of a run's processes, looked at ten times a second.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from machine import describe, pin

HERE = pathlib.Path(__file__).parent / "simulation"
sys.path.insert(0, str(HERE))
import common  # noqa: E402

MODEL = {"softmax": 'kind = "softmax"', "mlp": 'kind = "mlp"\nhidden = [200, 200]', "cnn": 'kind = "cnn"\nfilters = [32, 64]\nkernel = 5\nhidden = [512]'}
# Rounds of each run besides the first.
ROUNDS = {"umbel": {"mlp": 40, "cnn": 4, "softmax": 40}, "flower": {"mlp": 2, "cnn": 2, "softmax": 1}}
FEW = {"mlp": 8, "cnn": 2, "softmax": 3}


def experiment(case, folder, rounds, noise):
    n_clients, cohort = common.CASES[case]
    return f"""name = "{case}"
seed = 7
[data]
format = "idx"
train = {{ examples = "{folder}/examples", labels = "{folder}/labels" }}
test = {{ examples = "{folder}/test-examples", labels = "{folder}/test-labels" }}
classes = 10
[data.partition]
kind = "iid"
clients = {n_clients}
[model]
{MODEL[case]}
[training]
epochs = 1
batch_size = {common.BATCH}
optimizer = {{ kind = "sgd", learning_rate = {common.LEARNING_RATE} }}
[federation]
rounds = {rounds}
cohort = {cohort}
strategy = {{ kind = "fedavg" }}
[privacy]
unit = "client"
trust = "central"
clip_norm = {common.CLIP_NORM}
noise_multiplier = {common.NOISE_MULTIPLIER}
delta = 1e-5
noise = "{noise}"
"""


def memory_of(group):
    """Proportional set size of all processes of a process group, in bytes."""
    total = 0
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.getsid(int(folder.name)) == group:
                    total += 1024 * int((folder / "smaps_rollup").read_text().split("Pss:", 1)[1].split()[0])
            except (OSError, IndexError, ProcessLookupError):
                pass
    return total


def run(command):
    """What a command prints, and its peak memory."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True, cwd=HERE)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.1)
        output.seek(0)
        text = output.read()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return text, peak


def umbel(program, case, folder, noise):
    """Seconds of a round: those of many, less those of a few, so that the first and its start do not count."""
    seconds, peak = {}, 0
    few, many = 1, 1 + ROUNDS["umbel"][case]
    for rounds in (few, many):
        with tempfile.TemporaryDirectory() as out:
            file = pathlib.Path(out) / "experiment.toml"
            file.write_text(experiment(case, folder, rounds, noise))
            text, memory = run(pin(2, [program, "simulate", str(file), "--out", f"{out}/run", "--json"]))
            summary = json.loads(text)
            seconds[rounds] = summary["timing"]["train_seconds"]
            peak = max(peak, memory, summary["peak_rss_bytes"] or 0)
    return [(seconds[many] - seconds[few]) / (many - few)], peak


def peer(command):
    text, peak = run(pin(2, command))
    line = next(line for line in text.splitlines() if line.startswith("SECONDS "))
    return json.loads(line.removeprefix("SECONDS ")), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--umbel", required=True, help="the built program")
    parser.add_argument("--blazefl", help="a Python with BlazeFL")
    parser.add_argument("--cases", default="mlp,cnn,softmax")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--flower-repeats", type=int, default=1, help="Flower takes minutes")
    parser.add_argument("--folder", default=tempfile.gettempdir() + "/umbel-peers-data")
    options = parser.parse_args()
    print(describe(("torch", "flwr", "ray", "pfl", "numpy")))
    print(f"{options.repeats} alternating runs each, Flower {options.flower_repeats}: seconds of a round, median (min to max).\n")
    table, ratios = [], []
    for case in options.cases.split(","):
        n_clients, cohort = common.CASES[case]
        folder = pathlib.Path(options.folder) / str(n_clients)
        if not (folder / "test-labels").exists():
            common.write_data(folder, n_clients)
        few = str(FEW[case] + 1)
        jobs = {
            "Umbel": lambda: umbel(options.umbel, case, folder, "rounded"),
            "Umbel, continuous noise": lambda: umbel(options.umbel, case, folder, "continuous"),
            "PyTorch, two processes": lambda: peer([sys.executable, HERE / "torch_simulation.py", case, "processes", few, folder]),
            "pfl-research": lambda: peer([sys.executable, HERE / "pfl_simulation.py", case, few, folder]),
            "Flower (Ray)": lambda: peer([sys.executable, HERE / "flower_simulation.py", case, str(ROUNDS["flower"][case]), folder]),
        }
        if case == "softmax":
            jobs["PyTorch, vectorised over clients"] = lambda: peer(
                [sys.executable, HERE / "torch_simulation.py", case, "vmap", few, folder]
            )
            if options.blazefl:
                jobs["BlazeFL"] = lambda: peer([options.blazefl, HERE / "blazefl_simulation.py", case, few, folder])
        found = {name: ([], 0) for name in jobs}
        for repeat in range(options.repeats):
            for name, job in jobs.items():
                if name.startswith("Flower") and repeat >= options.flower_repeats:
                    continue
                try:
                    seconds, memory = job()
                except (RuntimeError, StopIteration, KeyError) as error:
                    print(f"{case}, {name}: {error!r}", file=sys.stderr)
                    continue
                found[name] = (found[name][0] + seconds, max(found[name][1], memory))
        for name, (seconds, memory) in found.items():
            if seconds:
                middle = statistics.median(seconds)
                cells = [case, name, f"{middle:.3g} ({min(seconds):.3g} to {max(seconds):.3g})", f"{cohort / middle:,.0f}"]
                table.append([*cells, f"{memory / 2**20:,.0f}"])
        own, own_memory = found["Umbel"]
        for name, (seconds, memory) in found.items():
            if seconds and own and not name.startswith("Umbel"):
                speed = statistics.median(seconds) / statistics.median(own)
                ratios.append([case, name, f"{speed:.1f}", f"{own_memory / memory:.2f}"])
    for columns, rows in (
        (["case", "simulator", "seconds a round", "clients a second", "peak memory, MiB"], table),
        (["case", "against", "Umbel is faster by", "Umbel's share of its memory"], ratios),
    ):
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in rows:
            print("| " + " | ".join(row) + " |")
        print()


if __name__ == "__main__":
    main()
