"""The default estimate on a GPU, against the GPU's own float64 Cholesky factorisation in the same run.

Each size is a process of its own, ``python -m benchmarks.gpu N``, because a peak of memory cannot be taken back. The
kernel is that of MNIST, or without ``NNGP_DATA`` of random directions labelled by a random linear function.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import ARCHITECTURE, LABELLINGS, source
from benchmarks.report import Column, Table, say
from nngp_prior import kernel, log_probability
from nngp_prior.data import label, load
from nngp_prior.errors import ResourceLimit
from nngp_prior.schemas.specs.data import Mnist

_DIMENSION = 50
_MEMORY_FRACTION = "0.95"  # of the GPU's memory that JAX takes; its own default is 0.75


def run(quick: bool) -> list[Table]:
    """One row a size; none, and a note, where JAX has no GPU."""
    rows: list[dict[str, Any]] = []
    notes = ["no GPU: JAX has none here, nothing was measured"]
    for n in (1000, 2000) if quick else (10_000, 30_000, 50_000):
        say(f"on a GPU, n = {n:,}")
        row = _in_a_new_process(n)
        if "gpu" not in row:
            break
        rows.append(row)
        inputs = "mnist" if source() == "mnist" else "random directions, labelled by a random linear function"
        notes = [
            f"{row['gpu']}, {inputs}; network with {ARCHITECTURE.depth} hidden layers",
            "seconds: the second call of two; what the first one took longer is compilation",
            "Cholesky: JAX's, of the same matrix on the GPU, the best of three; in panels: the estimate's own",
        ]
    return [
        Table(
            "The default estimate on a GPU",
            [
                Column("n", "n"),
                Column("log P", "log_p", error="stderr"),
                Column("status", "status"),
                Column("smc, s", "seconds"),
                Column("first call, s", "first_s"),
                Column("Cholesky, s", "cholesky_s"),
                Column("Cholesky in panels, s", "panels_s"),
                Column("smc / Cholesky", "ratio"),
                Column("peak on the GPU, GB", "peak_gb"),
                Column("expected, GB", "expected_gb"),
                Column("kernel, s", "kernel_s"),
            ],
            rows,
            notes,
        )
    ]


def _in_a_new_process(n: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gpu", str(n)]
    environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": _MEMORY_FRACTION} | os.environ
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(ended.stdout)


def _measure(n: int) -> dict[str, Any]:
    """What stands in one row; nothing without a GPU."""
    import jax

    from nngp_prior import estimate_cost
    from nngp_prior.numerics.device import Device

    if jax.default_backend() != "gpu":
        return {}
    device = jax.local_devices()[0]
    row: dict[str, Any] = {"gpu": device.device_kind, "n": n}
    X, y = _inputs(n)
    began = time.perf_counter()
    K = kernel(ARCHITECTURE, X)
    row["kernel_s"] = time.perf_counter() - began
    row["expected_gb"] = estimate_cost(n, backend="jax").bytes / 1e9
    try:
        first = log_probability(K, y, backend="jax")
    except ResourceLimit as error:
        return row | {"status": str(error)}
    row["peak_gb"] = device.memory_stats()["peak_bytes_in_use"] / 1e9
    began = time.perf_counter()
    estimate = log_probability(K, y, backend="jax")
    row["seconds"] = time.perf_counter() - began
    row |= {"first_s": first.seconds, "log_p": estimate.value, "stderr": estimate.stderr, "status": estimate.status}
    algebra, scale = Device(), 1 / np.sqrt(K.diagonal())
    make = functools.partial(algebra.correlation, K, np.arange(n), scale, np.dtype(np.float64))
    row["panels_s"] = _best_of_three(make, algebra.cholesky)
    with jax.enable_x64(True):
        library = jax.jit(functools.partial(jax.lax.linalg.cholesky, symmetrize_input=False), donate_argnums=0)
        try:
            row["cholesky_s"] = _best_of_three(make, library)
        except jax.errors.JaxRuntimeError as error:  # its workspace may not fit where the estimate does
            say(f"JAX's Cholesky factorisation, n = {n:,}: {error}")
            return row
    return row | {"ratio": row["seconds"] / row["cholesky_s"]}


def _best_of_three(make: Any, factor: Any) -> float:
    times = []
    for _ in range(4):  # the first one compiles
        C = make().block_until_ready()
        began = time.perf_counter()
        factor(C).block_until_ready()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _inputs(n: int) -> tuple[np.ndarray, np.ndarray]:
    if source() == "mnist":
        data = load(Mnist(n=n))
        return data.X, label(LABELLINGS["threshold:5"], data.classes)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, _DIMENSION))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, np.where(X @ rng.standard_normal(_DIMENSION) > 0, 1, -1)


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
