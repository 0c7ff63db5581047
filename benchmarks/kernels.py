"""Our kernel recursions against neural-tangents' ``nt.batch``, jitted and at its best batch size, in one run.

neural-tangents computes all n² entries, we the upper triangle, tile by tile, as many at once as there are cores.
The floor is one pass of the activation's dual per layer at its measured rate, and the products of inputs.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.fresh import fresh, peak_gb
from benchmarks.problems import inputs
from benchmarks.report import Column, Table, say
from benchmarks.timing import best_of, measure, product_rate
from nngp_prior import kernel
from nngp_prior.architectures.neural_tangents import batch
from nngp_prior.data import load
from nngp_prior.kernels.cost import kernel_cost
from nngp_prior.kernels.dual_activations import dual
from nngp_prior.schemas.specs.architecture import Architecture, Convolutional, FullyConnected
from nngp_prior.schemas.specs.data import Digits
from tests.kernels.stax_networks import stax_of


def run(quick: bool) -> list[Table]:
    """Times of whole kernels, and how far they are from the floor."""
    flat = inputs(200 if quick else 4000).X
    images = inputs(16 if quick else 500).X
    images = images.reshape(len(images), *[math.isqrt(images.shape[1])] * 2, 1)
    digits = load(Digits(n=8 if quick else 200)).X.reshape(-1, 8, 8, 1)
    cases: list[tuple[str, Architecture, np.ndarray, tuple[int, ...], int, float]] = [
        ("fully connected, depth 2", FullyConnected(depth=2), flat, (200, 500, 1000, 2000), 1, 2.0),
        ("3 convolutions, flatten", Convolutional(), images, (4, 10, 20, 50), 1, 2.0),
        (
            "3 convolutions, global average pool",
            Convolutional(readout="global-average-pool"),
            digits,
            (4, 8, 20, 40),
            2,
            1.5,
        ),
    ]
    rate = _dual_rate()
    rows = [_compare(*case, rate) for case in cases]
    return [
        Table(
            "Kernels against neural-tangents",
            [
                Column("network", "network"),
                Column("n", "n"),
                Column("shape", "shape"),
                Column("ours, s", "ours_s"),
                Column("neural-tangents, s", "peer_s"),
                Column("its batch", "batch"),
                Column("times faster", "ratio", ".2f"),
                Column("goal", "goal", ".1f"),
                Column("largest difference", "difference", ".1e"),
                Column("floor, s", "floor_s"),
                Column("ours / floor", "floor_ratio", ".1f"),
                Column("ours, µs a pair", "pair_us"),
                Column("estimated, s", "estimated_s"),
            ],
            rows,
            [
                "relu, float64, without compilation; ours with the variances of each input; both use all cores",
                f"floor: the dual of relu at {rate / 1e6:.0f} million covariances a second on all cores, each layer, "
                "for the upper triangle; products of inputs at BLAS's rate where they are vectors; no convolutions",
                "difference relative to the largest entry; estimated: kernel_cost, 2 s of it for compilation",
            ],
        ),
        _disk(300 if quick else 20_000),
    ]


def to_disk(n: int, path: Path) -> dict[str, Any]:
    """A kernel computed into a file, in this process; its time (compilation included) and the process's peak."""
    X = inputs(n).X
    before, began = peak_gb(), time.perf_counter()
    K = kernel(FullyConnected(depth=2), X, path=path)
    return {
        "n": n,
        "seconds": time.perf_counter() - began,
        "images_gb": before,
        "peak_gb": peak_gb(),
        "matrix_gb": K.nbytes / 1e9,
    }


def _disk(n: int) -> Table:
    say(f"fully connected, to disk, n = {n}")
    with tempfile.TemporaryDirectory() as folder:
        row = fresh(to_disk, n, Path(folder) / "K.npy") | {"limit_gb": 2.0}
    return Table(
        "A kernel to disk, fully connected, depth 2",
        [
            Column("n", "n"),
            Column("s", "seconds"),
            Column("K, GB", "matrix_gb", ".2f"),
            Column("before: libraries and images, GB", "images_gb", ".2f"),
            Column("peak of the process, GB", "peak_gb", ".2f"),
            Column("limit, GB", "limit_gb", ".1f"),
        ],
        [row],
        ["one run in a fresh process; peak resident memory of all that is in it"],
    )


def _compare(
    name: str,
    architecture: Architecture,
    X: np.ndarray,
    batches: tuple[int, ...],
    power: int,
    goal: float,
    rate: float,
) -> dict[str, Any]:
    n, shape = len(X), X.shape[1:]
    say(f"{name}, n = {n}")
    K, seconds = measure(lambda: kernel(architecture, X))
    peers = {}
    kernel_fn = stax_of(architecture)[2]
    for size in [size for size in batches if n % size == 0]:
        with jax.enable_x64(True):
            batched = batch(lambda a, b: kernel_fn(a, b, "nngp"), batch_size=size, device_count=0)
            reference, peers[size] = measure(lambda batched=batched: np.asarray(batched(X, X)))
    best = min(peers, key=lambda size: peers[size])
    layers = architecture.depth if isinstance(architecture, FullyConnected) else 3
    pixels = 1 if isinstance(architecture, FullyConnected) else math.prod(shape[:2]) ** power
    products = 2 * math.prod(X.shape[1:]) / product_rate(np.float64) if pixels == 1 else 0.0
    floor = n * (n + 1) / 2 * (layers * pixels / rate + products)
    return {
        "network": name,
        "n": n,
        "shape": " × ".join(map(str, shape)),
        "ours_s": seconds,
        "peer_s": peers[best],
        "batch": best,
        "peer_s_by_batch": {str(size): value for size, value in peers.items()},
        "ratio": peers[best] / seconds,
        "goal": goal,
        "difference": np.abs(K - reference).max() / np.abs(reference).max(),
        "floor_s": floor,
        "floor_ratio": seconds / floor,
        "pair_us": 1e6 * seconds / (n * (n + 1) / 2),
        "estimated_s": kernel_cost(architecture, n, shape).seconds,
    }


def _dual_rate() -> float:
    """Covariances a second through the dual of relu, all cores at once, each on its own square of them."""
    of = dual("relu")
    cores = os.cpu_count() or 1
    with jax.enable_x64(True):
        once = jax.jit(lambda K, q: of.expectations(K, of.terms(q[:, None]), of.terms(q), False)[0])
        K, q = jnp.full((512, 512), 0.3), jnp.linspace(0.5, 2, 512)

        def all_cores(pool: ThreadPoolExecutor) -> float:
            return measure(lambda: [f.result() for f in [pool.submit(_many, once, K, q) for _ in range(cores)]]).seconds

        with ThreadPoolExecutor(cores) as pool:
            return 20 * cores * K.size / best_of(lambda: all_cores(pool))


def _many(once: Any, K: jax.Array, q: jax.Array) -> None:
    with jax.enable_x64(True):
        for _ in range(20):
            jax.block_until_ready(once(K, q))
