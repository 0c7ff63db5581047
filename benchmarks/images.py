"""Flatness of a residual network on CIFAR-10, in float32, against the time of a gradient.

On a GPU it has 64 channels and 20 layers and there are 3,000 images; on a CPU 8 layers of 8 channels and 50 images.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.fresh import fresh, peak_gb
from benchmarks.report import Column, Table, say
from nngp_prior import Residual
from nngp_prior.data import label, load
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.schemas.measures.curvature import Eigenvalues, Trace
from nngp_prior.schemas.specs.data import Cifar10, Threshold

_PROBES = 10


def run(quick: bool) -> list[Table]:
    """One row a measure, from a process of its own, whose peak memory is reported."""
    say("a residual network on images")
    rows = fresh(_measured, quick)
    return [
        Table(
            "Flatness of a residual network",
            [
                Column("device", "device"),
                Column("network", "network"),
                Column("parameters", "parameters"),
                Column("n", "n"),
                Column("figure", "figure"),
                Column("value", "value", error="stderr"),
                Column("products", "products", ".0f"),
                Column("s", "seconds"),
                Column("a gradient, s", "gradient_s"),
                Column("in gradients", "ratio", ".1f"),
                Column("peak, GB", "peak_gb"),
            ],
            rows,
            [
                f"{rows[0]['data']}; at initialisation, cross-entropy, float32",
                "seconds: without compilation, the median of three; the peak is that of the device, or of the process",
            ],
        )
    ]


def _measured(quick: bool) -> list[dict[str, Any]]:
    import jax

    from nngp_prior.sharpness import EmpiricalRisk, finite_network
    from nngp_prior.sharpness.measurement import measure_risk
    from nngp_prior.sharpness.risk.networks import high_precision

    device = jax.local_devices()[0]
    large = device.platform == "gpu" and not quick
    network = Residual(blocks=3, channels=64) if large else Residual(channels=4 if quick else 8)
    n = 3000 if large else 20 if quick else 50
    data, X, y = _images(n)
    risk = EmpiricalRisk.of(network, finite_network(network, X.shape[1:]).init(0), X, y, dtype="float32")

    def gradient() -> None:
        with high_precision():
            risk.gradient(risk.theta).block_until_ready()

    gradient_s = _median_of_three(gradient)
    rows = []
    for figure, specification in (
        ("lambda_max", Eigenvalues(smallest=0)),
        ("trace", Trace()),
        (f"trace, {_PROBES} probes", Trace(method="hutchinson", probes=_PROBES)),
    ):
        say(figure)
        found, *again = (measure_risk(risk, [specification], 0).measurements[0] for _ in range(4))
        seconds = statistics.median(each.seconds for each in again)
        rows.append(
            {
                "device": device.device_kind,
                "network": f"{6 * network.blocks + 2} layers, {network.channels} channels",
                "parameters": risk.size,
                "n": n,
                "figure": figure,
                "value": found.value,
                "stderr": found.stderr,
                "products": found.gradients / 2,
                "seconds": seconds,
                "gradient_s": gradient_s,
                "ratio": seconds / gradient_s,
                "peak_gb": device.memory_stats()["peak_bytes_in_use"] / 1e9 if large else peak_gb(),
                "data": data,
            }
        )
    return rows


def _images(n: int) -> tuple[str, np.ndarray, np.ndarray]:
    try:
        images = load(Cifar10(n=n))
    except (DataUnavailable, InvalidInput):
        rng = np.random.default_rng(0)
        return "random images, 32 × 32 × 3", rng.random((n, 32, 32, 3)), rng.choice([-1, 1], n)
    return "CIFAR-10, classes 0 to 4 against 5 to 9", images.images, label(Threshold(at=5), images.classes)


def _median_of_three(function: Callable[[], Any]) -> float:
    function()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
