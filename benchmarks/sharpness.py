"""Flatness of one trained network against PyHessian and curvlinops: the same weights and data, in one run.

The peers run in an environment of their own, with processes and clocks of their own
(:mod:`benchmarks.sharpness_torch`). Ours is timed without compilation. Errors are those against ours in float64, λ_max
at a tolerance of 1e-10, the trace exactly.
"""

from __future__ import annotations

import functools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.environments import Environment
from benchmarks.fresh import forget_peak, fresh, peak_gb, resident_gb
from benchmarks.problems import inputs, source
from benchmarks.report import Column, Table, say
from nngp_prior import FullyConnected
from nngp_prior.data import label
from nngp_prior.progress import ignore
from nngp_prior.schemas.measures.curvature import Eigenvalues, SpectralDensity, Trace
from nngp_prior.schemas.specs.data import Threshold
from nngp_prior.schemas.specs.training import Training
from nngp_prior.schemas.statistics import mean_with_error
from nngp_prior.sharpness import EmpiricalRisk, finite_network, train
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.measures.registry import MEASURES, MeasureOutcome
from nngp_prior.sharpness.measures.spectrum import spectral_density

NETWORK = FullyConnected(depth=2, width=40)
TORCH = Environment("torch")
_PEERS = {"PyHessian": "pyhessian", "curvlinops": "curvlinops"}
_WANTED = 0.5  # of PyHessian's time at equal error
_PROBES = 100
_QUADRATURES, _STEPS = 10, 80
_ABOVE = 1e-2  # part of λ_max
_SHORT = (5, 60)  # turns, and runs in each, of what takes milliseconds; the first dozen after a pause are slower
_COUNTED = 150  # eigenvalues at most above it
_TOLERANCES = [each * 10.0**power for power in range(-1, -7, -1) for each in (5, 3, 2, 1)]


def run(quick: bool) -> list[Table]:
    """λ_max, trace and density after some epochs of training and at zero error; then memory."""
    TORCH.build()
    n = 500 if quick else 5000
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stage, training in (
            ("5 epochs", Training(epochs=5)),
            ("zero training error", Training(epochs=30 if quick else 1000)),
        ):
            say(f"training: {stage}")
            path = Path(folder) / "risk.npz"
            network = _Trained(n, training, path)
            for figure in (_lambda_max, _trace, _density):
                say(f"{figure.__name__.strip('_')}, {stage}")
                rows += [{"stage": stage, **row} for row in figure(network)]
    return [_table(rows, n), _memory((200, 500) if quick else (1000, 5000, 10_000, 20_000, 40_000, 60_000))]


class _Trained:
    """A trained network, as ours and as a file for the peers."""

    def __init__(self, n: int, training: Training, path: Path) -> None:
        data = inputs(n)
        X, y = data.X.reshape(n, -1), label(Threshold(at=5), data.classes)
        trained = train(NETWORK, X, y, training)
        self.parameters, self.path = trained.network(0), path
        arrays = {"X": X, "y": y}
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self.parameters)]
        for i in range(len(leaves) // 2):
            arrays |= {f"weight_{i}": leaves[2 * i], f"bias_{i}": leaves[2 * i + 1]}
        np.savez(path, **arrays)
        self.exact, self.risk = (
            EmpiricalRisk.of(NETWORK, self.parameters, X, y, dtype=d) for d in ("float64", "float32")
        )

    def ours(self, specification: Any) -> MeasureOutcome:
        """Figures in float32, like the peers'; no more than what is asked for, as the peers do."""
        return MEASURES[specification](self.risk, specification, 0, ignore)

    def peer(self, name: str, figure: str, **options: Any) -> dict[str, Any]:
        """A peer's result; the time is the median of some runs in its process."""
        arguments = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return TORCH.run("sharpness_torch.py", str(self.path), figure, "--peer", _PEERS[name], *arguments)


def _in_turn(
    ours: Callable[[], Any], peer: Callable[[int], dict[str, Any]], turns: int = 2, repeats: int = 1
) -> dict[str, float]:
    """Times of both, some runs of the one and some of the other in turn: the machine's speed changes by the minute.

    Args:
        ours: without arguments; compiled.
        peer: of the number of runs, with their median in ``seconds``.
        turns: of both.
        repeats: runs in each.

    Returns:
        medians over the turns, of the times and of their ratio.
    """
    pairs = []
    for _ in range(turns):
        theirs, seconds = peer(repeats)["seconds"], []
        for _ in range(repeats):
            began = time.perf_counter()
            ours()
            seconds.append(time.perf_counter() - began)
        pairs.append((statistics.median(seconds), theirs))
    medians = [statistics.median(column) for column in (*zip(*pairs, strict=True), [a / b for a, b in pairs])]
    return dict(zip(("seconds", "peer_seconds", "ratio"), medians, strict=True))


def _lambda_max(network: _Trained) -> list[dict[str, Any]]:
    """Each peer at a tolerance; ours at the loosest one whose error is no larger."""
    exact = measure_risk(network.exact, [Eigenvalues(smallest=0, tolerance=1e-10)], 0)["lambda_max"].value
    rows = []
    for name, tolerance in (("PyHessian", 1e-3), ("PyHessian", 1e-6), ("curvlinops", 1e-3)):
        peer = network.peer(name, "lambda_max", tolerance=tolerance)
        error = abs(peer["value"] / exact - 1)
        for own in _TOLERANCES:
            specification = Eigenvalues(smallest=0, tolerance=own)
            (found,) = network.ours(specification).quantities
            if abs(found.value / exact - 1) <= error:
                break
        times = _in_turn(
            functools.partial(network.ours, specification),
            lambda repeats, name=name, tolerance=tolerance: network.peer(
                name, "lambda_max", tolerance=tolerance, repeats=repeats
            ),
            *(_SHORT if name == "PyHessian" else (2, 5)),
        )
        rows.append(
            {
                "figure": f"λ_max, tolerance {tolerance:g}",
                "peer": name,
                "value": found.value,
                "error": abs(found.value / exact - 1),
                "products": found.diagnostics["steps"],
                "peer_value": peer["value"],
                "peer_error": error,
                "peer_products": peer["products"],
                **times,
            }
        )
    return rows


def _trace(network: _Trained) -> list[dict[str, Any]]:
    """Ours has no error; by the same method, and as many probe vectors, too."""
    exact = measure_risk(network.exact, [Trace()], 0)["trace"].value
    rows = []
    for name in _PEERS:
        peer = network.peer(name, "trace", probes=_PROBES, tolerance=0)
        values = np.array(peer["value"])
        for method in ("split", "hutchinson"):
            specification = Trace(probes=_PROBES, method=method)
            outcome = network.ours(specification)
            (found,) = outcome.quantities
            times = _in_turn(
                functools.partial(network.ours, specification),
                lambda repeats, name=name: network.peer(name, "trace", probes=_PROBES, tolerance=0, repeats=repeats),
            )
            rows.append(
                {
                    "figure": f"trace, ours by {method}",
                    "peer": name,
                    "value": found.value,
                    "value_stderr": found.stderr,
                    "error": abs(found.value / exact - 1),
                    "products": outcome.gradients / 2,
                    "peer_value": values.mean(),
                    "peer_value_stderr": mean_with_error(values)[1],
                    "peer_error": abs(values.mean() / exact - 1),
                    "peer_products": peer["products"],
                    **times,
                }
            )
    return rows


def _density(network: _Trained) -> list[dict[str, Any]]:
    """Compared by the number of eigenvalues above a hundredth of λ_max, which Lanczos' method in float64 counts."""
    exact = measure_risk(network.exact, [Eigenvalues(largest=_COUNTED, smallest=0, max_steps=2000)], 0)
    eigenvalues = np.array([each.value for each in exact])
    limit = _ABOVE * eigenvalues[0]
    count = int((eigenvalues > limit).sum())
    assert count < _COUNTED
    options = {"probes": _QUADRATURES, "steps": _STEPS}
    peer = network.peer("PyHessian", "density", repeats=1, **options)
    theirs = _counted(network.risk.size, peer["value"], limit)
    deviation = _count(network, _QUADRATURES, limit)[0].std(ddof=1)
    sufficient = (deviation / (theirs.mean() - count)) ** 2
    rows = []
    for quadratures in dict.fromkeys((_QUADRATURES, min(_QUADRATURES, max(2, math.ceil(sufficient))))):
        counts, products = _count(network, quadratures, limit)
        times = _in_turn(
            functools.partial(_count, network, quadratures, limit),
            lambda repeats: network.peer("PyHessian", "density", repeats=repeats, **options),
        )
        rows.append(
            {
                "figure": f"density: eigenvalues > λ_max/100 (there are {count})",
                "peer": "PyHessian",
                "value": counts.mean(),
                "value_stderr": mean_with_error(counts)[1],
                "error": abs(counts.mean() / count - 1),
                "products": products,
                "peer_value": theirs.mean(),
                "peer_value_stderr": mean_with_error(theirs)[1],
                "peer_error": abs(theirs.mean() / count - 1),
                "peer_products": peer["products"],
                **times,
            }
        )
    return rows


def _count(network: _Trained, quadratures: int, limit: float) -> tuple[np.ndarray, int]:
    """Eigenvalues above a limit by each of ours, and products that they took."""
    spectrum = spectral_density(network.risk, SpectralDensity(probes=quadratures, steps=_STEPS))
    pairs = zip(spectrum.nodes, spectrum.weights, strict=True)
    return _counted(network.risk.size, pairs, limit), spectrum.products


def _counted(size: int, quadratures: Iterable[Any], limit: float) -> np.ndarray:
    return np.array([size * float(np.array(w)[np.array(nodes) > limit].sum()) for nodes, w in quadratures])


def _table(rows: list[dict[str, Any]], n: int) -> Table:
    return Table(
        "Flatness against PyHessian and curvlinops",
        [
            Column("after", "stage"),
            Column("figure", "figure"),
            Column("ours", "value", error="value_stderr"),
            Column("relative error", "error", ".1e"),
            Column("products", "products", ".0f"),
            Column("s", "seconds"),
            Column("peer", "peer"),
            Column("its value", "peer_value", error="peer_value_stderr"),
            Column("relative error", "peer_error", ".1e"),
            Column("products", "peer_products", ".0f"),
            Column("s", "peer_seconds"),
            Column("ours / peer, time", "ratio", ".2f"),
        ],
        rows,
        [
            f"{source()}, n = {n:,}, 784-40-40-1, relu, cross-entropy; all in float32; two threads each; without "
            "compilation and start",
            f"wanted: {_WANTED} of PyHessian's time at equal error",
            "λ_max: ours at the loosest tolerance whose error is no larger than the peer's",
            "times: medians of turns, in which the peer ran first and ours after it, and the ratio that of theirs; "
            f"λ_max and PyHessian: {_SHORT[0]} turns, in each of which both ran {_SHORT[1]} times; else two turns",
            "density: ours as often as the peer, and as often as its expected error is no larger than the peer's",
            f"trace: {_PROBES} probe vectors; PyHessian's own rule would stop earlier, at a larger error",
            "PyHessian has all examples in one batch and keeps the gradient's graph, its faster way",
        ],
    )


def peak_of(n: int) -> dict[str, float]:
    """Memory of the default measures on n examples, in this process."""
    data = inputs(n)
    X, y = data.X.reshape(n, -1), label(Threshold(at=5), data.classes)
    parameters = finite_network(NETWORK, X.shape[1:]).init(0)
    before = resident_gb()
    forget_peak()
    began = time.perf_counter()
    risk = EmpiricalRisk.of(NETWORK, parameters, X, y)
    measure_risk(risk, [Eigenvalues(), Trace(probes=4, method="hutchinson"), Trace()], 0)
    return {"before": before, "peak": peak_gb(), "seconds": time.perf_counter() - began, "inputs": X.nbytes / 1e9}


def _memory(sizes: tuple[int, ...]) -> Table:
    rows = []
    for n in sizes:
        say(f"memory, n = {n:,}")
        found = fresh(peak_of, n)
        rows.append({"n": n, "ours": found["peak"] - found["before"], **found})
    return Table(
        "Memory of λ_max, λ_min and the trace",
        [
            Column("n", "n"),
            Column("the inputs in float64, GB", "inputs", ".2f"),
            Column("before: libraries and images, GB", "before", ".2f"),
            Column("peak of the process, GB", "peak", ".2f"),
            Column("ours, GB", "ours", ".2f"),
            Column("s, compilation included", "seconds"),
        ],
        rows,
        ["784-40-40-1 at initialisation, float64; each n in a process of its own"],
    )
