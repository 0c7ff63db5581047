"""The two back ends against each other, in one run: the whole default estimate by NumPy and by JAX.

A first call with JAX compiles for the number of inputs at hand; later calls of the same size do not. Where JAX has no
GPU both use the processor's cores, and the ratio says why ``auto`` is numpy there.
"""

from __future__ import annotations

import math
from typing import Any

import jax

from benchmarks.problems import data_note, problem, sizes
from benchmarks.report import Column, Table, say
from benchmarks.timing import measure
from nngp_prior import Estimate, log_probability

_LABELLING = "threshold:5"


def run(quick: bool) -> list[Table]:
    """Times with and without compilation, and by how much the values differ."""
    wanted = (200, 400) if quick else (1000, 2000)
    rows = []
    for n in sizes(*wanted):
        for method in ("smc", "ep"):
            say(f"{method} by numpy and by jax, n = {n:,}")
            rows.append({"n": n, "method": method, **_compare(n, method)})
    return [
        Table(
            "NumPy and JAX",
            [
                Column("n", "n"),
                Column("method", "method"),
                Column("numpy, s", "numpy_s"),
                Column("jax, s", "jax_s"),
                Column("jax, first call, s", "first_s"),
                Column("jax / numpy", "ratio", ".2f"),
                Column("first call / numpy", "first_ratio", ".2f"),
                Column("jax - numpy, nats", "difference", "+.1e"),
                Column("their standard error", "stderr"),
            ],
            rows,
            [
                f"{data_note(*wanted)}; {_LABELLING}",
                f"JAX's device: {jax.devices()[0].device_kind}",
                "the two have the same points and nearly the same proposals, hence differ by less than their error",
            ],
        )
    ]


def _compare(n: int, method: str) -> dict[str, Any]:
    K, y = problem(n).K, problem(n).labels[_LABELLING]

    def estimate(backend: str) -> Estimate:
        return log_probability(K, y, method=method, backend=backend)

    jax.clear_caches()
    first = estimate("jax").seconds
    device, device_seconds = measure(lambda: estimate("jax"))
    host, host_seconds = measure(lambda: estimate("numpy"))
    return {
        "numpy_s": host_seconds,
        "jax_s": device_seconds,
        "first_s": first,
        "ratio": device_seconds / host_seconds,
        "first_ratio": first / host_seconds,
        "difference": device.value - host.value,
        "stderr": None if host.stderr is None else math.hypot(host.stderr, device.stderr or 0),
    }
