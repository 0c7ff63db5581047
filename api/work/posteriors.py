"""``/v1/posteriors``: the posterior given training labels, at test inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from api.work.base import Limits, Plan
from api.work.estimates import plan_of
from nngp_prior.errors import ResourceLimit
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.prior.weighted_particles import bytes_beside
from nngp_prior.probability import seconds_needed
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.requests import PosteriorRequest


class PosteriorWork:
    """Predictive probabilities, and errors of the Gibbs classifier and of the vote: one row per labelling."""

    kind = PosteriorRequest.work
    request = PosteriorRequest
    columns: tuple[str, ...] = ("log_p", "stderr")

    def plan(self, request: PosteriorRequest, runner: RequestRunner, limits: Limits) -> Plan:
        """See :meth:`Work.plan`; costs: estimates of the training labels and of all labels, and the particles."""

        def seconds(n: int) -> float:
            return seconds_needed(request.train, request.estimator) + seconds_needed(n, request.estimator)

        plan = plan_of(request, runner, limits, seconds)
        more = bytes_beside(request.train, request.estimator)
        if plan.bytes + more > limits.bytes:
            raise ResourceLimit(
                f"train: a posterior of {request.train:,} training inputs takes {(plan.bytes + more) / 2**30:.1f} GiB "
                f"with its kernel and particles, and workers have {limits.bytes / 2**30:.1f} GiB. Use fewer particles "
                "or inputs, or raise NNGP_MEMORY_LIMIT."
            )
        return replace(plan, chunks=tuple(replace(chunk, bytes=chunk.bytes + more) for chunk in plan.chunks))

    def run(
        self, request: PosteriorRequest, rows: Sequence[int], runner: RequestRunner, progress: ProgressCallback
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Work.run`."""
        return runner.posteriors(request, rows, progress)

    def document(self, request: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Work.document`."""
        asked = ("architecture", "estimator", "seed", "train")
        return {"units": "nats", **facts, **{name: request[name] for name in asked}}
