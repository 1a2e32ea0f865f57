"""Reads the lines of umbel-accounting's benchmark, repeats each task with other accountants, prints a Markdown table.

Each other tool runs once per task (they take seconds), umbel's time is the shortest of five. All run on one thread of
the same machine, one after the other.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import platform
import sys
import time
import warnings

import dp_accounting
from dp_accounting.pld import pld_privacy_accountant
from prv_accountant.dpsgd import DPSGDAccountant, find_noise_multiplier



def prv_epsilon_error(task):
    """Its interval is twice this wide. At a million steps 0.01 takes minutes and nine gigabytes, and so does a search."""
    return 0.01 if task["task"] == "epsilon" and task["T"] <= 100_000 else 0.1


def event(task, sigma):
    gaussian = dp_accounting.GaussianDpEvent(sigma)
    return dp_accounting.SelfComposedDpEvent(dp_accounting.PoissonSampledDpEvent(task["q"], gaussian), task["T"])


def dpa_epsilon(task):
    accountant = pld_privacy_accountant.PLDAccountant()
    accountant.compose(event(task, task["sigma"]))
    return accountant.get_epsilon(task["delta"])


def dpa_sigma(task):
    return dp_accounting.calibrate_dp_mechanism(
        pld_privacy_accountant.PLDAccountant,
        lambda sigma: event(task, sigma),
        task["target"],
        task["delta"],
        dp_accounting.LowerEndpointAndGuess(0.1, 1.0),
        tol=1e-5,
    )


def prv_epsilon(task):
    accountant = DPSGDAccountant(
        noise_multiplier=task["sigma"],
        sampling_probability=task["q"],
        max_steps=task["T"],
        eps_error=prv_epsilon_error(task),
        delta_error=task["delta"] / 1000,
    )
    lower, _, upper = accountant.compute_epsilon(delta=task["delta"], num_steps=task["T"])
    return lower, upper


def prv_sigma(task):
    return find_noise_multiplier(
        sampling_probability=task["q"],
        num_steps=task["T"],
        target_epsilon=task["target"],
        target_delta=task["delta"],
        eps_error=prv_epsilon_error(task),
    )


def timed(run, task):
    """Result and seconds, or the name of the error and None."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            result = run(task)
    except Exception as error:  # A tool that fails is a result of the comparison.
        return type(error).__name__, None
    return result, time.perf_counter() - start


def shown(result):
    if isinstance(result, tuple):
        return "[" + ", ".join(f"{value:.5f}" for value in result) + "]"
    return result if isinstance(result, str) else f"{result:.6f}"


def excess(result, task):
    """How far an upper bound lies above the lower one of umbel, which no valid upper bound is below."""
    upper = result[1] if isinstance(result, tuple) else result
    return f" ({100 * (upper / task['lower'] - 1):+.2g} %)" if task["task"] == "epsilon" and task["lower"] > 0 else ""


def cell(result, seconds, task):
    if seconds is None:
        return f"{result} | - | -"
    return f"{shown(result)}{excess(result, task)} | {seconds:.2f} | {seconds / task['seconds']:.0f}x"


def cpu():
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out what takes the others long")
    quick = parser.parse_args().quick
    tasks = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    versions = {name: importlib.metadata.version(name) for name in ("dp-accounting", "prv-accountant")}
    print(f"{platform.system()}, {cpu()}, Python {platform.python_version()}; "
          + ", ".join(f"{name} {version}" for name, version in versions.items())
          + " (eps_error 0.01; 0.1 at a million steps and for sigma).\n"
          + "In brackets: how far each upper bound lies above umbel's lower bound. Times compare only at like distances.\n")
    print("| task | umbel | s | dp-accounting | s | slower | prv-accountant | s | slower |")
    print("|---|---|---|---|---|---|---|---|---|")
    for task in tasks:
        own = task["seconds"]
        if task["task"] == "growing":
            print(f"| epsilon after each of {task['rounds']} rounds | - | {own:.3f} | - | - | - | - | - | - |")
            continue
        if task["task"] == "epsilon":
            name = f"epsilon at q {task['q']:g}, sigma {task['sigma']:g}, T {task['T']:g}, delta {task['delta']:g}"
            result, runs = (task["lower"], task["upper"]), (dpa_epsilon, prv_epsilon)
        else:
            name = f"sigma for {task['target']:g} at q {task['q']:g}, T {task['T']:g}, delta {task['delta']:g}"
            result, runs = task["sigma"], (dpa_sigma, prv_sigma)
        if quick and (task["task"] == "sigma" or task["T"] > 100_000):
            cells = ["- | - | -"] * 2
        else:
            cells = [cell(*timed(run, task), task) for run in runs]
        print(f"| {name} | {shown(result)}{excess(result, task)} | {own:.4f} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
