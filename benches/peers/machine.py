"""What the comparisons share: a description of the machine, and where processes run."""

import os
import pathlib
import platform
import subprocess

# glibc gives freed blocks of this size back to the system at once; with these settings it keeps them, which is kind to PyTorch.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


def pin(threads, command):
    """One thread has the last core for itself, if nothing else runs there; several go where the system puts them.

    With UMBEL_PEERS_PRIORITY set, everything measured runs with that real-time priority (which needs the right to it), so that other
    work on the machine does not take its turn.
    """
    prefix = ["chrt", "-f", os.environ["UMBEL_PEERS_PRIORITY"]] if os.environ.get("UMBEL_PEERS_PRIORITY") else []
    if threads == 1:
        prefix += ["taskset", "-c", str(os.cpu_count() - 1)]
    return [*prefix, *command]


def processor():
    """The processor's name, and the widest instruction set for arithmetic."""
    name, flags = platform.processor(), ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
        if line.startswith("cpu family") or line.startswith("model\t"):
            name += f" {line.split(':', 1)[0].strip()} {line.split(':', 1)[1].strip()}"
        if line.startswith("flags"):
            flags = line
            break
    sets = [name for name in ("avx512f", "avx2") if f" {name}" in flags]
    return f"{name} ({', '.join(sets) or 'neither AVX2 nor AVX-512'})"


def versions(python, packages):
    """Name and version of packages that a Python has."""
    code = "import importlib.metadata as m, platform, sys; print('Python', platform.python_version(), *[f'{n} {m.version(n)},' for n in sys.argv[1:]])"
    return subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True).stdout.strip(" ,\n")


def describe(packages, jax=None):
    import sys

    umbel = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=pathlib.Path(__file__).parent)
    parts = [f"{processor()}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}", f"Umbel {umbel.stdout.strip()}"]
    parts.append(versions(sys.executable, packages))
    if jax:
        parts.append(versions(jax, ("jax", "jax-privacy")))
    return "; ".join(parts)
