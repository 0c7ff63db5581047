"""``/v1/selections``: a choice among architectures by log P of the training labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from api.work.base import Chunk, Limits, Plan
from api.work.estimates import bytes_of_estimate
from api.work.footprint import bytes_of_inputs, bytes_of_kernel
from nngp_prior.architectures import layers_of
from nngp_prior.errors import ResourceLimit
from nngp_prior.kernels import KernelJob
from nngp_prior.kernels.cost import seconds_of_kernel
from nngp_prior.kernels.footprint import seconds_of_compilation
from nngp_prior.numerics.fitting import largest_that_fits
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.prior.weighted_particles import bytes_beside
from nngp_prior.probability import SMALL, seconds_needed
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import KernelRequest, SelectionRequest
from nngp_prior.schemas.results.selection import PER_ARCHITECTURE
from nngp_prior.schemas.specs.estimator import EP

_SECONDS = 10.0  # of both candidates of an architecture, up to which they are one chunk
_MATRICES = 13  # of all training inputs, in float64, at the peak of an evaluation of EP with its derivatives
_EVALUATIONS = 20  # of EP, typically
_OF_EP, _OF_KERNELS = 3, 6  # times of an evaluation: in runs of EP alone, and in kernels without derivatives


class SelectionWork:
    """Architectures as given and with optimised σ_w and σ_b: one row per candidate."""

    kind = SelectionRequest.work
    request = SelectionRequest
    columns: tuple[str, ...] = ("log_p", "stderr")

    def plan(self, request: SelectionRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`; an optimised candidate costs the search, which may take twice the typical time."""
        rows, facts = runner.count(request), runner.facts(request)
        chunks: list[Chunk] = []
        for i, architecture in enumerate(request.family):
            job = runner.kernel_job(KernelRequest(architecture=architecture, dataset=request.dataset))
            m = request.train or len(job.X)
            cores = int(m <= SMALL)
            memory = _memory(request, job, limits)
            given, search = _seconds(request, job, 1 if cores else limits.cores)
            pair = PER_ARCHITECTURE * i, PER_ARCHITECTURE * i + 1
            if 2 * given + search <= _SECONDS:
                chunks.append(Chunk(pair, cores, memory, 2 * given + search))
            else:
                chunks += [Chunk((pair[0],), cores, memory, given), Chunk((pair[1],), cores, memory, given + search)]
        return Plan(rows, tuple(chunks), "candidates", facts)

    def run(
        self, request: SelectionRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return runner.results(request, rows, progress)

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        asked = ("family", "train", "weight_std", "bias_std", "estimator", "seed")
        return {"units": "nats", **facts, **{name: request[name] for name in asked}}


def _memory(request: SelectionRequest, job: KernelJob, limits: Limits) -> int:
    """Return the peak memory of a worker.

    Raises:
        ResourceLimit: if it does not fit.
    """
    inputs, estimator = len(job.X), request.estimator
    share = (request.train or inputs) / inputs

    def needed(n: int) -> int:
        m = math.ceil(share * n)
        threads = 1 if m <= SMALL else limits.cores
        estimate = 8 * n * n + bytes_of_estimate(n, estimator, threads) + (bytes_beside(m, estimator) if m < n else 0)
        return bytes_of_inputs(job, n) + bytes_of_kernel(job, n, threads) + max(8 * _MATRICES * m * m, estimate)

    memory = needed(inputs)
    if memory > limits.bytes:
        largest = largest_that_fits(inputs, limits.bytes, needed)
        remedy = f"Use at most {largest:,} inputs, the same fraction for training" if largest else "Use fewer particles"
        raise ResourceLimit(
            f"dataset.n: a choice by {math.ceil(share * inputs):,} of n = {inputs:,} inputs takes "
            f"{memory / 2**30:.1f} GiB with kernels and their derivatives, and workers have "
            f"{limits.bytes / 2**30:.1f} GiB. {remedy}, or raise NNGP_MEMORY_LIMIT."
        )
    return memory


def _seconds(request: SelectionRequest, job: KernelJob, threads: int) -> tuple[float, float]:
    """Return rough times of a candidate as given, and of the search for σ_w and σ_b."""
    n, shape = len(job.X), job.X.shape[1:]
    m = request.train or n
    compilation = seconds_of_compilation(layers_of(job.architecture), shape, "nngp")
    kernel = seconds_of_kernel(job, threads) - compilation  # of all inputs
    of_training = kernel * (m / n) ** 2
    given = of_training + compilation + seconds_needed(m, request.estimator)
    if m < n:
        given += kernel + seconds_needed(m, request.estimator) + seconds_needed(n, request.estimator)
    each = _OF_KERNELS * of_training + _OF_EP * seconds_needed(m, EP())
    return given, 3 * compilation + _EVALUATIONS * each
