"""The direct estimator: draw f from N(0, K) and count."""

from __future__ import annotations

import time

import numpy as np

from nngp_prior.numerics.random import generator
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.results.estimate import Counts, Estimate
from nngp_prior.schemas.specs.estimator import Sampling

_CHUNK_BYTES = 2**26


@ESTIMATORS.register(Sampling)
def estimate_sampling(
    kernel: FactoredKernel, labels: np.ndarray, parameters: Sampling, seed: int, progress: ProgressCallback
) -> Estimate:
    """Return the labelling's frequency among draws from the prior, with Clopper and Pearson's exact interval."""
    began = time.perf_counter()
    rng = generator(seed, "sampling")
    chunk = max(1, min(parameters.draws, _CHUNK_BYTES // (8 * kernel.m)))
    hits = done = 0
    while done < parameters.draws:
        count = min(chunk, parameters.draws - done)
        f = kernel.L @ rng.standard_normal((kernel.rank, count))
        hits += int(np.all(f * labels[:, None] > 0, axis=0).sum())
        done += count
        progress(Progress("draws", done, parameters.draws))
    evidence = Counts(hits=hits, draws=parameters.draws)
    note = kernel.note()
    if not hits:
        upper = evidence.interval(0.95)[1]
        note = "; ".join(filter(None, (f"no draw had this labelling: log P < {upper:.1f} (95 %); use smc", note)))
    return Estimate(
        value=evidence.value(),
        stderr=evidence.stderr(),
        n=kernel.n,
        method="sampling",
        status="ok" if hits else "no-hits",
        message=note,
        diagnostics={"hits": hits, "draws": parameters.draws},
        seconds=time.perf_counter() - began,
        evidence=evidence,
    )
