"""``nngp-prior doctor``: check of the installation."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.table import Table

from nngp_prior.cli.common import output
from nngp_prior.errors import DataMissing, NngpPriorError


def doctor(json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Check the installation, the data folders and, on a case with a known answer, the numbers."""
    checks: dict[str, Callable[[], str]] = {
        "python": lambda: platform.python_version(),
        "memory": _memory,
        "BLAS threads": _threads,
        "JAX": _jax,
        "kernels": _kernels,
        "no TensorFlow": _no_tensorflow,
        "estimator": _estimator,
        "mnist": lambda: _data("mnist"),
        "fashion-mnist": lambda: _data("fashion-mnist"),
        "cifar10": lambda: _data("cifar10"),
    }
    rows = []
    for name, check in checks.items():
        try:
            rows.append({"check": name, "ok": True, "found": check()})
        except DataMissing as error:  # images are optional, but must be complete if present
            rows.append({"check": name, "ok": None, "found": str(error)})
        except (NngpPriorError, ImportError, AssertionError) as error:
            rows.append({"check": name, "ok": False, "found": str(error)})
    if json:
        output.print_json({"checks": rows})
    else:
        table = Table("", "check", "found", box=None, header_style="bold", pad_edge=False)
        for row in rows:
            mark = {True: "[green]ok[/]", False: "[red]bad[/]", None: "[yellow]–[/]"}[row["ok"]]
            table.add_row(mark, row["check"], row["found"])
        output.console.print(table)
    if any(row["ok"] is False for row in rows):
        sys.exit(1)


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"


def _threads() -> str:
    import scipy.linalg  # noqa: F401  loads the BLAS to be inspected
    from threadpoolctl import threadpool_info

    return ", ".join(f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info())


def _jax() -> str:
    import jax

    return f"{jax.__version__} on {', '.join(device.device_kind for device in jax.devices())}"


def _kernels() -> str:
    from nngp_prior import FullyConnected, kernel

    # K⁰ = σ_w² x·x'/d is the identity here, and for independent u, v ~ N(0, 1) E[φ(u) φ(v)] = 1/(2π), times σ_w² = 2.
    K = kernel(FullyConnected(depth=1, weight_std=math.sqrt(2), bias_std=0), [[1.0, 0.0], [0.0, 1.0]])
    error = abs(float(K[0, 1]) - 1 / math.pi)
    assert error < 1e-12, f"arc-cosine kernel is off by {error:.1e}"
    return "agree with the arc-cosine kernel"


def _no_tensorflow() -> str:
    assert "tensorflow" not in sys.modules, "TensorFlow was imported"
    return "not imported"


def _estimator() -> str:
    import numpy as np

    from nngp_prior import log_probability

    n = 100
    K = np.full((n, n), 0.5) + 0.5 * np.eye(n)
    estimate = log_probability(K, np.ones(n, dtype=int))
    truth = -math.log(n + 1)
    assert estimate.stderr is not None
    z = (estimate.value - truth) / estimate.stderr
    assert abs(z) < 5, f"{estimate} where {truth:.4f} is true"
    return f"log P = {estimate.value:.4f} ± {estimate.stderr:.4f} where {truth:.4f} is true"


def _data(kind: str) -> str:
    from nngp_prior.data.raw import DATASETS
    from nngp_prior.schemas.specs.data import Cifar10, FashionMnist, Mnist

    model = {"mnist": Mnist, "fashion-mnist": FashionMnist, "cifar10": Cifar10}[kind]
    counts, missing = [], []
    for split, name in (("train", "training"), ("test", "test")):
        dataset = model(split=split)
        try:
            counts.append(f"{len(DATASETS[dataset](dataset).images):,} {name} images")
        except DataMissing as error:
            missing.append(error)
            counts.append(f"no {name} images")
    if len(missing) == len(counts):
        raise missing[0]
    return ", ".join(counts)
