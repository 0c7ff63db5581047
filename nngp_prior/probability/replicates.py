"""Independent replicates of a mixture's estimate, in parallel on all cores, and diagnostics of their weights."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.special import logsumexp

from nngp_prior.numerics.cgroup import processors
from nngp_prior.numerics.random import generator
from nngp_prior.numerics.threads import cores, on_all_cores
from nngp_prior.probability.cost import COLUMNS, COLUMNS_ON_DEVICE
from nngp_prior.probability.diagnostics import effective_sample_size, largest_share, pareto_k
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.particles import Mixture, ReplicateOutcome, run_replicates
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate, Replicates, Status
from nngp_prior.schemas.specs.estimator import GHK, MinimaxTilting

# A tail counts as heavy if its k̂ is large and one weight carries a visible part of the variance estimate. The shape
# alone misleads: k̂ can be large for weights that hardly vary.
_PARETO_K_TRUSTED = 0.7
_LARGEST_SHARE_TRUSTED = 0.06
_EVEN_REPLICATES = 1 / 3  # effective fraction of replicates below which their spread says little


def worth_compiling(rank: int, proposals: int, particles: int) -> bool:
    """True if a run is large enough to justify a second or two of compiling, once per process.

    The decision is per labelling even in a batch, so that a labelling has the same value in any batch.

    Returns:
        True if coordinates times proposals times particles is large enough.
    """
    return rank * proposals * particles > 1_500_000


def run_in_threads(
    mixture: Mixture,
    replicates: range,
    seed: int,
    name: str,
    progress: ProgressCallback,
    compiled: bool,
    resample: bool = True,
    dimensions: int | None = None,
    keep: bool = False,
) -> list[ReplicateOutcome]:
    """Run replicates in groups, one group per core at a time.

    Args:
        mixture: mixture from which trajectories are drawn.
        replicates: their numbers; each has its own random numbers.
        seed: seed of the labelling.
        name: name of the replicates in progress events.
        progress: progress callback.
        compiled: True to process blocks of coordinates by compiled code.
        resample: False for plain importance sampling.
        dimensions: as for :func:`nngp_prior.probability.particles.run_replicates`.
        keep: as for :func:`nngp_prior.probability.particles.run_replicates`.

    Returns:
        the groups' outcomes, in the order of the numbers.
    """
    columns, threads = (COLUMNS_ON_DEVICE, 1) if mixture.on_device else (COLUMNS, cores())
    parts = 1 if mixture.on_device else processors()
    size = max(1, min(columns // mixture.particles, -(-len(replicates) // parts)))
    groups = [replicates[start : start + size] for start in range(0, len(replicates), size)]
    rank = len(mixture.proposals[0].mean)
    done, total, lock, stop = 0, rank * len(groups), threading.Lock(), threading.Event()

    def run_group(group: range) -> ReplicateOutcome:
        visited_before = 0

        def step(visited: int) -> None:
            nonlocal done, visited_before
            if stop.is_set():
                raise InterruptedError("another group of replicates failed, or the run was interrupted")
            with lock:
                done += visited - visited_before
                visited_before = visited
                progress(Progress(f"{name}s", done, total))

        generators = [generator(seed, name, r) for r in group]
        return run_replicates(mixture, generators, resample, compiled, step, dimensions, keep)

    outcomes = dict(on_all_cores(run_group, groups, threads, stop))
    return [outcomes[place] for place in range(len(groups))]


def evidence_of(outcomes: list[ReplicateOutcome]) -> Replicates:
    """Return the replicates' estimates of P."""
    return Replicates(log_estimates=tuple(np.concatenate([o.log_estimates for o in outcomes]).tolist()))


def judge(outcomes: list[ReplicateOutcome]) -> tuple[Status, str, dict[str, float | int | None]]:
    """Judge the reliability of the error bar from the weights.

    Args:
        outcomes: outcomes of all replicates.

    Returns:
        status, message and diagnostics.
    """
    log_z = np.concatenate([o.log_estimates for o in outcomes])
    log_weights = np.concatenate([o.log_weights for o in outcomes])
    k_hat, share = pareto_k(log_weights), largest_share(log_weights)
    diagnostics: dict[str, float | int | None] = {
        "replicates": len(log_z),
        "particles": log_weights.shape[1],
        "effective_sample_size": effective_sample_size(log_weights),
        "pareto_k": k_hat,
        "largest_share_of_variance": share,
        "resamplings": sum(o.resamplings for o in outcomes),
    }
    if np.isnan(log_z).any():
        return "numerical-failure", "a weight is not a number: K is too close to singular; pass jitter", diagnostics
    if np.all(np.isneginf(log_z)):
        message = (
            "no particle satisfied the constraints on inputs that others determine (K is singular): "
            "P is 0 or far below what these particles resolve; try more particles"
        )
        return "no-hits", message, diagnostics
    effective = math.exp(2 * float(logsumexp(log_z)) - float(logsumexp(2 * log_z)))
    heavy_tail = k_hat is not None and k_hat > _PARETO_K_TRUSTED and share > _LARGEST_SHARE_TRUSTED
    if heavy_tail or effective < _EVEN_REPLICATES * len(log_z):
        message = (
            "few particles carry the estimate: its standard error may be too small, the lower bound still holds; "
            "use more particles a replicate"
        )
        return "heavy-tailed", message, diagnostics
    return "ok", "", diagnostics


def importance_sampling(
    kernel: FactoredKernel,
    mixture: Mixture,
    parameters: GHK | MinimaxTilting,
    seed: int,
    progress: ProgressCallback,
    began: float,
    *,
    upper: float | None = None,
    diagnostics: Mapping[str, Any] = MappingProxyType({}),
) -> Estimate:
    """Estimate log P by the mean weight of a mixture without resampling.

    Args:
        kernel: a factored kernel.
        mixture: mixture from which trajectories are drawn.
        parameters: specification of the estimator.
        seed: seed of the labelling.
        progress: progress callback.
        began: time at which the estimator began, by ``time.perf_counter``.
        upper: a certain upper bound on log P, if there is one.
        diagnostics: diagnostics of the proposals.

    Returns:
        the estimate, with the spread of the replicates as error.
    """
    compiled = worth_compiling(kernel.rank, len(mixture.proposals), parameters.particles * parameters.replicates)
    replicates = range(parameters.replicates)
    outcomes = run_in_threads(mixture, replicates, seed, "replicate", progress, compiled, resample=False)
    evidence = evidence_of(outcomes).model_copy(update={"upper": upper})
    status, message, of_weights = judge(outcomes)
    return Estimate(
        value=evidence.value(),
        stderr=evidence.stderr(),
        n=kernel.n,
        method=parameters.kind,
        status=status,
        message="; ".join(part for part in (message, kernel.note()) if part),
        diagnostics={
            **of_weights,
            **diagnostics,
            "distinct_inputs": kernel.distinct_inputs,
            "rank": kernel.rank,
            "smallest_conditional_variance": kernel.smallest_conditional_variance,
        },
        seconds=time.perf_counter() - began,
        evidence=evidence,
    )
